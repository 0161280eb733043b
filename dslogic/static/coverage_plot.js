// The timeline of the stored GPS spans: a row for each channel, with buttons that move and zoom it.

import { byId, show } from "./dom.js";
import { channelText, durationText, gpsText, plural, utcOfGps } from "./format.js";
import { Plot, channelColour } from "./plots.js";

const ROW_PIXELS = 38;
const BAR_PIXELS = 18;
/** The effect of each button on the shown span: it moves by this share of it, and its length is multiplied. */
const MOVES = { earlier: [-0.4, 1], out: [0, 2], in: [0, 0.5], later: [0.4, 1] };

/** The timeline in `#coverage-plot`, with `#coverage-moves` and `#coverage-reset`. */
export class CoveragePlot {
  #runs = []; // {channel, dt, spans: [[start, stop, segments]…]}
  #revision = "";
  #span = null;
  #container = byId("coverage-plot");
  #plot = new Plot(this.#container, (size) => this.#describe(size));

  constructor() {
    byId("coverage-moves").addEventListener("click", ({ target }) => {
      if (target.dataset.move) this.#move(...MOVES[target.dataset.move]);
    });
    byId("coverage-reset").addEventListener("click", () => {
      window.Plotly.relayout(this.#container, this.#span ? { "xaxis.range": [...this.#span] } : { "xaxis.autorange": true })
        .then(() => show("coverage-reset", false));
    });
    this.#container.addEventListener("drawn", () => {
      this.#container.on("plotly_relayout", (change) => {
        if ("xaxis.range[0]" in change || "xaxis.range" in change) show("coverage-reset");
        if (change["xaxis.autorange"]) show("coverage-reset", false);
      });
    });
  }

  /** Draw the spans; a zoom is kept while `revision` stays. `span` is the time shown at first, if not that of the spans. */
  show(runs, revision, span = null) {
    if (revision !== this.#revision) show("coverage-reset", false);
    this.#runs = runs;
    this.#revision = revision;
    this.#span = span;
    show("coverage-moves", runs.length > 0);
    this.#container.hidden = !runs.length;
    // By CSSOM, because the policy forbids style attributes.
    this.#container.style.height = `${placesOf(runs).length * ROW_PIXELS + 64}px`;
    this.#plot.draw();
  }

  #move(by, times) {
    const [start, stop] = this.#container.layout.xaxis.range;
    const middle = (start + stop) / 2 + by * (stop - start);
    const half = (times * (stop - start)) / 2;
    window.Plotly.relayout(this.#container, { "xaxis.range": [middle - half, middle + half] });
  }

  #describe({ width, narrow }) {
    const channels = placesOf(this.#runs);
    if (!channels.length) return null;
    return {
      data: this.#runs.map((run) => trace(run, channels.indexOf(run.channel))),
      layout: {
        hovermode: "closest",
        margin: { l: 24, r: 16, t: 4, b: 48 },
        xaxis: { title: "GPS time [s]", tickformat: ".6~f", nticks: Math.max(3, Math.floor((width - 150) / 110)), showgrid: true, tickangle: 0, ...(this.#span && { range: this.#span }) },
        yaxis: {
          tickvals: channels.map((_, place) => place),
          ticktext: channels.map((channel) => escaped(shortened(channelText(channel), narrow ? 14 : 28))),
          range: [channels.length - 0.5, -0.5],
          fixedrange: true,
          showgrid: false,
          zeroline: false,
          ticks: "",
        },
        uirevision: this.#revision,
      },
    };
  }
}

/** Return the channels of spans, a row of the plot each, in the order of their names. */
export function placesOf(runs) {
  const channels = new Set(runs.map(({ channel }) => channel));
  return [...channels].sort((a, b) => channelText(a).localeCompare(channelText(b)));
}

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
