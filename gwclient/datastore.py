"""The Python interface for notebooks and programs: strain as arrays or gwpy series, in and out."""

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gwclient.account import failure_text
from gwclient.archived import note_archived
from gwclient.arguments import as_seconds, check_meta, check_name, positive_seconds
from gwclient.client import GlitchflowClient
from gwclient.errors import Incomplete, InvalidArgument, InvalidSource, NotAsExpected
from gwclient.fetch import SegmentFetcher, Unreadable
from gwclient.freeze import until_frozen
from gwclient.pieces import cut, left_out
from gwclient.push import Ending, PushFailed, Report, push
from gwclient.sources.recording import CHANNEL, as_float64, check_channel, check_grid
from gwclient.strain import Run, window_text
from gwfiles.stretches import assemble
from gwwire.public import TrainFrozen
from gwwire.spans import distance, stop_of


@dataclass(frozen=True, eq=False)
class StrainSeries:
    """Strain of one channel without a gap."""

    value: NDArray[np.float64]  # dimensionless, shape [samples]
    t0: float  # GPS seconds of the first sample
    dt: float  # sample spacing, s
    channel: str  # `DET:NAME`

    @property
    def stop(self) -> float:
        """GPS seconds after the last sample."""
        return stop_of(self.t0, len(self.value), self.dt)

    @property
    def times(self) -> NDArray[np.floating[Any]]:
        """The GPS seconds of each sample, shape [samples]."""
        return np.arange(len(self.value)) * self.dt + self.t0

    def to_gwpy(self) -> Any:
        """Return the strain as a `gwpy.timeseries.TimeSeries`; importing gwpy takes some seconds."""
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (slow, and only needed here)

        return TimeSeries(self.value, t0=self.t0, dt=self.dt, channel=self.channel, name=self.channel, unit="")


class Datastore(GlitchflowClient):
    """A datastore behind a gateway; use it as `async with Datastore("http://127.0.0.1:8000") as ds`.

    It has all methods of GlitchflowClient: `segments`, `batches`, `train`, `thaw`, `clean` and others.
    """

    async def push(  # noqa: PLR0913 (each has a default)
        self,
        strain: Any,
        t0: Any = None,
        dt: Any = None,
        channel: str | None = None,
        *,
        meta: Mapping[str, Any] | None = None,
        seconds: float = 1.0,
        wait: bool = False,
    ) -> Report:
        """Store strain, and return when every good sample is acknowledged.

        Args:
            strain: a gwpy `TimeSeries`, a StrainSeries, or real numbers, shape [samples]. Samples that are masked or
                not finite are left out, and are in the report's `left_out`.
            t0: GPS seconds of the first sample, or an astropy `Time`; by default that of the series.
            dt: sample spacing in s, or an astropy quantity of time; by default that of the series.
            channel: `DET:NAME`; by default the channel, or else the name, of the series.
            meta: more metadata of each segment, as JSON can hold it, without a `channel`.
            seconds: the length of a segment in s.
            wait: while the datastore is frozen, wait until it is open.

        Raises:
            InvalidSource: the strain, its times, its channel or `meta` cannot be used.
            InvalidArgument: `t0`, `dt` or `seconds` is not a time.
            PushFailed: not everything was acknowledged; its `report` says what was.

        """
        seconds = positive_seconds("seconds", seconds)
        run = _run_of(strain, t0, dt, channel, {} if meta is None else meta)
        report = await push(self, cut(run, seconds), wait=wait)
        await note_archived(self, report)
        report.left_out += left_out(run)
        if report.ending is not Ending.COMPLETE:
            raise PushFailed(failure_text(report), report)
        return report

    async def get(self, channel: str, start: Any = None, stop: Any = None) -> StrainSeries:
        """Return the strain of a channel in [start, stop) GPS seconds, by default all of it, bit for bit.

        Raises:
            InvalidArgument: the channel is not a text, or `start` or `stop` is not a time.
            NotAsExpected: nothing of it is stored.
            Incomplete: a part of it is missing; `stretches` yields those that are there.

        """
        start, stop = (_bound(name, value) for name, value in (("start", start), ("stop", stop)))
        async with aclosing(self.stretches(channel, start, stop)) as stretches:
            found = [each async for each in stretches]
        asked = f"{channel}{_window_text(start, stop)}"
        if not found:
            raise NotAsExpected(f"nothing of {asked} is stored")
        first, last = found[0], found[-1]
        lacks_start = start is not None and distance(start, first.t0, first.dt) >= first.dt
        lacks_stop = stop is not None and distance(last.stop, stop, last.dt) >= last.dt
        if len(found) > 1 or lacks_start or lacks_stop:
            spans = ", ".join(f"[{each.t0!r}, {each.stop!r})" for each in found)
            raise Incomplete(f"a part of {asked} is missing; stored is {spans}")
        return first

    async def stretches(self, channel: str, start: Any = None, stop: Any = None) -> AsyncGenerator[StrainSeries, None]:
        """Yield the strain of a channel in [start, stop) GPS seconds, one series for each stretch without a gap."""
        check_name("channel", channel)
        start, stop = (_bound(name, value) for name, value in (("start", start), ("stop", stop)))
        async with aclosing(self.segments(channel=channel, start=start, stop=stop)) as segments:
            records = [each async for each in segments]
        bounds = -math.inf if start is None else start, math.inf if stop is None else stop
        fetcher = SegmentFetcher(self)
        for stretch in assemble(records, *bounds)[0]:
            value = np.empty(stretch.count)
            try:
                async with aclosing(fetcher.stretch(stretch)) as segments_of_it:
                    async for place, _, samples in segments_of_it:
                        value[place.at : place.at + len(samples)] = samples
            except Unreadable as error:
                raise error.error from error
            yield StrainSeries(value, stretch.t0, stretch.dt, stretch.channel)

    async def wait_until_frozen(
        self, user: str, token: str, *, poll: float = 10.0, deadline: float | None = None
    ) -> TrainFrozen:
        """Order the freeze every `poll` s until the batch is frozen for `user`, and return what it holds.

        After `deadline` s, raise HeldByAnother if another user holds the batch, else NotAsExpected. If an argument
        cannot be used, raise InvalidArgument.
        """
        for name, value in (("user", user), ("token", token)):
            check_name(name, value)
        poll = positive_seconds("poll", poll)
        deadline = _bound("deadline", deadline)
        return await until_frozen(self, user, token, poll, deadline, lambda _: None)


def _run_of(strain: Any, t0: Any, dt: Any, channel: str | None, meta: Mapping[str, Any]) -> Run:
    """Return the run of a series (`value`, `t0`, `dt`, `channel` or `name`), or of an array with what is given."""
    if isinstance(strain, str | Path):
        raise InvalidSource("a path is not accepted; use `gwclient push`, or read the file first")
    if channel is not None:
        check_name("channel", channel)
        check_channel(channel)
    check_meta(meta)
    names = [channel] if channel is not None else [str(getattr(strain, name, "")) for name in ("channel", "name")]
    known = [name for name in names if CHANNEL.fullmatch(name)]
    if not known:
        raise InvalidSource("the strain does not name its channel; set channel='L1:MY-STRAIN'")
    times: list[Any] = [
        getattr(strain, name, None) if value is None else value for name, value in (("t0", t0), ("dt", dt))
    ]
    if any(value is None for value in times):
        raise InvalidSource("an array has no times; set t0 (GPS seconds) and dt (seconds)")
    begin, spacing = map(as_seconds, ("t0", "dt"), times)
    check_grid(known[0], begin, spacing, ("t0", "dt"))
    given = getattr(strain, "value", strain)
    try:
        value = np.asarray(given)
    except ValueError as error:  # lists of different lengths
        raise InvalidSource(f"{known[0]} is not a list of real numbers") from error
    if value.ndim != 1 or value.dtype.kind not in "iuf" or not len(value):
        raise InvalidSource(f"{known[0]} has {value.dtype} of shape {value.shape}; it has to be a list of real numbers")
    samples, mask = np.array(as_float64(known[0], value)), getattr(given, "mask", None)
    if isinstance(mask, np.ndarray):
        samples[mask] = np.nan
    return Run(samples, begin, spacing, known[0], {"detector": known[0][:2], **meta})


def _bound(name: str, value: Any) -> float | None:
    """Return a time in s, or None if there is none; raise InvalidArgument for another value."""
    seconds = None if value is None else as_seconds(name, value)
    if seconds is not None and math.isnan(seconds):
        raise InvalidArgument(f"{name} is nan; it has to be a number of seconds")
    return seconds


def _window_text(start: float | None, stop: float | None) -> str:
    return window_text(-math.inf if start is None else start, math.inf if stop is None else stop)
