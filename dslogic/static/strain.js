// Strain and its spectrogram: the latest of a channel, and any segment's.

import { address } from "./api.js";
import { byId, element, fillSelect, show, write } from "./dom.js";
import { TOLERANCE, channelText, durationText, gpsText, powerText, sampling, secondsOf, utcOfGps } from "./format.js";
import { Plot, accent, heat } from "./plots.js";

/** The latest strain is drawn over so many seconds and segments, as far as they follow each other. */
const WINDOW_SECONDS = 8;
const WINDOW_SEGMENTS = 16;
const ROWS_KEPT = 64;
const REDRAW_MS = 1000;
/** Energy from which on the colour is the loudest, in dB over the median. */
const LOUD = 25;

const worker = new Worker(new URL("strain_worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let asked = 0;

worker.addEventListener("message", ({ data: { id, drawn, failure } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (drawn) resolve(drawn);
  else reject(new Error(failure));
});

function draw(names) {
  asked += 1;
  const urls = names.map((name) => address("segments", `/${encodeURIComponent(name)}`));
  worker.postMessage({ id: asked, urls });
  return new Promise((resolve, reject) => waiting.set(asked, { resolve, reject }));
}

/** A strain plot above its spectrogram, in a container. */
export class StrainView {
  #drawn = null;
  #plots;
  #map;
  #legend;
  #none;

  constructor(container, label) {
    const line = element("div", { class: "plot strain-line", role: "img", "aria-label": `Strain of ${label}` });
    this.#map = element("div", { class: "plot strain-map", role: "img", "aria-label": `Spectrogram of ${label}` });
    this.#legend = element("p", { class: "legend" }, "0 dB", element("span", { class: "heat", "aria-hidden": "true" }), `${LOUD} dB over the median of each frequency`);
    this.#none = element("p", { class: "empty", hidden: true }, "Too few samples for a spectrogram.");
    container.append(line, this.#map, this.#legend, this.#none);
    this.#plots = [new Plot(line, () => this.#describeLine()), new Plot(this.#map, () => this.#describeMap())];
  }

  /** Draw the segments of these names, which follow each other; gives what was drawn. */
  async show(names) {
    this.#drawn = await draw(names);
    this.#map.hidden = this.#legend.hidden = !this.#drawn.spectrum;
    this.#none.hidden = Boolean(this.#drawn.spectrum);
    for (const plot of this.#plots) plot.draw();
    return this.#drawn;
  }

  #span() {
    return [0, this.#drawn.samples * this.#drawn.dt];
  }

  #describeLine() {
    if (!this.#drawn) return null;
    const { x, y } = this.#drawn.line;
    const exponent = exponentOf(y);
    return {
      data: [{
        type: "scatter",
        mode: "lines",
        x,
        y: y.map((sample) => sample / 10 ** exponent),
        line: { color: accent(), width: 1 },
        hovertemplate: `%{x:.4f} s<br>%{y:.4f} · ${powerText(exponent)}<extra></extra>`,
      }],
      layout: {
        margin: { l: 64, r: 12, t: 8, b: 20 },
        xaxis: { range: this.#span(), showticklabels: false },
        yaxis: { title: exponent ? `strain [${powerText(exponent)}]` : "strain", nticks: 5, automargin: false },
      },
    };
  }

  #describeMap() {
    if (!this.#drawn?.spectrum) return null;
    const { times, frequencies, decibels } = this.#drawn.spectrum;
    return {
      data: [{
        type: "heatmap",
        x: times,
        y: frequencies.slice(1), // there is no logarithm of 0 Hz
        z: decibels.slice(1),
        zmin: 0,
        zmax: LOUD,
        colorscale: heat(),
        showscale: false,
        hovertemplate: "%{x:.3f} s<br>%{y:.0f} Hz<br>%{z:.1f} dB<extra></extra>",
      }],
      layout: {
        margin: { l: 64, r: 12, t: 4, b: 46 },
        xaxis: { range: this.#span(), title: `s from GPS ${gpsText(this.#drawn.t0)}`, showgrid: false },
        yaxis: {
          title: "Hz",
          type: "log",
          range: [Math.log10(frequencies[1]), Math.log10(frequencies.at(-1)) + 1e-6],
          tickvals: [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192],
          showgrid: false,
          automargin: false,
        },
      },
    };
  }
}

/** Give the power of ten that the largest of these numbers has. */
function exponentOf(numbers) {
  const largest = numbers.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
  return largest ? Math.floor(Math.log10(largest)) : 0;
}

/** The panel of the latest strain; follows what is stored. */
export class LatestStrain {
  #rows = new Map(); // by channel: the newest rows, by t0
  #view = new StrainView(byId("strain-view"), "the latest segments");
  #choice = byId("strain-channel");
  #shown = "";
  #busy = false;
  #timer = null;

  constructor() {
    this.#choice.addEventListener("change", () => this.#draw());
  }

  add(rows) {
    for (const row of rows) {
      const key = JSON.stringify(row.channel);
      const known = this.#rows.get(key) ?? [];
      known.push(row);
      this.#rows.set(key, known);
    }
    for (const [key, known] of this.#rows) {
      known.sort((a, b) => a.t0 - b.t0 || a.seq - b.seq);
      this.#rows.set(key, known.slice(-ROWS_KEPT));
    }
    const options = [...this.#rows.keys()].map((key) => ({ value: key, text: channelText(JSON.parse(key)) }));
    fillSelect(this.#choice, options.sort((a, b) => a.text.localeCompare(b.text)));
    show("strain-tools", options.length > 0);
    this.#timer ??= setTimeout(() => this.#draw(), this.#shown ? REDRAW_MS : 0);
  }

  async #draw() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const rows = latestWindow(this.#rows.get(this.#choice.value) ?? []);
    const wanted = rows.map(({ name }) => name).join(" ");
    if (!rows.length || wanted === this.#shown) return;
    if (this.#busy) {
      this.#timer = setTimeout(() => this.#draw(), REDRAW_MS);
      return;
    }
    this.#busy = true;
    try {
      show("strain-view");
      show("strain-empty", false);
      const drawn = await this.#view.show(rows.map(({ name }) => name));
      this.#shown = wanted;
      const rate = Math.round(1 / drawn.dt);
      write("strain-note", `${durationText(drawn.samples * drawn.dt)} at ${rate} Hz, from ${utcOfGps(drawn.t0)} UTC`);
    } catch (error) {
      write("strain-note", error.message);
    } finally {
      this.#busy = false;
    }
  }
}

/** Give the newest rows that follow each other without a gap, as many as are drawn at a time. */
export function latestWindow(rows) {
  const window = rows.slice(-1);
  for (const row of rows.slice(0, -1).reverse()) {
    const [next] = window;
    const dt = sampling(row.dt);
    // The times may follow from the spacing as it was written, or from the one it stands for.
    const slack = Math.max(TOLERANCE * dt, row.n * Math.abs(dt - row.dt), Math.abs(next.t0) * Number.EPSILON);
    if (dt !== sampling(next.dt) || Math.abs(row.t0 + secondsOf(row) - next.t0) > slack) break;
    const seconds = window.reduce((sum, each) => sum + secondsOf(each), secondsOf(row));
    if (seconds > WINDOW_SECONDS + row.dt / 2 || window.length === WINDOW_SEGMENTS) break;
    window.unshift(row);
  }
  return window;
}
