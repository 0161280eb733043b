// The events of the datastore, newest first: those of the buffer since it started, and what the batches say of the time before.

import { byId, element, fillRows, row, show } from "./dom.js";
import { countText, plural, sizeText, utcText } from "./format.js";

const ROWS = 60;
const WORDS = { "open": "Started", "freeze": "Frozen", "thaw": "Thawed", "flush": "Archived", "verified": "Verified", "repair": "Repaired", "replica-verified": "Copied", "dropped": "Dropped", "evicted": "Evicted", "replica-lost": "Replica lost", "replicas-lost": "Replicas lost", "cannot-store": "Cannot store" };

export class EventList {
  #overview = null;
  #batches = [];

  take(overview) {
    this.#overview = overview;
    this.#show();
  }

  /** Take the list of batches. */
  takeBatches(batches) {
    this.#batches = batches;
    this.#show();
  }

  #show() {
    if (!this.#overview) return;
    const own = this.#overview.events;
    const oldest = own[0]?.at ?? Infinity;
    const earlier = this.#batches.flatMap(eventsOf).filter(({ at }) => at < oldest);
    const all = [...earlier, ...own].sort((a, b) => a.at - b.at).reverse().slice(0, ROWS);
    fillRows(byId("log"), all.map(eventRow));
    show("log-tail", all.length > 0);
    show("log-empty", !all.length);
  }
}

/** Return the events that a batch keeps. */
function eventsOf({ id, frozen, archived, holder, n_itm: count, buff_size: size, verification }) {
  const at = (stamp) => Date.parse(stamp) / 1000;
  const contents = `${plural(count, "segment")}, ${sizeText(size)}, batch ${id}`;
  const events = [];
  if (frozen && holder) events.push({ at: at(frozen), event: "freeze", detail: `by ${holder}: ${contents}` });
  if (archived) events.push({ at: at(archived), event: "flush", detail: contents });
  if (verification && verification.state !== "running") {
    events.push({ at: verification.at, event: "verified", detail: `batch ${id} is ${verification.state}: ${countText(verification.checked)} of ${plural(verification.segments, "file")} read` });
  }
  return events;
}

const REPEATED = /^(frozen|thawed|archived|repaired:|segments cannot be stored:) /;

const eventRow = ({ at, event, detail }) => row([
  element("span", { class: "dim", title: `${utcText(at, 3)} UTC` }, utcText(at).slice(5)),
  element("span", { class: `event ${event}` }, WORDS[event] ?? event),
  detail.replace(REPEATED, "").replace(/\b(\d+) bytes/, (_, bytes) => sizeText(Number(bytes))).replace(/ in \/.*\/([^/]+)$/, " in $1"),
]);
