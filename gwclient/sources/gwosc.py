"""Open data from the Gravitational Wave Open Science Center (GWOSC): found by gwosc, fetched into a cache, then read.

GWOSC_SERVER_URL names another server than https://gwosc.org. Work with the data should acknowledge GWOSC
(https://gwosc.org/acknowledgement).
"""

import logging
import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from gwclient.connection import parse_gateway_url
from gwclient.errors import InvalidSource, SourceError, SourceUnreachable, one_line
from gwclient.sources.download import Downloads, why_no_answer
from gwclient.sources.file import FileSource, span_of_name
from gwclient.strain import Run
from gwwire.segment import MAX_TIME
from gwwire.url_user import hide_user


def event_detectors(event: str) -> tuple[str, ...]:
    """Return the detectors that GWOSC has strain of, around an event."""
    return tuple(
        sorted(map(str, _ask("datasets", "event_detectors", event, otherwise=f"GWOSC has no event {event!r}")))
    )


def event_gps(event: str) -> float:
    """Return an event's GPS time in s."""
    answer = _ask("datasets", "event_gps", event, otherwise=f"GWOSC has no event {event!r}")
    with suppress(TypeError, ValueError, OverflowError):
        if abs(gps := float(answer)) < MAX_TIME:
            return gps
    raise _not_as_gwosc(f"the GPS time of {event} is {repr(answer)[:80]}")


def open_data(  # noqa: PLR0913, PLR0917 (what open data are chosen by)
    detectors: Sequence[str],
    start: float,
    stop: float,
    downloads: Downloads,
    rate: int,
    event: str,
    bits: tuple[str, ...] | None,
) -> tuple[FileSource, list[Run]]:
    """Return the strain of detectors in the GPS interval [start, stop), from files in the cache or fetched to it.

    The rate is in Hz, and GWOSC has 4096 and 16384. The event's name, unless empty, goes into the meta of each segment.
    A file that cannot be read is fetched once more: it was damaged on its way or in the cache.

    Raises SourceUnreachable if GWOSC does not answer, InvalidSource if there are no such data, or not strain.
    """
    urls = [url for detector in detectors for url in _urls(detector, start, stop, rate)]
    paths = {downloads.fetch(url): url for url in urls}
    about = f"{event} " if event else ""
    name = f"gwosc {about}[{start!r}, {stop!r}) of {','.join(detectors)} at {rate} Hz"
    meta = (("event", event),) if event else ()
    files = FileSource(tuple(paths), start, stop, bits, (), meta, name, are_downloads=True)
    with suppress(InvalidSource):
        runs = list(files.runs())
        if not files.failures:
            return files, runs
    damaged = {path: paths[path] for path in files.failures.values() if _is_damaged(path)}
    for path, url in damaged.items():
        downloads.say(f"{path} cannot be read; fetching {url} again")
        downloads.fetch(url, anew=True)
    files = replace(files)
    try:
        return files, list(files.runs())
    except InvalidSource as error:
        raise InvalidSource(
            "; ".join([str(error), *(f"{url} was fetched twice" for url in damaged.values())])
        ) from error


def _is_damaged(path: Path) -> bool:
    """Return whether a part of a file cannot be read, whatever was wanted of it."""
    whole = FileSource((path,))
    with suppress(InvalidSource):
        deque(whole.runs(), maxlen=0)
    return bool(whole.failures)


def _urls(detector: str, start: float, stop: float, rate: int) -> list[str]:
    window = math.floor(start), math.ceil(stop)
    missing = f"GWOSC has no strain of {detector} at {rate} Hz in GPS [{start!r}, {stop!r})"

    def ask(module: str, question: str, *arguments: Any, **options: Any) -> Any:
        return _ask(module, question, *arguments, otherwise=missing, **options)

    try:
        urls = ask("locate", "get_urls", detector, *window, sample_rate=rate)
    except InvalidSource:  # gwosc finds nothing if a second is missing
        runs = ask("datasets", "find_datasets", detector, type="run", segment=window)
        of_runs = [ask("locate", "get_run_urls", run, detector, *window, sample_rate=rate) for run in runs]
        urls = list(chain.from_iterable(of_runs))
    if chosen := choose([url for url in urls if isinstance(url, str)], start, stop):
        return chosen
    raise InvalidSource(missing)


def choose(urls: Sequence[str], start: float, stop: float) -> list[str]:
    """Return the files to fetch for the GPS span [start, stop), with as little else as possible.

    The shortest file that holds all the rest is chosen; else the one that reaches furthest.
    """
    named = [(span, url) for url in urls if (span := span_of_name(url.rpartition("/")[2]))]
    left = sorted((*span, url) for span, url in named if span[0] < stop and start < span[1])
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
    from gwosc import datasets, locate  # noqa: PLC0415 (slow to import, and not needed by other sources)

    _check_address()
    logging.getLogger("gwosc").setLevel(logging.CRITICAL)  # what it would log becomes an error below
    try:
        return getattr({"datasets": datasets, "locate": locate}[module], question)(*arguments, **options)
    except Exception as error:
        raise _translate(error, otherwise) from error


def _check_address() -> None:
    from gwosc.api import DEFAULT_URL  # noqa: PLC0415 (see above)

    try:
        parse_gateway_url(DEFAULT_URL if "://" in DEFAULT_URL else "")
    except ValueError:
        wrong = f"GWOSC_SERVER_URL is {hide_user(DEFAULT_URL)!r}; it has to be an address like https://gwosc.org"
        raise InvalidSource(wrong) from None


def _translate(error: Exception, otherwise: str) -> SourceError:
    import requests  # noqa: PLC0415 (comes with gwosc)
    import tenacity  # noqa: PLC0415 (comes with gwosc)
    from gwosc.api import DEFAULT_URL  # noqa: PLC0415 (see above)

    where = hide_user(DEFAULT_URL)
    match error:
        case requests.HTTPError(response=response) if response is not None and response.status_code < 500:  # noqa: PLR2004 (HTTP's own border)
            return InvalidSource(otherwise)
        case tenacity.RetryError():
            return SourceUnreachable(f"GWOSC at {where} does not answer: it failed again and again")
        case requests.exceptions.JSONDecodeError():
            return _not_as_gwosc("the answer is not JSON")
        case OSError():
            return SourceUnreachable(f"GWOSC at {where} does not answer: {why_no_answer(error)}")
        case TypeError() | LookupError() | AttributeError():
            return _not_as_gwosc("the answer is JSON of another form")
        case _:
            return InvalidSource(f"{otherwise}: {one_line(error)}")


def _not_as_gwosc(reason: str) -> SourceUnreachable:
    from gwosc.api import DEFAULT_URL  # noqa: PLC0415 (see above)

    return SourceUnreachable(f"GWOSC at {hide_user(DEFAULT_URL)} does not answer as GWOSC: {reason}")
