// The segments that were collected over several searches, to be downloaded together.

import { read } from "./api.js";
import { byId, element, row, show, write } from "./dom.js";
import { channelText, countText, plural, sizeText } from "./format.js";
import { keep, kept, onKept } from "./storage.js";

/** The most names in an order for a bundle (docs/api.md). */
export const MOST = 20_000;
const PAGE = 10_000;
const KEY = "selection";

export class Selection {
  #segments; // by name: [channel, bytes]
  #listeners = [];

  constructor() {
    this.#read();
    onKept(KEY, () => {
      this.#read();
      this.#publish();
    });
    byId("selection-clear").addEventListener("click", () => {
      this.remove(this.names);
      byId("selection-title").focus();
    });
    byId("selected-channels").tBodies[0].addEventListener("click", ({ target }) => {
      const place = target.closest("button")?.dataset.place;
      if (!place) return;
      const [removed] = this.#channels()[place];
      this.remove([...this.#segments].filter(([, [channel]]) => channelText(channel) === removed).map(([name]) => name));
      const left = byId("selected-channels").querySelectorAll("button");
      (left[Math.min(place, left.length - 1)] ?? byId("selection-title")).focus();
    });
    this.onChange(() => this.#show());
    this.#show();
  }

  /** Call `listener` when the selection changes. */
  onChange(listener) {
    this.#listeners.push(listener);
  }

  get names() {
    return [...this.#segments.keys()];
  }

  has(name) {
    return this.#segments.has(name);
  }

  /** Add segments; return how many of them there was no space for. */
  add(segments) {
    const fresh = segments.filter(({ name }) => !this.#segments.has(name));
    const space = MOST - this.#segments.size;
    for (const { name, channel, bytes } of fresh.slice(0, space)) this.#segments.set(name, [channel, bytes]);
    this.#changed();
    return Math.max(0, fresh.length - space);
  }

  /** Add all segments that a query selects; return how many there was no space for, or null if more than that. */
  async addAll(query) {
    for (let after = 0; ;) {
      const { segments, after: next, more } = await read("segments", { ...query.parameters, after, limit: PAGE });
      const left = this.add(segments);
      if (left || !more) return more ? null : left;
      after = next;
    }
  }

  remove(names) {
    for (const name of names) this.#segments.delete(name);
    this.#changed();
  }

  #read() {
    this.#segments = new Map(kept(KEY, []));
  }

  #changed() {
    keep(KEY, [...this.#segments]);
    this.#publish();
  }

  #publish() {
    for (const listener of this.#listeners) listener();
  }

  /** Return [channel, segments, bytes] of each channel. */
  #channels() {
    const found = new Map();
    for (const [channel, bytes] of this.#segments.values()) {
      const [count, size] = found.get(channelText(channel)) ?? [0, 0];
      found.set(channelText(channel), [count + 1, size + bytes]);
    }
    return [...found].map(([channel, [count, size]]) => [channel, count, size]).sort(([a], [b]) => a.localeCompare(b));
  }

  #show() {
    const channels = this.#channels();
    const size = channels.reduce((sum, [, , bytes]) => sum + bytes, 0);
    const some = this.#segments.size > 0;
    write("selection-total", some ? `${plural(this.#segments.size, "segment")}, ${sizeText(size)}` : "Nothing is selected yet. Tick segments, or add all that a search finds.");
    byId("selection").classList.toggle("filled", some);
    for (const id of ["selection-clear", "selection-list", "bundle-selection"]) show(id, some);
    byId("selected-channels").tBodies[0].replaceChildren(...channels.map(([channel, count, bytes], place) => row([
      channel,
      { text: countText(count), numeric: true },
      { text: sizeText(bytes), numeric: true },
      element("button", { type: "button", class: "quiet small", "data-place": place }, "Remove", element("span", { class: "visually-hidden" }, ` ${channel}`)),
    ])));
  }
}
