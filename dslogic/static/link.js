// The state of the connection, in the head of each page.

import { byId, write } from "./dom.js";

/** Show a state (`live`, `silent` or `lost`) and its text. */
export function showLink(state, text) {
  byId("link").dataset.link = state;
  write("link-text", text);
}
