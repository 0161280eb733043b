// An empty datastore: the commands that push the first segments to this gateway.

import { offers } from "./api.js";
import { byId, copyButton, element, show } from "./dom.js";
import { authenticated } from "./session.js";

/** The gateway's address, behind whatever prefix the page was loaded from. */
const gateway = () => new URL(".", document.baseURI).href.replace(/\/$/, "");

/** Show the commands until the first segment is stored; dslogic's own page does not know the gateway. */
export function showStart({ seq }) {
  const wanted = seq === 0 && offers("events");
  show("start", wanted);
  if (!wanted) return;
  const key = authenticated() ? " --key-file FILE" : "";
  const commands = ["make setup", `export SRV=${gateway()}`, `.venv/bin/gwclient push --event GW150914${key}`];
  const others = ["push FILE", "simulate"].map((rest) => `.venv/bin/gwclient ${rest}${key}`);
  list("start-commands", commands);
  list("start-others", others);
}

function list(id, commands) {
  const target = byId(id);
  if (target.dataset.shown === commands.join()) return;
  target.dataset.shown = commands.join();
  target.replaceChildren(...commands.map((command) => element("li", {}, element("code", {}, command), copyButton(`“${command}”`, () => command))));
}
