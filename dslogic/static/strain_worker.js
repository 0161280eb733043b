// Off the page's thread: fetches segments, once each, and makes of a window of them what is drawn, once for each window.

import { sampling } from "./format.js";
import { overMedian, spectrogram, windowLength } from "./spectrogram.js";

const SEGMENTS_KEPT = 24;
const WINDOWS_KEPT = 12;
/** A line of more points than this is drawn by the least and the greatest sample of each stretch. */
const POINTS = 3000;

/** Keeps the results used last; what failed is not kept. */
function keeping(most, make) {
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

const segmentAt = keeping(SEGMENTS_KEPT, async (url) => {
  const answer = await fetch(url, { credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok) throw new Error(answer ? `The segment cannot be had (status ${answer.status}).` : "The datastore cannot be reached.");
  return answer.json();
});

const windowAt = keeping(WINDOWS_KEPT, async (_key, urls) => {
  const segments = await Promise.all(urls.map((url) => segmentAt(url)));
  const [t0, written] = segments[0].t;
  const dt = sampling(written);
  const strain = Float64Array.from(segments.flatMap(({ h }) => h));
  const length = windowLength(strain.length, dt);
  const spectrum = length ? spectrogram(strain, dt, length) : null;
  return {
    t0,
    dt,
    samples: strain.length,
    line: lineOf(strain, dt),
    spectrum: spectrum && { times: spectrum.times, frequencies: spectrum.frequencies, decibels: overMedian(spectrum.power), length },
    meta: segments.at(-1).meta ?? null,
  };
});

/** Give the line {x: s from the first sample, y: strain}: each point is a sample, the extremes are among them. */
function lineOf(strain, dt) {
  const stretch = Math.max(1, Math.ceil((2 * strain.length) / POINTS));
  const places = [];
  for (let start = 0; start < strain.length; start += stretch) {
    const end = Math.min(start + stretch, strain.length);
    let [least, greatest] = [start, start];
    for (let place = start; place < end; place += 1) {
      if (strain[place] < strain[least]) least = place;
      if (strain[place] > strain[greatest]) greatest = place;
    }
    places.push(...new Set([Math.min(least, greatest), Math.max(least, greatest)]));
  }
  return { x: places.map((place) => place * dt), y: places.map((place) => strain[place]) };
}

self.addEventListener("message", async ({ data: { id, urls } }) => {
  try {
    self.postMessage({ id, drawn: await windowAt(urls.join(" "), urls) });
  } catch (error) {
    self.postMessage({ id, failure: error.message });
  }
});
