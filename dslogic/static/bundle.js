// The bundle: ordered, followed while its archive is built, and offered for download.
// The gateway says over a WebSocket how far it is; without one, the page polls.

import { address, offers, order, read } from "./api.js";
import { byId, show, write } from "./dom.js";
import { gpsText, plural, sizeText, utcText } from "./format.js";
import { keep, kept } from "./storage.js";

const POLL_MS = 1000;
const NAMED = 3;
const KEY = "bundle";
const BUILDING = "BUILDING";
const ENDS = { FAILED: "could not be built", CANCELLED: "was cancelled", EXPIRED: "has expired" };
const CONTENTS = { tar: "files as stored", hdf5: "HDF5 files", gwf: "frame files", manifest: "list with checksums" };

/** Return which spans no file of a bundle holds, the first of them with the reasons. */
function leftOutText(spans) {
  const named = spans.slice(0, NAMED).map(({ channel, start, stop, reason }) => `${channel} GPS ${gpsText(start)} to ${gpsText(stop)} (${reason})`);
  const more = spans.length > NAMED ? `, and ${plural(spans.length - NAMED, "more span")}` : "";
  return spans.length ? `Left out: ${named.join(", ")}${more}` : "";
}

export class Bundle {
  #id = kept(KEY, null);
  #timer = null;
  #socket = null;
  #polls = !offers("events"); // dslogic itself has no WebSocket

  constructor() {
    byId("bundle-cancel").addEventListener("click", () => this.#remove());
    if (this.#id) this.#follow();
  }

  /** Order a bundle of `{query}` or `{names}`. */
  async order(wanted) {
    this.#forget();
    this.#busy(true);
    try {
      const made = await order("bundles", { ...wanted, format: byId("bundle-format").value });
      this.#id = made.id;
      keep(KEY, made.id);
      this.#take(made);
      byId(made.state === BUILDING ? "bundle-cancel" : "bundle-download").focus({ preventScroll: true });
    } catch (error) {
      this.#fail(error.message);
    } finally {
      this.#busy(false);
    }
  }

  async #follow() {
    const id = this.#id;
    try {
      const made = await read("bundles", {}, `/${id}`);
      if (id === this.#id) this.#take(made);
    } catch (error) {
      if (id !== this.#id) return;
      if (error.status === 404) this.#forget();
      else if (error.status !== 401) this.#timer = setTimeout(() => this.#follow(), 5 * POLL_MS);
    }
  }

  /** Wait for the end of the building, or for the next poll. */
  #wait() {
    if (this.#polls) this.#timer = setTimeout(() => this.#follow(), POLL_MS);
    else if (!this.#socket) this.#listen(this.#id);
  }

  #listen(id) {
    const socket = new WebSocket(address("bundles", `/${encodeURIComponent(id)}/ready`).replace(/^http/, "ws"));
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      const percent = /^BUILDING (\d+)%$/.exec(data)?.[1];
      if (percent && socket === this.#socket) this.#showPercent(percent);
    });
    socket.addEventListener("close", ({ code }) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      this.#polls ||= code !== 1000; // it was refused, or broke
      this.#follow();
    });
  }

  #showPercent(percent) {
    byId("bundle-progress").value = percent;
    write("bundle-state", `${percent} % built`);
  }

  #take({ id, format, state, percent, n, bytes, size, expires, reason, left_out: leftOut = [] }) {
    show("bundle", true);
    write("bundle-title", `Bundle of ${plural(n, "segment")}, ${CONTENTS[format]}`);
    const [building, ready] = [state === BUILDING, state === "READY"];
    for (const part of ["bundle-progress", "bundle-cancel"]) show(part, building);
    show("bundle-download", ready);
    byId("bundle-download").href = address("bundles", `/${encodeURIComponent(id)}/archive`);
    write("bundle-download", `Download, ${sizeText(size ?? bytes)}`);
    write("bundle-state", ready ? `Ready, kept until ${utcText(expires).slice(0, 10)}` : "");
    show("bundle-left-out", leftOut.length > 0);
    write("bundle-left-out", leftOutText(leftOut));
    if (building) this.#showPercent(percent);
    if (building) this.#wait();
    show("bundle-failure", !building && !ready);
    write("bundle-failure", building || ready ? "" : `The archive ${ENDS[state]}${reason ? `: ${reason}` : ""}. Make the bundle again.`);
  }

  async #remove() {
    const id = this.#id;
    this.#forget();
    try {
      await order("bundles", null, `/${id}`, "DELETE");
    } catch (error) {
      this.#fail(error.message);
    }
  }

  #forget() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#id = null;
    keep(KEY, null);
    show("bundle", false);
  }

  #busy(busy) {
    for (const id of ["bundle-selection", "bundle-search"]) byId(id).disabled = busy;
  }

  #fail(text) {
    show("bundle", true);
    for (const id of ["bundle-progress", "bundle-cancel", "bundle-download", "bundle-left-out"]) show(id, false);
    write("bundle-title", "No bundle was made");
    write("bundle-state", "");
    show("bundle-failure", true);
    write("bundle-failure", text);
  }
}
