// Keeps the result of a search up to date while segments are stored and their records change.

import { showLink } from "./link.js";
import { follow, visible } from "./live.js";
import { askCaller } from "./session.js";

/** So long after the first of several changes the result is read again; longer if reading it takes long. */
const WAIT_MS = 1000;
const SHARE = 5;

/** Listens to the events of the datastore. */
export class SearchLive {
  #query;
  #renew;
  #due = false;
  #running = false;
  #interrupted = false;

  /** `renew` reads the result again, and returns when that is done, or has failed. */
  constructor(renew) {
    this.#renew = renew;
    document.addEventListener("visibilitychange", () => {
      this.#interrupted ||= document.hidden;
    });
    follow(this, { pausing: true });
  }

  /** Take the query that is searched for now. */
  take(query) {
    this.#query = query;
  }

  overview() {
    showLink("live", "Live");
  }

  segments(rows, more) {
    if (more || rows.some((each) => this.#query.maySelect(each))) this.#soon();
  }

  changes(records, more) {
    if (this.#query.needsRecords && (more || records.some(({ kind }) => kind === "segment"))) this.#soon();
  }

  steps() {}

  connected() {
    showLink("live", "Live");
    if (this.#interrupted) this.#soon(); // changes of records are not repeated
    this.#interrupted = false;
  }

  problem() {
    showLink("silent", "No answer");
  }

  lost(refusal) {
    this.#interrupted = true;
    showLink("lost", refusal.status === 401 ? "Signed out" : "Not live");
    if (refusal.status === 401) askCaller();
  }

  async #soon() {
    this.#due = true;
    if (this.#running) return;
    this.#running = true;
    for (let wait = WAIT_MS; this.#due;) {
      await new Promise((resolve) => setTimeout(resolve, wait));
      await visible();
      this.#due = false;
      const began = performance.now();
      await this.#renew();
      wait = Math.max(WAIT_MS, SHARE * (performance.now() - began));
    }
    this.#running = false;
  }
}
