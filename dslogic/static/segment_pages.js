// Pages of stored segments, newest first, and the buttons that turn them.

import { read } from "./api.js";
import { byId, show } from "./dom.js";

export const ROWS = 25;
const NEWEST = { before: "", first: 0 };

/** The page that is shown; the buttons have the ids `page-newest`, `page-newer`, `page-older` and `page-oldest`. */
export class SegmentPages {
  rows = [];
  /** Number of segments before the first row, as far as known. */
  first = 0;
  /** Number of segments of all pages, if the caller knows it. */
  total = 0;
  atNewest = true;
  atOldest = false;
  #table;
  #wanted = {};
  #turn = 0;
  #listener;

  /** `listener` has opened(), which is called after `rows` changed, and failed(error). */
  constructor(table, listener) {
    this.#table = table;
    this.#listener = listener;
    const turns = {
      newest: () => NEWEST,
      older: () => ({ before: this.rows.at(-1).seq, first: this.first + this.rows.length }),
      newer: () => ({ after: this.rows[0].seq, end: this.first }),
      oldest: () => ({ after: 0, end: this.total }),
    };
    for (const [name, cursor] of Object.entries(turns)) byId(`page-${name}`).addEventListener("click", () => this.#open(cursor()));
  }

  /** Open the newest page of what a query selects. */
  open(query) {
    this.#wanted = query;
    return this.#open(NEWEST);
  }

  /** Open the newest page again. */
  renew() {
    return this.#open(NEWEST);
  }

  /** Offer the newest page, because there are newer segments than those of this one. */
  offerNewest() {
    this.atNewest = false;
    this.showButtons();
  }

  /**
   * Open a page: the one right before a seq (empty: the newest), or the one right after a seq.
   *
   * `first` is the number of segments before it, or `end` that up to its last one.
   */
  async #open(cursor) {
    this.#turn += 1;
    const turn = this.#turn;
    this.#table.setAttribute("aria-busy", "true");
    try {
      const backwards = "before" in cursor;
      const query = { ...this.#wanted, limit: ROWS, ...(backwards ? { before: cursor.before || Number.MAX_SAFE_INTEGER } : { after: cursor.after }) };
      const { segments, more } = await read("segments", query);
      if (turn !== this.#turn) return; // another page was opened meanwhile
      this.rows = backwards ? segments : segments.reverse();
      this.first = cursor.first ?? Math.max(0, cursor.end - segments.length);
      this.atNewest = backwards ? cursor.before === "" : !more;
      this.atOldest = backwards ? !more : cursor.after === 0;
      this.#listener.opened();
    } catch (error) {
      if (turn === this.#turn) this.#listener.failed(error);
    } finally {
      if (turn === this.#turn) this.#table.removeAttribute("aria-busy");
    }
  }

  /** Enable the buttons that lead to another page. */
  showButtons() {
    const empty = !this.rows.length;
    show("segments-pages", !empty);
    const focused = document.activeElement;
    for (const name of ["newest", "newer"]) byId(`page-${name}`).disabled = this.atNewest || empty;
    for (const name of ["older", "oldest"]) byId(`page-${name}`).disabled = this.atOldest || empty;
    // A disabled button would lose the focus of the keyboard.
    if (focused.disabled && focused.closest("#segments-pages")) byId("segments-pages").querySelector("button:enabled")?.focus();
  }
}
