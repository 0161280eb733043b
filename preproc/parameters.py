"""The parameters of a run; the defaults are those of the training code, if it has them."""

import math
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, get_args

from preproc.errors import BadParameter
from preproc.selection import Selection

#: Upper limit of every parameter, in its unit.
_LARGEST = 1e9
#: Lower limit of the mismatch: the number of tiles grows without limit as it approaches zero.
_LEAST_MISMATCH = 1e-6
#: Samples of the shortest whitening filter, and of the shortest periodogram that it is designed from.
_LEAST_TAPS = 6
#: Upper limit of the numbers that are computed for a window of a channel, for the sake of memory and time.
_MOST_VALUES = 2**23
_MAY_BE_ZERO = {"padding", "guard", "validation_proportion", "rnd_seed"}


@dataclass(frozen=True)
class Parameters:
    """Everything that determines the result, with descriptions; raise BadParameter if a value is out of range."""

    window: Annotated[float, "length of a spectrogram in s"] = 6.0
    stride: Annotated[float, "time between the starts of two windows in s (default: the window's length)"] = 6.0
    padding: Annotated[float, "strain in s before and after a window that the transform includes"] = 1.0
    q: Annotated[float, "quality factor of the transform"] = 12.0
    fmin: Annotated[float, "lowest frequency in Hz"] = 8.0
    fmax: Annotated[float, "highest frequency in Hz"] = 500.0
    rows: Annotated[int, "number of frequencies, spaced logarithmically"] = 64
    columns: Annotated[int, "number of times in a window"] = 256
    mismatch: Annotated[float, "largest fractional energy loss between neighbouring tiles, at least 1e-6"] = 0.2
    highpass: Annotated[float, "corner of the highpass in Hz"] = 10.0
    # Half of the filter is lost at each end of a run.
    fduration: Annotated[float, "length of the whitening filter in s"] = 2.0
    psd_fftlength: Annotated[float, "length of a periodogram for the power spectrum in s"] = 4.0
    psd_nfft: Annotated[int | None, "length of a periodogram in samples; overrides psd_fftlength"] = None
    psd_hop_length: Annotated[int | None, "samples between two periodograms (default: half a periodogram)"] = None
    train_proportion: Annotated[float, "share of the windows for training"] = 0.8
    validation_proportion: Annotated[float, "share of the windows for validation; the rest is for testing"] = 0.1
    split_block: Annotated[float, "length in s of the blocks of windows; the parts consist of whole blocks"] = 60.0
    # Twice the padding plus the filter's length: no part contains strain of another.
    guard: Annotated[float, "minimum distance in s between windows of different parts"] = 4.0
    rnd_seed: Annotated[int, "seed of the random order of the blocks"] = 42
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        for name, value in self._numbers().items():
            zero = name in _MAY_BE_ZERO
            if not (0 < value <= _LARGEST or (zero and value == 0)):
                what = "zero or a positive number" if zero else "a positive number"
                most = f" up to {_LARGEST:g}" if value > _LARGEST else ""
                raise BadParameter(f"{name} must be {what}{most}, got {value}")
        self._require(self.stride <= self.window, f"stride {self.stride:g} s is longer than window {self.window:g} s")
        half = f"half a window of {self.window:g} s"
        self._require(self.padding <= self.window / 2, f"padding {self.padding:g} s is longer than {half}")
        self._require(self.fmin < self.fmax, f"fmin {self.fmin:g} Hz is not below fmax {self.fmax:g} Hz")
        # Below sqrt(11) a tile's frequency window would reach below 0 Hz.
        self._require(self.q > math.sqrt(11), f"q must be above sqrt(11) = 3.32, got {self.q:g}")
        cycles = f"q = {self.q:g} cycles of fmin {self.fmin:g} Hz"
        self._require(self.fmin * self.window >= self.q, f"window {self.window:g} s does not hold {cycles}")
        allowed = f"at least {_LEAST_MISMATCH:g} and below 1"
        self._require(_LEAST_MISMATCH <= self.mismatch < 1, f"mismatch must be {allowed}, got {self.mismatch:g}")
        for name in ("rows", "columns"):
            self._require(getattr(self, name) > 1, f"{name} must be at least 2")
        self._require_size()
        if self.psd_nfft is None:
            self._require_spectrum(self.psd_fftlength, f"psd_fftlength {self.psd_fftlength:g} s")
        total = self.train_proportion + self.validation_proportion
        self._require(total <= 1, f"train_proportion and validation_proportion are {total:g} together, more than 1")

    def given(self) -> dict[str, Any]:
        """Return every parameter that has a value, by its name: numbers, and a tuple of channels."""
        return self._numbers() | self.selection.given()

    def _numbers(self) -> dict[str, float]:
        return {name: value for name in DESCRIBED if (value := getattr(self, name)) is not None}

    @property
    def tile_mismatch(self) -> float:
        """Return the largest distance between neighbouring tiles, in the metric of the mismatch."""
        return 2 * math.sqrt(self.mismatch / 3)

    @property
    def tile_rows(self) -> int:
        """Return the number of rows of tiles; those on the same bin of the spectrum are one."""
        return max(1, math.ceil(self.mismatch_of_range / self.tile_mismatch))

    @property
    def mismatch_of_range(self) -> float:
        """Return the distance between tiles at `fmin` and at `fmax`, in the metric of the mismatch."""
        return math.log(self.fmax / self.fmin) * math.sqrt(2 + self.q**2) / 2

    def spectrum_samples(self, sample_rate: float) -> int:
        """Return the length of a periodogram in samples, which is even, at a sample rate in Hz."""
        return 2 * (round(self.psd_fftlength * sample_rate / 2) if self.psd_nfft is None else self.psd_nfft // 2)

    def check_rate(self, sample_rate: float) -> None:
        """Raise BadParameter if a sample rate in Hz cannot carry `fmax` or `highpass`."""
        # The highest tile's window must not reach beyond the Nyquist frequency.
        highest, data = sample_rate / 2 / (1 + math.sqrt(11) / self.q), f"data at {sample_rate:g} Hz"
        self._require(self.fmax <= highest, f"fmax {self.fmax:g} Hz is too high for {data}: at most {highest:.4g} Hz")
        self._require(self.highpass < sample_rate / 2, f"highpass {self.highpass:g} Hz is too high for {data}")
        for name, least, words in (("stride", 1, "a sample"), ("fduration", _LEAST_TAPS, f"{_LEAST_TAPS} samples")):
            seconds = getattr(self, name)
            shorter = f"{name} {seconds:g} s is shorter than {words} of {data}"
            self._require(round(seconds * sample_rate) >= least, shorter)
        if self.psd_nfft is not None:
            self._require_spectrum(self.psd_nfft / sample_rate, f"psd_nfft {self.psd_nfft} at {sample_rate:g} Hz")

    def _require_size(self) -> None:
        values = self.rows * self.columns + self.tile_rows * (self.rows + self.columns)
        tiles = f"{self.tile_rows} rows of tiles (q {self.q:g}, mismatch {self.mismatch:g})"
        made = f"rows {self.rows}, columns {self.columns} and {tiles} make {values} numbers for a window"
        self._require(values <= _MOST_VALUES, f"{made}; the limit is {_MOST_VALUES}")

    def _require_spectrum(self, seconds: float, name: str) -> None:
        longer = f"fduration {self.fduration:g} s is longer than {name}, which the filter is designed from"
        self._require(self.fduration <= seconds, longer)

    def _require(self, condition: bool, message: str) -> None:  # noqa: FBT001 (the call reads like an assertion)
        if not condition:
            raise BadParameter(message)


#: The type of each parameter, and its description.
DESCRIBED: dict[str, tuple[type[float], str]] = {
    one.name: (float if kind is float else int, text)
    for one in fields(Parameters)
    if one.name != "selection"
    for kind, text in [get_args(one.type)]
}
