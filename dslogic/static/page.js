// The page: passes what the datastore sends to each of its parts.

import { showActions, suspendActions } from "./actions.js";
import { read } from "./api.js";
import { Archive } from "./archive.js";
import { BatchList } from "./batches.js";
import { Coverage } from "./coverage.js";
import { byId, show, write } from "./dom.js";
import { EventList } from "./events.js";
import { durationText } from "./format.js";
import { Ingest } from "./ingest.js";
import { showLink } from "./link.js";
import { follow, tryNow } from "./live.js";
import { asOfNow, setClock, showClock, showOverview, showStale } from "./overview.js";
import { Processing } from "./processing.js";
import { recordsChanged } from "./record_view.js";
import { SegmentList } from "./segments.js";
import { askCaller, authenticated, learnCaller, may, onCaller } from "./session.js";
import { showStart } from "./start.js";
import { LatestStrain } from "./strain.js";

/** Segments that are read once, for the latest strain and the ingest rate before the page was opened. */
const EARLIER = 500;

const ingest = new Ingest(byId("ingest-plot"));
const events = new EventList();
const archive = new Archive();
const batches = new BatchList((all) => {
  events.takeBatches(all);
  archive.takeBatches(all);
});
const parts = { coverage: new Coverage(), strain: new LatestStrain(), segments: new SegmentList(), batches };
const processing = new Processing();
let begun = false;
let latest = null; // the newest overview, while there is a connection

async function begin() {
  if (begun) return;
  begun = true;
  try {
    parts.segments.open();
    const { segments, more } = await read("segments", { before: Number.MAX_SAFE_INTEGER, limit: EARLIER });
    ingest.begin(segments, more);
    parts.strain.add(segments);
  } catch {
    begun = false; // the next overview repeats it
  }
}

const listener = {
  overview(overview) {
    if (!latest) settle();
    showLink("live", "Live");
    latest = overview;
    setClock(overview);
    ingest.take(overview);
    showOverview(overview, ingest.rate());
    showActions(overview);
    showStart(overview);
    processing.tick(overview.time);
    for (const part of [parts.coverage, parts.strain, parts.segments, parts.batches, archive, events]) part.take(overview);
    begin();
  },
  segments(rows, more) {
    for (const part of [parts.coverage, parts.strain, parts.segments]) part.add(rows, more);
  },
  changes: recordsChanged,
  steps: (steps) => processing.take(steps),
  connected() {
    showLink("live", "Live");
    learnCaller();
    settle();
  },
  problem(problem) {
    showLink("silent", "No answer");
    warn(["The datastore does not answer.", problem.detail], "The page shows its last known state.");
  },
  lost(refusal, wait) {
    showLink("lost", refusal.status === 401 ? "Signed out" : "Not connected");
    const again = `Trying again in ${durationText(Math.max(1, Math.round(wait / 1000)))}.`;
    warn(explained(refusal), refusal.status === 401 ? "" : again);
    if (refusal.status === 401) askCaller();
  },
};

function settle() {
  show("banner", false);
  showStale(false);
}

function warn([title, text], outlook) {
  latest = null;
  suspendActions();
  showStale(true);
  write("banner-title", title);
  write("banner-text", `${text.replace(/\.?$/, ".")} ${outlook}`);
  show("banner");
}

function explained(refusal) {
  if (refusal.status === 401) return ["Signed out.", "Sign in to see the datastore."];
  if (refusal.status === 403) return ["No right to read.", refusal.message];
  if (refusal.status === 503 && refusal.code === "too-many-connections") return ["Too many pages are open.", "The gateway accepts no more of them now (EVENTS_LISTENERS)."];
  if (refusal.status >= 500) return ["The datastore does not answer.", refusal.message];
  return ["Connection lost.", "The page shows its last known state."];
}

onCaller(() => {
  showActions();
  processing.show();
  if (!authenticated() || may("read")) tryNow();
});

/** Update what depends on the time, between two overviews. */
function tick() {
  showClock();
  if (!latest) return;
  const overview = asOfNow(latest);
  ingest.tick(overview);
  archive.take(overview);
  showOverview(overview, ingest.rate());
  processing.tick(overview.time);
}

showClock();
setInterval(tick, 1000);
learnCaller();
follow(listener);
