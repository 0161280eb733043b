// The list of segments, read a page at a time.

import { byId, element, fillSelect, row, show, write } from "./dom.js";
import { countText, gpsText, sampling, secondsOf, stampText, utcOfGps } from "./format.js";
import { ROWS, SegmentPages } from "./segment_pages.js";
import { openSegment } from "./segment_view.js";
import { localityTag } from "./replicas.js";
import { endOf } from "./strain.js";

/** The list; new segments appear in it while its newest page is shown. */
export class SegmentList {
  #pages = new SegmentPages(byId("segments"), {
    opened: () => {
      this.#offer(this.#pages.rows);
      this.#show();
    },
    failed: (error) => write("segments-note", error.message),
  });
  #batch = null;
  #filter = byId("segments-filter");
  #wanted = {};
  #due = null;
  #channels = new Set();

  constructor() {
    this.#filter.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#apply();
    });
    this.#filter.addEventListener("reset", () => setTimeout(() => this.#apply()));
    for (const select of this.#filter.querySelectorAll("select")) select.addEventListener("change", () => this.#apply());
    byId("segments").tBodies[0].addEventListener("click", (event) => {
      const name = event.target.closest("button")?.dataset.name;
      if (name) openSegment(this.#pages.rows.find((each) => each.name === name));
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
    const pages = this.#pages;
    if (!pages.atNewest) return;
    if (more) {
      this.#due ??= setTimeout(() => {
        this.#due = null;
        if (pages.atNewest) this.open();
      }, 2000);
      return;
    }
    const { batch, channel, start, stop } = this.#wanted;
    const known = new Set(pages.rows.map(({ seq }) => seq));
    const fitting = rows.filter((each) => !known.has(each.seq)
      && (!batch || each.batch === batch) && (!channel || each.channel === channel)
      && (!start || each.t0 + secondsOf(each) > start) && (!stop || each.t0 < stop));
    if (!fitting.length) return;
    const all = [...fitting, ...pages.rows].sort((a, b) => b.seq - a.seq);
    pages.atOldest &&= all.length <= ROWS;
    pages.rows = all.slice(0, ROWS);
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
    this.open();
  }

  /** Show the newest page. */
  open() {
    clearTimeout(this.#due);
    this.#due = null;
    return this.#pages.open(this.#wanted);
  }

  #show() {
    const { rows, atNewest } = this.#pages;
    byId("segments").tBodies[0].replaceChildren(...rows.map((each) => row(segmentCells(each))));
    const filtered = Object.values(this.#wanted).some(Boolean);
    show("segments-empty", !rows.length);
    write("segments-empty", filtered ? "No segment matches." : "No segment is stored yet.");
    const [first, last] = [rows[0], rows.at(-1)];
    write("segments-note", first ? `${atNewest ? "the newest: " : ""}seq ${countText(last.seq)} to ${countText(first.seq)}` : "");
    this.#pages.showButtons();
  }
}

/** Return the cells of a segment's row; the one with its span is a button with its name. */
export function segmentCells(each) {
  return [
    each.channel ?? element("em", {}, "no channel"),
    element("span", {}, element("button", { type: "button", class: "name", "data-name": each.name }, spanText(each)), ...localityTag(each.locality, "opening it begins the recall of its batch")),
    utcOfGps(each.t0),
    { text: String(Number(secondsOf(each).toPrecision(6))), numeric: true },
    { text: String(Number((1 / sampling(each.dt)).toPrecision(6))), numeric: true },
    { text: countText(each.bytes), numeric: true },
    stampText(each.stored),
    element("span", { class: "id" }, each.name),
  ];
}

const spanText = (each) => `${gpsText(each.t0)} – ${gpsText(endOf(each))}`;
