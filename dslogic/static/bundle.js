// The bundle: ordered, followed while its archive is built, and offered for download.

import { address, order, read } from "./api.js";
import { byId, show, write } from "./dom.js";
import { plural, sizeText, utcText } from "./format.js";
import { keep, kept } from "./storage.js";

const POLL_MS = 1000;
const KEY = "bundle";
const BUILDING = "BUILDING";
const CONTENTS = { tar: "files as stored", hdf5: "HDF5 files", manifest: "list with checksums" };

export class Bundle {
  #id = kept(KEY, null);
  #timer = null;

  constructor() {
    byId("bundle-cancel").addEventListener("click", () => this.#remove());
    if (this.#id) this.#follow();
  }

  /** Order a bundle of `{query}` or `{names}`. */
  async order(wanted) {
    clearTimeout(this.#timer);
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

  #take({ id, format, state, percent, n, bytes, size, expires, reason }) {
    show("bundle", true);
    write("bundle-title", `Bundle of ${plural(n, "segment")}, ${CONTENTS[format]}`);
    const [building, ready] = [state === BUILDING, state === "READY"];
    for (const part of ["bundle-progress", "bundle-cancel"]) show(part, building);
    byId("bundle-progress").value = percent;
    show("bundle-download", ready);
    byId("bundle-download").href = address("bundles", `/${encodeURIComponent(id)}/archive`);
    write("bundle-download", `Download, ${sizeText(size ?? bytes)}`);
    write("bundle-state", building ? `${percent} % built` : ready ? `Ready, kept until ${utcText(expires).slice(0, 10)}` : "");
    if (building) this.#timer = setTimeout(() => this.#follow(), POLL_MS);
    show("bundle-failure", !building && !ready);
    write("bundle-failure", building || ready ? "" : `The archive is ${state.toLowerCase()}${reason ? `: ${reason}` : ""}. Make the bundle again.`);
  }

  async #remove() {
    clearTimeout(this.#timer);
    const id = this.#id;
    this.#forget();
    try {
      await order("bundles", null, `/${id}`, "DELETE");
    } catch (error) {
      this.#fail(error.message);
    }
  }

  #forget() {
    this.#id = null;
    keep(KEY, null);
    show("bundle", false);
  }

  #busy(busy) {
    for (const id of ["bundle-selection", "bundle-search"]) byId(id).disabled = busy;
  }

  #fail(text) {
    show("bundle", true);
    for (const id of ["bundle-progress", "bundle-cancel", "bundle-download"]) show(id, false);
    write("bundle-title", "No bundle was made");
    write("bundle-state", "");
    show("bundle-failure", true);
    write("bundle-failure", text);
  }
}
