"""Open data around an event, from the Gravitational Wave Open Science Center (GWOSC), by gwosc and gwpy.

GWOSC_SERVER_URL names another server than https://gwosc.org. Work with the data should acknowledge GWOSC
(https://gwosc.org/acknowledgement).
"""

import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gwclient.errors import InvalidSource, SourceError, SourceUnreachable
from gwclient.sources.file import gwosc_channel
from gwclient.strain import Run


def event_detectors(event: str) -> tuple[str, ...]:
    """Give the detectors that GWOSC has strain of, around an event.

    Raises:
        SourceUnreachable: GWOSC does not answer.
        InvalidSource: there is no such event.

    """
    return tuple(sorted(_ask_about(event, "event_detectors")))


@dataclass(frozen=True)
class GwoscSource:
    """Fetches the strain of some detectors around an event.

    Attributes:
        event: as "GW150914".
        detectors: as ("H1", "L1").
        start: s, relative to the event's GPS time.
        stop: s, relative to the event's GPS time; the window is half-open.
        rate: sample rate, Hz; GWOSC has 4096 and 16384.

    """

    event: str
    detectors: tuple[str, ...]
    start: float
    stop: float
    rate: int = 4096

    @property
    def seconds(self) -> float:
        """How much strain there will be in s, all detectors together."""
        return (self.stop - self.start) * len(self.detectors)

    def runs(self) -> Iterator[Run]:
        """Fetch one run for each detector; its t0 is that of the series that came, not of the request.

        Raises:
            SourceUnreachable: GWOSC does not answer.
            InvalidSource: there is no such event, or no such data.

        """
        gps = _ask_about(self.event, "event_gps")
        return (self._fetch(detector, gps + self.start, gps + self.stop) for detector in self.detectors)

    def _fetch(self, detector: str, start: float, stop: float) -> Run:
        # gwpy takes seconds to import, and warns about what becomes an error or a report here.
        with warnings.catch_warnings(action="ignore"):
            from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (see above)

            try:
                series = TimeSeries.fetch_open_data(detector, start, stop, sample_rate=self.rate)
            except Exception as error:
                missing = f"GWOSC has no strain of {detector} at {self.rate} Hz in GPS [{start!r}, {stop!r})"
                raise _translate(error, missing) from error
        return self._as_run(detector, series)

    def _as_run(self, detector: str, series: Any) -> Run:
        t0, dt = float(series.t0.value), float(series.dt.value)
        channel = gwosc_channel(str(series.name), detector, 1 / dt)
        meta = {"detector": detector, "event": self.event, "source": "gwosc"}
        return Run(np.asarray(series.value, dtype=np.float64), t0, dt, channel, meta)


def _ask_about(event: str, question: str) -> Any:
    """Ask one of gwosc's questions about an event."""
    from gwosc import datasets  # noqa: PLC0415 (slow to import, and not needed by other sources)

    logging.getLogger("gwosc").setLevel(logging.CRITICAL)  # what it would log becomes an error below
    try:
        return getattr(datasets, question)(event)
    except Exception as error:
        raise _translate(error, f"GWOSC has no event {event!r}") from error


def _translate(error: Exception, otherwise: str) -> SourceError:
    """Tell a server that does not answer from data that do not exist."""
    import requests  # noqa: PLC0415 (comes with gwosc)
    import tenacity  # noqa: PLC0415 (comes with gwosc)
    from gwosc.api import DEFAULT_URL  # noqa: PLC0415 (see above)

    for cause in _leaves(error):
        match cause:
            case requests.HTTPError(response=response) if response is not None and response.status_code < 500:  # noqa: PLR2004 (HTTP's own border)
                return InvalidSource(otherwise)
            case tenacity.RetryError():
                return SourceUnreachable(f"GWOSC at {DEFAULT_URL} does not answer: it failed again and again")
            case OSError():
                return SourceUnreachable(f"GWOSC at {DEFAULT_URL} does not answer: {type(cause).__name__}")
            case _:
                otherwise = f"{otherwise}: {' '.join(str(cause).split())}"
    return InvalidSource(otherwise)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _leaves(member)
    else:
        yield error
