// The energy of strain over time and frequency: arrays in, arrays out.

import { transformOf } from "./fft.js";

const FEWEST_SAMPLES = 32;
const SHORTEST_WINDOW = 16;
const LONGEST_WINDOW_SECONDS = 1 / 8;
const MOST_COLUMNS = 800;

/**
 * Give the samples of a window for so many samples of strain, or 0 where they are too few.
 *
 * A power of two: a sixteenth of the strain, but no longer than a glitch (1/8 s), nor so short that there would be more
 * columns than a screen shows. Windows overlap by three quarters.
 */
export function windowLength(samples, dt) {
  if (samples < FEWEST_SAMPLES) return 0;
  const wanted = Math.min(samples / 16, LONGEST_WINDOW_SECONDS / dt);
  let length = Math.max(SHORTEST_WINDOW, 2 ** Math.floor(Math.log2(wanted)));
  while (samples / (length / 4) > MOST_COLUMNS) length *= 2;
  return length;
}

/**
 * Give the one-sided power spectral density in 1/Hz, as scipy.signal.spectrogram does: Hann windows, their mean taken out.
 *
 * Gives {frequencies, times, power}, `power[frequency][time]`; times are those of the windows' middles, from the first
 * sample on.
 */
export function spectrogram(strain, dt, length) {
  const hop = length / 4;
  const columns = Math.floor((strain.length - length) / hop) + 1;
  const bins = length / 2 + 1;
  const hann = Float64Array.from({ length }, (_, k) => 0.5 - 0.5 * Math.cos((2 * Math.PI * k) / length));
  const scale = dt / hann.reduce((sum, weight) => sum + weight * weight, 0);
  const transform = transformOf(length);
  const [real, imaginary] = [new Float64Array(length), new Float64Array(length)];
  const power = Array.from({ length: bins }, () => new Float64Array(columns));
  for (let column = 0; column < columns; column += 1) {
    const part = strain.subarray(column * hop, column * hop + length);
    const mean = part.reduce((sum, sample) => sum + sample, 0) / length;
    for (let k = 0; k < length; k += 1) real[k] = (part[k] - mean) * hann[k];
    imaginary.fill(0);
    transform(real, imaginary);
    for (let bin = 0; bin < bins; bin += 1) {
      const sides = bin === 0 || bin === bins - 1 ? 1 : 2;
      power[bin][column] = sides * scale * (real[bin] ** 2 + imaginary[bin] ** 2);
    }
  }
  return {
    frequencies: Array.from({ length: bins }, (_, bin) => bin / (length * dt)),
    times: Array.from({ length: columns }, (_, column) => (column * hop + length / 2) * dt),
    power,
  };
}

/** Give the energy in dB over the median of its frequency: what is always there is 0, a glitch stands out. */
export function overMedian(power) {
  return power.map((row) => {
    const median = medianOf(row);
    return Array.from(row, (energy) => (median > 0 && energy > 0 ? 10 * Math.log10(energy / median) : 0));
  });
}

function medianOf(values) {
  const sorted = Float64Array.from(values).sort();
  const middle = sorted.length / 2;
  return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}
