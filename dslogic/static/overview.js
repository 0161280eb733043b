// The datastore at a glance: what one overview tells.

import { byId, element, row, show, write } from "./dom.js";
import {
  channelText, countText, durationText, gpsOfUnix, gpsText, plural, sizeParts, sizeText, utcOfGps, utcText,
} from "./format.js";
import { channelColour } from "./plots.js";

/** Strain older than this is told as old, if data are coming in at all: no detector's latency is so long. */
const LATE_SECONDS = 600;
/** A volume with less free than this share of it is worth a warning. */
const NEARLY_FULL = 0.05;

const WORDS = { OPERATIONAL: "Operational", FROZEN: "Frozen" };

let clock = null; // how far the datastore's clock is from the browser's, in s

const now = () => Date.now() / 1000 + (clock ?? 0);

/** Show the time, by the datastore's clock once it is known: a wall screen's own may be off. */
export function showClock() {
  write("gps-now", String(Math.floor(gpsOfUnix(now()))));
  write("utc-now", utcText(now()));
}

export function showOverview(overview, rate) {
  clock = overview.time - Date.now() / 1000;
  showClock();
  showState(overview);
  showFill(overview, rate);
  showCards(overview, rate);
  showChannels(overview);
  showNotices(overview);
}

/** Keep what was told last on the page, but say that it is old. */
export function showStale(stale) {
  byId("main").classList.toggle("stale", stale);
}

function showState({ state, since, holder, time }) {
  byId("state").dataset.state = state;
  write("state-word", WORDS[state] ?? state);
  const held = state === "FROZEN" ? ` · held by ${holder || "nobody"}` : "";
  write("state-note", `for ${durationText(Math.max(0, Math.floor(time - since)))}, since ${utcText(since)} UTC${held}`);
  document.title = `${WORDS[state] ?? state} · GlitchFlow Datastore`;
}

function showFill({ state, buff_size: size, max_size: most }, rate) {
  const known = most != null;
  const full = known && size >= most;
  const meter = byId("fill");
  meter.hidden = !known;
  meter.value = known ? Math.min(1, most ? size / most : 1) : 0;
  meter.setAttribute("aria-valuetext", known ? `${sizeText(size)} of ${sizeText(most)}` : sizeText(size));
  meter.dataset.full = full ? "yes" : "no";
  write("fill-size", sizeText(size));
  write("fill-of", known ? `of ${sizeText(most)}${most ? ` · ${countText(Math.floor((100 * size) / most))} %` : ""}` : "");
  write("fill-rate", fillText(state, full, known && rate.bytes > 0 ? (most - size) / rate.bytes : null));
}

function fillText(state, full, seconds) {
  if (state === "FROZEN") return "sealed";
  if (full) return "large enough to freeze";
  return seconds === null ? "" : `full in ${durationText(Math.ceil(seconds))} at this rate`;
}

function showCards({ n_itm: count, buff_size: size, channels, time, queue, queue_size: places, free, size: volume, batch, archived }, rate) {
  const mine = channels.filter((each) => !each.batch || each.batch === batch);
  const seconds = mine.reduce((sum, each) => sum + each.seconds, 0);
  const newest = Math.max(...channels.map(({ stop }) => stop));
  figure("n-segments", [countText(count)], `${plural(archived, "batch").replace(/batchs$/, "batches")} archived`);
  figure("n-seconds", split(durationText(seconds)), `in ${plural(channels.length, "channel")}`);
  const lag = gpsOfUnix(time) - newest;
  figure("lag", channels.length ? split(durationText(Math.max(0, Math.round(lag)))) : ["—"], channels.length ? `newest sample at GPS ${gpsText(newest)}` : "no strain yet");
  byId("lag").classList.toggle("attention", channels.length > 0 && lag > LATE_SECONDS && rate.segments > 0);
  const [speed, unit] = sizeParts(rate.bytes);
  figure("rate", [speed, `${unit}/s`], `${rate.segments < 10 ? rate.segments.toFixed(1) : countText(Math.round(rate.segments))} segments/s over a minute`);
  figure("queue", [countText(queue)], `of ${plural(places, "place")}`);
  figure("free", sizeParts(free), `of ${sizeText(volume)}`);
  byId("free").classList.toggle("attention", free < NEARLY_FULL * volume);
  void size;
}

/** Split a duration into its number and the rest, which is set smaller. */
const split = (text) => [text.slice(0, text.indexOf(" ")), text.slice(text.indexOf(" ") + 1)];

function figure(id, [number, unit = ""], hint) {
  const target = byId(id);
  const text = unit ? `${number} ${unit}` : number;
  if (target.textContent !== text) target.replaceChildren(number, ...(unit ? [" ", element("small", {}, unit)] : []));
  write(`${id}-hint`, hint);
}

function showChannels({ channels, time }) {
  show("channels-region", channels.length > 0);
  const sorted = [...channels].sort((a, b) => (a.channel ?? "no channel").localeCompare(b.channel ?? "no channel"));
  const rows = sorted.map((each, place) => row([
    channelCell(each.channel, place),
    { text: countText(each.segments), numeric: true },
    { text: sizeText(each.bytes), numeric: true },
    { text: durationText(each.seconds), numeric: true },
    { text: gpsText(each.start), numeric: true },
    { text: gpsText(each.stop), numeric: true },
    utcOfGps(each.stop),
    { text: durationText(Math.max(0, Math.round(gpsOfUnix(time) - each.stop))), numeric: true },
  ]));
  byId("channels").tBodies[0].replaceChildren(...rows);
}

function channelCell(channel, place) {
  const swatch = element("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.backgroundColor = channelColour(place);
  return element("span", {}, swatch, channel ?? element("em", {}, "no channel"));
}

function showNotices(overview) {
  const { next, claim, last_error: error, quarantined, ready, free, size, time } = overview;
  const told = [];
  if (ready === false) told.push(["bad", "Not ready", "The buffer cannot store segments now; its log says why."]);
  if (error) told.push(["bad", `Last error, ${durationText(Math.max(0, Math.floor(time - error.at)))} ago`, `${error.code}: ${error.detail}`]);
  if (size && free < NEARLY_FULL * size) told.push(["warn", "Nearly full", `${sizeText(free)} are free on the volume.`]);
  if (quarantined) told.push(["warn", "Quarantine", `${plural(quarantined, "file")} could not be trusted and ${quarantined === 1 ? "is" : "are"} set aside.`]);
  if (next) told.push(["calm", "Next batch", `${plural(next.n_itm, "segment")}, ${sizeText(next.buff_size)} have come since the freeze; they take its place when it is archived.`]);
  if (claim) told.push(["calm", "Claimed", `${claim.worker} works on the batch, until ${utcText(claim.expires)} UTC at least.`]);
  const wanted = JSON.stringify(told);
  const target = byId("notices");
  if (target.dataset.told === wanted) return;
  target.dataset.told = wanted;
  target.replaceChildren(...told.map(([kind, title, text]) => element("p", { class: `notice ${kind}` }, element("strong", {}, title), " ", text)));
}
