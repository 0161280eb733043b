// The discrete Fourier transform: radix 2, decimation in time, in place (Cooley and Tukey, Math. Comp. 19 (1965) 297).

/** Make a transform of `size` samples, a power of two; it changes the real and imaginary parts that it is given. */
export function transformOf(size) {
  const bits = Math.log2(size);
  const cosines = Float64Array.from({ length: size / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / size));
  const sines = Float64Array.from({ length: size / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / size));
  const reversed = Uint32Array.from({ length: size }, (_, place) => {
    let mirrored = 0;
    for (let bit = 0; bit < bits; bit += 1) mirrored |= ((place >> bit) & 1) << (bits - 1 - bit);
    return mirrored;
  });
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
          const [even, odd] = [start + k, start + k + half];
          const [cosine, sine] = [cosines[k * stride], sines[k * stride]];
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
