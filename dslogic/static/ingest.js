// The ingest rate: the growth from overview to overview, and the segments stored before the page was opened.

import { write } from "./dom.js";
import { sizeParts, utcText } from "./format.js";
import { Plot, accent } from "./plots.js";

const MINUTES = 10;
const BIN_SECONDS = 10;
const RATE_SECONDS = 60;
/** After so many seconds without a segment nothing arrives any more. */
const ARRIVING_SECONDS = 10;

export class Ingest {
  #arrivals = []; // {time (Unix s), bytes, segments}, by time
  #known = null; // bytes and segments of the batches in the last overview
  #since = null;
  #lacking = false;
  #now = 0;

  constructor(container) {
    this.#plot = new Plot(container, (size) => this.#describe(size));
  }

  #plot;

  /** Take the segments stored before the page was opened; `more` were stored before them. */
  begin(rows, more) {
    this.#lacking = more;
    const before = rows
      .map((row) => ({ time: Date.parse(row.stored) / 1000, bytes: row.bytes, segments: 1 }))
      .filter(({ time }) => this.#since === null || time < this.#since);
    this.#arrivals = [...before.sort((a, b) => a.time - b.time), ...this.#arrivals];
    this.#since = Math.min(this.#since ?? Infinity, before[0]?.time ?? Infinity);
    this.#plot.draw();
  }

  /** Take an overview: the growth of its batches has arrived since the last one. */
  take(overview) {
    this.tick(overview);
    const batches = new Map([[overview.batch, overview], ...(overview.next ? [[overview.next.batch, overview.next]] : [])]);
    this.#since ??= overview.time;
    if (this.#known) {
      const arrived = { time: overview.time, bytes: 0, segments: 0 };
      for (const [batch, { n_itm, buff_size }] of batches) {
        const before = this.#known.get(batch) ?? { n_itm: 0, buff_size: 0 };
        arrived.bytes += Math.max(0, buff_size - before.buff_size);
        arrived.segments += Math.max(0, n_itm - before.n_itm);
      }
      if (arrived.segments) this.#arrivals.push(arrived);
    }
    this.#known = batches;
    const oldest = this.#now - MINUTES * 60 - BIN_SECONDS;
    while (this.#arrivals.length && this.#arrivals[0].time < oldest) this.#arrivals.shift();
    this.#plot.draw();
  }

  /** Advance to the time of an overview. */
  tick({ time }) {
    const moved = Math.floor(time / BIN_SECONDS) > Math.floor(this.#now / BIN_SECONDS);
    this.#now = time;
    if (moved) this.#plot.draw();
  }

  /** Return bytes and segments per second, of the last minute or the part that the page has seen, and whether any arrive. */
  rate() {
    const seen = Math.min(RATE_SECONDS, Math.max(10, this.#now - (this.#since ?? this.#now)));
    const recent = this.#arrivals.filter(({ time }) => time > this.#now - seen);
    const sum = (what) => recent.reduce((total, arrival) => total + arrival[what], 0) / seen;
    const arriving = recent.length > 0 && recent.at(-1).time > this.#now - ARRIVING_SECONDS;
    return { bytes: sum("bytes"), segments: sum("segments"), arriving };
  }

  #describe({ narrow }) {
    const late = this.#lacking && this.#since > this.#now - MINUTES * 60;
    write("ingest-note", `the last ten minutes${late ? `, known since ${utcText(this.#since).slice(11)}` : ""}`);
    const end = Math.ceil(this.#now / BIN_SECONDS) * BIN_SECONDS;
    const bins = (MINUTES * 60) / BIN_SECONDS;
    const bytes = new Array(bins).fill(0);
    for (const { time, bytes: arrived } of this.#arrivals) {
      const bin = bins - 1 - Math.floor((end - time) / BIN_SECONDS);
      if (bin >= 0 && bin < bins) bytes[bin] += arrived;
    }
    const rates = bytes.map((total) => total / BIN_SECONDS);
    const [, unit] = sizeParts(Math.max(1, ...rates));
    const scale = 1000 ** ["B", "kB", "MB", "GB", "TB", "PB"].indexOf(unit);
    return {
      data: [{
        type: "bar",
        x: rates.map((_, bin) => ((bin + 0.5 - bins) * BIN_SECONDS) / 60),
        y: rates.map((rate) => rate / scale),
        marker: { color: accent(), line: { width: 0 } },
        hovertemplate: `%{y:.3~g} ${unit}/s<extra></extra>`,
      }],
      layout: {
        bargap: 0.25,
        xaxis: { title: "minutes before now", range: [-MINUTES, 0], tickvals: narrow ? [-10, -5, 0] : [-10, -8, -6, -4, -2, 0], fixedrange: true, showgrid: false },
        yaxis: { title: `${unit}/s`, rangemode: "tozero", fixedrange: true, nticks: 4, ...(Math.max(...rates) === 0 && { range: [0, 1] }) },
      },
    };
  }
}
