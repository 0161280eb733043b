// The segments that a search found, a page at a time; each can be selected, and opened.

import { byId, element, row, show, write } from "./dom.js";
import { countText } from "./format.js";
import { SegmentPages } from "./segment_pages.js";
import { openSegment } from "./segment_view.js";
import { segmentCells } from "./segments.js";

export class Results {
  #table = byId("segments");
  #whole = byId("select-page");
  #selection;
  #cut = false;
  #pages = new SegmentPages(this.#table, { opened: () => this.#show(), failed: (error) => write("segments-note", error.message) });

  constructor(selection) {
    this.#selection = selection;
    selection.onChange(() => this.#mark());
    this.#table.addEventListener("change", ({ target }) => {
      const { rows } = this.#pages;
      const chosen = target === this.#whole ? rows : rows.filter(({ name }) => name === target.value);
      if (target.checked) selection.add(chosen);
      else selection.remove(chosen.map(({ name }) => name));
    });
    this.#table.tBodies[0].addEventListener("click", ({ target }) => {
      const name = target.closest("button")?.dataset.name;
      if (name) openSegment(this.#pages.rows.find((each) => each.name === name));
    });
  }

  open(query) {
    return this.#pages.open(query.parameters);
  }

  /** Take the number of segments that were found, and whether it was cut. */
  take({ segments, cut }) {
    this.#pages.total = segments;
    this.#cut = cut;
    this.#note();
  }

  /** Show the newest page again, with another number of segments; a page that is read or used stays. */
  async renew({ segments }) {
    const added = segments - this.#pages.total;
    const used = this.#table.matches(":hover, :focus-within");
    if (this.#pages.atNewest && !used) {
      await this.#pages.renew();
      return;
    }
    this.#pages.first = Math.max(0, this.#pages.first + added);
    if (added > 0) this.#pages.offerNewest();
  }

  #show() {
    const { rows } = this.#pages;
    this.#table.tBodies[0].replaceChildren(...rows.map((each) => row([box(each), ...segmentCells(each)])));
    show("segments-region", rows.length > 0);
    this.#note();
    this.#pages.showButtons();
    this.#mark();
  }

  #note() {
    const { rows, first, total } = this.#pages;
    const last = first + rows.length;
    const all = this.#cut ? `more than ${countText(total)}` : countText(Math.max(total, last));
    write("segments-note", rows.length ? `${countText(first + 1)} to ${countText(last)} of ${all}, the newest first` : "");
  }

  /** Tick the segments that are selected. */
  #mark() {
    const boxes = [...this.#table.tBodies[0].querySelectorAll("input")];
    for (const each of boxes) each.checked = this.#selection.has(each.value);
    const ticked = boxes.filter(({ checked }) => checked).length;
    this.#whole.checked = ticked > 0 && ticked === boxes.length;
    this.#whole.indeterminate = ticked > 0 && ticked < boxes.length;
  }
}

const box = ({ name }) => element("input", { type: "checkbox", value: name, "aria-label": `Select ${name}` });
