"""Open data from the Gravitational Wave Open Science Center (GWOSC): found by gwosc, fetched into a cache, then read.

GWOSC_SERVER_URL names another server than https://gwosc.org. Work with the data should acknowledge GWOSC
(https://gwosc.org/acknowledgement).
"""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from gwclient.errors import InvalidSource, SourceError, SourceUnreachable, one_line
from gwclient.sources.download import Downloads
from gwclient.sources.file import FileName, FileSource
from gwclient.strain import Run


def event_detectors(event: str) -> tuple[str, ...]:
    """Return the detectors that GWOSC has strain of, around an event."""
    return tuple(sorted(_ask("datasets", "event_detectors", event, otherwise=f"GWOSC has no event {event!r}")))


def event_gps(event: str) -> float:
    """Return an event's GPS time in s."""
    return float(_ask("datasets", "event_gps", event, otherwise=f"GWOSC has no event {event!r}"))


@dataclass(frozen=True)
class GwoscSource:
    """Fetches the files with the strain of some detectors in a GPS interval, and reads that.

    Attributes:
        detectors: as ("H1", "L1").
        start: GPS seconds.
        stop: GPS seconds; the window is half-open.
        downloads: the cache of files.
        rate: sample rate, Hz; GWOSC has 4096 and 16384.
        event: the event's name, for the meta of each segment.
        bits: data-quality bits that have to be set; None: DATA.

    """

    detectors: tuple[str, ...]
    start: float
    stop: float
    downloads: Downloads
    rate: int = 4096
    event: str = ""
    bits: tuple[str, ...] | None = None

    @property
    def seconds(self) -> float:
        """How much strain there will be in s, all detectors together."""
        return self._files.seconds

    @property
    def identity(self) -> str:
        """The event or window, the detectors and the rate."""
        about = f"{self.event} " if self.event else ""
        return f"gwosc {about}[{self.start!r}, {self.stop!r}) of {','.join(self.detectors)} at {self.rate} Hz"

    def runs(self) -> Iterator[Run]:
        """Fetch what is not in the cache, and return the runs; each t0 is on the file's own grid.

        Raises:
            SourceUnreachable: GWOSC does not answer.
            InvalidSource: there are no such data, or a file is not a strain file.

        """
        return self._files.runs()

    @cached_property
    def _files(self) -> FileSource:
        paths = [self.downloads.fetch(url) for detector in self.detectors for url in self._urls(detector)]
        meta = (("event", self.event),) if self.event else ()
        files = FileSource(tuple(paths), self.start, self.stop, self.bits, (), meta, self.identity)
        try:
            files.seconds  # noqa: B018 (reads the head of each file)
        except InvalidSource:
            for path in paths:
                path.unlink(missing_ok=True)  # so that the next try fetches it again
            raise
        return files

    def _urls(self, detector: str) -> list[str]:
        window = math.floor(self.start), math.ceil(self.stop)
        missing = f"GWOSC has no strain of {detector} at {self.rate} Hz in GPS [{self.start!r}, {self.stop!r})"

        def ask(module: str, question: str, *arguments: Any, **options: Any) -> Any:
            return _ask(module, question, *arguments, otherwise=missing, **options)

        try:
            urls = ask("locate", "get_urls", detector, *window, sample_rate=self.rate)
        except InvalidSource:  # gwosc answers nothing where a second is missing
            runs = ask("datasets", "find_datasets", detector, type="run", segment=window)
            of_runs = [ask("locate", "get_run_urls", run, detector, *window, sample_rate=self.rate) for run in runs]
            urls = list(chain.from_iterable(of_runs))
        chosen = choose(urls, self.start, self.stop)
        if not chosen:
            raise InvalidSource(missing)
        return chosen


def choose(urls: Sequence[str], start: float, stop: float) -> list[str]:
    """Return the files to fetch for the GPS span [start, stop), with as little else as possible.

    The shortest file that holds all the rest is chosen; else the one that reaches furthest.
    """
    named = [(name, url) for url in urls if (name := FileName.parse(url.rpartition("/")[2]))]
    left = sorted((name.start, name.stop, url) for name, url in named if name.start < stop and start < name.stop)
    chosen: list[str] = []
    at = start
    while left and at < stop:
        at = max(at, left[0][0])
        here = [each for each in left if each[0] <= at]
        whole = [each for each in here if each[1] >= stop]
        best = min(whole, key=lambda each: each[1] - each[0]) if whole else max(here, key=lambda each: each[1])
        chosen.append(best[2])
        at = best[1]
        left = [each for each in left if each[1] > at]
    return chosen


def _ask(module: str, question: str, *arguments: Any, otherwise: str, **options: Any) -> Any:
    """Ask one of gwosc's questions; `otherwise` is what to say where GWOSC answers that there is nothing."""
    from gwosc import datasets, locate  # noqa: PLC0415 (slow to import, and not needed by other sources)

    logging.getLogger("gwosc").setLevel(logging.CRITICAL)  # what it would log becomes an error below
    try:
        return getattr({"datasets": datasets, "locate": locate}[module], question)(*arguments, **options)
    except Exception as error:
        raise _translate(error, otherwise) from error


def _translate(error: Exception, otherwise: str) -> SourceError:
    import requests  # noqa: PLC0415 (comes with gwosc)
    import tenacity  # noqa: PLC0415 (comes with gwosc)
    from gwosc.api import DEFAULT_URL  # noqa: PLC0415 (see above)

    match error:
        case requests.HTTPError(response=response) if response is not None and response.status_code < 500:  # noqa: PLR2004 (HTTP's own border)
            return InvalidSource(otherwise)
        case tenacity.RetryError():
            return SourceUnreachable(f"GWOSC at {DEFAULT_URL} does not answer: it failed again and again")
        case OSError():
            return SourceUnreachable(f"GWOSC at {DEFAULT_URL} does not answer: {type(error).__name__}")
        case _:
            return InvalidSource(f"{otherwise}: {one_line(error)}")
