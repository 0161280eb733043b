// The datastore's news as they happen: one stream from the gateway, or dslogic's overview every two seconds.

import { Refusal, address, offers, read, request } from "./api.js";

const POLL_MS = 2000;
/** The gateway sends a comment every 15 s; a stream silent for longer than this is dead, whatever TCP believes. */
const SILENCE_MS = 40_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** As many segments as one round of polling takes; what is more is told as `more`. */
const ROWS = 500;

/**
 * Follow the datastore for as long as the page is open.
 *
 * `listener` has overview(overview), segments(rows, more), problem(problem document), connected(), and
 * lost(refusal, waitMs). The stream is read
 * by fetch and not by EventSource, which neither tells why it was refused nor lets its waits be chosen.
 */
export async function follow(listener) {
  const follower = offers("events") ? new Stream(listener) : new Poll(listener);
  for (let failures = 0; ; failures += 1) {
    try {
      await follower.run(() => {
        failures = 0;
        hurried = false;
        listener.connected();
      });
      // It ended as it should: the gateway stops, or lets listeners come anew from time to time.
      await wake(FIRST_WAIT_MS);
    } catch (error) {
      const wait = waitOf(failures, error.retryAfter);
      listener.lost(error, wait);
      if (await wake(wait)) failures = -1; // what failed before is over
    }
  }
}

function waitOf(failures, retryAfter) {
  const backedOff = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** failures);
  // Spread, so that the pages of a whole control room do not come back in one moment.
  return Math.max((retryAfter ?? 0) * 1000, backedOff * (0.75 + Math.random() / 2));
}

let wakeUp = () => {};
let hurried = false;

/** Try again now, or right after the try that is under way, e.g. because somebody signed in. */
export function tryNow() {
  hurried = true;
  wakeUp();
}

/** Wait, unless there is a reason to try now; says whether there was. */
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
        for (const event of events) this.#tell(event);
      }
    } catch (error) {
      if (error instanceof Refusal) throw error;
      throw new Refusal(0, { detail: "The connection to the datastore broke." });
    } finally {
      clearTimeout(watchdog);
    }
  }

  #tell(event) {
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
    if (fields.event === "problem") this.#listener.problem(data);
  }
}

/** A browser that leaves the page would keep the stream open in its cache of pages. */
let leave = () => {};
window.addEventListener("pagehide", () => leave());

class Poll {
  #listener;
  #seq = null;

  constructor(listener) {
    this.#listener = listener;
  }

  async run(connected) {
    for (;;) {
      const overview = await read("overview");
      connected();
      this.#listener.overview(overview);
      await this.#tellSegments(overview.seq);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  async #tellSegments(seq) {
    const since = this.#seq;
    this.#seq = seq;
    if (since === null || seq <= since) return;
    const page = await read("segments", { after: Math.max(since, seq - ROWS), limit: ROWS });
    this.#listener.segments(page.segments, seq - since > ROWS);
  }
}
