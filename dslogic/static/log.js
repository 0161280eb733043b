// The tail of the datastore's log: read while it is on the screen and only when something was stored.

import { read } from "./api.js";
import { byId, element, row, show } from "./dom.js";
import { countText, stampText } from "./format.js";

const LINES = 100;
const AGAIN_MS = 5000;

export class LogTail {
  #told = "";
  #shown = "";
  #visible = false;
  #timer = null;

  constructor() {
    new IntersectionObserver((entries) => {
      this.#visible = entries.at(-1).isIntersecting;
      this.#readSoon();
    }).observe(byId("log").closest("section"));
  }

  take({ seq, batch, n_itm: count }) {
    this.#told = JSON.stringify([seq, batch, count]);
    this.#readSoon();
  }

  #readSoon() {
    if (this.#visible && this.#told !== this.#shown) {
      this.#timer ??= setTimeout(() => this.#read(), this.#shown ? AGAIN_MS : 0);
    }
  }

  async #read() {
    this.#shown = this.#told;
    try {
      const answer = await read("log", { last: LINES });
      this.#show(answer.lines ?? answer);
    } catch {
      this.#shown = "unread"; // the next overview has it tried again
    } finally {
      this.#timer = null;
      this.#readSoon();
    }
  }

  #show(lines) {
    byId("log").tBodies[0].replaceChildren(...lines.reverse().map(lineRow));
    show("log-tail", lines.length > 0);
    show("log-empty", !lines.length);
  }
}

const lineRow = ({ time, message, name, size }) => row([
  element("span", { class: "dim", title: `${stampText(time)} UTC` }, stampText(time).slice(11)),
  message,
  name,
  { text: countText(size), numeric: true },
]);
