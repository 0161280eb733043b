"""The parameters of one preprocessing run; the defaults are those of the training code, if it has them."""

import math
from dataclasses import asdict, dataclass

from preproc.errors import BadParameter

_MAY_BE_ZERO = {"padding", "guard", "validation_proportion", "rnd_seed"}


@dataclass(frozen=True)
class Parameters:
    """Everything that decides what a batch becomes.

    Attributes:
        window: length of a spectrogram in s.
        stride: distance between the starts of two windows of a run in s, at most `window`.
        padding: strain in s that the transform sees at each end of a window, beyond it.
        q: quality factor of the transform.
        fmin: lowest frequency in Hz, the first row.
        fmax: highest frequency in Hz, the last row.
        rows: number of frequencies, spaced logarithmically.
        columns: number of times in a window.
        mismatch: largest fractional loss of energy between neighbouring tiles.
        highpass: corner of the highpass in Hz.
        fduration: length of the whitening filter in s; half of it is lost at each end of a run.
        psd_fftlength: length of one periodogram of the power spectral density in s.
        psd_nfft: the same in samples, as in the training code; replaces `psd_fftlength`.
        psd_hop_length: samples between two periodograms; half of one by default.
        train_proportion: share of the windows to train with.
        validation_proportion: share of the windows to validate with; the rest is to test with.
        split_block: s of windows that stay together when they are split.
        guard: s that windows of different parts of the split are apart, at least; with twice the padding and the
            filter's length, no part has seen strain of another.
        rnd_seed: decides which blocks go where.

    Raises:
        BadParameter: a value is out of its range.

    """

    window: float = 6.0
    stride: float = 6.0
    padding: float = 1.0
    q: float = 12.0
    fmin: float = 8.0
    fmax: float = 500.0
    rows: int = 64
    columns: int = 256
    mismatch: float = 0.2
    highpass: float = 10.0
    fduration: float = 2.0
    psd_fftlength: float = 4.0
    psd_nfft: int | None = None
    psd_hop_length: int | None = None
    train_proportion: float = 0.8
    validation_proportion: float = 0.1
    split_block: float = 60.0
    guard: float = 4.0
    rnd_seed: int = 42

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            zero = name in _MAY_BE_ZERO
            if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
                what = "a number not below zero" if zero else "a positive number"
                raise BadParameter(f"{name} must be {what}, got {value:g}")
        self._require(self.stride <= self.window, f"stride {self.stride:g} s is longer than window {self.window:g} s")
        self._require(
            self.padding <= self.window / 2,
            f"padding {self.padding:g} s is longer than half a window of {self.window:g} s",
        )
        self._require(self.fmin < self.fmax, f"fmin {self.fmin:g} Hz is not below fmax {self.fmax:g} Hz")
        # Below sqrt(11) a tile's frequency window would reach below 0 Hz.
        self._require(self.q > math.sqrt(11), f"q must be above sqrt(11) = 3.32, got {self.q:g}")
        self._require(
            self.fmin * self.window >= self.q,
            f"window {self.window:g} s does not hold q = {self.q:g} cycles of fmin {self.fmin:g} Hz",
        )
        self._require(self.mismatch < 1, f"mismatch must be below 1, got {self.mismatch:g}")
        self._require(self.rows > 1, "rows must be at least 2")
        self._require(self.columns > 1, "columns must be at least 2")
        if self.psd_nfft is None:
            self._require_spectrum(self.psd_fftlength, f"psd_fftlength {self.psd_fftlength:g} s")
        total = self.train_proportion + self.validation_proportion
        self._require(total <= 1, f"train_proportion and validation_proportion are {total:g} together, more than 1")

    def given(self) -> dict[str, float]:
        """Return every parameter that has a value, by its name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def shortest_run(self) -> float:
        """Seconds without a gap that make one window: the window and both edges of the whitening filter."""
        return self.window + self.fduration

    def spectrum_samples(self, sample_rate: float) -> int:
        """Return the length of a periodogram in samples, which is even, at a sample rate in Hz."""
        return 2 * (round(self.psd_fftlength * sample_rate / 2) if self.psd_nfft is None else self.psd_nfft // 2)

    def check_rate(self, sample_rate: float) -> None:
        """Refuse a sample rate in Hz that cannot carry `fmax` or `highpass`.

        Raises:
            BadParameter: the highest tile's window would reach beyond the Nyquist frequency.

        """
        highest = sample_rate / 2 / (1 + math.sqrt(11) / self.q)
        if self.fmax > highest:
            raise BadParameter(
                f"fmax {self.fmax:g} Hz is too high for data at {sample_rate:g} Hz: at most {highest:.4g} Hz"
            )
        if self.highpass >= sample_rate / 2:
            raise BadParameter(f"highpass {self.highpass:g} Hz is too high for data at {sample_rate:g} Hz")
        if self.psd_nfft is not None:
            self._require_spectrum(self.psd_nfft / sample_rate, f"psd_nfft {self.psd_nfft} at {sample_rate:g} Hz")

    def _require_spectrum(self, seconds: float, name: str) -> None:
        self._require(
            self.fduration <= seconds,
            f"fduration {self.fduration:g} s is longer than {name}, which the filter is designed from",
        )

    def _require(self, condition: bool, message: str) -> None:  # noqa: FBT001 (the condition is what the call reads as)
        if not condition:
            raise BadParameter(message)
