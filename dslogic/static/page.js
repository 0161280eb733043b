// The page: what the datastore tells goes to each part of it.

import { showActions, suspendActions } from "./actions.js";
import { offers, read } from "./api.js";
import { BatchList } from "./batches.js";
import { Coverage } from "./coverage.js";
import { byId, show, write } from "./dom.js";
import { durationText } from "./format.js";
import { Ingest } from "./ingest.js";
import { follow, tryNow } from "./live.js";
import { LogTail } from "./log.js";
import { asOfNow, setClock, showClock, showOverview, showStale } from "./overview.js";
import { SegmentList } from "./segments.js";
import { askWho, authenticated, learnWho, may, onCaller } from "./session.js";
import { LatestStrain } from "./strain.js";

/** Segments stored before the page was opened: for the latest strain, and the ingest rate up to now. */
const EARLIER = 500;

const ingest = new Ingest(byId("ingest-plot"));
const parts = { coverage: new Coverage(), strain: new LatestStrain(), segments: new SegmentList(), batches: new BatchList(), log: new LogTail() };
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
    begun = false; // the next overview has it tried again
  }
}

const listener = {
  overview(overview) {
    if (!latest) settle();
    latest = overview;
    setClock(overview);
    ingest.take(overview);
    showOverview(overview, ingest.rate());
    showActions(overview);
    for (const part of [parts.coverage, parts.segments, parts.batches, parts.log]) part.take(overview);
    begin();
  },
  segments(rows, more) {
    for (const part of [parts.coverage, parts.strain, parts.segments]) part.add(rows, more);
  },
  connected() {
    tellLink("live", "Live");
    learnWho();
    settle();
  },
  problem(problem) {
    warn(["The datastore does not answer.", problem.detail, false], "What you see is from before.");
  },
  lost(refusal, wait) {
    tellLink("lost", "Not connected");
    const again = `Trying again in ${durationText(Math.max(1, Math.round(wait / 1000)))}.`;
    warn(explained(refusal), refusal.status === 401 ? "" : again);
    if (refusal.status === 401) askWho();
  },
};

function settle() {
  show("banner", false);
  showStale(false);
}

function warn([title, text, signs], outlook) {
  latest = null;
  suspendActions();
  showStale(true);
  write("banner-title", title);
  write("banner-text", `${text} ${outlook}`);
  show("banner-action", signs);
  show("banner");
}

function tellLink(link, text) {
  byId("link").dataset.link = link;
  write("link-text", text);
}

function explained(refusal) {
  if (refusal.status === 401) return ["Signed out.", "Sign in to see the datastore.", offers("session")];
  if (refusal.status === 403) return ["No right to read.", refusal.message, offers("session")];
  if (refusal.status === 503 && refusal.code === "too-many-connections") return ["Too many pages are open.", "The gateway takes no further listener now.", false];
  if (refusal.status >= 500) return ["The datastore does not answer.", refusal.message, false];
  return ["Connection lost.", "What you see is from before.", false];
}

onCaller(() => {
  showActions();
  if (!authenticated() || may("read")) tryNow();
});

/** Have what depends on the time go on between two overviews. */
function tick() {
  showClock();
  if (!latest) return;
  const overview = asOfNow(latest);
  ingest.tick(overview);
  showOverview(overview, ingest.rate());
}

showClock();
setInterval(tick, 1000);
learnWho();
follow(listener);
