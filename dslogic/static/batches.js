// The batches, the newest first: manifest, verification, and a way to have an archive verified.

import { address, order, read } from "./api.js";
import { byId, element, row, show, write } from "./dom.js";
import { countText, plural, sizeText, stampText, utcText } from "./format.js";
import { may } from "./session.js";

const SHOWN = 12;
const VERIFYING_MS = 1000;

export class BatchList {
  #batches = [];
  #shown = SHOWN;
  #told = "";
  #timer = null;

  constructor() {
    byId("batches-more").addEventListener("click", () => {
      this.#shown += SHOWN * 4;
      this.#show();
    });
    byId("batches").tBodies[0].addEventListener("click", (event) => {
      const button = event.target.closest("button[data-batch]");
      if (button) this.#verify(button.dataset.batch);
    });
  }

  /** Take an overview; the batches are read again when it tells that another one was opened, sealed or archived. */
  take({ batch, state, archived, holder }) {
    const told = JSON.stringify([batch, state, archived, holder]);
    if (told === this.#told) return;
    this.#told = told;
    this.read();
  }

  async read() {
    clearTimeout(this.#timer);
    try {
      this.#batches = (await read("batches")).batches.reverse();
    } catch (error) {
      write("batches-note", error.message);
      return;
    }
    this.#show();
    if (this.#batches.some(({ verification }) => verification?.state === "running")) {
      this.#timer = setTimeout(() => this.read(), VERIFYING_MS);
    }
  }

  async #verify(batch) {
    try {
      await order("batches", null, `/${encodeURIComponent(batch)}/verify`);
    } catch (error) {
      write("batches-note", error.message);
    }
    await this.read();
  }

  #show() {
    byId("batches").tBodies[0].replaceChildren(...this.#batches.slice(0, this.#shown).map(batchRow));
    const archived = this.#batches.filter(({ state }) => state === "ARCHIVED").length;
    write("batches-note", archived ? `${countText(archived)} archived` : "none is archived yet");
    show("batches-more", this.#batches.length > this.#shown);
  }
}

function batchRow(batch) {
  const sealed = batch.state !== "OPEN" && batch.digest;
  return row([
    element("span", { title: batch.path }, batch.id),
    element("span", { class: `tag ${batch.state.toLowerCase()}` }, batch.state),
    stampText(batch.opened),
    stampText(batch.archived),
    batch.holder || "—",
    { text: countText(batch.n_itm), numeric: true },
    { text: sizeText(batch.buff_size), numeric: true },
    verification(batch),
    sealed
      ? element("a", { href: address("batches", `/${encodeURIComponent(batch.id)}/manifest`), download: `MANIFEST-${batch.id}.json` }, "Manifest", element("span", { class: "visually-hidden" }, ` of ${batch.id}`))
      : "—",
  ]);
}

function verification(batch) {
  if (batch.state !== "ARCHIVED" || !batch.digest) return "—";
  const verified = batch.verification;
  if (verified?.state === "running") {
    return element("span", {}, `${countText(verified.checked)} of ${countText(verified.segments)} checked`);
  }
  const again = may("clean") && element("button", { type: "button", class: "quiet small", "data-batch": batch.id }, verified ? "Again" : "Verify", element("span", { class: "visually-hidden" }, ` ${batch.id}`));
  const found = !verified
    ? "not verified "
    : element("span", { class: `tag ${verified.state}`, title: [utcText(verified.at), ...(verified.problems ?? [])].join("\n") },
      verified.state === "intact" ? "✓ intact" : `✗ ${plural(verified.problems?.length ?? 0, "problem")}`);
  return element("span", { class: "with-button" }, found, again || null);
}
