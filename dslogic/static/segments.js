// The list of segments, read a page at a time.

import { Refusal, read } from "./api.js";
import { byId, element, fillSelect, row, show, write } from "./dom.js";
import { countText, gpsText, sampling, secondsOf, stampText, utcOfGps } from "./format.js";
import { openSegment } from "./segment_view.js";
import { endOf } from "./strain.js";

const ROWS = 25;

/** The list; new segments appear in it while its newest page is shown. */
export class SegmentList {
  #rows = []; // newest first
  #atNewest = true;
  #atOldest = false;
  #batch = null;
  #filter = byId("segments-filter");
  #wanted = {};
  #turn = 0;
  #due = null;
  #channels = new Set();

  constructor() {
    this.#filter.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#apply();
    });
    this.#filter.addEventListener("reset", () => setTimeout(() => this.#apply()));
    for (const select of this.#filter.querySelectorAll("select")) select.addEventListener("change", () => this.#apply());
    const turns = { newest: () => ({ before: "" }), older: () => ({ before: this.#rows.at(-1).seq }), newer: () => ({ after: this.#rows[0].seq }), oldest: () => ({ after: 0 }) };
    for (const [name, cursor] of Object.entries(turns)) byId(`page-${name}`).addEventListener("click", () => this.#open(cursor()));
    byId("segments").tBodies[0].addEventListener("click", (event) => {
      const name = event.target.closest("button")?.dataset.name;
      if (name) openSegment(this.#rows.find((each) => each.name === name));
    });
  }

  take(overview) {
    this.#offer(overview.channels);
    const changed = this.#batch !== null && this.#batch !== overview.batch;
    this.#batch = overview.batch;
    if (changed && this.#filter.elements.of.value === "batch") this.#apply();
  }

  /** Add channels to the choice; those of archived batches stay. */
  #offer(those) {
    for (const { channel } of those) if (channel != null) this.#channels.add(channel);
    const named = [...this.#channels].sort().map((channel) => ({ value: channel, text: channel }));
    fillSelect(this.#filter.elements.channel, [{ value: "", text: "all" }, ...named]);
  }

  add(rows, more) {
    this.#offer(rows);
    if (!this.#atNewest) return;
    if (more) {
      this.#due ??= setTimeout(() => this.#atNewest && this.#open({ before: "" }), 2000);
      return;
    }
    const { batch, channel, start, stop } = this.#wanted;
    const known = new Set(this.#rows.map(({ seq }) => seq));
    const fitting = rows.filter((each) => !known.has(each.seq)
      && (!batch || each.batch === batch) && (!channel || each.channel === channel)
      && (!start || each.t0 + secondsOf(each) > start) && (!stop || each.t0 < stop));
    if (!fitting.length) return;
    const all = [...fitting, ...this.#rows].sort((a, b) => b.seq - a.seq);
    this.#atOldest &&= all.length <= ROWS;
    this.#rows = all.slice(0, ROWS);
    this.#show();
  }

  #apply() {
    const fields = this.#filter.elements;
    for (const name of ["start", "stop"]) {
      const value = fields[name].value.trim();
      const wrong = value !== "" && !Number.isFinite(Number(value));
      fields[name].setAttribute("aria-invalid", String(wrong));
      if (wrong) {
        write("segments-note", `${value} is not a GPS time in seconds`);
        return;
      }
    }
    this.#wanted = {
      batch: fields.of.value === "batch" ? this.#batch : "",
      channel: fields.channel.value,
      start: fields.start.value.trim(),
      stop: fields.stop.value.trim(),
    };
    this.#open({ before: "" });
  }

  /** Show the newest page. */
  open() {
    return this.#open({ before: "" });
  }

  /** Open a page: the one right before a seq (empty: the newest), or the one right after a seq. */
  async #open(cursor) {
    this.#turn += 1;
    const turn = this.#turn;
    clearTimeout(this.#due);
    this.#due = null;
    byId("segments").setAttribute("aria-busy", "true");
    try {
      const backwards = "before" in cursor;
      const query = { ...this.#wanted, limit: ROWS, ...(backwards ? { before: cursor.before || Number.MAX_SAFE_INTEGER } : { after: cursor.after }) };
      const { segments, more } = await read("segments", query);
      if (turn !== this.#turn) return; // another page was opened meanwhile
      this.#offer(segments);
      this.#rows = backwards ? segments : segments.reverse();
      this.#atNewest = backwards ? cursor.before === "" : !more;
      this.#atOldest = backwards ? !more : cursor.after === 0;
      this.#show();
    } catch (error) {
      write("segments-note", error instanceof Refusal ? error.message : String(error));
    } finally {
      byId("segments").removeAttribute("aria-busy");
    }
  }

  #show() {
    byId("segments").tBodies[0].replaceChildren(...this.#rows.map(segmentRow));
    const filtered = Object.values(this.#wanted).some(Boolean);
    show("segments-empty", !this.#rows.length);
    write("segments-empty", filtered ? "No segment matches." : "No segment is stored yet.");
    show("segments-pages", this.#rows.length > 0);
    const [first, last] = [this.#rows[0], this.#rows.at(-1)];
    write("segments-note", first ? `${this.#atNewest ? "the newest: " : ""}numbers ${countText(last.seq)} to ${countText(first.seq)} in order of storage` : "");
    for (const name of ["newest", "newer"]) byId(`page-${name}`).disabled = this.#atNewest || !first;
    for (const name of ["older", "oldest"]) byId(`page-${name}`).disabled = this.#atOldest || !first;
  }
}

function segmentRow(each) {
  return row([
    each.channel ?? element("em", {}, "no channel"),
    element("button", { type: "button", class: "name", "data-name": each.name }, spanText(each)),
    utcOfGps(each.t0),
    { text: String(Number(secondsOf(each).toPrecision(6))), numeric: true },
    { text: String(Number((1 / sampling(each.dt)).toPrecision(6))), numeric: true },
    { text: countText(each.bytes), numeric: true },
    stampText(each.stored),
    element("span", { class: "id" }, each.name),
  ]);
}

const spanText = (each) => `${gpsText(each.t0)} – ${gpsText(endOf(each))}`;
