// State, numbers, channels and notices: the parts of the page that follow from one overview.

import { byId, element, fillRows, row, show, write } from "./dom.js";
import {
  channelText, countText, durationParts, durationText, gpsOfUnix, gpsText, plural, sizeParts, sizeText, utcOfGps, utcText,
} from "./format.js";
import { channelNumber } from "./plots.js";

/** Older strain is flagged while segments arrive: no detector has such a latency. */
const LATE_SECONDS = 600;
/** Older strain is a recording: its age says nothing about the datastore. */
const RECORDED_SECONDS = 86_400;
/** Strain further ahead of now than this is flagged: clocks differ by less. */
const AHEAD_SECONDS = 2;
/** A volume with a smaller share of free space is flagged. */
const NEARLY_FULL = 0.05;

const WORDS = { OPERATIONAL: "Operational", FROZEN: "Frozen" };

let clock = 0; // how far the datastore's clock is from the browser's, in s

/** Return the datastore's time, Unix s. */
const now = () => Date.now() / 1000 + clock;

/** Show the time, by the datastore's clock once it is known: the browser's may be wrong. */
export function showClock() {
  write("gps-now", String(Math.floor(gpsOfUnix(now()))));
  write("utc-now", utcText(now()));
}

/** Set the clock by an overview that has just arrived. */
export function setClock({ time }) {
  clock = time - Date.now() / 1000;
}

/** Return an overview with the current time. */
export const asOfNow = (overview) => ({ ...overview, time: now() });

export function showOverview(overview, rate) {
  showClock();
  showState(overview);
  showFill(overview, rate);
  showCards(overview, rate);
  showChannels(overview);
  showNotices(overview);
}

/** Mark what the page shows as old. */
export function showStale(stale) {
  byId("main").classList.toggle("stale", stale);
}

function showState({ state, since, holder, time, cannot_store: failure }) {
  const word = failure ? "Cannot store" : WORDS[state] ?? state;
  byId("state").dataset.state = failure ? "FAILING" : state;
  write("state-word", word);
  const held = state === "FROZEN" ? ` · held by ${holder || "nobody"}` : "";
  const lasting = `for ${durationText(Math.max(0, Math.floor(time - since)))}, since ${utcText(since)} UTC${held}`;
  write("state-note", failure ? `The buffer rejects segments: ${failure} · ${WORDS[state] ?? state} ${lasting}` : lasting);
  document.title = `${word} · GlitchFlow Datastore`;
}

function showFill(overview, rate) {
  const { buff_size: size, max_size: most } = overview;
  const known = most != null;
  const full = known && size >= most;
  const percent = most ? Math.floor((100 * size) / most) : 100;
  const meter = byId("fill");
  meter.hidden = !known;
  meter.setAttribute("aria-valuenow", Math.min(100, percent));
  meter.setAttribute("aria-valuetext", known ? `${sizeText(size)} of ${sizeText(most)}` : sizeText(size));
  byId("fill-bar").style.width = `${Math.min(100, percent)}%`;
  write("fill-size", sizeText(size));
  write("fill-of", known ? `of ${sizeText(most)} · ${percent} %` : "");
  write("fill-rate", fillText(overview, full, rate));
}

function fillText({ state, buff_size: size, max_size: most }, full, rate) {
  if (state === "FROZEN") return "frozen: the batch does not change";
  if (full) return "large enough to freeze";
  if (most == null) return "";
  const outlook = size > 0 && rate.arriving ? `, in ${durationText(Math.ceil((most - size) / rate.bytes))} at this rate` : "";
  return `can be frozen at ${sizeText(most)}${outlook}`;
}

function showCards(overview, rate) {
  const { n_itm: count, next, channels, more_channels: more, time, queue, queue_size: places, free, size: volume, archived } = overview;
  const seconds = channels.reduce((sum, each) => sum + each.seconds, 0);
  const newest = Math.max(...channels.map(({ stop }) => stop));
  const lag = gpsOfUnix(time) - newest;
  const [speed, unit] = sizeParts(rate.bytes);
  figure("n-segments", [[countText(count)]], archived === 1 ? "1 batch archived" : `${countText(archived)} batches archived`);
  figure("n-seconds", durationParts(seconds), `in ${plural(channels.length, "channel")}${more ? `, ${countText(more)} more not counted` : ""}${next ? ", both batches" : ""}`);
  const ahead = channels.length > 0 && lag < -AHEAD_SECONDS;
  const recorded = channels.length > 0 && lag > RECORDED_SECONDS;
  write("lag-title", ahead ? "Strain ahead of now" : recorded ? "Recorded" : "Lag behind now");
  const age = recorded ? [[utcOfGps(newest).slice(0, 10)]] : durationParts(Math.abs(Math.round(ahead ? lag : Math.max(0, lag))));
  figure("lag", channels.length ? age : [["—"]], ahead ? "ahead of now: check the clock or dt" : channels.length ? `${recorded ? "newest strain " : ""}at GPS ${gpsText(newest)}` : "no strain yet");
  byId("lag").classList.toggle("attention", ahead || (channels.length > 0 && lag > LATE_SECONDS && !recorded && rate.segments > 0));
  const refusing = overview.state === "FROZEN" && !next && overview.refused > 0;
  write("rate-title", refusing ? "Refused since the freeze" : "Ingest");
  if (refusing) figure("rate", [[countText(overview.refused)]], overview.refused === 1 ? "segment" : "segments");
  else figure("rate", [[speed, `${unit}/s`]], `${rate.segments < 10 ? rate.segments.toFixed(1) : countText(Math.round(rate.segments))} segments/s`);
  byId("rate").classList.toggle("attention", refusing);
  figure("queue", [[countText(queue)]], `of ${plural(places, "place")}`);
  figure("free", free === null ? [["—"]] : [sizeParts(free)], free === null ? "the volume does not answer" : `of ${sizeText(volume)}`);
  byId("free").classList.toggle("attention", nearlyFull(overview));
}

const nearlyFull = ({ free, size }) => free !== null && free < NEARLY_FULL * size;

/** Write numbers, each with its unit set smaller. */
function figure(id, parts, hint) {
  const target = byId(id);
  const text = parts.flat().join(" ");
  if (target.textContent !== text) {
    target.replaceChildren(...parts.flatMap(([number, unit], place) => [place ? " " : "", number, ...(unit ? [" ", element("small", {}, unit)] : [])]));
  }
  write(`${id}-hint`, hint);
}

function showChannels({ channels, time }) {
  show("channels-region", channels.length > 0);
  const sorted = [...channels].sort((a, b) => channelText(a.channel).localeCompare(channelText(b.channel)));
  const rows = sorted.map((each, place) => row([
    channelCell(each.channel, place),
    { text: countText(each.segments), numeric: true },
    { text: sizeText(each.bytes), numeric: true },
    { text: durationText(each.seconds), numeric: true },
    { text: gpsText(each.start), numeric: true },
    { text: gpsText(each.stop), numeric: true },
    utcOfGps(each.stop),
    { text: lagText(gpsOfUnix(time) - each.stop), numeric: true },
  ]));
  fillRows(byId("channels"), rows);
}

function lagText(lag) {
  if (lag > RECORDED_SECONDS) return "recorded";
  return lag < -AHEAD_SECONDS ? `${durationText(Math.round(-lag))} ahead` : durationText(Math.max(0, Math.round(lag)));
}

function channelCell(channel, place) {
  const swatch = element("span", { class: `swatch of-${channelNumber(place)}`, "aria-hidden": "true" });
  return element("span", {}, swatch, channel ?? element("em", {}, "no channel"));
}

function showNotices(overview) {
  const { next, last_error: error, quarantined, left_out: leftOut, free, time, tiers = [] } = overview;
  const notices = [];
  if (error) notices.push(["bad", `Last error, ${durationText(Math.max(0, Math.floor(time - error.at)))} ago`, `${error.code}: ${error.detail}`]);
  for (const { name, error: failure } of tiers.filter((tier) => tier.error)) notices.push(["warn", `Tier ${name} fails`, failure]);
  for (const { name, unreadable } of tiers.filter((tier) => tier.unreadable)) notices.push(["bad", "TIERS lacks a tier", `${plural(unreadable, "pack")} cannot be read: only ${name} has ${unreadable === 1 ? "it" : "them"}, which TIERS does not name.`]);
  for (const { name, lost } of tiers.filter((tier) => tier.lost)) notices.push(["bad", "Replica lost", `${plural(lost, "replica")} in ${name} ${lost === 1 ? "is" : "are"} missing or altered.`]);
  if (nearlyFull(overview)) notices.push(["warn", "Nearly full", `${sizeText(free)} are free on the volume.`]);
  if (quarantined) notices.push(["warn", "Quarantine", `${plural(quarantined, "file")} ${quarantined === 1 ? "is" : "are"} no valid segment${quarantined === 1 ? "" : "s"} and ${quarantined === 1 ? "was" : "were"} moved to quarantine/.`]);
  if (leftOut) notices.push(["bad", "Left out", `${countText(leftOut)} ${leftOut === 1 ? "archive or pack of files is" : "archives or packs of files are"} left out, because the manifest cannot be read; the log of the buffer names each.`]);
  if (next) notices.push(["calm", "Next batch", `${plural(next.n_itm, "segment")}, ${sizeText(next.buff_size)} since the freeze; it becomes the current batch when this one is archived.`]);
  const wanted = JSON.stringify(notices);
  const target = byId("notices");
  if (target.dataset.shown === wanted) return;
  target.dataset.shown = wanted;
  target.replaceChildren(...notices.map(([kind, title, text]) => element("p", { class: `notice ${kind}` }, element("strong", {}, title), " ", text)));
}
