// The stored GPS spans of each channel: read once, then extended by each new segment.

import { read } from "./api.js";
import { byId, show, write } from "./dom.js";
import { TOLERANCE, channelText, durationText, gpsText, plural, sampling, utcOfGps } from "./format.js";
import { Plot, channelColour } from "./plots.js";

/** Maximum number of spans of a channel; the datastore ignores the smallest gaps beyond. */
const SPANS = 800;
const ROW_PIXELS = 38;
const BAR_PIXELS = 18;
const AGAIN_MS = 5000;
/** What each button does to the span shown: moves it by this share of it, and multiplies its length. */
const MOVES = { earlier: [-0.4, 1], out: [0, 2], in: [0, 0.5], later: [0.4, 1] };

export class Coverage {
  #runs = new Map(); // by channel and dt: {channel, dt, spans: [[start, stop, segments]…], closed_gaps}
  #batch = null;
  #stored = false; // whether any batch has or had segments
  #container = byId("coverage-plot");
  #plot = new Plot(this.#container, (size) => this.#describe(size));
  #of = byId("coverage-of");
  #early = []; // segments that arrived while the spans are being read
  #reading = false;
  #again = null;
  #failure = "";

  constructor() {
    this.#of.addEventListener("change", () => this.#read());
    byId("coverage-moves").addEventListener("click", ({ target }) => {
      if (target.dataset.move) this.#move(...MOVES[target.dataset.move]);
    });
    byId("coverage-reset").addEventListener("click", () => {
      show("coverage-reset", false);
      window.Plotly.relayout(this.#container, { "xaxis.autorange": true });
    });
    this.#container.addEventListener("drawn", () => {
      this.#container.on("plotly_relayout", (change) => {
        if ("xaxis.range[0]" in change || "xaxis.range" in change) show("coverage-reset");
        if (change["xaxis.autorange"]) show("coverage-reset", false);
      });
    });
  }

  /** Take an overview; the coverage of another current batch is read. */
  take(overview) {
    this.#stored = overview.seq > 0;
    if (overview.batch === this.#batch) return;
    this.#batch = overview.batch;
    this.#read();
  }

  /** Take segments that were stored just now; if there are others (`more`), all is read again soon. */
  add(rows, more) {
    if (this.#reading) this.#early.push(...rows);
    for (const row of rows) this.#extend(row);
    if (more) this.#again ??= setTimeout(() => this.#read(), AGAIN_MS);
    this.#show();
  }

  async #read() {
    clearTimeout(this.#again);
    this.#again = null;
    this.#reading = true;
    this.#early = [];
    try {
      const batch = this.#of.value === "batch" ? this.#batch : null;
      const { channels } = await read("coverage", { batch, limit: SPANS });
      this.#runs = new Map(channels.map((each) => [keyOf(each), each]));
      for (const row of this.#early) this.#extend(row);
      this.#failure = "";
    } catch (error) {
      this.#failure = error.message;
      this.#again ??= setTimeout(() => this.#read(), AGAIN_MS);
    } finally {
      this.#reading = false;
    }
    this.#show();
  }

  #extend(row) {
    if (this.#of.value === "batch" && row.batch !== this.#batch) return;
    const { channel } = row;
    const dt = sampling(row.dt);
    // A channel whose times follow from the spacing as it was written has that spacing (gwwire/spans.py).
    const known = this.#runs.get(keyOf(row)) ?? this.#runs.get(keyOf({ channel, dt })) ?? { channel, dt, spans: [], closed_gaps: 0 };
    this.#runs.set(keyOf(known), known);
    known.spans = merged(known.spans, [row.t0, row.t0 + row.n * known.dt, 1], dt);
  }

  #move(by, times) {
    const [start, stop] = this.#container.layout.xaxis.range;
    const middle = (start + stop) / 2 + by * (stop - start);
    const half = (times * (stop - start)) / 2;
    window.Plotly.relayout(this.#container, { "xaxis.range": [middle - half, middle + half] });
  }

  #show() {
    const some = this.#runs.size > 0;
    show("coverage-moves", some);
    write("coverage-empty", this.#stored && this.#of.value === "batch" ? "The current batch is empty." : "No strain is stored yet.");
    show("coverage-empty", !some && !this.#failure);
    this.#container.hidden = !some;
    // By CSSOM, because the policy forbids style attributes.
    this.#container.style.height = `${this.#places().length * ROW_PIXELS + 64}px`;
    const closed = Math.max(0, ...[...this.#runs.values()].map((each) => each.closed_gaps ?? 0));
    write("coverage-note", this.#failure ? this.#failure : closed ? `gaps up to ${durationText(closed)} not shown` : "");
    this.#plot.draw();
  }

  /** Return the channels, a row of the plot each, in the order of the table below it. */
  #places() {
    const channels = new Set([...this.#runs.values()].map(({ channel }) => channel));
    return [...channels].sort((a, b) => channelText(a).localeCompare(channelText(b)));
  }

  #describe({ width, narrow }) {
    const channels = this.#places();
    if (!channels.length) return null;
    return {
      data: [...this.#runs.values()].map((run) => trace(run, channels.indexOf(run.channel))),
      layout: {
        hovermode: "closest",
        margin: { l: 24, r: 16, t: 4, b: 48 },
        xaxis: { title: "GPS time [s]", tickformat: "d", nticks: Math.max(3, Math.floor(width / 150)), showgrid: true, tickangle: 0 },
        yaxis: {
          tickvals: channels.map((_, place) => place),
          ticktext: channels.map((channel) => escaped(shortened(channelText(channel), narrow ? 14 : 28))),
          range: [channels.length - 0.5, -0.5],
          fixedrange: true,
          showgrid: false,
          zeroline: false,
          ticks: "",
        },
        uirevision: `${this.#of.value} ${this.#of.value === "batch" ? this.#batch : ""}`,
      },
    };
  }
}

const keyOf = ({ channel, dt }) => JSON.stringify([channel, dt]);

/** A line for each span, and a mark at its start, because a short span would not be visible. */
function trace({ channel, spans }, place) {
  const colour = channelColour(place);
  const name = channelText(channel);
  return {
    type: "scatter",
    mode: "lines+markers",
    name: escaped(name),
    x: spans.flatMap(([start, stop]) => [start, stop, null]),
    y: spans.flatMap(() => [place, place, null]),
    text: spans.flatMap((span) => {
      const text = textOf(name, span);
      return [text, text, ""];
    }),
    hovertemplate: "%{text}<extra></extra>",
    line: { color: colour, width: BAR_PIXELS },
    // Plotly draws this symbol 1.4 times as long as its size.
    marker: { symbol: "line-ns", size: BAR_PIXELS / 1.4, line: { color: colour, width: 1 } },
    connectgaps: false,
  };
}

function textOf(name, [start, stop, segments]) {
  const lines = [
    shortened(name, 60),
    `GPS ${gpsText(start)} – ${gpsText(stop)}`,
    `${utcOfGps(start)} UTC`,
    `${durationText(stop - start)}, ${plural(segments, "segment")}`,
  ];
  return lines.map(escaped).join("<br>");
}

/** Plotly reads some markup in texts; the names of channels contain none. */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** Return the spans with one more among them, joined if they touch within the tolerance. */
export function merged(spans, added, dt) {
  const [start, stop] = added;
  const slack = Math.max(TOLERANCE * dt, Math.abs(stop) * Number.EPSILON);
  let first = spans.length;
  while (first > 0 && spans[first - 1][1] >= start - slack) first -= 1;
  let last = first;
  const span = [...added];
  while (last < spans.length && spans[last][0] <= stop + slack) {
    span[0] = Math.min(span[0], spans[last][0]);
    span[1] = Math.max(span[1], spans[last][1]);
    span[2] += spans[last][2];
    last += 1;
  }
  return [...spans.slice(0, first), span, ...spans.slice(last)];
}
