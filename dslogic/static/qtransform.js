// The single-Q transform of preprocessing (preproc/qtransform.py has the reasons and the literature).

import { invert, powerOfTwo, spectrumOf } from "./fft.js";
import { medianOf } from "./whitening.js";

export const Q = 12;
const MISMATCH = 0.2;
const TILE_MISMATCH = 2 * Math.sqrt(MISMATCH / 3);
const Q_PRIME = Q / Math.sqrt(11);

/** Return the highest frequency in Hz whose tile lies below the Nyquist frequency. */
export const highestFrequency = (rate) => rate / 2 / (1 + 1 / Q_PRIME);

/**
 * Return the energy of whitened strain at each frequency and time, as multiples of the median of its frequency.
 *
 * Returns {frequencies: Hz, energy: [frequency][time]}; there are `columns` times, a power of two, evenly over the strain
 * from its first sample on. The energy of a frequency without any signal is NaN.
 */
export function qTransform(strain, rate, { fmin, fmax, columns }) {
  const duration = strain.length / rate;
  const spectrum = spectrumOf(strain);
  const frequencies = tileFrequencies(duration, fmin, fmax);
  return { frequencies, energy: frequencies.map((frequency) => tiles(spectrum, frequency, duration, columns)) };
}

function tileFrequencies(duration, fmin, fmax) {
  const total = (Math.log(fmax / fmin) * Math.sqrt(2 + Q ** 2)) / 2;
  const count = Math.max(1, Math.ceil(total / TILE_MISMATCH));
  const exact = Array.from({ length: count }, (_, k) => fmin * Math.exp((2 / Math.sqrt(2 + Q ** 2)) * (k + 0.5) * (total / count)));
  return [...new Set(exact.map((frequency) => Math.floor(frequency / (1 / duration)) * (1 / duration)))];
}

function tiles(spectrum, frequency, duration, columns) {
  const half = Math.floor((frequency / Q_PRIME) * duration);
  const first = Math.round(1 - half + frequency * duration);
  const [real, imaginary] = [new Float64Array(2 * half + 1), new Float64Array(2 * half + 1)];
  for (let bin = 0; bin <= 2 * half; bin += 1) {
    const weight = (1 - ((((bin - half) / duration) * Q_PRIME) / frequency) ** 2) ** 2;
    real[bin] = spectrum.real[first + bin] * weight;
    imaginary[bin] = spectrum.imaginary[first + bin] * weight;
  }
  const count = powerOfTwo((duration * 2 * Math.PI * frequency) / Q / TILE_MISMATCH);
  const median = medianOf(energyAt(real, imaginary, count));
  return energyAt(real, imaginary, columns).map((energy) => (median > 0 ? energy / median : NaN));
}

/** Return the energy of a piece of a spectrum at `count` times; a piece with more bins than that is folded. */
function energyAt(real, imaginary, count) {
  const [a, b] = [new Float64Array(count), new Float64Array(count)];
  for (let bin = 0; bin < real.length; bin += 1) {
    a[bin % count] += real[bin];
    b[bin % count] += imaginary[bin];
  }
  invert(a, b);
  return a.map((part, k) => part ** 2 + b[k] ** 2);
}
