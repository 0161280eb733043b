// The view of one segment: its strain, its neighbours in time, and what is known about it.

import { address, read } from "./api.js";
import { byId, closable, copyButton, element, show, write } from "./dom.js";
import { channelText, countText, durationText, gpsText, sampling, secondsOf, sizeText, stampText, utcOfGps } from "./format.js";
import { AROUND_SECONDS, StrainView, endOf, runAround } from "./strain.js";

const NEIGHBOURS = 200;
/** Names of the metadata that gwclient writes. */
const LABELS = { detector: "Detector", source: "Source", source_sha256: "Source SHA-256", quality: "Data quality", event: "Event", glitches: "Simulated glitches", seed: "Simulation seed" };

const dialog = closable(byId("segment"));
let view;
let opened = null;
const beside = { previous: null, next: null };

for (const side of Object.keys(beside)) byId(`segment-${side}`).addEventListener("click", () => openSegment(beside[side]));

/** Show a segment: its strain, with its neighbours' as context, and its metadata; offer it for download. */
export async function openSegment(each) {
  opened = each.name;
  write("segment-title", `${channelText(each.channel)} · ${gpsText(each.t0)} – ${gpsText(endOf(each))}`);
  const download = byId("segment-download");
  download.href = address("segments", `/${encodeURIComponent(each.name)}`);
  download.download = each.name;
  showFacts(each, null);
  showBeside(each, []);
  show("segment-failure", false);
  show("segment-view");
  if (!dialog.open) dialog.showModal();
  view ??= new StrainView(byId("segment-view"), "the segment");
  view.wait(each.channel);
  try {
    const rows = await neighbours(each);
    if (opened !== each.name) return; // another one was opened meanwhile
    showBeside(each, rows);
    const { meta } = await view.show([each], runAround([each], rows));
    if (opened === each.name) showFacts(each, meta);
  } catch (error) {
    show("segment-view", false);
    show("segment-failure");
    write("segment-failure", error.message);
  }
}

/** Read the segments of the same channel around a segment. */
async function neighbours({ channel, t0, n, dt }) {
  const stop = t0 + secondsOf({ n, dt });
  const { segments } = await read("segments", { channel, start: t0 - AROUND_SECONDS, stop: stop + AROUND_SECONDS, limit: NEIGHBOURS });
  return segments.filter((row) => row.channel === channel).sort((a, b) => a.t0 - b.t0);
}

function showBeside(each, rows) {
  const middle = (row) => (row.t0 + endOf(row)) / 2;
  beside.previous = rows.findLast((row) => middle(row) < each.t0) ?? null;
  beside.next = rows.find((row) => middle(row) > endOf(each)) ?? null;
  for (const side of Object.keys(beside)) {
    const button = byId(`segment-${side}`);
    button.disabled = !beside[side];
    button.title = beside[side] ? `GPS ${gpsText(beside[side].t0)}` : `none of this channel within ${AROUND_SECONDS} s`;
  }
}

function showFacts(each, meta) {
  const gps = `${gpsText(each.t0)} – ${gpsText(endOf(each))}`;
  const facts = [
    ["Channel", channelText(each.channel)],
    ["GPS", gps, gpsText(each.t0)],
    ["UTC", utcOfGps(each.t0, 3)],
    ["Samples", `${countText(each.n)} at ${Number((1 / sampling(each.dt)).toPrecision(6))} Hz, ${durationText(secondsOf(each))}`],
    ...Object.entries(meta ?? {}).filter(([key]) => key !== "channel").map(([key, value]) => [labelOf(key, value), valueText(value)]),
    ["Stored", `${stampText(each.stored)} UTC, no. ${countText(each.seq)}`],
    ["Size", `${sizeText(each.bytes)} (${countText(each.bytes)} bytes)`],
    ["Batch", each.batch],
    ["File", each.name],
    ["SHA-256", each.sha256, each.sha256],
  ];
  byId("segment-facts").replaceChildren(...facts.flatMap(([term, text, copied]) => [
    element("dt", {}, term),
    element("dd", {}, text, copied && copyButton(term === "GPS" ? "the GPS start" : "the digest", () => copied)),
  ]));
}

function labelOf(key, value) {
  if (key === "source" && /\.\w+$/.test(value)) return "Source file";
  return LABELS[key] ?? `${key.slice(0, 1).toUpperCase()}${key.slice(1).replaceAll("_", " ")}`;
}

function valueText(value) {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return JSON.stringify(value);
  return value.map((each) => (each?.kind && each.gps ? glitchText(each) : valueText(each))).join(", ");
}

const glitchText = ({ kind, gps, frequency, snr }) => `${kind} at GPS ${gpsText(gps)}, ${Math.round(frequency)} Hz, SNR ${Number(snr.toPrecision(3))}`;
