// Follows the datastore: one stream of events from the gateway, or dslogic's overview every two seconds.

import { Refusal, address, offers, read, request } from "./api.js";

const POLL_MS = 2000;
const POLL_TIMEOUT_MS = 3000;
/** The gateway sends a comment every 15 s; a stream that is silent for longer than this is dead. */
const SILENCE_MS = 40_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** Maximum number of segments of one poll; `more` says that there are others. */
const ROWS = 500;

/**
 * Follow the datastore for as long as the page is open.
 *
 * `listener` has overview(overview), segments(rows, more), changes(records, more), steps(steps), connected(),
 * problem(problem document) and lost(refusal, waitMs). The stream is read by fetch, because EventSource hides why it was
 * refused and chooses its own waits. With `pausing`, it is closed while nobody sees the page: a browser has six connections
 * to a host, and a user may have more pages.
 */
export async function follow(listener, { pausing = false } = {}) {
  if (pausing) document.addEventListener("visibilitychange", () => document.hidden && leave());
  const follower = offers("events") ? new Stream(listener) : new Poll(listener);
  for (let failures = 0; ; failures += 1) {
    if (pausing) await visible();
    try {
      await follower.run(() => {
        failures = 0;
        hurried = false;
        listener.connected();
      });
      // A regular end: the gateway stops.
      await wake(FIRST_WAIT_MS);
    } catch (error) {
      if (pausing && document.hidden) continue;
      const wait = waitOf(failures, error.retryAfter);
      listener.lost(error, wait);
      if (await wake(wait)) failures = -1;
    }
  }
}

/** Wait until somebody sees the page. */
export async function visible() {
  while (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

function waitOf(failures, retryAfter) {
  const backedOff = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
  // Random, so that many pages do not return at the same moment.
  return Math.max((retryAfter ?? 0) * 1000, backedOff * (0.75 + Math.random() / 2));
}

let wakeUp = () => {};
let hurried = false;

/** Try again now, or right after the current try, e.g. after a sign-in. */
export function tryNow() {
  hurried = true;
  wakeUp();
}

/** Wait, or return true as soon as there is a reason to try now. */
async function wake(milliseconds) {
  if (!hurried) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
  const early = hurried;
  hurried = false;
  return early;
}

window.addEventListener("online", tryNow);

class Stream {
  #listener;
  #last = null;

  constructor(listener) {
    this.#listener = listener;
  }

  async run(connected) {
    const stopping = new AbortController();
    let watchdog;
    const heard = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => stopping.abort(), SILENCE_MS);
    };
    leave = () => stopping.abort();
    try {
      heard();
      const headers = { Accept: "text/event-stream", ...(this.#last && { "Last-Event-ID": this.#last }) };
      const answer = await request(address("events"), { headers, signal: stopping.signal, cache: "no-store" });
      connected();
      const parts = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { value, done } = await parts.read();
        if (done) return;
        heard();
        const events = (rest + value).split(/\r?\n\r?\n/);
        rest = events.pop();
        for (const event of events) this.#dispatch(event);
      }
    } catch (error) {
      if (error instanceof Refusal) throw error;
      throw new Refusal(0, { detail: "The connection to the datastore broke." });
    } finally {
      clearTimeout(watchdog);
    }
  }

  #dispatch(event) {
    const fields = { event: "message", data: [] };
    for (const line of event.split(/\r?\n/)) {
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") fields.data.push(value);
      else if (name) fields[name] = value;
    }
    if (fields.id) this.#last = fields.id;
    if (!fields.data.length) return;
    const data = JSON.parse(fields.data.join("\n"));
    if (fields.event === "overview") this.#listener.overview(data);
    if (fields.event === "segments") this.#listener.segments(data.items, data.more);
    if (fields.event === "change") this.#listener.changes(data.items, data.more);
    if (fields.event === "steps") this.#listener.steps(data);
    if (fields.event === "problem") this.#listener.problem(data);
  }
}

/** A browser that caches the page it leaves would keep the stream open. */
let leave = () => {};
window.addEventListener("pagehide", () => leave());

class Poll {
  #listener;
  #seq = null;
  #changed = null;

  constructor(listener) {
    this.#listener = listener;
  }

  async run(connected) {
    for (;;) {
      const overview = await read("overview", {}, "", { signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
      connected();
      this.#listener.overview(overview);
      await this.#sendSegments(overview.seq);
      await this.#sendSteps();
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async #sendSteps() {
    const { steps, seq } = await read("steps");
    this.#listener.steps(steps);
    if (seq !== this.#changed) this.#listener.changes([], true);
    this.#changed = seq;
  }

  async #sendSegments(seq) {
    const since = this.#seq;
    this.#seq = seq;
    if (since === null || seq <= since) return;
    const page = await read("segments", { after: Math.max(since, seq - ROWS), limit: ROWS });
    this.#listener.segments(page.segments, seq - since > ROWS);
  }
}
