// The stored GPS spans of each channel: read once, then extended by each new segment.

import { read } from "./api.js";
import { CoveragePlot } from "./coverage_plot.js";
import { byId, show, write } from "./dom.js";
import { TOLERANCE, durationText, sampling } from "./format.js";

/** Maximum number of spans of a channel; the datastore ignores the smallest gaps beyond. */
const SPANS = 800;
const AGAIN_MS = 5000;

export class Coverage {
  #runs = new Map(); // by channel and dt: {channel, dt, spans: [[start, stop, segments]…], closed_gaps}
  #batch = null;
  #stored = false; // whether any batch has or had segments
  #plot = new CoveragePlot();
  #of = byId("coverage-of");
  #early = []; // segments that arrived while the spans are being read
  #reading = false;
  #again = null;
  #failure = "";

  constructor() {
    this.#of.addEventListener("change", () => this.#read());
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

  #show() {
    const runs = [...this.#runs.values()];
    const of = this.#of.value;
    write("coverage-empty", this.#stored && of === "batch" ? "The current batch is empty." : "No strain is stored yet.");
    show("coverage-empty", !runs.length && !this.#failure);
    const closed = Math.max(0, ...runs.map((each) => each.closed_gaps ?? 0));
    write("coverage-note", this.#failure ? this.#failure : closed ? `gaps up to ${durationText(closed)} not shown` : "");
    this.#plot.show(runs, `${of} ${of === "batch" ? this.#batch : ""}`);
  }
}

const keyOf = ({ channel, dt }) => JSON.stringify([channel, dt]);

/** Return the spans with one more among them, joined if they touch within the tolerance. */
function merged(spans, added, dt) {
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
