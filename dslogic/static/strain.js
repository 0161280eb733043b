// The views of strain: Q-scan, whitened strain, spectrum and the strain itself, of the latest segments and of any segment.

import { address } from "./api.js";
import { byId, element, fillSelect, show, write } from "./dom.js";
import { TOLERANCE, channelText, durationText, gpsText, powerText, sampling, secondsOf, utcOfGps } from "./format.js";
import { Plot, accent, energyColours, mutedInk } from "./plots.js";
import { sensitivityOf } from "./sensitivity.js";

/** The latest strain is drawn over so many seconds and segments, if they follow each other. */
const WINDOW_SECONDS = 8;
const WINDOW_SEGMENTS = 16;
/** Strain is whitened with what is stored up to so many seconds and segments before and after it. */
export const AROUND_SECONDS = 8;
const AROUND_SEGMENTS = 20;
const ROWS_KEPT = 64;
const REDRAW_MS = 1000;
/** Channels of one stream end at most so many seconds apart. */
const APART_SECONDS = 4;
/** The colours end at this energy, always, so that pictures can be compared (preproc/plots.py): noise rarely exceeds 15. */
const LOUDEST_COLOUR = 25;
const TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];

const worker = new Worker(new URL("strain_worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let asked = 0;

worker.addEventListener("message", ({ data: { id, drawn, failure } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (drawn) resolve(drawn);
  else reject(new Error(failure));
});

function draw(shown, run) {
  asked += 1;
  const urls = run.map(({ name }) => address("segments", `/${encodeURIComponent(name)}`));
  worker.postMessage({ id: asked, urls, first: run.indexOf(shown[0]), count: shown.length });
  return new Promise((resolve, reject) => waiting.set(asked, { resolve, reject }));
}

const VIEWS = { scan: "Q-scan", whitened: "Whitened", asd: "Spectrum", raw: "Strain" };
const LABELS = { scan: "Q-scan", whitened: "Whitened strain", asd: "Amplitude spectral density", raw: "Strain" };

/** A plot in a container, with buttons that choose what it shows. */
export class StrainView {
  #drawn = null;
  #channel = null;
  #view = "scan";
  #turn = 0;
  #label;
  #choices;
  #area;
  #legend;
  #why;
  #plot;

  constructor(container, label) {
    this.#label = label;
    this.#choices = Object.entries(VIEWS).map(([view, text]) => element("button", { type: "button", "data-view": view }, text));
    const group = element("div", { class: "choice", role: "group", "aria-label": `View of ${label}` }, ...this.#choices);
    this.#press();
    group.addEventListener("click", ({ target }) => {
      if (!target.dataset.view) return;
      this.#view = target.dataset.view;
      this.#press();
      if (this.#drawn) this.#show();
    });
    this.#why = element("p", { class: "why", hidden: true });
    this.#area = element("div", { class: "plot strain-plot", role: "img", "aria-label": `Strain of ${label}` });
    this.#legend = element("p", { class: "legend" });
    container.append(group, this.#why, this.#area, this.#legend);
    this.#plot = new Plot(this.#area, (size) => this.#describe(size));
  }

  /** The channel that is shown, or that will be. */
  get channel() {
    return this.#channel;
  }

  /** Say whether nothing is drawn yet, or no longer. */
  get waiting() {
    return this.#drawn === null;
  }

  /** Remove the picture: segments of a channel are to be shown that take their time. */
  wait(channel) {
    this.#turn += 1;
    this.#drawn = null;
    this.#channel = channel;
    this.#area.setAttribute("aria-busy", "true");
    this.#legend.replaceChildren();
    this.#explain("Computing …");
  }

  #explain(text) {
    this.#why.hidden = !text;
    this.#why.textContent = text;
  }

  /** Draw the segments `shown`, which are part of `run`; all of it follows each other. Returns what was drawn. */
  async show(shown, run) {
    this.#turn += 1;
    const turn = this.#turn;
    const drawn = await draw(shown, run).catch((error) => {
      if (turn === this.#turn && this.waiting) this.#explain(error.message);
      throw error;
    });
    if (turn !== this.#turn) return drawn; // others are to be shown by now
    this.#drawn = drawn;
    this.#channel = shown[0].channel;
    this.#show();
    return drawn;
  }

  /** Draw the chosen view; if the strain is not enough for it, say why and draw the strain itself. */
  #show() {
    const view = this.#shownView();
    this.#explain(view === this.#view ? "" : this.#drawn.why);
    this.#area.setAttribute("aria-busy", "false");
    this.#area.dataset.view = view;
    this.#area.setAttribute("aria-label", `${LABELS[view]} of ${this.#label}`);
    this.#legend.replaceChildren(...this.#legendOf(view));
    this.#plot.draw();
  }

  #press() {
    for (const choice of this.#choices) choice.setAttribute("aria-pressed", String(choice.dataset.view === this.#view));
  }

  #shownView() {
    return this.#drawn && (this.#drawn[this.#view] ? this.#view : "raw");
  }

  #legendOf(view) {
    const { shown, samples, dt, around, milliseconds } = this.#drawn;
    const parts = [];
    if (view === "scan") parts.push("energy 0", element("span", { class: "heat", "aria-hidden": "true" }), `${LOUDEST_COLOUR} × the median of each frequency`);
    if (view === "asd") parts.push(`median of ${durationText(around)} of strain`);
    if (view === "asd" && sensitivityOf(this.#channel)) parts.push(element("span", { class: "dashes", "aria-hidden": "true" }), `design of ${sensitivityOf(this.#channel).name}`);
    if (view === "scan" || view === "whitened") parts.push(element("span", { class: "missing" }, missingText(this.#drawn)));
    if (shown < samples) parts.push(`· the first ${durationText(shown * dt)} of ${durationText(samples * dt)}`);
    this.#legend.title = view === "raw" ? "" : `whitened with ${durationText(around)} of strain, computed in ${Math.round(milliseconds)} ms`;
    return parts;
  }

  #describe({ narrow }) {
    const view = this.#shownView();
    if (view === "scan") return this.#describeScan();
    if (view === "asd") return this.#describeSpectrum(narrow);
    return view && this.#describeLine(this.#drawn[view], view === "whitened" ? "whitened strain" : "strain");
  }

  #timeAxis() {
    return { title: `s from GPS ${gpsText(this.#drawn.t0)}`, showgrid: false };
  }

  #describeLine({ x, y }, title) {
    const exponent = exponentOf(y);
    return {
      data: [{
        type: "scatter",
        mode: "lines",
        x,
        y: y.map((sample) => scaled(sample, exponent)),
        line: { color: accent(), width: 1 },
        hovertemplate: `%{x:.4f} s<br>%{y:.4f}${exponent ? ` · ${powerText(exponent)}` : ""}<extra></extra>`,
      }],
      layout: {
        margin: { l: 64, r: 12, t: 8, b: 46 },
        xaxis: { ...this.#timeAxis(), range: [x[0], x.at(-1) + this.#drawn.dt] },
        yaxis: { title: exponent ? `${title} [${powerText(exponent)}]` : title, nticks: 6, automargin: false },
      },
    };
  }

  #describeScan() {
    const { frequencies, energy, start, step } = this.#drawn.scan;
    const columns = energy[0].length;
    return {
      data: [{
        type: "heatmap",
        x: Array.from({ length: columns }, (_, column) => start + column * step),
        y: frequencies,
        z: energy,
        zmin: 0,
        zmax: LOUDEST_COLOUR,
        colorscale: energyColours(),
        showscale: false,
        hovertemplate: "%{x:.3f} s<br>%{y:.0f} Hz<br>energy %{z:.1f}<extra></extra>",
      }],
      layout: {
        margin: { l: 64, r: 12, t: 8, b: 46 },
        xaxis: { ...this.#timeAxis(), range: [start, start + columns * step] },
        yaxis: { title: "Hz", type: "log", range: [frequencies[0], frequencies.at(-1)].map(Math.log10), tickvals: TICKS, showgrid: false, automargin: false },
      },
    };
  }

  #describeSpectrum(narrow) {
    const { x, y } = this.#drawn.asd;
    const design = sensitivityOf(this.#channel);
    const known = design ? x.filter((frequency) => frequency >= design.lowest) : [];
    const lowest = Math.min(10, x.at(-1) / 8);
    const heights = [...y.filter((_, place) => x[place] >= lowest), ...known.map((frequency) => design.fit(frequency))].map(Math.log10);
    const [lowest10, highest10] = [Math.min(...heights), Math.max(...heights)];
    return {
      data: [
        { type: "scatter", mode: "lines", x, y, line: { color: accent(), width: 1.2 }, hovertemplate: "%{x:.4g} Hz<br>%{y:.2e}<extra></extra>" },
        { type: "scatter", mode: "lines", x: known, y: known.map((frequency) => design.fit(frequency)), line: { color: mutedInk(), width: 1.5, dash: "dash" }, hovertemplate: "%{x:.4g} Hz<br>%{y:.2e}<extra>design</extra>" },
      ],
      layout: {
        margin: { l: 84, r: 12, t: 8, b: 46 },
        xaxis: { title: "Hz", type: "log", range: [Math.log10(lowest), Math.log10(x.at(-1))], tickvals: TICKS },
        yaxis: { title: "strain [1/√Hz]", type: "log", range: [lowest10 - 0.1, highest10 + 0.1], ...powersOfTen(lowest10, highest10, narrow ? 4 : 8), automargin: false },
      },
    };
  }
}

/** Return ticks at powers of ten, at most so many; plotly's own superscripts are inline styles, which the policy forbids. */
function powersOfTen(lowest, highest, most) {
  const step = Math.max(1, Math.ceil((highest - lowest) / most));
  const exponents = Array.from({ length: Math.floor((highest - lowest) / step) + 1 }, (_, place) => Math.ceil(lowest) + place * step);
  return { tickvals: exponents.map((exponent) => 10 ** exponent), ticktext: exponents.map(powerText) };
}

/** Say which ends of the window are not drawn: whitening needs the strain before and after them. */
function missingText({ whitened: { x }, shown, dt }) {
  const missing = (seconds, end, side) => seconds > 0.01 * shown * dt && `The ${end} ${durationText(Number(seconds.toPrecision(2)))} is not drawn without the strain ${side} it.`;
  return [missing(x[0], "first", "before"), missing(shown * dt - x.at(-1) - dt, "last", "after")].filter(Boolean).join(" ");
}

/** Return the power of ten that the largest of these numbers has, or 0 if they need none. */
function exponentOf(numbers) {
  const largest = numbers.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
  const exponent = largest ? Math.floor(Math.log10(largest)) : 0;
  return Math.abs(exponent) > 3 ? exponent : 0;
}

/** Return a number divided by a power of ten, which may itself be too small for a number. */
const scaled = (number, exponent) => (number / 10 ** Math.ceil(exponent / 2)) / 10 ** Math.floor(exponent / 2);

/** The panel of the latest strain; follows what is stored. */
export class LatestStrain {
  #rows = new Map(); // by channel: the newest rows, by t0
  #view = new StrainView(byId("strain-view"), "the latest segments");
  #choice = byId("strain-channel");
  #chosen = false;
  #newest = null; // the row that was stored last
  #shown = "";
  #drawn = ""; // the note about what is drawn, without its batch
  #batch = null; // the batch of what is drawn
  #open = []; // the current batch, and the next one
  #busy = false;
  #timer = null;
  #pause = REDRAW_MS;

  constructor() {
    this.#choice.addEventListener("change", () => {
      this.#chosen = true;
      this.#draw();
    });
  }

  /** Take an overview: the strain drawn may be in an archived batch by now. */
  take({ batch, next }) {
    this.#open = [batch, next?.batch];
    if (this.#drawn) this.#note();
  }

  #note() {
    write("strain-note", `${this.#drawn}${this.#open.includes(this.#batch) ? "" : ", in an archived batch"}`);
  }

  add(rows) {
    for (const row of rows) {
      const key = JSON.stringify(row.channel);
      const known = this.#rows.get(key) ?? [];
      known.push(row);
      this.#rows.set(key, known);
      if (!this.#newest || row.seq > this.#newest.seq) this.#newest = row;
    }
    for (const [key, known] of this.#rows) {
      known.sort((a, b) => a.t0 - b.t0 || a.seq - b.seq);
      this.#rows.set(key, known.slice(-ROWS_KEPT));
    }
    const options = [...this.#rows.keys()].map((key) => ({ value: key, text: channelText(JSON.parse(key)) }));
    fillSelect(this.#choice, options.sort((a, b) => a.text.localeCompare(b.text)));
    if (!this.#chosen && this.#newest) this.#follow();
    show("strain-tools", options.length > 0);
    this.#timer ??= setTimeout(() => this.#draw(), this.#shown ? this.#pause : 0);
  }

  /** Show the channel of the segment stored last, unless the one shown arrives beside it, second by second. */
  #follow() {
    const beside = this.#shown && this.#rows.get(this.#choice.value)?.at(-1);
    if (beside && Math.abs(endOf(beside) - endOf(this.#newest)) <= APART_SECONDS) return;
    this.#choice.value = JSON.stringify(this.#newest.channel);
  }

  async #draw() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const rows = this.#rows.get(this.#choice.value) ?? [];
    const shown = latestWindow(rows);
    const wanted = shown.map(({ name }) => name).join(" ");
    if (!rows.length) return;
    if (this.#view.channel !== rows[0].channel) this.#view.wait(rows[0].channel);
    if (wanted === this.#shown && !this.#view.waiting) return;
    if (this.#busy) {
      this.#timer = setTimeout(() => this.#draw(), this.#pause);
      return;
    }
    const onTape = shown.some(isOnTape);
    show("strain-view", !onTape);
    show("strain-empty", onTape);
    if (onTape) { // nobody has asked for it: a recall is not begun by looking at the page
      this.#shown = this.#drawn = "";
      write("strain-note", "");
      write("strain-empty", "The latest strain is on tape. Open one of the segments below to recall its batch.");
      return;
    }
    this.#busy = true;
    try {
      const drawn = await this.#view.show(shown, runAround(shown, rows));
      this.#shown = wanted;
      this.#pause = Math.max(REDRAW_MS, 3 * drawn.milliseconds); // a slow machine has time for other work
      if (this.#view.waiting) return; // another channel was chosen meanwhile
      const rate = Number((1 / drawn.dt).toPrecision(6));
      this.#drawn = `${durationText(drawn.samples * drawn.dt)} at ${rate} Hz, from ${utcOfGps(drawn.t0)} UTC`;
      this.#batch = shown.at(-1).batch;
      this.#note();
    } catch (error) {
      this.#drawn = "";
      write("strain-note", error.message);
    } finally {
      this.#busy = false;
    }
  }
}

export const endOf = (row) => row.t0 + secondsOf(row);

/** Say whether a segment can only be read after a recall. */
export const isOnTape = ({ locality }) => locality === "TAPE";

/** Say whether a segment begins where another one ends, with the same sample spacing. */
function follows(row, next) {
  const dt = sampling(row.dt);
  // The times may follow from the spacing as it was written, or from the one it stands for.
  const slack = Math.max(TOLERANCE * dt, row.n * Math.abs(dt - row.dt), Math.abs(next.t0) * Number.EPSILON);
  return dt === sampling(next.dt) && Math.abs(endOf(row) - next.t0) <= slack;
}

/** Return the newest of these rows, which are in the order of t0, that follow each other and are drawn together. */
function latestWindow(rows) {
  const window = rows.slice(-1);
  for (const row of rows.slice(0, -1).reverse()) {
    if (!follows(row, window[0])) break;
    const seconds = endOf(window.at(-1)) - row.t0;
    if (seconds > WINDOW_SECONDS + row.dt / 2 || window.length === WINDOW_SEGMENTS) break;
    window.unshift(row);
  }
  return window;
}

/** Return the rows that `shown` is whitened with: those among `rows`, and itself, that follow each other, none on tape. */
export function runAround(shown, rows) {
  const names = new Set(shown.map(({ name }) => name));
  const others = rows.filter((row) => row.channel === shown[0].channel && !names.has(row.name) && !isOnTape(row)).sort((a, b) => a.t0 - b.t0);
  const [before, after] = [[], []];
  const [start, stop] = [shown[0].t0 - AROUND_SECONDS, endOf(shown.at(-1)) + AROUND_SECONDS];
  for (const row of others) {
    if (row.t0 < stop && after.length < AROUND_SEGMENTS && follows(after.at(-1) ?? shown.at(-1), row)) after.push(row);
  }
  for (const row of others.reverse()) {
    if (endOf(row) > start && before.length < AROUND_SEGMENTS && follows(row, before[0] ?? shown[0])) before.unshift(row);
  }
  return [...before, ...shown, ...after];
}
