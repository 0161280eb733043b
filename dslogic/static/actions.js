// Freeze, thaw, archive: a dialog says what will be done, and then the page says what was done.

import { order, read } from "./api.js";
import { byId, closable, copyButton, show, write } from "./dom.js";
import { plural, sizeText } from "./format.js";
import { authenticated, callerName, may } from "./session.js";

const dialog = closable(byId("order"));
let latest = null; // the overview that the buttons and the texts are about
let underWay = null; // the question that the dialog asks, until it is answered

/** An overview may be half a second old (dslogic/overview.py); one read after this time is newer than the click. */
const FRESH_MS = 600;
const ANSWER_MS = 5000;

const ORDERS = {
  freeze: {
    title: () => "Freeze the batch?",
    go: "Freeze",
    effect: (overview) => `${contents(overview)} are frozen for training. They do not change until the batch is thawed or archived; meanwhile segments are refused, or stored in the next batch if the buffer rotates.`,
    warning: () => "",
    fields: () => ({ user: true, token: "Token (optional)" }),
    hint: () => "The token is needed to thaw the batch. If you leave it empty, the page makes one and shows it to you.",
    send: (_, { user, token }) => {
      const made = token ? "" : newToken();
      return order("freeze", { user, token: token || made }).then((answer) => frozen(answer, user, token || made, made));
    },
  },
  thaw: {
    title: () => "Thaw the batch?",
    go: "Thaw",
    effect: (overview) => `${contents(overview)} are open again: new segments are added to them, and those of the next batch too. Nothing is archived.`,
    warning: () => "",
    busy: (work) => `${work} After a thaw this work is discarded, and done again when the batch is frozen.`,
    fields: ({ batch }) => (kept(batch) ? {} : { user: true, token: "Token" }),
    hint: ({ batch, holder }) => !kept(batch) && `${holder || "The holder"} chose the token, or copied it from this page, when the batch was frozen (gwclient train --token, POST /train). Without it the batch can only be archived.`,
    send: ({ batch }, given) => order("thaw", kept(batch) ?? given).then((answer) => {
      sessionStorage.removeItem(keyOf(batch));
      return { text: answer.body };
    }),
  },
  clean: {
    title: (overview) => (others(overview) ? `Archive the batch of ${overview.holder}?` : "Archive the batch?"),
    go: "Archive",
    effect: (overview) => `${contents(overview)} move into an archive folder, sealed with a manifest. ${overview.next ? `The next batch, ${contents(overview.next)}, takes its place.` : "An empty batch takes its place."}`,
    warning: (overview) => {
      if (others(overview)) return `${overview.holder} has frozen it and may still train on it. Ask ${overview.holder} first.`;
      return overview.state !== "FROZEN" && "The batch is not frozen: it was not used for training yet.";
    },
    busy: (work) => `${work} It may still read the batch.`,
    fields: () => ({}),
    hint: () => "",
    send: ({ batch, holder }) => order("clean", { msg: `archived from the page${callerName() ? ` by ${callerName()}` : ""}`, batch, holder: holder ?? "" }).then((answer) => ({ text: answer.body })),
  },
};

const contents = ({ n_itm: count, buff_size: size }) => `${plural(count, "segment")} (${sizeText(size)})`;

/** Say whether somebody else has frozen the batch: not the caller, or, without callers, not this tab. */
const others = ({ state, batch, holder }) => state === "FROZEN" && Boolean(holder) && holder !== callerName() && !kept(batch);

// ---- the holder's token: kept for this batch, in this tab

const keyOf = (batch) => `glitchflow holder of ${batch}`;
const kept = (batch) => JSON.parse(sessionStorage.getItem(keyOf(batch)) ?? "null");

function newToken() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the outcome of a freeze, with the token if the page made it; gateway and dslogic have different answers. */
function frozen(answer, user, token, made) {
  if (typeof answer === "string" || answer.resp === "WAITING") return { text: "Not frozen: the batch is not large enough yet." };
  if (answer.holder !== user) return { text: `The batch was frozen by ${answer.holder} before; ${answer.holder} still holds it.` };
  sessionStorage.setItem(keyOf(answer.batch), JSON.stringify({ user, token }));
  const [count, size] = [answer.n_f ?? answer.n_itm, answer.bt_wrt ?? answer.buff_size];
  return { text: `Frozen: ${contents({ n_itm: count, buff_size: size })}, batch ${answer.batch}.`, secret: made, user };
}

// ---- the buttons and the dialog

/** Show the orders that are possible now and that the caller has the right to. */
export function showActions(overview = latest) {
  latest = overview;
  if (!latest) return;
  closeIfChanged();
  const isFrozen = latest.state === "FROZEN";
  show("freeze", may("train") && !isFrozen);
  show("thaw", may("train") && isFrozen);
  show("clean", may("clean"));
  const small = latest.max_size != null && latest.buff_size < latest.max_size;
  byId("freeze").disabled = latest.n_itm === 0 || small;
  byId("freeze").title = small ? `The batch has ${sizeText(latest.buff_size)}; it can be frozen at ${sizeText(latest.max_size)} (MAX_SIZE).` : "";
  byId("thaw").disabled = false;
  byId("clean").disabled = latest.n_itm === 0;
}

/** Disable all orders while the state of the datastore is unknown. */
export function suspendActions() {
  for (const name of Object.keys(ORDERS)) byId(name).disabled = true;
}

function open(name) {
  const { title, go, effect, warning, fields, hint } = ORDERS[name];
  underWay = { name, overview: latest };
  write("order-title", title(latest));
  write("order-effect", effect(latest));
  writeIf("order-warning", warning(latest));
  const asked = fields(latest);
  ask("order-user", asked.user);
  ask("order-token", asked.token);
  write("order-token-label", asked.token || "");
  writeIf("order-hint", hint(latest));
  const user = byId("order-user");
  user.readOnly = authenticated() && Boolean(callerName()) && !may("admin");
  user.value = callerName() ?? user.value;
  byId("order-token").value = "";
  show("order-failure", false);
  write("order-go", go);
  showSecret("");
  dialog.showModal();
  warnOfWork(underWay);
}

/** Add to the warning of a question which workers perform steps on the batch. */
async function warnOfWork(question) {
  const { busy, warning } = ORDERS[question.name];
  if (!busy) return;
  try {
    const { steps } = await read("records", {}, `/batch/${encodeURIComponent(question.overview.batch)}`);
    const work = steps.filter(({ state }) => state === "RUNNING").map(({ name, worker }) => `${worker} performs the step ${name} on it.`);
    if (underWay === question && work.length) writeIf("order-warning", [warning(question.overview), busy(work.join(" "))].filter(Boolean).join(" "));
  } catch {
    // The question can be answered without it.
  }
}

/** Close the question if its batch is no longer in the state that the question describes. */
function closeIfChanged() {
  const change = underWay && changeOf(underWay.overview, latest);
  if (!change) return;
  underWay = null;
  dialog.close();
  show("outcome");
  write("outcome", `The question was closed: ${change}.`);
}

/** Say how the batch differs from the one that was shown, or return null. */
function changeOf(shown, now) {
  if (shown.batch !== now.batch) return "another batch has taken the place of the one shown";
  if (shown.state === now.state && shown.holder === now.holder) return null;
  return now.state === "FROZEN" ? `${now.holder || "somebody"} has frozen the batch meanwhile` : "the batch is no longer frozen";
}

function ask(id, wanted) {
  show(`${id}-field`, Boolean(wanted));
  byId(id).required = Boolean(wanted) && id === "order-user";
  byId(id).disabled = !wanted;
}

function writeIf(id, text) {
  show(id, Boolean(text));
  write(id, text || "");
}

/** Show the token that the page made, instead of the question; an empty one shows the question. */
function showSecret(secret, user = "") {
  show("order-question", !secret);
  show("order-secret", Boolean(secret));
  write("order-secret-token", secret);
  write("order-secret-user", user);
  if (secret) byId("order-done").focus();
}

dialog.addEventListener("close", () => {
  underWay = null;
  showSecret("");
});
byId("order-secret-token").after(copyButton("the token", () => byId("order-secret-token").textContent));

dialog.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = underWay;
  if (!asked) return;
  const go = byId("order-go");
  go.disabled = true;
  try {
    await new Promise((resolve) => setTimeout(resolve, FRESH_MS));
    latest = await read("overview", {}, "", { signal: AbortSignal.timeout(ANSWER_MS) });
    closeIfChanged();
    if (underWay !== asked) return;
    underWay = null;
    const given = { user: byId("order-user").value.trim(), token: byId("order-token").value };
    const { text, secret, user } = await ORDERS[asked.name].send(asked.overview, given);
    show("outcome");
    write("outcome", text);
    if (secret) showSecret(secret, user);
    else dialog.close();
  } catch (error) {
    if (dialog.open) underWay ??= asked;
    show("order-failure");
    write("order-failure", error.message);
  } finally {
    go.disabled = false;
  }
});

for (const name of Object.keys(ORDERS)) byId(name).addEventListener("click", () => open(name));
