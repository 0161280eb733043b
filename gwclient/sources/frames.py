"""Frames of the detectors (GWF, LIGO-T970130), read by gwframe, or by gwpy if it has a library for frames.

Neither comes with the `client` extra alone: `frames` has gwframe.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource, one_line
from gwclient.sources.recording import Recording
from gwclient.strain import Quality

#: Default channels: GWOSC's, and the calibrated strain of the detectors themselves.
_STRAIN = re.compile(r"[A-Z]\d:\S*(STRAIN|[Hh]oft)\S*")
#: The bits of a DQMASK channel, which frames do not name (https://gwosc.org/archive/dataset/O1).
_GWOSC_BITS = ("DATA", "CBC_CAT1", "CBC_CAT2", "CBC_CAT3", "BURST_CAT1", "BURST_CAT2", "BURST_CAT3")


def read_frames(path: Path, channels: Sequence[str] = ()) -> list[Recording]:
    """Return the recordings of channels in a frame file, by names or shell patterns; by default what is strain.

    Raises InvalidSource if it is no frame file, has none of the channels, or nothing here can read frames.
    """
    return _by_gwframe(path, channels) if find_spec("gwframe") else _by_gwpy(path, channels)


@dataclass(frozen=True)
class _Frames:
    path: Path
    start: float
    stop: float
    rates: dict[str, float]

    def recording(self, channel: str) -> Recording:
        dt = 1 / self.rates[channel]
        count = round((self.stop - self.start) / dt)

        def read(first: int, last: int) -> NDArray[np.floating[Any]]:
            series = self._read(channel)
            strain = np.array(series.array, dtype=np.float64)
            if len(strain) != count or series.start != self.start:
                raise InvalidSource(f"{self.path}: {channel} has {len(strain)} samples, not {count}")
            if series.mask is not None:
                strain[series.mask] = np.nan
            return strain[first:last]

        return Recording(self.path, channel[:2], channel, self.start, dt, count, self._quality(channel), read)

    def _quality(self, channel: str) -> Quality | None:
        name = channel.removesuffix("STRAIN") + "DQMASK"
        if name not in self.rates:
            return None
        series = self._read(name)
        return Quality(_GWOSC_BITS, np.asarray(series.array, dtype=np.uint32), series.start, series.dt)

    def _read(self, channel: str) -> Any:
        try:
            read = import_module("gwframe").read
            return read(self.path, channel, start=self.start, end=self.stop, allow_invalid=True)
        except Exception as error:
            raise InvalidSource(f"{self.path} cannot be read: {one_line(error)}") from error


def _by_gwframe(path: Path, channels: Sequence[str]) -> list[Recording]:
    inspect = import_module("gwframe").inspect
    try:
        frames = inspect.get_info(path).frames
        rates = {each.name: each.sample_rate for each in inspect.get_channel_details(path)}
    except Exception as error:
        raise InvalidSource(f"{path} is not a frame file: {one_line(error)}") from error
    file = _Frames(path, frames[0].start, frames[-1].start + frames[-1].duration, rates)
    return [file.recording(channel) for channel in _choose(path, list(rates), channels)]


def _by_gwpy(path: Path, channels: Sequence[str]) -> list[Recording]:
    try:
        from gwpy.io.gwf import get_channel_names  # noqa: PLC0415 (takes seconds, and is not always there)
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (the same)

        names = get_channel_names(str(path))
    except ImportError as error:
        missing = f"{path}: to read frames takes gwframe, which the extra glitchflow-datastore[frames] has"
        raise InvalidSource(missing) from error
    except Exception as error:
        raise InvalidSource(f"{path} is not a frame file: {one_line(error)}") from error
    return [_as_recording(path, TimeSeries.read(str(path), name)) for name in _choose(path, names, channels)]


def _as_recording(path: Path, series: Any) -> Recording:
    strain = np.asarray(series.value, dtype=np.float64)
    t0, dt = float(series.t0.value), float(series.dt.value)
    channel = str(series.name)
    return Recording(path, channel[:2], channel, t0, dt, len(strain), None, lambda first, last: strain[first:last])


def _choose(path: Path, there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    if wanted:
        chosen = [name for name in there if any(fnmatchcase(name, pattern) for pattern in wanted)]
    else:
        chosen = [name for name in there if _STRAIN.fullmatch(name)]
    if not chosen:
        some = ", ".join(sorted(there)[:5])
        raise InvalidSource(f"{path} has none of the channels wanted; it has {len(there)}, as {some}")
    return sorted(chosen)
