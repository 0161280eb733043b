// The caller of the page and their rights. The credential itself is in a cookie that no script can read.

import { offers, order, read } from "./api.js";
import { byId, show, write } from "./dom.js";

/** Until the gateway has answered, a caller without rights; dslogic's own page has no callers and allows everything. */
let caller = { auth: "off", name: null, group: null, scopes: offers("whoami") ? [] : ["admin"] };
let known = !offers("whoami");
const listeners = [];

/** Say whether the caller has the scope. */
export const may = (scope) => caller.scopes.includes(scope) || caller.scopes.includes("admin");

export const callerName = () => caller.name;
export const authenticated = () => caller.auth !== "off";

/** Call `listener` when the caller, or their rights, change. */
export const onCaller = (listener) => listeners.push(listener);

/** Ask the gateway for the caller, unless it is known. */
export async function learnCaller() {
  if (!known) await askCaller();
}

/** Ask the gateway for the caller. */
export async function askCaller() {
  if (!offers("whoami")) return;
  const before = caller;
  try {
    caller = await read("whoami");
    known = true;
  } catch {
    return; // the next connection repeats it
  }
  if (before.name && !caller.name) forget();
  showCaller();
  if (JSON.stringify(caller) !== JSON.stringify(before)) for (const listener of listeners) listener();
}

function showCaller() {
  const signedOut = authenticated() && !caller.name;
  document.body.classList.toggle("signed-out", signedOut);
  show("sign", signedOut);
  show("who", authenticated() && !signedOut);
  write("who-name", [caller.name, caller.group].filter(Boolean).join(" · "));
  if (signedOut) document.title = "Sign in · GlitchFlow Datastore";
}

/** Load the page again: what was read with the credential disappears with it. */
const forget = () => location.reload();

byId("sign").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await order("session", { key: byId("sign-key").value });
  } catch (error) {
    show("sign-failure");
    write("sign-failure", error.status === 401 ? "This key is not known here." : error.message);
    return;
  }
  byId("sign-key").value = "";
  show("sign-failure", false);
  await askCaller();
});

byId("sign-out").addEventListener("click", async () => {
  await order("session", null, "", "DELETE");
  forget();
});
