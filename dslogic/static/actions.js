// Freeze, thaw, archive: each tells first what it will do, and then what was done.

import { order } from "./api.js";
import { byId, closable, show, write } from "./dom.js";
import { plural, sizeText } from "./format.js";
import { authenticated, callerName, may } from "./session.js";

const dialog = closable(byId("order"));
let latest = null; // the overview that the buttons and the texts are about
let underWay = null;

const ORDERS = {
  freeze: {
    title: "Freeze the batch?",
    go: "Freeze",
    effect: (batch) => `${contents(batch)} are sealed for training. Nothing is added to them or taken away until you thaw the batch or it is archived; meanwhile segments are refused, or go into the next batch where the buffer rotates.`,
    warning: ({ buff_size: size, max_size: most }) => most != null && size < most && `The batch has ${sizeText(size)} of the ${sizeText(most)} from which on it may be frozen: the datastore will answer that it has to wait.`,
    fields: () => ({ user: true, token: false }),
    send: (_, { user }) => {
      const token = newToken();
      return order("freeze", { user, token }).then((answer) => frozen(answer, user, token));
    },
  },
  thaw: {
    title: "Thaw the batch?",
    go: "Thaw",
    effect: (batch) => `${contents(batch)} are open again: new segments are added to them, and what the next batch has comes to them too. Nothing is archived.`,
    warning: ({ claim }) => claim && `${claim.worker} has claimed the batch and works on it.`,
    fields: ({ batch }) => (kept(batch) ? { user: false, token: false } : { user: true, token: true }),
    send: ({ batch }, given) => order("thaw", kept(batch) ?? given).then((answer) => {
      sessionStorage.removeItem(keyOf(batch));
      return answer.body;
    }),
  },
  clean: {
    title: "Archive the batch?",
    go: "Archive",
    effect: (batch) => `${contents(batch)} move into an archive folder, sealed with a manifest. ${batch.next ? `The next batch, ${contents(batch.next)}, takes its place.` : "An empty batch takes its place."}`,
    warning: ({ state, claim }) => (claim ? `${claim.worker} has claimed the batch and works on it.` : state !== "FROZEN" && "The batch is not frozen: nobody has asked for it to be trained on yet."),
    fields: () => ({ user: false, token: false }),
    send: ({ batch }) => order("clean", { msg: `archived from the page${callerName() ? ` by ${callerName()}` : ""}`, batch }).then((answer) => answer.body),
  },
};

const contents = ({ n_itm: count, buff_size: size }) => `${plural(count, "segment")} (${sizeText(size)})`;

// ---- the holder's token: made here, for the one batch, and known to this tab alone

const keyOf = (batch) => `glitchflow holder of ${batch}`;
const kept = (batch) => JSON.parse(sessionStorage.getItem(keyOf(batch)) ?? "null");

function newToken() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Tell what became of a freeze; the gateway and dslogic tell it in words of their own. */
function frozen(answer, user, token) {
  if (typeof answer === "string" || answer.resp === "WAITING") return "Not frozen: the batch has to fill up first.";
  if (answer.holder !== user) return `The batch was frozen by ${answer.holder} already; it stays theirs.`;
  sessionStorage.setItem(keyOf(answer.batch), JSON.stringify({ user, token }));
  const [count, size] = [answer.n_f ?? answer.n_itm, answer.bt_wrt ?? answer.buff_size];
  return `Frozen: ${contents({ n_itm: count, buff_size: size })}, batch ${answer.batch}.`;
}

// ---- the buttons and the dialog

/** Show the orders that make sense now and that the caller has the right to. */
export function showActions(overview = latest) {
  latest = overview;
  if (!latest) return;
  const isFrozen = latest.state === "FROZEN";
  show("freeze", may("train") && !isFrozen);
  show("thaw", may("train") && isFrozen);
  show("clean", may("clean"));
  byId("freeze").disabled = latest.n_itm === 0;
  byId("thaw").disabled = false;
  byId("clean").disabled = latest.n_itm === 0;
  show("actions", may("train") || may("clean"));
}

/** Offer no order while nobody knows how the datastore is. */
export function suspendActions() {
  for (const name of Object.keys(ORDERS)) byId(name).disabled = true;
}

function open(name) {
  const { title, go, effect, warning, fields } = ORDERS[name];
  underWay = { name, overview: latest };
  write("order-title", title);
  write("order-effect", effect(latest));
  const warned = warning(latest);
  show("order-warning", Boolean(warned));
  write("order-warning", warned || "");
  const asked = fields(latest);
  ask("order-user", asked.user);
  ask("order-token", asked.token);
  const user = byId("order-user");
  user.readOnly = authenticated() && Boolean(callerName()) && !may("admin");
  user.value = callerName() ?? user.value;
  byId("order-token").value = "";
  show("order-failure", false);
  write("order-go", go);
  dialog.showModal();
}

function ask(id, wanted) {
  show(`${id}-field`, wanted);
  byId(id).required = wanted && id === "order-user";
  byId(id).disabled = !wanted;
}

dialog.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, overview } = underWay;
  const go = byId("order-go");
  go.disabled = true;
  try {
    const given = { user: byId("order-user").value.trim(), token: byId("order-token").value };
    const outcome = await ORDERS[name].send(overview, given);
    dialog.close();
    show("outcome");
    write("outcome", outcome);
  } catch (error) {
    show("order-failure");
    write("order-failure", error.message);
  } finally {
    go.disabled = false;
  }
});

for (const name of Object.keys(ORDERS)) byId(name).addEventListener("click", () => open(name));
