// Numbers as text, and GPS time.

/** Unix time of the GPS epoch, 1980-01-06T00:00:00Z. */
const GPS_EPOCH = 315_964_800;

/**
 * GPS seconds at which each leap second since the epoch had been counted, the first of 1981-07-01, the last of
 * 2017-01-01 (IERS Bulletin C 52). Bulletins to 72 announced no other.
 */
const LEAPS = [
  46_828_801, 78_364_802, 109_900_803, 173_059_204, 252_028_805, 315_187_206, 346_723_207, 393_984_008, 425_520_009,
  457_056_010, 504_489_611, 551_750_412, 599_184_013, 820_108_814, 914_803_215, 1_025_136_016, 1_119_744_017,
  1_167_264_018,
];

/** Return the Unix time of a GPS time, both in s. */
function unixOfGps(gps) {
  return gps + GPS_EPOCH - LEAPS.filter((leap) => gps >= leap).length;
}

/** Return the GPS time of a Unix time, both in s; within a leap second, which Unix time omits, the later one. */
export function gpsOfUnix(unix) {
  const seconds = unix - GPS_EPOCH;
  return seconds + LEAPS.filter((leap, before) => seconds + before + 1 >= leap).length;
}

/** Samples by which a time may differ from the sample grid (gwwire/spans.py). */
export const TOLERANCE = 0.01;

/** Return the sample spacing that `dt` means: 1/rate or whole seconds if it is one of them, rounded (gwwire/spans.py). */
export function sampling(dt) {
  const whole = (value) => Math.round(value) > 0 && Math.abs(value - Math.round(value)) <= Math.min(1e-5 * Math.round(value), 0.2);
  if (whole(1 / dt)) return 1 / Math.round(1 / dt);
  return whole(dt) ? Math.round(dt) : dt;
}

/** Return the length of a segment in s, with the sample spacing that its `dt` means. */
export const secondsOf = ({ n, dt }) => n * sampling(dt);

/** Return a Unix time as UTC: `2026-11-21 07:36:59`, with `decimals` of the second. */
export function utcText(unix, decimals = 0) {
  const scale = 10 ** decimals;
  const date = new Date(Math.floor(unix * scale + 1e-6) / scale * 1000);
  if (Number.isNaN(date.getTime())) return "beyond the calendar";
  return date.toISOString().replace("T", " ").slice(0, decimals ? 20 + decimals : 19);
}

export const utcOfGps = (gps, decimals = 0) => utcText(unixOfGps(gps), decimals);

/** Return a GPS time in s to the millisecond, without trailing zeros. */
export const gpsText = (gps) => String(Number(gps.toFixed(3)));

/** Return an RFC 3339 time as UTC. */
export const stampText = (stamp) => (stamp ? utcText(Date.parse(stamp) / 1000) : "—");

export const countText = (count) => count.toLocaleString("en");

/** Return the number, three digits, and its unit: ["7.13", "kB"]. */
export function sizeParts(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let size = bytes;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return [unit === 0 ? String(Math.round(size)) : size.toPrecision(3), units[unit]];
}

export const sizeText = (bytes) => sizeParts(bytes).join(" ");

/** Return a duration in its two largest units: [["3", "min"], ["20", "s"]]. */
export function durationParts(seconds) {
  if (seconds < 10) return [[String(Number(seconds.toFixed(seconds < 1 ? 3 : 1))), "s"]];
  const whole = Math.round(seconds);
  const parts = [
    [Math.floor(whole / 31_557_600), "y"],
    [Math.floor((whole % 31_557_600) / 86_400), "d"],
    [Math.floor((whole % 86_400) / 3600), "h"],
    [Math.floor((whole % 3600) / 60), "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  return parts.slice(first, first + 2).filter(([value]) => value > 0).map(([value, unit]) => [String(value), unit]);
}

/** Return a duration as text: `2 d 4 h`, `3 min 20 s`, `0.5 s`. */
export const durationText = (seconds) => durationParts(seconds).map((part) => part.join(" ")).join(" ");

/** Return a power of ten as text: `10⁻²¹`. */
export const powerText = (exponent) => `10${[...String(exponent)].map((digit) => (digit === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit])).join("")}`;

export const plural = (count, word) => `${countText(count)} ${word}${count === 1 ? "" : "s"}`;

/** Return a number of segments; if it was `cut`, only the newest were counted. */
export const segmentsText = (count, cut) => cut ? `more than ${countText(count)} segments` : plural(count, "segment");

/** Return the name of a channel, also of segments that name none. */
export const channelText = (channel) => channel ?? "no channel";
