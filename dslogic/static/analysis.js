// The analysis of a run of strain: spectrum, whitened strain and Q-scan of a window in it. Arrays in, arrays out.

import { powerOfTwo } from "./fft.js";
import { plural } from "./format.js";
import { Q, highestFrequency, qTransform } from "./qtransform.js";
import { filtered, spectralDensity, whiteningFilter } from "./whitening.js";

const PERIODOGRAM_SECONDS = 4;
const FEWEST_PERIODOGRAM_SAMPLES = 16;
const LONGEST_FILTER_SECONDS = 2;
/** Samples on each side of the filter, as a part of the spectrum's bins: to smooth it for a shorter filter would take long. */
const SHORTEST_FILTER = 1 / 256;
const FEWEST_FILTER_SAMPLES = 2;
/** Strain that a Q-scan is normalised with, and at least so much beyond each end of the window, where it is stored. */
const SCAN_SECONDS = 8;
const PADDING_SECONDS = 1;
const LOWEST_HZ = 10;
const HIGHEST_HZ = 1000;
/** At least so many columns for the window, at most twice as many. */
const COLUMNS = 512;
const MOST_COLUMNS = 2 ** 15;
const SMALLEST = 2.2250738585072014e-308;
/** The power of sums of larger numbers is beyond the range of a number. */
const LARGEST = 1e120;

/**
 * Analyse the samples [from, to) of a run of strain; the rest of the run is what it is whitened with.
 *
 * Returns {density, whitened, scan, why}: the power spectral density in 1/Hz at k · rate / (2 · (length - 1)); {strain, start}:
 * whitened strain, of which `start` is the first sample's place in the run; {frequencies, energy, start, step}: the Q-scan,
 * with the time of the first column, and between two, in samples of the run. Instead of what the strain is too short for
 * there is null, and `why` says so. Throws an Error that says why if the strain has no spectrum or cannot be whitened.
 */
export function analyse(strain, rate, from, to) {
  if (PERIODOGRAM_SECONDS * rate < FEWEST_PERIODOGRAM_SAMPLES) {
    throw new Error(`Not whitened: sampled at ${Number(rate.toPrecision(6))} Hz, at least ${FEWEST_PERIODOGRAM_SAMPLES / PERIODOGRAM_SECONDS} Hz are needed.`);
  }
  if (strain.length < 4 * FEWEST_PERIODOGRAM_SAMPLES) {
    throw new Error(`Not whitened: ${strain.length} samples without a gap, at least ${4 * FEWEST_PERIODOGRAM_SAMPLES} are needed.`);
  }
  const length = 2 * Math.round(Math.min(PERIODOGRAM_SECONDS * rate, strain.length / 4) / 2);
  if (strain.every((sample) => sample === strain[0])) throw new Error(`Not whitened: every sample is ${strain[0]}.`);
  refuseTooLarge(strain, "strain");
  const fmax = Math.min(HIGHEST_HZ, highestFrequency(rate));
  const highpass = Math.min(LOWEST_HZ, fmax / 8);
  const density = spectralDensity(strain, rate, length, highpass);
  if (density.subarray(1).some((value) => !(value >= SMALLEST))) throw new Error("Not whitened: the strain has no noise at some frequencies.");
  const whitened = whiten(strain, rate, from, to, density, highpass);
  refuseTooLarge(whitened.strain, "whitened strain");
  const shown = cut(whitened, from, to);
  if (!shown.strain.length) return { density, whitened: null, scan: null, why: lostText(from, to, whitened.half) };
  const scanned = scan(whitened, rate, from, to, highpass, fmax);
  return { density, whitened: shown, scan: scanned, why: scanned ? "" : `No Q-scan: ${Number((strain.length / rate).toPrecision(3))} s of strain without a gap are too short.` };
}

function refuseTooLarge(samples, what) {
  const largest = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
  if (!(largest <= LARGEST)) throw new Error(`Not whitened: ${what} of ${largest.toPrecision(1)} is larger than ${LARGEST}.`);
}

/** Say why nothing of a window is left: it lies within half a filter of an end of the run. */
function lostText(from, to, half) {
  const [end, side] = from < half ? ["start", "before"] : ["end", "after"];
  return `Not whitened: ${plural(to - from, "sample")} at the ${end} of the strain; the filter needs ${half} ${side} each.`;
}

/** Whiten a window and what a Q-scan needs around it. Half of the filter is lost at each end of the run. */
function whiten(strain, rate, from, to, density, highpass) {
  const beside = Math.min(from, strain.length - to);
  // At the end of a run the filter is short, so that it takes no more than an eighth of the window.
  const shortest = Math.max(FEWEST_FILTER_SAMPLES, Math.ceil((density.length - 1) * SHORTEST_FILTER));
  const half = Math.max(shortest, Math.floor(Math.min((LONGEST_FILTER_SECONDS * rate) / 2, (density.length - 1) / 2, Math.max(beside, (to - from) / 8))));
  const around = Math.round(Math.max(PADDING_SECONDS * rate, (SCAN_SECONDS * rate - (to - from)) / 2));
  const start = Math.max(0, from - around - half);
  const stop = Math.min(strain.length, to + around + half);
  return { strain: filtered(strain.subarray(start, stop), whiteningFilter(density, rate, half, highpass)), start: start + half, half };
}

function cut({ strain, start }, from, to) {
  const first = Math.max(from, start);
  return { strain: strain.slice(first - start, Math.max(first, to) - start), start: first };
}

function scan({ strain, start }, rate, from, to, lowest, fmax) {
  const fmin = Math.max(lowest, (Q * rate) / strain.length);
  if (fmin > fmax / 2) return null;
  const columns = Math.min(MOST_COLUMNS, powerOfTwo((COLUMNS * strain.length) / (to - from)));
  const step = strain.length / columns;
  // At least one column, also of a window that is shorter than the time between two.
  const first = Math.min(columns - 1, Math.max(0, Math.ceil((from - start) / step)));
  const last = Math.max(first + 1, Math.min(columns, Math.ceil((to - start) / step)));
  const { frequencies, energy } = qTransform(strain, rate, { fmin, fmax, columns });
  return { frequencies, energy: energy.map((row) => Float32Array.from(row.subarray(first, last))), start: start + first * step, step };
}
