// The list of segments: a page at a time by the datastore's own cursor, however many there are.

import { Refusal, address, read } from "./api.js";
import { byId, closable, element, fillSelect, row, show, write } from "./dom.js";
import { channelText, countText, durationText, gpsText, sampling, secondsOf, sizeText, stampText, utcOfGps } from "./format.js";
import { StrainView } from "./strain.js";

const ROWS = 25;

/** The list; new segments appear in it as long as its newest page is shown. */
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
      const name = event.target.closest("button")?.textContent;
      if (name) openSegment(this.#rows.find((each) => each.name === name));
    });
  }

  take(overview) {
    this.#offer(overview.channels);
    const changed = this.#batch !== null && this.#batch !== overview.batch;
    this.#batch = overview.batch;
    if (changed && this.#filter.elements.of.value === "batch") this.#apply();
  }

  /** Offer the channels of these to be chosen, beside all that were offered before: one that is archived is still there. */
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
        write("segments-note", `${value} is no GPS time in seconds`);
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

  /** Show the newest page, also to begin with. */
  open() {
    return this.#open({ before: "" });
  }

  /** Open a page: the one right before a seq (none: the newest of all), or the one right after a seq. */
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
      if (turn !== this.#turn) return; // somebody has turned another page meanwhile
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
    write("segments-empty", filtered ? "There is no such segment." : "No segment is stored yet.");
    show("segments-pages", this.#rows.length > 0);
    const [first, last] = [this.#rows[0], this.#rows.at(-1)];
    write("segments-note", first ? `no. ${countText(last.seq)} to ${countText(first.seq)}${this.#atNewest ? ", the newest" : ""}` : "");
    for (const name of ["newest", "newer"]) byId(`page-${name}`).disabled = this.#atNewest || !first;
    for (const name of ["older", "oldest"]) byId(`page-${name}`).disabled = this.#atOldest || !first;
  }
}

function segmentRow(each) {
  return row([
    element("button", { type: "button", class: "name" }, each.name),
    each.channel ?? element("em", {}, "no channel"),
    { text: gpsText(each.t0), numeric: true },
    utcOfGps(each.t0),
    { text: String(Number(secondsOf(each).toPrecision(6))), numeric: true },
    { text: String(Number((1 / sampling(each.dt)).toPrecision(6))), numeric: true },
    { text: countText(each.bytes), numeric: true },
    stampText(each.stored),
  ]);
}

// ---- one segment

const dialog = closable(byId("segment"));
let view;

/** Show a segment: its strain, its spectrogram, what is known of it; and offer it for download. */
export async function openSegment(each) {
  byId("segment-title").textContent = each.name;
  const download = byId("segment-download");
  download.href = address("segments", `/${encodeURIComponent(each.name)}`);
  download.download = each.name;
  showFacts(each, null);
  show("segment-failure", false);
  show("segment-view");
  dialog.showModal();
  view ??= new StrainView(byId("segment-view"), "the segment");
  try {
    const { meta } = await view.show([each.name]);
    showFacts(each, meta);
  } catch (error) {
    show("segment-view", false);
    show("segment-failure");
    write("segment-failure", error.message);
  }
}

function showFacts(each, meta) {
  const facts = {
    Channel: channelText(each.channel),
    GPS: `${gpsText(each.t0)} – ${gpsText(each.t0 + secondsOf(each))}`,
    UTC: utcOfGps(each.t0, 3),
    Samples: `${countText(each.n)} at ${Number((1 / sampling(each.dt)).toPrecision(6))} Hz, ${durationText(secondsOf(each))}`,
    Size: `${sizeText(each.bytes)} (${countText(each.bytes)} bytes)`,
    Stored: `${stampText(each.stored)} UTC, no. ${countText(each.seq)}`,
    Batch: each.batch,
    "SHA-256": each.sha256,
    ...Object.fromEntries(Object.entries(meta ?? {}).filter(([key]) => key !== "channel").map(([key, value]) => [`meta.${key}`, typeof value === "string" ? value : JSON.stringify(value)])),
  };
  byId("segment-facts").replaceChildren(...Object.entries(facts).flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]));
}
