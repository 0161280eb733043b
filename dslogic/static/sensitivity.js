// The design sensitivities of the detectors: the fits of gwclient/noise.py, to which a test holds them.

function advancedLigo(frequency) {
  const x = frequency / 215;
  return Math.sqrt(1e-49 * (x ** -4.14 - 5 * x ** -2 + (111 * (1 - x ** 2 + x ** 4 / 2)) / (1 + x ** 2 / 2)));
}

function advancedVirgo(frequency) {
  const x = Math.log(frequency / 300);
  return 1.259e-24 * (
    0.07 * Math.exp(-0.142 - 1.437 * x + 0.407 * x ** 2)
    + 3.1 * Math.exp(-0.466 - 1.043 * x - 0.548 * x ** 2)
    + 0.4 * Math.exp(-0.304 + 2.896 * x - 0.293 * x ** 2)
    + 0.09 * Math.exp(1.466 + 3.722 * x - 0.984 * x ** 2));
}

function kagra(frequency) {
  const x = Math.log(frequency / 100);
  return 6.499e-25 * (
    9.72e-9 * Math.exp(-1.43 - 9.88 * x - 0.23 * x ** 2)
    + 1.17 * Math.exp(0.14 - 3.1 * x - 0.26 * x ** 2)
    + 1.7 * Math.exp(0.14 + 1.09 * x - 0.013 * x ** 2)
    + 1.25 * Math.exp(0.071 + 2.83 * x - 4.91 * x ** 2));
}

const LIGO = { name: "Advanced LIGO", lowest: 20, fit: advancedLigo };

/** Below `lowest` Hz a fit has no meaning. */
const SENSITIVITIES = {
  H1: LIGO,
  L1: LIGO,
  V1: { name: "Advanced Virgo", lowest: 10, fit: advancedVirgo },
  K1: { name: "KAGRA", lowest: 10, fit: kagra },
};

/**
 * Return the design sensitivity of a strain channel, or null if it is no channel of strain or its detector has none.
 *
 * `fit` returns the amplitude spectral density in 1/√Hz at a frequency of at least `lowest` Hz.
 */
export function sensitivityOf(channel) {
  const [, detector] = /^([A-Z]\d):.*STRAIN/i.exec(channel ?? "") ?? [];
  return SENSITIVITIES[detector?.toUpperCase()] ?? null;
}
