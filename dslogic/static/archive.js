// The archive: what each tier holds, the moves that are under way, and where each archived batch is.

import { byId, element, fillRows, row, show, write } from "./dom.js";
import { countText, durationText, plural, sizeText, stampText, utcText } from "./format.js";
import { openRecord } from "./record_view.js";
import { localityTag, setBatches, stateOf } from "./replicas.js";

const SHOWN = 5;
const MORE = 50;
const NONE = "—";
const KINDS = { disk: "folder", object: "object store" };

export class Archive {
  #overview = null;
  #batches = [];
  #shown = SHOWN;

  constructor() {
    byId("archive-more").addEventListener("click", () => {
      this.#shown += MORE;
      this.#show();
    });
    byId("archive").addEventListener("click", (event) => {
      const record = event.target.closest("button")?.dataset.record;
      if (record) openRecord(record);
    });
  }

  /** Take an overview: without tiers besides the disk, nothing is shown. */
  take(overview) {
    this.#overview = overview;
    this.#show();
  }

  /** Take the list of batches, the newest first. */
  takeBatches(batches) {
    this.#batches = batches.filter(({ state }) => state === "ARCHIVED");
    this.#show();
  }

  #show() {
    const { tiers = [], moves = [], recalls = [], time } = this.#overview ?? {};
    setBatches(this.#batches, tiers);
    show("archive", tiers.length > 0);
    if (!tiers.length) return;
    write("archive-note", noteText(tiers));
    fillRows(byId("tiers"), tiers.map((tier) => tierRow(withSpace(tier, this.#overview), time)));
    show("moving", moves.length > 0);
    fillRows(byId("moving-table"), moves.map((move) => moveRow(move, time)));
    show("recalls-part", recalls.length > 0);
    fillRows(byId("recalls"), recalls.map((recall, place) => recallRow(recall, place, time)));
    this.#showBatches(tiers.map(({ name }) => name));
  }

  #showBatches(names) {
    const heads = ["Batch", "Archived, UTC", "Bytes", ...names];
    const head = byId("replicas").tHead.rows[0];
    if (head.textContent !== heads.join("")) {
      head.replaceChildren(...heads.map((name) => element("th", { scope: "col", class: name === "Bytes" ? "n" : null }, name)));
    }
    fillRows(byId("replicas"), this.#batches.slice(0, this.#shown).map((batch) => batchRow(batch, names)));
    show("replicas-part", this.#batches.length > 0);
    show("archive-empty", !this.#batches.length);
    show("archive-more", this.#batches.length > this.#shown);
  }
}

function noteText(tiers) {
  const sum = (what) => tiers.reduce((total, tier) => total + tier[what], 0);
  const failing = tiers.filter(({ error }) => error).length;
  const parts = [
    failing && `${plural(failing, "tier")} ${failing === 1 ? "fails" : "fail"}`,
    sum("lost") && `${plural(sum("lost"), "replica")} lost`,
    sum("missing") && `${countText(sum("missing"))} ${sum("missing") === 1 ? "copy is" : "copies are"} missing`,
  ].filter(Boolean);
  return parts.join(", ") || "every copy that the policies want is verified";
}

/** Return a tier with its space: that of the disk is the volume's. */
function withSpace(tier, { free, used }) {
  return tier.name === "disk" && free !== null ? { ...tier, total: used + free, used } : tier;
}

function tierRow(tier, time) {
  const { name, kind, total, used, replicas, bytes, queue, missing, oldest, verified } = tier;
  const space = used === null ? NONE : total === null ? sizeText(used) : `${sizeText(used)} of ${sizeText(total)}`;
  const late = missing && oldest ? durationText(Math.max(0, Math.floor(time - oldest))) : NONE;
  return row([
    element("strong", { class: "step" }, name), name === "disk" ? "volume" : KINDS[kind] ?? (kind || NONE),
    element("span", {}, tierState(tier)),
    { text: countText(replicas), numeric: true }, { text: sizeText(bytes), numeric: true }, { text: space, numeric: true },
    { text: countText(queue), numeric: true },
    { text: missing ? element("span", { class: "tag late" }, countText(missing)) : "0", numeric: true },
    { text: late, numeric: true, hint: oldest ? `archived ${utcText(oldest)} UTC` : null },
    { text: verified ? utcText(verified).slice(0, 16) : NONE },
  ]);
}

function tierState({ in_tiers: exists, lost, error }) {
  if (!exists) return element("span", { class: "tag late" }, "not in TIERS");
  if (error) return element("span", { class: "tag failed", title: error }, "✗ fails");
  if (lost) return element("span", { class: "tag failed" }, `✗ ${countText(lost)} lost`);
  return element("span", { class: "tag intact" }, "✓ answers");
}

function moveRow({ batch, step, began, done, of, rate, reason }, time) {
  const percent = of ? Math.min(100, Math.floor((100 * done) / of)) : null;
  const left = percent !== null && percent < 100 && rate ? `, ${durationText(Math.ceil((of - done) / rate))} left` : "";
  return row([
    batchButton(batch),
    moveText(step),
    reason ? element("span", { class: "tag late", title: reason }, "waits for space") : percent === null ? NONE : element("span", { class: "progress" }, element("progress", { max: 100, value: percent, "aria-label": `${moveText(step)} ${batch}` }), ` ${percent} %`),
    { text: of ? `${sizeText(Math.min(done, of))} of ${sizeText(of)}` : NONE, numeric: true, hint: "bytes to write and to read back" },
    { text: rate === null ? NONE : `${sizeText(rate)}/s${left}`, numeric: true },
    { text: durationText(Math.max(0, Math.floor(time - began))), numeric: true },
  ]);
}

/** Return in words what a step does: `copy:tape` is “copy to tape”. */
function moveText(step) {
  const [what, tier] = step.split(":");
  return tier ? `${what} ${what === "copy" ? "to" : "from"} ${tier}` : { scrub: "read and compare", recall: "recall from tape" }[what] ?? what;
}

const recallRow = ({ batch, since, reason }, place, time) => row([
  { text: countText(place + 1), numeric: true },
  batchButton(batch),
  { text: durationText(Math.max(0, Math.floor(time - since))), numeric: true, hint: `since ${utcText(since)} UTC` },
  { text: reason ?? NONE, hint: reason },
]);

/** Return the button that opens the record of a batch, or of the files of a transaction, `files/TRANSACTION`. */
const batchButton = (id) => element("button", { type: "button", class: "name id", "data-record": id.includes("/") ? id : `batch/${id}` }, id);

function batchRow({ id, archived, buff_size: size, replicas = [], locality }, names) {
  const known = new Map(replicas.map((replica) => [replica.tier, replica]));
  return row([
    element("span", {}, batchButton(id), ...localityTag(locality)),
    stampText(archived),
    { text: sizeText(size), numeric: true },
    ...names.map((name) => (known.has(name) ? stateOf(known.get(name)) : NONE)),
  ]);
}
