// The batches: the current one, whose row follows the overview, then the next one and the archived ones, newest first.

import { address, order, read } from "./api.js";
import { byId, element, fillRows, row, show, write } from "./dom.js";
import { countText, plural, sizeText, stampText, utcText } from "./format.js";
import { openRecord } from "./record_view.js";
import { localityTag } from "./replicas.js";
import { may } from "./session.js";

const SHOWN = 5;
const MORE = 50;
const VERIFYING_MS = 1000;

export class BatchList {
  #batches = [];
  #shown = SHOWN;
  #known = "";
  #timer = null;
  #overview = null;
  #listener;

  /** `listener` is called with each list of batches that is read. */
  constructor(listener) {
    this.#listener = listener;
    byId("batches-more").addEventListener("click", () => {
      this.#shown += MORE;
      this.#show();
    });
    byId("batches").addEventListener("click", (event) => {
      const { batch, steps } = event.target.closest("button")?.dataset ?? {};
      if (batch) this.#verify(batch);
      if (steps) openRecord(`batch/${steps}`);
    });
  }

  /** Take an overview; the list is read again when a batch was opened, sealed, archived, verified or moved. */
  take(overview) {
    this.#overview = overview;
    showCurrent(overview);
    const { batch, state, archived, holder, next, events, tiers = [], moves = [] } = overview;
    const verified = events.filter(({ event }) => event === "verified").at(-1)?.at;
    const known = JSON.stringify([batch, state, archived, holder, next?.batch, verified, tiers.map(heldBy), moves.map(({ batch: id, step }) => [id, step])]);
    if (known === this.#known) {
      this.#show();
      return;
    }
    this.#known = known;
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
    this.#listener(this.#batches);
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
    const { batch: current, next } = this.#overview;
    const others = this.#batches.filter(({ id }) => id !== current)
      .map((each) => (each.id === next?.batch ? { ...each, ...next } : each));
    fillRows(byId("other-batches"), others.slice(0, this.#shown).map(batchRow));
    const archived = others.filter(({ state }) => state === "ARCHIVED").length;
    write("batches-note", archived ? `${countText(archived)} archived` : "none is archived yet");
    show("batches-more", others.length > this.#shown);
  }
}

/** Show the current batch; its buttons are those of actions.js. */
function showCurrent({ batch, state, since, holder, n_itm: count, buff_size: size, digest }) {
  const tag = byId("current-state");
  write("current-state", state === "OPERATIONAL" ? "OPEN" : state);
  tag.className = `tag ${tag.textContent.toLowerCase()}`;
  write("current-since", utcText(since));
  write("current-holder", holder ?? "—");
  write("current-count", countText(count));
  write("current-size", sizeText(size));
  write("current-id", batch);
  byId("current-steps").dataset.steps = batch;
  const link = byId("current-manifest");
  link.hidden = !digest;
  link.href = manifestAddress(batch);
  link.download = `MANIFEST-${batch}.json`;
}

/** The parts of a batch that change with the replicas of a tier. */
const heldBy = ({ replicas, lost, missing, verified }) => [replicas, lost, missing, verified];

const manifestAddress = (id) => address("batches", `/${encodeURIComponent(id)}/manifest`);

function batchRow(batch) {
  const sealed = batch.state !== "OPEN" && batch.digest;
  const name = (text) => element("span", { class: "visually-hidden" }, ` ${text} ${batch.id}`);
  return row([
    element("span", { class: `tag ${batch.state.toLowerCase()}` }, batch.state === "OPEN" ? "NEXT" : batch.state),
    element("span", { title: `opened ${stampText(batch.opened)} UTC` }, stampText(batch.archived ?? batch.opened)),
    batch.holder || "—",
    { text: countText(batch.n_itm), numeric: true },
    { text: sizeText(batch.buff_size), numeric: true },
    element("span", { class: "id", title: batch.path }, batch.id),
    element("span", {}, verification(batch), ...localityTag(batch.locality)),
    element("span", { class: "row-actions" },
      verifiable(batch) && may("clean") ? element("button", { type: "button", class: "small", "data-batch": batch.id }, batch.verification ? "Verify again" : "Verify", name("")) : null,
      sealed ? element("a", { class: "button small", href: manifestAddress(batch.id), download: `MANIFEST-${batch.id}.json` }, "Manifest", name("of")) : null,
      element("button", { type: "button", class: "small", "data-steps": batch.id }, "Steps", name("of"))),
  ]);
}

const verifiable = ({ state, digest, verification: verified }) => state === "ARCHIVED" && digest && verified?.state !== "running";

function verification({ state, digest, verification: verified, replicas = [] }) {
  if (state !== "ARCHIVED" || !digest) return "—";
  if (!verified) return replicas.some((replica) => replica.state === "VERIFIED" && replica.in_tiers) ? "verified in tiers" : "not verified";
  if (verified.state === "running") return `${countText(verified.checked)} of ${countText(verified.segments)} checked`;
  return element("span", { class: `tag ${verified.state}`, title: [utcText(verified.at), ...(verified.problems ?? [])].join("\n") },
    verified.state === "intact" ? "✓ intact" : verified.state === "repaired" ? "✓ repaired" : verified.state === "failed" ? "✗ failed" : `✗ ${plural(verified.problems?.length ?? 0, "problem")}`);
}
