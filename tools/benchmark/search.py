"""`python -m tools.benchmark.search`: measure searches among a million segments.

Fills a catalog in a temporary folder directly, in about half a minute, and prints the time of the first page and of the
facets of some queries: CPU time of this process, which other load on the machine hardly changes, and elapsed time.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from databuffer.records import table
from databuffer.search.facets import facets
from databuffer.search.search import find_segments
from databuffer.storage.catalog import BatchRow, Catalog, Database, SegmentRow
from gwwire.public import BatchState
from gwwire.query import parse_words

_CHANNELS = ["H1:STRAIN", "L1:STRAIN", "V1:Hrec", "K1:STRAIN", "H1:AUX", "L1:AUX", "G1:DER", None]
_START = 1_126_250_000
_GROUP = 5000
#: One segment in so many has `meta`.
_WITH_META = 100
_ROUNDS = 3


def fill(catalog: Catalog, segments: int, batches: int, records: int) -> None:
    """Store segments of 1 s in equal batches, all channels in turn; some have written records."""
    size = segments // batches
    for number in range(batches):
        state = BatchState.ARCHIVED if number < batches - 1 else BatchState.OPEN
        catalog.batches.put(BatchRow(f"b{number}", state, number, f"archive {number}"))
        for first in range(number * size, (number + 1) * size, _GROUP):
            rows = [_row(each) for each in range(first, min(first + _GROUP, (number + 1) * size))]
            catalog.segments.add(f"b{number}", rows)
    with catalog.database.writing_synced() as connection:
        for number in range(records):
            record = f"segment/gwb{number * segments // records}.json"
            content = ("glitch" if number % 10 == 0 else "good", "O4", {"seen": f"by {number % 7}", "loud": number})
            table.write(connection, record, lambda _: content, number)  # noqa: B023 (called at once)
            table.touch(connection, record, number, last="check")


def measure(catalog: Catalog, segments: int) -> None:
    """Print a line of a Markdown table for each query."""
    last = _START + segments // len(_CHANNELS)
    middle = (_START + last) // 2
    print("| query | first page, CPU ms | elapsed ms | facets, CPU ms | elapsed ms | cut |\n|---|---|---|---|---|---|")
    for words in (
        "",
        "detector=L1",
        "facility=LIGO",
        "channel=*AUX",
        f"start={middle} stop={middle + 10}",
        f"start={middle}",
        f"facility=LIGO start={middle}",
        f"detector=L1 stop={last - 1000}",
        "snr<1",
        f"snr<1 detector=H1 start={middle}",
        "run=O4",
        "status=glitch",
        "status=good",
        f"status=good detector=L1 start={middle}",
        "last=check",
        "loud>5",
        "snr<49",
    ):
        query = parse_words(words.split())
        with catalog.database.snapshot() as connection:
            page = _fastest(lambda: find_segments(connection, query, limit=1001))  # noqa: B023 (called at once)
            counts = _fastest(lambda: facets(connection, query))  # noqa: B023
            found = facets(connection, query)
        cut = max(found.after, *(each.after for each in found.facets), 0)
        print(
            f"| `{words or '-'}` | {page[0]:.0f} | {page[1]:.0f} | {counts[0]:.0f} | {counts[1]:.0f} | {cut or ''} |",
            flush=True,
        )


def _row(number: int) -> SegmentRow:
    conditions = (("snr", (float(number // _WITH_META % 50), None)), ("event", (None, f"e{number % 7}")))
    return SegmentRow(
        *(f"gwb{number}.json", 94_000, f"{number:064x}", _CHANNELS[number % len(_CHANNELS)]),
        *(float(_START + number // len(_CHANNELS)), 1 / 4096, 4096, number),
        conditions=conditions if number // len(_CHANNELS) % _WITH_META == 0 else (),
    )


def _fastest(work: Callable[[], object]) -> tuple[float, float]:
    """Return the least CPU time and the least elapsed time of some rounds in ms."""
    cpu, elapsed = [], []
    for _ in range(_ROUNDS):
        began = time.thread_time(), time.perf_counter()
        work()
        cpu.append(time.thread_time() - began[0])
        elapsed.append(time.perf_counter() - began[1])
    return min(cpu) * 1000, min(elapsed) * 1000


def main() -> None:
    """Measure with as many segments and batches as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark.search", description=__doc__)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--records", type=int, default=5000, help="written records of segments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog(Database(Path(folder) / "catalog.sqlite"), Path(folder) / ".ledger")
        catalog.open()
        fill(catalog, options.segments, options.batches, options.records)
        measure(catalog, options.segments)
        catalog.close()


if __name__ == "__main__":
    main()
