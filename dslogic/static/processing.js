// Records and steps: what waits, runs, is done and failed, and the chain of the steps.

import { read } from "./api.js";
import { byId, element, fillRows, row, show, write } from "./dom.js";
import { countText, durationText, plural, utcText } from "./format.js";
import { openRecord, retryStep } from "./record_view.js";
import { may } from "./session.js";
import { drawGraph } from "./step_graph.js";

export class Processing {
  #steps = null;
  #drawn = "";
  #now = 0;

  constructor() {
    byId("failures").addEventListener("click", (event) => {
      const { record, retry } = event.target.closest("button")?.dataset ?? {};
      if (retry) this.#retry(record, retry);
      else if (record) openRecord(record);
    });
  }

  /** Take the steps of the datastore. */
  take(steps) {
    this.#steps = steps;
    this.show();
  }

  /** Show the steps at a time, Unix s: the ages grow. */
  tick(time) {
    this.#now = time;
    this.show();
  }

  /** Show the steps, with the buttons that the caller has the right to. */
  show() {
    if (!this.#steps) return;
    show("processing-empty", !this.#steps.length);
    show("processing-content", this.#steps.length > 0);
    if (!this.#steps.length) {
      write("processing-note", "");
      return;
    }
    const sum = (what) => countText(this.#steps.reduce((total, step) => total + step[what], 0));
    write("processing-note", `${sum("running")} running, ${sum("waiting")} waiting, ${sum("failed")} failed, ${sum("throughput")} done in the last hour`);
    fillRows(byId("steps"), this.#steps.map((step) => stepRow(step, this.#now)));
    const drawn = JSON.stringify(this.#steps.map(({ name, after, waiting, running, done, failed }) => [name, after, waiting, running, done, failed]));
    if (drawn !== this.#drawn) drawGraph(byId("chain"), this.#steps);
    this.#drawn = drawn;
    this.#showFailures();
  }

  #showFailures() {
    const failures = this.#steps.flatMap(({ name, failures: some }) => some.map((each) => ({ ...each, step: name })));
    failures.sort((a, b) => b.ended - a.ended);
    const all = this.#steps.reduce((total, { failed }) => total + failed, 0);
    show("failed", all > 0);
    write("failures-note", failures.length < all ? `the newest ${countText(failures.length)} of ${countText(all)}` : plural(all, "record"));
    fillRows(byId("failures"), failures.map(failureRow));
  }

  async #retry(record, step) {
    show("retry-failure", false);
    try {
      await retryStep(record, step);
      write("retry-outcome", `${record} waits for ${step} again.`);
      this.take((await read("steps")).steps);
    } catch (error) {
      show("retry-failure");
      write("retry-failure", error.message);
    }
    if (document.activeElement === document.body) byId("processing-title").focus();
  }
}

const NONE = "—";
const count = (number, word) => ({ text: number && word ? element("span", { class: `tag ${word}` }, countText(number)) : countText(number), numeric: true });

function stepRow(step, now) {
  const { name, after, kind, waiting, running, failed, done, throughput, oldest, workers } = step;
  const age = waiting && oldest ? durationText(Math.max(0, Math.floor(now - oldest))) : NONE;
  return row([
    element("strong", { class: "step" }, name), after.join(", ") || NONE, kind ?? "any",
    count(waiting), count(running, "running"), count(failed, "failed"), count(done), count(throughput),
    { text: age, numeric: true, hint: oldest ? `${utcText(oldest)} UTC` : null },
    workersText(workers),
  ]);
}

const workersText = (workers) => (workers.length ? { text: workers.join(", "), hint: workers.join("\n") } : NONE);

function failureRow({ record, step, reason, attempt, ended }) {
  const last = reason.trim().split("\n").at(-1);
  const named = element("span", { class: "visually-hidden" }, ` ${step} of ${record}`);
  return row([
    element("button", { type: "button", class: "name", "data-record": record }, record),
    element("span", { class: "step" }, step),
    element("span", { class: "dim" }, utcText(ended)),
    { text: `attempt ${countText(attempt)}` },
    { text: last || "no reason was given", hint: reason },
    may("work") ? element("button", { type: "button", class: "small", "data-record": record, "data-retry": step }, "Retry", named) : "",
  ]);
}
