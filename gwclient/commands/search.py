"""`gwclient search` and `gwclient bundle`: what a query selects, and its files as one archive."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from gwclient.account import left_out_lines
from gwclient.amounts import count_text, number_text
from gwclient.bundles import extract, read_info
from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, GivenPath, StrictCommand, parse_query, with_connection
from gwclient.commands.queries import segment_text
from gwclient.conditions import conditions_text
from gwclient.errors import NotAsExpected
from gwclient.no_match import explain
from gwclient.search import SearchResult
from gwfiles.stretches import LeftOut, Span
from gwwire.bundles import Bundle, BundleFormat, BundleOrder
from gwwire.names import printable
from gwwire.public import ChannelCoverage, ChannelGaps
from gwwire.query import Query
from gwwire.spans import sample_period

#: Gaps of a channel that are shown.
_MOST_SHOWN = 5


@click.command(cls=StrictCommand)
@click.argument("query", nargs=-1)
@click.option("--limit", type=click.IntRange(1, 9999), default=20, show_default=True, help="Segments that are shown.")
@click.option("--after", type=click.IntRange(0), default=0, help="Show segments after this seq: the next page.")
@with_connection
def search(query: tuple[str, ...], limit: int, after: int, connection: Connection) -> None:
    """Count what a query selects, and show the time that it covers, its gaps, its conditions and the first segments.

    A word of the query is a field, as detector=L1, or a condition on the metadata, as snr>8; all have to match.
    Times are GPS seconds, or UTC. Segments are in the order they were stored.

    \b
    Examples:
      gwclient search detector=L1 start=1126259446 'conditions.temperature<0.02'
      gwclient search start=2015-09-14T09:50:45Z stop=2015-09-14T09:50:46Z
      gwclient search facility=LIGO --limit 5 --json
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    wanted = parse_query(query)

    async def work(client: GlitchflowClient) -> tuple[SearchResult, list[str]]:
        found = await client.search(wanted, after=after, limit=limit)
        return found, [] if found.segments or found.cut else await _reasons(client, wanted)

    found, reasons = connection.call(work)
    connection.print_answer(found, "\n".join(_search_lines(found, wanted)))
    for reason in reasons:
        click.echo(reason, err=True)


@click.command(cls=StrictCommand)
@click.argument("query", nargs=-1)
@click.option(
    "--format", "kind", type=click.Choice([each.value for each in BundleFormat]), default=BundleFormat.TAR.value,
    show_default=True,
    help="tar: the segments as they were stored. hdf5: files in GWOSC's layout. gwf: frame files. manifest: the list of"
    " the segments.",
)  # fmt: skip
@click.option(
    "--out", type=GivenPath(path_type=Path, file_okay=False), default=Path(),
    help="The folder for the archive.  [default: this folder]",
)  # fmt: skip
@click.option("--extract", "extracting", is_flag=True, help="Extract the files, and delete the archive.")
@with_connection
def bundle(query: tuple[str, ...], kind: str, out: Path, extracting: bool, connection: Connection) -> None:  # noqa: FBT001 (click calls it by name)
    """Download all that a query selects as one archive, and check it against its digest.

    The words of the query are those of search. HDF5 and GWF files have exactly the samples from start to stop, and are
    built in the datastore. After an interruption, the same command continues.

    \b
    Examples:
      gwclient bundle detector=L1 start=1126259446 stop=1126259478 --format hdf5 --extract --out strain/
      gwclient bundle batch=b1795224029597668971
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    wanted = parse_query(query)
    order = BundleOrder(BundleFormat(kind), wanted)
    if extracting and order.format is BundleFormat.MANIFEST:
        raise click.UsageError("--extract does not apply: a manifest is no archive of files")

    async def work(client: GlitchflowClient) -> tuple[Bundle, Path]:
        made = await client.bundles.make(order)
        if not made.n:
            reasons = await _reasons(client, wanted) or [f"no segment matches {' '.join(query)}"]
            raise NotAsExpected(f"nothing is downloaded: {'; '.join(reasons)}")
        with _bar(connection, "building", unit="%", total=100) as bar:
            made = await client.bundles.wait(made, lambda percent: bar.update(percent - bar.n))
        with _bar(connection, "bundle", unit="B", unit_scale=True, total=made.size) as bar:
            return made, await client.bundles.download(made, out, lambda there, _: bar.update(there - bar.n))

    made, path = connection.call(work)
    left_out = [] if order.format is BundleFormat.MANIFEST else read_info(path).left_out
    files = extract(path) if extracting else [path]
    answer = {"bundle": made, "files": list(map(str, files)), "left_out": left_out}
    words = [
        *_coverage_lines(made.covered, made.gaps, wanted if order.format.is_built else Query()),
        *left_out_lines([LeftOut(Span(each.channel, each.start, each.stop), each.reason) for each in left_out]),
        *map(str, files),
    ]
    connection.print_answer(answer, "\n".join([count_text(made.n, "segment"), *words]))


def _bar(connection: Connection, what: str, **options: Any) -> "tqdm[Any]":
    return tqdm(desc=what, leave=False, disable=connection.as_json or None, **options)


async def _reasons(client: GlitchflowClient, query: Query) -> list[str]:
    """Return why a query selects no segment."""
    return explain(query, await client.facets(Query()))


def _search_lines(found: SearchResult, query: Query) -> list[str]:
    lines = [f"{'more than ' if found.cut else ''}{count_text(found.segments, 'segment')}"]
    lines += ["only the newest were counted, because it took long"] if found.cut else []
    lines += _coverage_lines(found.covered, found.gaps, query)
    lines += [count_text(found.more_channels, "more channel")] if found.more_channels else []
    conditions = conditions_text(found.conditions)
    lines += [f"conditions: {conditions}"] if conditions else []
    lines += map(segment_text, found.records)
    return [*lines, f"more: --after {found.after}"] if found.more else lines


def _coverage_lines(covered: Sequence[ChannelCoverage], gaps: Sequence[ChannelGaps], query: Query) -> list[str]:
    """Return the covered time of each channel within the span of a query, and its gaps."""
    missing = {(each.channel, each.dt): each.spans for each in gaps}
    lines = []
    for channel in covered:
        within = [_clipped(start, stop, query) for start, stop, _ in channel.spans]
        first, last = within[0][0], within[-1][1]
        seconds = sum(stop - start for start, stop in within)
        name = printable(channel.channel or "") or "no channel"
        closed = f", gaps up to {number_text(channel.closed_gaps)} s ignored" if channel.closed_gaps else ""
        lines.append(f"{name}, {_rate_text(channel.dt)}: {number_text(seconds)} s within [{first!r}, {last!r}){closed}")
        spans = missing.get((channel.channel, channel.dt), [])
        lines += [f"  gap [{start!r}, {stop!r})" for start, stop in spans[:_MOST_SHOWN]]
        lines += [f"  {count_text(len(spans) - _MOST_SHOWN, 'more gap')}"] if len(spans) > _MOST_SHOWN else []
    return lines


def _rate_text(dt: float) -> str:
    """Return a sample spacing as the sample rate that it stands for, or as it is if that is no whole number of Hz."""
    period = sample_period(dt)
    return f"{period.denominator} Hz" if period.numerator == 1 else f"dt {dt!r} s"


def _clipped(start: float, stop: float, query: Query) -> tuple[float, float]:
    """Return the part of a span that a query selects."""
    return (
        start if query.start is None else max(start, query.start),
        stop if query.stop is None else min(stop, query.stop),
    )
