"""The reader of HDF5 strain files: GWOSC's layout, which `gwclient get` writes too, and gwpy's.

GWOSC's layout is described at https://gwosc.org/tutorials: `strain/Strain` with Xstart and Xspacing, `meta/Detector`,
and `quality/simple/DQmask` with the names of its bits beside it. gwpy's `TimeSeries.write(..., format="hdf5")` writes
datasets with the attributes x0 and dx (or xindex), channel, name and unit, as many in a file as it has series.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource
from gwclient.sources.recording import (
    CHANNEL,
    MOST_BITS,
    SUPPORTED,
    Recording,
    as_float64,
    check_grid,
    check_readable,
    choose,
    even_grid,
    name_channel,
    usable_quality,
)
from gwclient.sources.written import is_written
from gwclient.strain import Quality
from gwwire.spans import sampling

#: The errors of h5py for a file that is truncated or damaged.
_BROKEN = (OSError, KeyError, TypeError, AttributeError, ValueError, RuntimeError)
#: The unit of the axis of strain; it may be missing.
_SECONDS = frozenset({"s", "sec", "second", "seconds", ""})
_KILOHERTZ = 1024  # Hz, in GWOSC's channel names
_GWOSC, _GWPY = "strain/Strain", ({"x0", "dx"}, {"xindex"})
_CONVERT = (
    "gwpy writes a layout that can be read: "
    "TimeSeries(h, t0=GPS, dt=SECONDS, name='L1:NAME').write('new.h5', format='hdf5')"
)


def gwosc_channel(name: str, detector: str, rate: float) -> str:
    """Return the channel of open data: `name`, but GWOSC's convention if that is only "Strain", for `rate` in Hz."""
    if CHANNEL.fullmatch(name) and not name.endswith(":Strain"):
        return name
    kilohertz, rest = divmod(round(rate, 6), _KILOHERTZ)
    rate_text = f"{rate:.9g}HZ" if rest else f"{kilohertz:.0f}KHZ"
    return f"{detector}:GWOSC-{rate_text}_R1_STRAIN"


def read_hdf5(
    path: Path, channels: Sequence[str], report: Callable[[str], object], *, bits_needed: bool = False
) -> list[Recording]:
    """Return the recordings in a file, by default all, else those of channels that match a name or shell pattern.

    A single channel name gives a name to the only dataset of a file that names none. `report` is called with a line for
    each other series that cannot be used. Raise InvalidSource if none can, the layout is unknown, or the data-quality
    bits are needed and cannot be used.
    """
    with _opened(path) as file:
        if _GWOSC not in file:
            return _gwpy_recordings(file, path, channels, report)
        recording = _gwosc_recording(file, path, bits_needed=bits_needed)
    if channels:
        choose(path, [recording.channel], channels)
    return [recording]


def _gwosc_recording(file: Any, path: Path, *, bits_needed: bool) -> Recording:
    strain = _dataset(file, _GWOSC)
    _check_seconds(f"{path}: {_GWOSC}", strain, "Xunits")
    t0, dt = _grid(strain, path, "Xstart", "Xspacing")
    detector, channel = _source(file, 1 / sampling(dt))
    quality = usable_quality(lambda: _read_quality(file), bits_needed=bits_needed)
    return Recording(path, detector, channel, t0, dt, len(strain), quality, partial(_read, path, _GWOSC))


def _gwpy_recordings(
    file: Any, path: Path, channels: Sequence[str], report: Callable[[str], object]
) -> list[Recording]:
    there: list[Any] = []
    file.visititems(lambda _name, each: there.append(each) if isinstance(each, h5py.Dataset) else None)
    series = {each.name[1:]: _channel_of(each) for each in there if any(names <= set(each.attrs) for names in _GWPY)}
    if not series:
        some = ", ".join(f"{each.name[1:]} ({each.dtype}, shape {each.shape})" for each in there[:4])
        raise InvalidSource(f"{path} has no known layout of strain; it has {some or 'no dataset'}. {_CONVERT}")
    if len(series) == 1:
        series = {name: channel or name_channel(path, channels) for name, channel in series.items()}
    if channels:
        chosen = choose(path, list(filter(None, series.values())), channels)
        series = {name: channel for name, channel in series.items() if channel in chosen}
    found: dict[str, Recording] = {}
    failures: list[str] = []
    for name, channel in series.items():
        try:
            recording = _gwpy_recording(file, name, path, channel)
            _check_distinct(name, recording, found)
            found[name] = recording
        except InvalidSource as error:
            failures.append(str(error))
        except _BROKEN:
            failures.append(f"{path}: {name} is damaged")
    if not found:
        raise InvalidSource(failures[0] + (f"; and {len(failures) - 1} more like this" if failures[1:] else ""))
    for line in failures:
        report(line)
    return list(found.values())


def _check_distinct(name: str, recording: Recording, others: Mapping[str, Recording]) -> None:
    """Raise InvalidSource if another series has the same channel and other samples at the same time."""
    stop = recording.gps(recording.count)
    for other_name, other in others.items():
        overlap = other.t0 < stop and recording.t0 < other.gps(other.count)
        if recording.channel == other.channel and overlap and not _is_equal(recording, other):
            raise InvalidSource(
                f"{recording.path}: {name} and {other_name} are both {recording.channel}, with different samples at "
                f"the same time; {name} is not sent"
            )


def _is_equal(one: Recording, other: Recording) -> bool:
    if (one.t0, one.dt, one.count) != (other.t0, other.dt, other.count):
        return False
    return np.array_equal(one.read(0, one.count)[:], other.read(0, other.count)[:], equal_nan=True)


def _channel_of(dataset: Any) -> str:
    """Return the channel that a series names, or ""; in a file of many, the name of the dataset distinguishes them."""
    names = (dataset.name.rpartition("/")[2], _attribute(dataset, "channel"), _attribute(dataset, "name"))
    return next((name for name in names if CHANNEL.fullmatch(name)), "")


def _gwpy_recording(file: Any, name: str, path: Path, channel: str) -> Recording:
    where = f"{path}: {name}"
    if not channel:
        raise InvalidSource(f"{where} does not name its channel")
    dataset = _dataset(file, name)
    _check_seconds(where, dataset, "xunit")
    if "xindex" in dataset.attrs:
        times = np.asarray(dataset.attrs["xindex"], dtype=np.float64)
        if times.shape != dataset.shape:
            raise InvalidSource(f"{where} has {len(dataset)} samples, but xindex has the shape {times.shape}")
        t0, dt = even_grid(where, times)
    else:
        t0, dt = _grid(dataset, path, "x0", "dx")
    return Recording(path, channel[:2], channel, t0, dt, len(dataset), None, partial(_read, path, name))


def _attribute(dataset: Any, name: str) -> str:
    """Return an attribute as text, or "" if it is none; old versions of gwpy pickled the channel."""
    value = dataset.attrs.get(name, "")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, h5py.Empty):
        return ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _read(path: Path, name: str, first: int, last: int) -> NDArray[np.floating[Any]]:
    with _opened(path) as file:
        return as_float64(f"{path}: {name}", file[name][first:last])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield an open HDF5 file; convert h5py's errors to InvalidSource."""
    check_readable(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except BlockingIOError as error:
        raise InvalidSource(f"{path} is locked by the program that writes it; push it when that has ended") from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno:  # of the system, not of HDF5
            unlocked = "; set HDF5_USE_FILE_LOCKING=FALSE" if "unable to lock" in str(error) else ""
            raise InvalidSource(f"{path} cannot be read: {os.strerror(error.errno)}{unlocked}") from error
        if "signature" in str(error):
            reason = f"it is not an HDF5 file. {SUPPORTED}"
        elif "already open for" in str(error):
            reason = "it is open in the program that writes it, or was not closed; after a crash, h5clear -s mends it"
        elif "truncated" in str(error):
            reason = "it is truncated, or still being written"
        else:
            reason = "it is damaged"
        raise InvalidSource(f"{path} is not a strain file: {reason}") from error


def _member(file: Any, name: str) -> Any:
    """Return a dataset by its name."""
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        what = "is no dataset" if found is not None else "is missing"
        raise InvalidSource(f"{file.filename} is not in the layout of GWOSC: {name} {what}")
    plan = found.id.get_create_plist()
    for number in (plan.get_filter(i)[0] for i in range(plan.get_nfilters())):
        if not h5py.h5z.filter_avail(number):
            lacking = f"{name} is compressed by the HDF5 filter {number}, which is not installed here"
            raise InvalidSource(f"{file.filename}: {lacking}; `h5repack -f GZIP=4`, where it is, makes a usual file")
    return found


def _dataset(file: Any, name: str, kinds: str = "iuf") -> Any:
    """Return a dataset of one dimension that has numbers; `kinds` are those of NumPy."""
    found = _member(file, name)
    if found.dtype.kind not in kinds:
        wanted = "real numbers" if "f" in kinds else "whole numbers"
        raise InvalidSource(f"{file.filename}: {name} is of type {found.dtype}; it has to be {wanted}")
    if found.shape is None or len(found.shape) != 1 or not found.shape[0]:
        raise InvalidSource(f"{file.filename}: {name} has the shape {found.shape}; it has to be a list of samples")
    if not is_written(found):
        raise InvalidSource(f"{file.filename}: {name} has samples that were never written, or whose file is missing")
    return found


def _source(file: Any, rate: float) -> tuple[str, str]:
    """Return detector and channel; `gwclient get` writes the exact channel, GWOSC only parts of one."""
    detector = _text(file, "meta/Detector").strip()
    if "meta/Channel" in file:
        return detector, _text(file, "meta/Channel")
    if not re.fullmatch(r"\w+", detector):
        raise InvalidSource(f"{file.filename}: meta/Detector is {detector!r}; a detector is named like H1")
    name = _text(file, "strain/GWOSCmeta").strip() if "strain/GWOSCmeta" in file else ""
    return detector, gwosc_channel(f"{detector}:{name}", detector, rate)


def _text(file: Any, name: str) -> str:
    """Return the one text in a dataset, which is "" if the dataset is empty, or raise InvalidSource."""
    value = _member(file, name)[()]
    if isinstance(value, h5py.Empty):
        return ""
    array = np.asarray(value)
    one = array.item() if array.size == 1 else array.tolist()
    if not isinstance(one, bytes | str):
        raise InvalidSource(f"{file.filename}: {name} is {repr(one)[:80]}; it has to be one text")
    try:
        return one.decode() if isinstance(one, bytes) else one
    except UnicodeDecodeError:
        raise InvalidSource(f"{file.filename}: {name} is {one!r}, which is not UTF-8") from None


def _grid(dataset: Any, path: Path, *names: str) -> tuple[float, float]:
    """Return the GPS seconds of the first sample of a dataset, and the spacing in s; `names` are their attributes."""
    where = f"{path}: {dataset.name[1:]}"
    start, spacing = (_number(dataset, name, where) for name in names)
    check_grid(where, start, spacing, names)
    return start, spacing


def _check_seconds(where: str, dataset: Any, name: str) -> None:
    """Raise InvalidSource if an attribute names another unit of the axis than seconds."""
    unit = _attribute(dataset, name).strip()
    if unit not in _SECONDS:
        raise InvalidSource(f"{where} is sampled over {unit!r}; strain is sampled over time, in s")


def _number(dataset: Any, name: str, where: str) -> float:
    if name not in dataset.attrs:
        raise InvalidSource(f"{where} has no attribute {name}")
    found = dataset.attrs[name]
    value = np.asarray([] if isinstance(found, h5py.Empty) else found)
    if value.size != 1 or value.dtype.kind not in "iuf":
        raise InvalidSource(f"{where}: {name} is {repr(value.tolist())[:80]}; it has to be one number")
    return float(value.item())


def _read_quality(file: Any) -> Quality | None:
    """Return the data-quality bits by the names that the file gives, or None if it gives none."""
    if "quality/simple/DQmask" not in file or "quality/simple/DQShortnames" not in file:
        return None
    mask = _dataset(file, "quality/simple/DQmask", "iu")
    names = _names(file, "quality/simple/DQShortnames")[:MOST_BITS]
    _check_seconds(f"{file.filename}: quality/simple/DQmask", mask, "Xunits")
    start, spacing = _grid(mask, Path(file.filename), "Xstart", "Xspacing")
    return Quality(tuple(name.strip() for name in names), mask[()], start, spacing)


def _names(file: Any, name: str) -> list[str]:
    """Return the texts in a dataset of one dimension, or a single one."""
    found = _member(file, name)
    if h5py.check_string_dtype(found.dtype) is None or found.shape is None or len(found.shape) > 1:
        what = f"of type {found.dtype} and shape {found.shape}"
        raise InvalidSource(f"{file.filename}: {name} is {what}; it has to be a list of names")
    try:
        return [text.decode() for text in np.atleast_1d(found[()])]
    except UnicodeDecodeError as error:
        raise InvalidSource(f"{file.filename}: {name} has {bytes(error.object)!r}, which is not UTF-8") from None
