// Which GPS spans are stored, channel by channel: read once, then extended by each segment that is told.

import { read } from "./api.js";
import { byId, show, write } from "./dom.js";
import { channelText, durationText, gpsText, utcOfGps } from "./format.js";
import { Plot, channelColour } from "./plots.js";

/** As many spans of a channel as a screen has room for; the datastore closes the smallest gaps beyond. */
const SPANS = 800;
const ROW_PIXELS = 38;
const AGAIN_MS = 5000;

export class Coverage {
  #channels = new Map(); // by name: {dt, spans: [[start, stop, segments]…], closed_gaps}
  #batch = null;
  #container = byId("coverage-plot");
  #plot = new Plot(this.#container, (size) => this.#describe(size));
  #of = byId("coverage-of");
  #early = []; // segments told while the spans are being read
  #reading = false;
  #again = null;

  constructor() {
    this.#of.addEventListener("change", () => this.#read());
    byId("coverage-reset").addEventListener("click", () => {
      show("coverage-reset", false);
      window.Plotly.relayout(this.#container, { "xaxis.autorange": true });
    });
    this.#container.addEventListener("drawn", () => {
      this.#container.on("plotly_relayout", (change) => {
        if ("xaxis.range[0]" in change) show("coverage-reset");
        if (change["xaxis.autorange"]) show("coverage-reset", false);
      });
    });
  }

  /** Take an overview; another batch in hand has a coverage of its own. */
  take(overview) {
    if (overview.batch === this.#batch) return;
    this.#batch = overview.batch;
    this.#read();
  }

  /** Take segments that were stored just now; where some were not told, all is read again, soon. */
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
      this.#channels = new Map(channels.map(({ channel, ...rest }) => [channel, rest]));
      for (const row of this.#early) this.#extend(row);
    } catch (error) {
      write("coverage-note", error.message);
      this.#again ??= setTimeout(() => this.#read(), AGAIN_MS);
    } finally {
      this.#reading = false;
    }
    this.#show();
  }

  #extend(row) {
    if (this.#of.value === "batch" && row.batch !== this.#batch) return;
    const known = this.#channels.get(row.channel) ?? { dt: row.dt, spans: [], closed_gaps: 0 };
    this.#channels.set(row.channel, known);
    known.spans = merged(known.spans, [row.t0, row.t0 + row.n * row.dt, 1], row.dt);
  }

  #show() {
    const some = this.#channels.size > 0;
    show("coverage-empty", !some);
    this.#container.hidden = !some;
    // A height of its own for each channel; CSSOM, because the policy forbids style attributes.
    this.#container.style.height = `${this.#channels.size * ROW_PIXELS + 64}px`;
    const closed = Math.max(0, ...[...this.#channels.values()].map((each) => each.closed_gaps ?? 0));
    write("coverage-note", closed ? `gaps up to ${durationText(closed)} not shown` : some ? "drag to zoom" : "");
    this.#plot.draw();
  }

  #describe({ width, narrow }) {
    const channels = [...this.#channels].sort(([a], [b]) => channelText(a).localeCompare(channelText(b)));
    const label = (channel) => shortened(channelText(channel), narrow ? 14 : 28);
    return {
      data: channels.map(([channel, { spans }], place) => trace(spans, place, channelText(channel))),
      layout: {
        hovermode: "closest",
        margin: { l: 24, r: 16, t: 4, b: 48 },
        xaxis: { title: "GPS time [s]", tickformat: "d", nticks: Math.max(3, Math.floor(width / 150)), showgrid: true, tickangle: 0 },
        yaxis: {
          tickvals: channels.map((_, place) => place),
          ticktext: channels.map(([channel]) => label(channel)),
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

/** A line for each span, and a mark at its start, which is seen however short the span is. */
function trace(spans, place, name) {
  const colour = channelColour(place);
  return {
    type: "scatter",
    mode: "lines+markers",
    name,
    x: spans.flatMap(([start, stop]) => [start, stop, null]),
    y: spans.flatMap(() => [place, place, null]),
    text: spans.flatMap(([start, stop, segments]) => {
      const told = `${name}<br>GPS ${gpsText(start)} – ${gpsText(stop)}<br>${utcOfGps(start)} UTC<br>${durationText(stop - start)}, ${segments} segments`;
      return [escaped(told), escaped(told), ""];
    }),
    hovertemplate: "%{text}<extra></extra>",
    line: { color: colour, width: 18 },
    marker: { symbol: "line-ns", size: 18, line: { color: colour, width: 1 } },
    connectgaps: false,
  };
}

/** Plotly takes a little markup in texts; whatever a channel is called is none, but our own line breaks are. */
function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("&lt;br>", "<br>");
}

const shortened = (text, most) => escaped(text.length > most ? `${text.slice(0, most - 1)}…` : text).replaceAll("<br>", "&lt;br>");

/** Give the spans with one more among them, joined where they touch within half a sample. */
export function merged(spans, added, dt) {
  const [start, stop] = added;
  let first = spans.length;
  while (first > 0 && spans[first - 1][1] > start - dt / 2) first -= 1;
  let last = first;
  const span = [...added];
  while (last < spans.length && spans[last][0] < stop + dt / 2) {
    span[0] = Math.min(span[0], spans[last][0]);
    span[1] = Math.max(span[1], spans[last][1]);
    span[2] += spans[last][2];
    last += 1;
  }
  return [...spans.slice(0, first), span, ...spans.slice(last)];
}
