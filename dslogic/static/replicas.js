// Replicas as text, and those of one batch in the view of its record.

import { read } from "./api.js";
import { byId, element, fillRows, row, show, write } from "./dom.js";
import { durationText, sizeText, utcText } from "./format.js";

const WORDS = { WRITING: "writing", WRITTEN: "not verified", LOST: "✗ lost", DELETING: "deleting", EVICTED: "evicted" };

let packed = new Set(); // the ids of the batches that have replicas

/** Note which batches have replicas: archived ones with a manifest, if there are tiers. */
export function setBatches(batches, tiers) {
  packed = new Set(tiers.length ? batches.filter(({ state, frozen }) => state === "ARCHIVED" && frozen).map(({ id }) => id) : []);
}

/** Return the state of a replica, with the time of its last comparison. */
export function stateOf({ state, verified, error, again }) {
  if (state === "VERIFIED") {
    return element("span", { class: "whole", title: `verified ${utcText(verified)} UTC` }, element("span", { "aria-hidden": "true" }, "✓ "), element("span", { class: "visually-hidden" }, "verified "), utcText(verified).slice(0, 16));
  }
  if (state === "WRITING" && again !== null) return element("span", { class: "tag late", title: error }, waitsText(again));
  return element("span", { class: `tag ${state.toLowerCase()}`, title: error }, WORDS[state] ?? state.toLowerCase());
}

/** Return what a copy waits for that is not being written: its turn, or the time of its next attempt. */
const waitsText = (again) => (again * 1000 > Date.now() ? `waits, next attempt at ${utcText(again).slice(11, 19)} UTC` : "waits for its turn");

/** Return the mark of bytes that cannot be read at once, after a space; none for others. `hint` is about a recall. */
export function localityTag(locality, hint = "it can be read after a recall") {
  if (!locality || locality === "DISK" || locality === "DISK_AND_TAPE") return [];
  if (locality === "TAPE") return [" ", element("span", { class: "tag late", title: hint }, "on tape")];
  return [" ", element("span", { class: "tag failed", title: locality }, "cannot be read")];
}

/** Show where a batch is, in the view of its record, if that is still open when it is known; hide it for other records. */
export async function showReplicas(record, isOpen) {
  const [kind, id] = record.split("/");
  const has = kind === "batch" && packed.has(id);
  if (!has || byId("record-replicas").dataset.of !== id) show("record-replicas", false);
  if (!has) return;
  const { tiering, replicas } = await read("batches", {}, `/${encodeURIComponent(id)}/replicas`);
  if (!isOpen()) return;
  write("record-policy", policyText(tiering));
  fillRows(byId("record-replicas-table"), replicas.map(replicaRow));
  byId("record-replicas").dataset.of = id;
  show("record-replicas");
}

function replicaRow(replica) {
  const { tier, size, sha256, written, key, error, in_tiers: exists } = replica;
  return row([
    element("span", {}, element("strong", { class: "step" }, tier), exists ? null : " (not in TIERS)"),
    element("span", {}, stateOf(replica), error ? element("span", { class: "reason" }, ` ${error}`) : null),
    { text: sizeText(size), numeric: true },
    written ? utcText(written).slice(0, 16) : "—",
    { text: element("span", { class: "id" }, sha256 ? `${sha256.slice(0, 12)}…` : "—"), hint: sha256 },
    { text: element("span", { class: "id" }, key), hint: key },
  ]);
}

function policyText(tiering) {
  const { archive_to: tiers = [], keep_on_disk: keep = null } = tiering ?? {};
  const then = keep === null ? "the disk keeps it" : keep ? `the disk drops it ${durationText(keep)} after it was archived` : "then the disk drops it";
  return tiers.length ? `policy: a copy in ${tiers.join(" and ")}; ${then}` : "no policy: the disk keeps it";
}
