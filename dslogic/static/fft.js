// The discrete Fourier transform: radix 2, decimation in time, in place (Cooley and Tukey, Math. Comp. 19 (1965) 297), and
// for other lengths as a convolution (Bluestein, IEEE Trans. Audio Electroacoust. 18 (1970) 451).

const transforms = new Map();

/** Return the smallest power of two that is at least `size`. */
export const powerOfTwo = (size) => 2 ** Math.ceil(Math.log2(Math.max(1, size)));

/** Return the transform of `size` samples, which changes the real and imaginary parts in place. */
function transformOf(size) {
  if (!transforms.has(size)) transforms.set(size, size === powerOfTwo(size) ? radix2(size) : bluestein(size));
  return transforms.get(size);
}

/** Transform back, in place, without the factor 1/size. */
export const invert = (real, imaginary) => transformOf(real.length)(imaginary, real);

/** Return the transform {real, imaginary} of real samples, of which zeros make `size`. */
export function spectrumOf(samples, size = samples.length) {
  const [real, imaginary] = [new Float64Array(size), new Float64Array(size)];
  real.set(samples);
  transformOf(size)(real, imaginary);
  return { real, imaginary };
}

function radix2(size) {
  const bits = Math.log2(size);
  const cosines = Float64Array.from({ length: size / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / size));
  const sines = Float64Array.from({ length: size / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / size));
  const reversed = new Uint32Array(size);
  for (let place = 1; place < size; place += 1) reversed[place] = (reversed[place >> 1] >> 1) | ((place & 1) << (bits - 1));
  return (real, imaginary) => {
    for (let place = 0; place < size; place += 1) {
      const other = reversed[place];
      if (other > place) {
        [real[place], real[other]] = [real[other], real[place]];
        [imaginary[place], imaginary[other]] = [imaginary[other], imaginary[place]];
      }
    }
    for (let half = 1; half < size; half *= 2) {
      const stride = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let k = 0; k < half; k += 1) {
          const even = start + k;
          const odd = even + half;
          const cosine = cosines[k * stride];
          const sine = sines[k * stride];
          const turnedReal = real[odd] * cosine - imaginary[odd] * sine;
          const turnedImaginary = real[odd] * sine + imaginary[odd] * cosine;
          real[odd] = real[even] - turnedReal;
          imaginary[odd] = imaginary[even] - turnedImaginary;
          real[even] += turnedReal;
          imaginary[even] += turnedImaginary;
        }
      }
    }
  };
}

function bluestein(size) {
  const length = powerOfTwo(2 * size - 1);
  const transform = transformOf(length);
  // k² modulo 2·size, because cosines of large angles are inexact.
  const angle = (k) => (Math.PI * ((k * k) % (2 * size))) / size;
  const cosines = Float64Array.from({ length: size }, (_, k) => Math.cos(angle(k)));
  const sines = Float64Array.from({ length: size }, (_, k) => Math.sin(angle(k)));
  const [chirpReal, chirpImaginary] = [new Float64Array(length), new Float64Array(length)];
  for (let k = 0; k < size; k += 1) {
    for (const place of [k, (length - k) % length]) [chirpReal[place], chirpImaginary[place]] = [cosines[k], sines[k]];
  }
  transform(chirpReal, chirpImaginary);
  return (real, imaginary) => {
    const [a, b] = [new Float64Array(length), new Float64Array(length)];
    for (let k = 0; k < size; k += 1) {
      a[k] = real[k] * cosines[k] + imaginary[k] * sines[k];
      b[k] = imaginary[k] * cosines[k] - real[k] * sines[k];
    }
    transform(a, b);
    multiply(a, b, chirpReal, chirpImaginary);
    transform(b, a); // back
    for (let k = 0; k < size; k += 1) {
      real[k] = (a[k] * cosines[k] + b[k] * sines[k]) / length;
      imaginary[k] = (b[k] * cosines[k] - a[k] * sines[k]) / length;
    }
  };
}

/** Multiply complex numbers by others, in place. */
export function multiply(real, imaginary, otherReal, otherImaginary) {
  for (let k = 0; k < real.length; k += 1) {
    const product = real[k] * otherReal[k] - imaginary[k] * otherImaginary[k];
    imaginary[k] = real[k] * otherImaginary[k] + imaginary[k] * otherReal[k];
    real[k] = product;
  }
}
