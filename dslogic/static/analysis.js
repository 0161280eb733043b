// What the worker makes of a run of strain: spectrum, whitened strain and Q-scan of a window in it. Arrays in, arrays out.

import { powerOfTwo } from "./fft.js";
import { Q, highestFrequency, qTransform } from "./qtransform.js";
import { filtered, spectralDensity, whiteningFilter } from "./whitening.js";

const PERIODOGRAM_SECONDS = 4;
const FEWEST_PERIODOGRAM_SAMPLES = 16;
const LONGEST_FILTER_SECONDS = 2;
/** Strain that a Q-scan is normalised with, and at least so much beyond each end of the window, where it is stored. */
const SCAN_SECONDS = 8;
const PADDING_SECONDS = 1;
const LOWEST_HZ = 10;
const HIGHEST_HZ = 1000;
/** At least so many columns for the window, at most twice as many. */
const COLUMNS = 512;
const MOST_COLUMNS = 2 ** 15;
const SMALLEST = 2.2250738585072014e-308;

/**
 * Analyse the samples [from, to) of a run of strain; the rest of the run is what it is whitened with.
 *
 * Returns {density, whitened, scan}: the power spectral density in 1/Hz at k · rate / (2 · (length - 1)); {strain, start}:
 * whitened strain, of which `start` is the first sample's place in the run; {frequencies, energy, start, step}: the Q-scan,
 * with the time of the first column, and between two, in samples of the run. The scan is null if the strain is too short
 * for it. Throws an Error that says why if the strain cannot be whitened.
 */
export function analyse(strain, rate, from, to) {
  const length = 2 * Math.round(Math.min(PERIODOGRAM_SECONDS * rate, strain.length / 4) / 2);
  if (length < FEWEST_PERIODOGRAM_SAMPLES) {
    throw new Error(`Not whitened: ${strain.length} samples without a gap, at least ${4 * FEWEST_PERIODOGRAM_SAMPLES} are needed.`);
  }
  if (strain.every((sample) => sample === strain[0])) throw new Error(`Not whitened: every sample is ${strain[0]}.`);
  const fmax = Math.min(HIGHEST_HZ, highestFrequency(rate));
  const highpass = Math.min(LOWEST_HZ, fmax / 8);
  const density = spectralDensity(strain, rate, length, highpass);
  if (density.subarray(1).some((value) => !(value >= SMALLEST))) throw new Error("Not whitened: the strain has no noise at some frequencies.");
  const whitened = whiten(strain, rate, from, to, density, highpass);
  return { density, whitened: cut(whitened, from, to), scan: scan(whitened, rate, from, to, highpass, fmax) };
}

/** Whiten a window and what a Q-scan needs around it. Half of the filter is lost at each end of the run. */
function whiten(strain, rate, from, to, density, highpass) {
  const beside = Math.min(from, strain.length - to);
  // At the end of a run the filter is short, so that it takes no more than an eighth of the window.
  const half = Math.max(1, Math.floor(Math.min((LONGEST_FILTER_SECONDS * rate) / 2, (density.length - 1) / 2, Math.max(beside, (to - from) / 8))));
  const around = Math.round(Math.max(PADDING_SECONDS * rate, (SCAN_SECONDS * rate - (to - from)) / 2));
  const start = Math.max(0, from - around - half);
  const stop = Math.min(strain.length, to + around + half);
  return { strain: filtered(strain.subarray(start, stop), whiteningFilter(density, rate, half, highpass)), start: start + half };
}

function cut({ strain, start }, from, to) {
  const first = Math.max(from, start);
  return { strain: strain.slice(first - start, Math.max(first, to) - start), start: first };
}

function scan({ strain, start }, rate, from, to, lowest, fmax) {
  const fmin = Math.max(lowest, (Q * rate) / strain.length);
  if (fmin > fmax / 2 || start >= to) return null;
  const columns = Math.min(MOST_COLUMNS, powerOfTwo((COLUMNS * strain.length) / (to - from)));
  const step = strain.length / columns;
  const first = Math.max(0, Math.ceil((from - start) / step));
  const last = Math.min(columns, Math.ceil((to - start) / step));
  const { frequencies, energy } = qTransform(strain, rate, { fmin, fmax, columns });
  return { frequencies, energy: energy.map((row) => Float32Array.from(row.subarray(first, last))), start: start + first * step, step };
}
