// Off the page's thread: fetches segments, once each, and computes what the page draws, once for each window.

import { analyse } from "./analysis.js";
import { sampling } from "./format.js";

const SEGMENTS_KEPT = 64;
const WINDOWS_KEPT = 8;
/** A line of more points than this is drawn by the least and the greatest sample of each stretch. */
const POINTS = 3000;
/** A spectrum is drawn by so many mean densities, evenly on a logarithmic axis. */
const SPECTRUM_POINTS = 1200;
/** Of a longer segment the first part is shown. */
const MOST_SECONDS = 64;
/** Strain before and after the window that it is whitened with, if it is among the segments. */
const AROUND_SECONDS = 8;
const MOST_SAMPLES = 2 ** 20;

/** Cache the results used last; failed ones are not cached. */
function caching(most, make) {
  const kept = new Map();
  return (key, ...rest) => {
    const made = kept.get(key) ?? make(key, ...rest);
    kept.delete(key);
    kept.set(key, made);
    if (kept.size > most) kept.delete(kept.keys().next().value);
    made.catch(() => kept.delete(key));
    return made;
  };
}

const segmentAt = caching(SEGMENTS_KEPT, async (url) => {
  const answer = await fetch(url, { credentials: "same-origin" }).catch(() => null);
  if (!answer) throw new Error("The datastore cannot be reached.");
  if (!answer.ok) throw new Error(await refusalText(answer));
  const { h, t: [t0, dt], meta } = await answer.json();
  return { strain: Float64Array.from(h), t0, dt: sampling(dt), meta: meta ?? null };
});

/** Say why a segment is not returned; what is on tape can be opened again when its recall, which has begun, is done. */
async function refusalText(answer) {
  const problem = await answer.json().catch(() => null);
  if (problem?.code !== "on-tape") return `The segment cannot be read (status ${answer.status}).`;
  return `${problem.detail[0].toUpperCase()}${problem.detail.slice(1)}. Open the segment again in about ${answer.headers.get("Retry-After") ?? 60} s.`;
}

/** Compute the window that the segments from `first` on make, `count` of them; all segments follow each other. */
const windowAt = caching(WINDOWS_KEPT, async (_key, urls, first, count) => {
  const segments = await Promise.all(urls.map((url) => segmentAt(url)));
  const began = performance.now();
  const { t0, dt, meta } = segments[first];
  const lengths = segments.map(({ strain }) => strain.length);
  const sum = (some) => some.reduce((total, length) => total + length, 0);
  const from = sum(lengths.slice(0, first));
  const samples = sum(lengths.slice(first, first + count));
  const shown = Math.min(samples, MOST_SAMPLES, Math.max(1, Math.round(MOST_SECONDS / dt)));
  const before = Math.min(from, Math.ceil(AROUND_SECONDS / dt));
  const strain = joined(segments).subarray(from - before, from + shown + Math.ceil(AROUND_SECONDS / dt));
  return {
    t0, dt, samples, meta, shown,
    around: strain.length * dt,
    raw: lineOf(strain.subarray(before, before + shown), dt, 0),
    ...analysed(strain, dt, before, before + shown),
    milliseconds: performance.now() - began,
  };
});

function joined(segments) {
  const strain = new Float64Array(segments.reduce((total, segment) => total + segment.strain.length, 0));
  let place = 0;
  for (const segment of segments) {
    strain.set(segment.strain, place);
    place += segment.strain.length;
  }
  return strain;
}

/** Return {asd, whitened, scan} with times in s from the window's first sample, or null for each that there is not and {why}. */
function analysed(strain, dt, from, to) {
  try {
    const { density, whitened, scan, why } = analyse(strain, 1 / dt, from, to);
    return {
      asd: spectrumOf(density, dt),
      whitened: whitened && lineOf(whitened.strain, dt, (whitened.start - from) * dt),
      scan: scan && { ...scan, start: (scan.start - from) * dt, step: scan.step * dt },
      why,
    };
  } catch (error) {
    return { asd: null, whitened: null, scan: null, why: error.message };
  }
}

/** Return the line {x: s, y: strain}: each point is a sample, the extremes are among them. */
function lineOf(strain, dt, start) {
  const stretch = Math.max(1, Math.ceil((2 * strain.length) / POINTS));
  const places = [];
  for (let first = 0; first < strain.length; first += stretch) {
    const end = Math.min(first + stretch, strain.length);
    let [least, greatest] = [first, first];
    for (let place = first; place < end; place += 1) {
      if (strain[place] < strain[least]) least = place;
      if (strain[place] > strain[greatest]) greatest = place;
    }
    places.push(...new Set([Math.min(least, greatest), Math.max(least, greatest)]));
  }
  return { x: places.map((place) => start + place * dt), y: places.map((place) => strain[place]) };
}

/** Return the amplitude spectral density {x: Hz, y: 1/√Hz}. */
function spectrumOf(density, dt) {
  const spacing = 1 / (2 * (density.length - 1) * dt);
  const ratio = density.length ** (1 / SPECTRUM_POINTS);
  const [x, y] = [[], []];
  for (let first = 1; first < density.length; ) {
    const last = Math.max(first + 1, Math.min(density.length, Math.ceil(first * ratio)));
    x.push(((first + last - 1) / 2) * spacing);
    y.push(Math.sqrt(density.subarray(first, last).reduce((sum, value) => sum + value, 0) / (last - first)));
    first = last;
  }
  return { x, y };
}

self.addEventListener("message", async ({ data: { id, urls, first, count } }) => {
  try {
    self.postMessage({ id, drawn: await windowAt([first, count, ...urls].join(" "), urls, first, count) });
  } catch (error) {
    self.postMessage({ id, failure: error.message });
  }
});
