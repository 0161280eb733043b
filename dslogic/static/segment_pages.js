// Pages of stored segments, newest first, and the buttons that turn them.

import { read } from "./api.js";
import { byId, show } from "./dom.js";

export const ROWS = 25;

/** The page that is shown; the buttons have the ids `page-newest`, `page-newer`, `page-older` and `page-oldest`. */
export class SegmentPages {
  rows = [];
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
    const turns = { newest: () => ({ before: "" }), older: () => ({ before: this.rows.at(-1).seq }), newer: () => ({ after: this.rows[0].seq }), oldest: () => ({ after: 0 }) };
    for (const [name, cursor] of Object.entries(turns)) byId(`page-${name}`).addEventListener("click", () => this.#open(cursor()));
  }

  /** Open the newest page of what a query selects. */
  open(query) {
    this.#wanted = query;
    return this.#open({ before: "" });
  }

  /** Open a page: the one right before a seq (empty: the newest), or the one right after a seq. */
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
    for (const name of ["newest", "newer"]) byId(`page-${name}`).disabled = this.atNewest || empty;
    for (const name of ["older", "oldest"]) byId(`page-${name}`).disabled = this.atOldest || empty;
  }
}
