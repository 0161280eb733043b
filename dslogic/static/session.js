// Who looks at the page, and what they may do. The credential itself is in a cookie that no script can read.

import { offers, order, read } from "./api.js";
import { byId, closable, show, write } from "./dom.js";

/** Nobody in particular: at the gateway until it has said who; dslogic's own page is for whoever reaches it. */
let caller = { auth: "off", name: null, group: null, scopes: offers("whoami") ? [] : ["admin"] };
let known = !offers("whoami");
const dialog = closable(byId("sign"));
const listeners = [];

/** Say whether the caller has the right to what `scope` is needed for. */
export const may = (scope) => caller.scopes.includes(scope) || caller.scopes.includes("admin");

export const callerName = () => caller.name;
export const authenticated = () => caller.auth !== "off";

/** Call `listener` whenever somebody else may look at the page. */
export const onCaller = (listener) => listeners.push(listener);

/** Ask who is signed in, unless that is known. */
export async function learnWho() {
  if (!known) await askWho();
}

/** Ask who is signed in, be it known or not. */
export async function askWho() {
  if (!offers("whoami")) return;
  const before = JSON.stringify(caller);
  try {
    caller = await read("whoami");
    known = true;
  } catch {
    return; // asked again with the next connection
  }
  show("who", authenticated());
  write("who-name", caller.name ? [caller.name, caller.group].filter(Boolean).join(" · ") : "");
  show("sign-in", !caller.name);
  show("sign-out", Boolean(caller.name));
  if (JSON.stringify(caller) !== before) for (const listener of listeners) listener();
}

export function signIn() {
  show("sign-failure", false);
  byId("sign-key").value = "";
  if (!dialog.open) dialog.showModal();
}

async function send(event) {
  event.preventDefault();
  try {
    await order("session", { key: byId("sign-key").value });
  } catch (error) {
    show("sign-failure");
    write("sign-failure", error.status === 401 ? "This key is not known here." : error.message);
    return;
  }
  byId("sign-key").value = "";
  dialog.close();
  await askWho();
}

dialog.querySelector("form").addEventListener("submit", send);
for (const id of ["sign-in", "banner-action"]) byId(id).addEventListener("click", signIn);
byId("sign-out").addEventListener("click", async () => {
  await order("session", null, "", "DELETE");
  location.reload(); // what was read with the credential goes with it
});
