// The view of one record, such as a batch: what is known about it, and its steps in the order of time.

import { order, read } from "./api.js";
import { byId, closable, element, show, write } from "./dom.js";
import { durationText, utcText } from "./format.js";
import { showReplicas } from "./replicas.js";
import { may } from "./session.js";

const dialog = closable(byId("record"));
const AGAIN_MS = 1000;

let opened = null; // the id of the record
let due = null;

/** The path below /records of a record, or of a step of it. */
const path = (id, step) => `/${id.split("/").map(encodeURIComponent).join("/")}${step ? `/steps/${step}` : ""}`;

/** Let a step of a record be done again; return the record. */
export const retryStep = (id, step) => order("records", null, path(id, step), "DELETE");

/** Show a record. */
export async function openRecord(id) {
  opened = id;
  write("record-title", id.replace("/", " "));
  byId("record-facts").replaceChildren();
  byId("record-steps").replaceChildren();
  show("record-empty", false);
  if (!dialog.open) dialog.showModal();
  await readAgain();
}

/** Read the shown record again if it is among those that changed, or may be, at most once a second. */
export function recordsChanged(items, more) {
  if (!dialog.open || !(more || items.some(({ id }) => id === opened))) return;
  due ??= setTimeout(() => {
    due = null;
    if (dialog.open) readAgain();
  }, AGAIN_MS);
}

async function readAgain() {
  const id = opened;
  try {
    const record = await read("records", {}, path(id));
    if (opened !== id) return;
    showRecord(record);
    await showReplicas(id, () => opened === id);
  } catch (error) {
    if (opened === id) fail(error);
  }
}

function fail(error) {
  show("record-failure");
  write("record-failure", error.message);
}

function showRecord({ status, run, conditions, steps }) {
  show("record-failure", false);
  const facts = [["Status", status], run && ["Run", run], Object.keys(conditions ?? {}).length && ["Conditions", JSON.stringify(conditions)]];
  byId("record-facts").replaceChildren(...facts.filter(Boolean).flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]));
  const shown = JSON.stringify([opened, steps]);
  const list = byId("record-steps");
  show("record-empty", steps.length === 0);
  if (list.dataset.shown === shown && list.children.length) return;
  list.dataset.shown = shown;
  list.replaceChildren(...steps.map(timelineItem));
}

function timelineItem(step) {
  const { name, state, reason, result } = step;
  const retry = state === "FAILED" && may("work") && element("button", { type: "button", class: "small", "data-step": name }, "Retry", element("span", { class: "visually-hidden" }, ` ${name}`));
  return element("li", { class: state.toLowerCase() },
    element("p", { class: "timeline-head" }, element("strong", {}, name), element("span", { class: `tag ${state.toLowerCase()}` }, state), retry || null),
    element("p", { class: "hint" }, timesOf(step).join(" · ")),
    reason ? element("p", { class: "reason" }, reason) : null,
    result == null ? null : element("p", { class: "hint" }, "Result ", element("code", {}, JSON.stringify(result))));
}

function timesOf({ state, worker, attempt, after, started, ended, expires }) {
  const parts = [attempt ? `attempt ${attempt}${worker ? ` by ${worker}` : ""}` : state === "DONE" ? "by the datastore" : ""];
  if (started) parts.push(`started ${utcText(started)} UTC`);
  if (ended) parts.push(`${started || state !== "DONE" ? "ended" : "at"} ${utcText(ended)} UTC${started && ended >= started ? ` (${durationText(ended - started)})` : ""}`);
  if (expires) parts.push(`${state === "RUNNING" ? "leased until" : "again at"} ${utcText(expires)} UTC`);
  if (after.length) parts.push(`after ${after.join(", ")}`);
  return parts.filter(Boolean);
}

byId("record-steps").addEventListener("click", async (event) => {
  const step = event.target.closest("button[data-step]")?.dataset.step;
  if (!step) return;
  try {
    showRecord(await retryStep(opened, step));
  } catch (error) {
    fail(error);
  }
});
