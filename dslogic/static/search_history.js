// Earlier searches, kept in this browser; each can have a name.

import { byId, element, show } from "./dom.js";
import { segmentsText, utcText } from "./format.js";
import { Query } from "./query.js";
import { keep, kept, onKept } from "./storage.js";

const KEY = "history";
const MOST = 50;

export class SearchHistory {
  #entries; // the newest first: {text, name, segments, cut, at}
  #draft = null; // the text of the newest entry, while it is only tried out
  #list = byId("history");

  /** `open` is called with the query of an earlier search that was chosen. */
  constructor(open) {
    this.#read();
    onKept(KEY, () => this.#read());
    this.#list.addEventListener("click", (event) => {
      const { target } = event;
      const button = target.closest("button");
      if (target.closest("a") && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
        event.preventDefault();
        open(Query.parse(target.closest("a").search));
      }
      if (button?.dataset.name) this.#rename(button.dataset.name);
      if (button?.dataset.remove) this.#drop(button.dataset.remove);
    });
  }

  /** Note a search, and how many segments it found; it replaces the one before, if nothing was done with that. */
  note(query, { segments, cut }) {
    const text = query.text;
    if (!text) return;
    const known = this.#entries.find((each) => each.text === text);
    const others = this.#entries.filter((each) => each.text !== text && (each.text !== this.#draft || each.name));
    this.#draft = known && this.#draft !== text ? null : text;
    this.#change([{ name: "", ...known, text, segments, cut, at: Date.now() / 1000 }, ...others]);
  }

  /** Keep the newest search, because something was done with it. */
  settle() {
    this.#draft = null;
  }

  #rename(text) {
    const item = [...this.#list.children].find((each) => each.dataset.text === text);
    const entry = this.#entries.find((each) => each.text === text);
    const field = element("input", { "aria-label": "Name of the search", maxlength: 80, value: entry.name, placeholder: "a name" });
    const form = element("form", { class: "rename" }, field, element("button", { type: "submit", class: "small" }, "Save"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#draft = null;
      form.remove();
      this.#change(this.#entries.map((each) => (each.text === text ? { ...each, name: field.value.trim() } : each)));
      this.#focus(text);
    });
    form.addEventListener("keydown", ({ key }) => {
      if (key !== "Escape") return;
      form.remove();
      this.#show();
      this.#focus(text);
    });
    item.replaceChildren(form);
    field.focus();
  }

  #focus(text) {
    [...this.#list.children].find((each) => each.dataset.text === text)?.querySelector("button").focus();
  }

  #drop(text) {
    this.#change(this.#entries.filter((each) => each.text !== text));
    byId("history-title").focus();
  }

  #change(entries) {
    // The oldest without a name go first.
    while (entries.length > MOST) entries.splice(Math.max(1, entries.findLastIndex(({ name }) => !name)), 1);
    this.#entries = entries;
    keep(KEY, entries);
    this.#show();
  }

  #read() {
    this.#entries = kept(KEY, []);
    this.#show();
  }

  #show() {
    show("history-empty", !this.#entries.length);
    if (this.#list.querySelector("form")?.contains(document.activeElement)) return; // a name is being written
    const focused = this.#list.contains(document.activeElement) ? document.activeElement : null;
    const text = focused?.closest("li").dataset.text;
    this.#list.replaceChildren(...this.#entries.map(itemOf));
    if (focused) [...this.#list.children].find((each) => each.dataset.text === text)?.querySelector(focused.localName).focus();
  }
}

function itemOf({ text, name, segments, cut, at }) {
  const { title } = Query.parse(text);
  const spoken = element("span", { class: "visually-hidden" }, ` ${name || title}`);
  return element("li", { "data-text": text },
    element("a", { href: `?${text}`, title }, name || title),
    element("p", { class: "hint", title: `${utcText(at)} UTC` }, `${segmentsText(segments, cut)}, ${utcText(at).slice(0, 10)}`),
    element("button", { type: "button", class: "quiet small", "data-name": text }, name ? "Rename" : "Name", spoken),
    element("button", { type: "button", class: "quiet small", "data-remove": text }, "Remove", spoken.cloneNode(true)));
}
