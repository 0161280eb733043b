// Whiten strain as preprocessing does it (preproc/whiten.py): one spectrum, one filter, arrays in, arrays out.

import { invert, multiply, powerOfTwo, spectrumOf } from "./fft.js";

/** A periodogram of so many times the median's power, averaged over frequency, contains a glitch and is left out. */
const LOUD = 3;
const ENOUGH_TO_COMPARE = 4;
/** Beyond so many of its bins the spectrum of a Hann window is below 1e-9 of its peak. */
const LOBES = 8;

const hann = (length, period) => Float64Array.from({ length }, (_, k) => 0.5 - 0.5 * Math.cos((2 * Math.PI * k) / period));

export function medianOf(values) {
  const sorted = Float64Array.from(values).sort();
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Return the one-sided power spectral density of strain in 1/Hz at the frequencies k · rate / length.
 *
 * The median of Hann-windowed periodograms of `length` samples that overlap by half, each without its linear trend; those
 * with a glitch, which are much louder than the others above `highpass` Hz, are left out.
 */
export function spectralDensity(strain, rate, length, highpass) {
  const periodograms = [];
  for (let start = 0; start + length <= strain.length; start += Math.floor(length / 2)) {
    periodograms.push(periodogram(strain.subarray(start, start + length), rate));
  }
  return medianDensity(quietOnes(periodograms, Math.ceil((highpass * length) / rate)));
}

function periodogram(samples, rate) {
  const { length } = samples;
  const window = hann(length, length);
  const middle = (length - 1) / 2;
  let [sum, moment] = [0, 0];
  for (let k = 0; k < length; k += 1) {
    sum += samples[k];
    moment += samples[k] * (k - middle);
  }
  const slope = (12 * moment) / (length * (length * length - 1));
  const { real, imaginary } = spectrumOf(samples.map((sample, k) => (sample - sum / length - slope * (k - middle)) * window[k]));
  const scale = rate * window.reduce((total, weight) => total + weight * weight, 0);
  return Float64Array.from({ length: Math.floor(length / 2) + 1 }, (_, k) => {
    const sides = k === 0 || 2 * k === length ? 1 : 2;
    return (sides * (real[k] ** 2 + imaginary[k] ** 2)) / scale;
  });
}

function quietOnes(periodograms, first) {
  if (periodograms.length < ENOUGH_TO_COMPARE) return periodograms;
  const bins = periodograms[0].length;
  const median = Float64Array.from({ length: bins }, (_, bin) => medianOf(periodograms.map((each) => each[bin])));
  if (median.subarray(first).some((density) => !(density > 0))) return periodograms;
  const loudness = periodograms.map((each) => {
    let total = 0;
    for (let bin = first; bin < bins; bin += 1) total += each[bin] / median[bin];
    return total;
  });
  const usual = medianOf(loudness);
  return periodograms.filter((_, place) => loudness[place] <= LOUD * usual);
}

/** The median of the periodograms of Gaussian noise is below its mean by this factor. */
function medianDensity(periodograms) {
  let bias = 1;
  for (let term = 2; term < periodograms.length; term += 2) bias += 1 / (term + 1) - 1 / term;
  return periodograms[0].map((_, bin) => medianOf(periodograms.map((each) => each[bin])) / bias);
}

/**
 * Return the zero-phase filter that whitens: 2 · half + 1 taps.
 *
 * Its response is one over the amplitude spectral density times that of a Butterworth highpass of order 4, made short by a
 * Hann window; noise of this density comes out with a variance of about 1.
 */
export function whiteningFilter(density, rate, half, highpass) {
  const length = 2 * (density.length - 1);
  const smooth = blurred(density, 4 * half);
  const [real, imaginary] = [new Float64Array(length), new Float64Array(length)];
  for (let bin = 1; bin < density.length; bin += 1) {
    const passed = 1 / Math.sqrt(1 + ((highpass * length) / (bin * rate)) ** 8);
    real[bin] = passed / Math.sqrt((smooth[bin] * rate) / 2);
    real[length - bin] = real[bin];
  }
  invert(real, imaginary);
  const window = hann(2 * half + 1, 2 * half);
  const taps = window.map((weight, tap) => (weight * real[(tap - half + length) % length]) / length);
  // With a sum of zero, symmetric taps remove every constant and every linear trend.
  const sum = taps.reduce((total, tap) => total + tap, 0) / window.reduce((total, weight) => total + weight, 0);
  return taps.map((tap, place) => tap - sum * window[place]);
}

/** Blur a density to what the power response of a filter of `support` / 4 samples on each side can resolve. */
function blurred(density, support) {
  const bins = density.length;
  const length = 2 * (bins - 1);
  const reach = Math.min(Math.ceil((LOBES * length) / Math.min(support, length)), bins - 1);
  const { real, imaginary } = spectrumOf(hann(Math.min(support, length), Math.min(support, length)), length);
  const lobe = Float64Array.from({ length: reach + 1 }, (_, k) => real[k] ** 2 + imaginary[k] ** 2);
  const total = 2 * lobe.reduce((sum, weight) => sum + weight, 0) - lobe[0];
  const mirrored = (bin) => (bin < 0 ? -bin : bin < bins ? bin : length - bin);
  return density.map((own, bin) => {
    let sum = own * lobe[0];
    for (let k = 1; k <= reach; k += 1) sum += (density[mirrored(bin - k)] + density[mirrored(bin + k)]) * lobe[k];
    return sum / total;
  });
}

/** Return filtered strain without what the filter's ends touch: half of the filter is lost at each end. */
export function filtered(strain, taps) {
  const size = powerOfTwo(strain.length);
  const { real, imaginary } = spectrumOf(strain, size);
  const response = spectrumOf(taps, size);
  multiply(real, imaginary, response.real, response.imaginary);
  invert(real, imaginary);
  return real.subarray(taps.length - 1, strain.length).map((sample) => sample / size);
}
