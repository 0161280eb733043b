"""`gwclient get`: fetch stored strain as HDF5 in GWOSC's layout, or as segments."""

import math
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click
from tqdm import tqdm

from gwclient.account import left_out_lines
from gwclient.amounts import count_text
from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, GivenPath, StrictCommand, check_span, gps, name, with_connection
from gwclient.commands.recall_progress import RecallProgress
from gwclient.errors import GatewayError, Incomplete, NotAsExpected, OnTape, unwritable
from gwclient.fetch import SegmentFetcher, Unreadable, decode_stored
from gwclient.no_match import matches
from gwclient.outages import concerns_pack, is_general
from gwclient.recalls import recalling
from gwclient.strain import window_text
from gwfiles.gwosc import EXTENSION, check_times, quality_of, write_quality, writing
from gwfiles.layout import NotDescribable, file_name
from gwfiles.stretches import LeftOut, Span, Stretch, assemble, not_stored, span_of
from gwservice.atomic import replacing
from gwwire.names import printable
from gwwire.public import SegmentRecord
from gwwire.spans import sampling
from gwwire.tiering import BatchLocality

_NOT_STORED = "not stored"
#: The values of --out that name standard output; "." is what no --out is read as.
_STDOUT = frozenset({".", "-"})


@click.command(cls=StrictCommand)
@click.argument("name", required=False)
@click.option("--batch", type=name, help="Strain of this batch.")
@click.option(
    "--channel", type=name, multiple=True,
    help="Strain of this channel, such as L1:GWOSC-4KHZ_R1_STRAIN; may be repeated.",
)  # fmt: skip
@click.option("--start", type=gps, help="GPS seconds of the first sample, or UTC, as 2015-09-14T09:50:45Z.")
@click.option("--stop", type=gps, help="GPS seconds, or UTC, of the end, which is not included.")
@click.option(
    "--out", type=GivenPath(path_type=Path), default=Path(),
    help="HDF5: the folder for the files. NDJSON: the file, or - for standard output.  [default: this folder, or -]",
)  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(["hdf5", "ndjson"]), default="hdf5", show_default=True,
    help="HDF5: one file for each stretch without a gap. NDJSON: one segment a line, as it was stored.",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait for what has to be recalled from tape, and show how far that is.")
@with_connection
def get(name: str | None, out: Path, kind: str, wait: bool, connection: Connection, **chosen: Any) -> None:  # noqa: FBT001 (click calls it by name)
    """Get strain: a segment, a span or a batch.

    Samples come back bit for bit; each segment is checked against its SHA-256. HDF5 has exactly the samples in
    [--start, --stop), NDJSON the whole segments that overlap it. gwpy reads the HDF5 files (format="hdf5.gwosc").
    What cannot be fetched, or described in GWOSC's layout, and what of the span of a --channel is not stored, is named,
    and the rest is fetched (exit code 4, or 1 if nothing is). What is on tape is recalled: without --wait, it is left
    out, and the same command succeeds later.

    \b
    Examples:
      gwclient get gwb1795224029597668971.json --format ndjson
      gwclient get --batch b1795224029597668971 --out batch/
      gwclient get --channel L1:GWOSC-4KHZ_R1_STRAIN --start 1126259458 --stop 1126259466
      gwclient get --channel H1:SIM-STRAIN --channel L1:SIM-STRAIN --out strain/
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    channels = chosen["channel"] = tuple(dict.fromkeys(chosen["channel"]))
    wanted = {option: value for option, value in chosen.items() if value not in {None, ()}}
    if name and wanted:
        raise click.UsageError("a NAME selects one segment; leave out --batch, --channel, --start and --stop")
    if not (name or wanted):
        raise click.UsageError("name a segment, a --batch, a --channel, or a span")
    check_span(chosen["start"], chosen["stop"])
    start, stop = wanted.get("start", -math.inf), wanted.get("stop", math.inf)

    async def work(client: GlitchflowClient) -> _Failures:
        async with recalling(client, RecallProgress().show) if wait else nullcontext() as recalls:
            fetcher = SegmentFetcher(client, recalls)
            if name and kind == "ndjson":
                return await _write_lines(fetcher, [(name, "")], out)
            records = [await _record(fetcher, name)] if name else [each async for each in client.segments(**wanted)]
            if not records:
                raise NotAsExpected("the datastore has no such segment")
            records = _without_spares(records)
            stretches, _ = assemble(records, start, stop)
            if kind == "hdf5" and not stretches:
                raise NotAsExpected(f"no sample is stored{window_text(start, stop)}")
            missing = not_stored(stretches, start, stop) if "channel" in wanted else []
            there = {each.channel or "" for each in (stretches if kind == "hdf5" else records)}
            absent = [each for each in channels if not any(matches(each, channel) for channel in there)]
            missing += [Span(channel, start, stop) for channel in absent]
            if recalls:
                await recalls.begin(records if kind == "ndjson" else _in_stretches(records, stretches))
            if kind == "ndjson":
                return await _write_lines(fetcher, [(record.name, record.batch) for record in records], out, missing)
            return await _Files(fetcher, out, connection).write(records, start, stop, missing)

    connection.call(work).raise_first()


@dataclass
class _Failures:
    """The reasons why something could not be fetched or written; one of a whole batch, or the service, is one line."""

    fetched: int = 0
    _texts: list[str] = field(default_factory=list)
    #: The number of segments, and the first error, by batch; the batch is empty for errors of the service.
    _general: dict[str, tuple[int, GatewayError]] = field(default_factory=dict)

    def add(self, text: str) -> None:
        """Add a reason."""
        self._texts.append(text)

    def add_error(self, text: str, error: GatewayError, batch: str) -> None:
        """Add an error of a segment, with the text for one that concerns no other segment."""
        if is_general(error):
            batch = batch if concerns_pack(error) else ""
            count, first = self._general.get(batch, (0, error))
            self._general[batch] = count + 1, first
        else:
            self._texts.append(text)

    def lines(self) -> list[str]:
        """Return a line for each reason; what to do about strain on tape is only in the last line of the command."""
        return self._lines(_in_short)

    def _lines(self, text_of: Callable[[GatewayError], str]) -> list[str]:
        general = (_general_text(batch, count, text_of(error)) for batch, (count, error) in self._general.items())
        return [*general, *self._texts]

    def raise_first(self) -> None:
        """Raise the first reason, if there is one: Incomplete if something was fetched, else NotAsExpected."""
        if lines := self._lines(str):
            rest = f", and {len(lines) - 1} more" if len(lines) > 1 else ""
            if self.fetched:
                raise Incomplete(f"not everything could be fetched: {lines[0]}{rest}")
            raise NotAsExpected(f"nothing could be fetched: {lines[0]}{rest}")


def _general_text(batch: str, count: int, reason: str) -> str:
    segments = count_text(count, "segment")
    return f"batch {batch}, {segments}: {reason}" if batch and not _names(reason, batch) else f"{segments}: {reason}"


def _names(reason: str, batch: str) -> bool:
    """Return whether a reason begins with its batch already."""
    return reason.startswith(f"batch {batch} ")


def _in_short(error: GatewayError) -> str:
    """Return the reason without what can be done about it."""
    return printable(error.state) if isinstance(error, OnTape) else str(error)


async def _record(fetcher: SegmentFetcher, name: str) -> SegmentRecord:
    body = await fetcher.segment(name)
    segment = decode_stored(name, body)
    return SegmentRecord(0, name, "", len(body), "", segment.channel, segment.t0, segment.dt, len(segment.h), "")


def _without_spares(records: Sequence[SegmentRecord]) -> list[SegmentRecord]:
    """Leave out segments on tape that are stored a second time where they can be read now."""
    there = {_strain(each) for each in records if each.locality is not BatchLocality.TAPE}
    return [each for each in records if each.locality is not BatchLocality.TAPE or _strain(each) not in there]


def _in_stretches(records: Sequence[SegmentRecord], stretches: Sequence[Stretch]) -> list[SegmentRecord]:
    """Return the records of the segments that are in stretches, in the order of these."""
    by_name = {record.name: record for record in records}
    return [by_name[each.record.name] for stretch in stretches for each in stretch.placed]


def _strain(record: SegmentRecord) -> tuple[str | None, float, str]:
    return record.channel, record.t0, record.sha256


async def _write_lines(
    fetcher: SegmentFetcher, segments: Sequence[tuple[str, str]], out: Path, missing: Sequence[Span] = ()
) -> _Failures:
    """Write the segments, one a line; return why some of them could not be fetched, and what is `missing`."""
    failures, batches = _Failures(), dict(segments)
    for span in missing:
        failures.add(_not_stored_text(span))
    with _open_lines(out) as file:
        async for name, body in fetcher.bodies(segments):
            if isinstance(body, GatewayError):
                if len(segments) == 1:
                    raise body
                failures.add_error(f"{name}: {body}", body, batches[name])
            else:
                file.write(body + b"\n")
                failures.fetched += 1
        file.flush()
    if failures.fetched and str(out) not in _STDOUT:
        click.echo(f"{out}: {count_text(failures.fetched, 'segment')}", err=True)
    for line in failures.lines()[1:]:  # the last line of the command has the first reason
        click.echo(line, err=True)
    return failures


class _NameTaken(Exception):
    """There is a folder in the place of a file."""


@dataclass
class _Files:
    """Writes files in GWOSC's layout to a folder: one for each stretch, and what cannot be written is left out."""

    fetcher: SegmentFetcher
    out: Path
    connection: Connection
    taken: set[str] = field(default_factory=set)  # see `file_name`

    async def write(
        self, records: Sequence[SegmentRecord], start: float, stop: float, missing: Sequence[Span]
    ) -> _Failures:
        """Write the samples in [start, stop) and print the answer.

        Return why some of them could not be written, and what is `missing`.
        """
        waiting, left_out = assemble(records, start, stop)
        waiting.reverse()
        files: list[str] = []
        words: list[str] = []
        failed, reasons = _Failures(), set[str]()
        for span in missing:
            failed.add(_not_stored_text(span))
            left_out.append(LeftOut(span, _NOT_STORED))
            reasons.add(_NOT_STORED)
        unreadable: set[str] = set()
        total = sum(len(stretch.placed) for stretch in waiting)
        quiet = self.connection.as_json or None
        with tqdm(total=total, unit="segment", desc="get", leave=False, disable=quiet) as bar:
            while waiting:
                stretch = waiting.pop()
                name = printable(stretch.channel) or "no channel"
                text = _span_text(Span(stretch.channel, stretch.t0, stretch.stop))
                try:
                    check_times(stretch)
                    path, bits = await self._write_stretch(stretch, bar.update)
                except (NotDescribable, _NameTaken) as error:
                    reason = f"{error}; use --format ndjson" if isinstance(error, NotDescribable) else str(error)
                    failed.add(f"{text}: {reason}")
                    left_out.append(LeftOut(Span(stretch.channel, stretch.t0, stretch.stop), reason))
                    reasons.add(reason)
                except Unreadable as error:
                    lost = self._lost_with(error, stretch)
                    unreadable |= {each.place.record.name for each in lost}
                    left_out += [LeftOut(span_of(each.place.record), _reason(each)) for each in lost]
                    # Another segment may have its samples; else those before and after it are stretches of their own.
                    rest = [each for each in records if each.name not in unreadable and _is_in(each, stretch)]
                    again, _ = assemble(rest, max(start, stretch.t0), min(stop, stretch.stop))
                    waiting += reversed(again)
                    if sum(each.count for each in again) < stretch.count:
                        for each in lost:
                            failed.add_error(f"{name}: {each}", each.error, each.place.record.batch)
                            reasons.add(_reason(each))
                else:
                    files.append(str(path))
                    words.append(f"{path}: {text}, {count_text(stretch.count, 'sample')}")
                    failed.fetched += 1
                    if bits:
                        failed.add(f"{path}: data-quality bits beyond those of a mask: {', '.join(bits)}")
        is_said = len(failed.lines()) == 1  # by the last line of the command
        words += left_out_lines(_without_reasons(left_out, reasons) if is_said else left_out)
        entries = [{**each.span._asdict(), "reason": each.reason} for each in left_out]
        self.connection.print_answer({"files": files, "left_out": entries}, "\n".join(words))
        if files and not quiet:
            click.echo('in Python: gwpy.timeseries.TimeSeries.read(FILE, format="hdf5.gwosc")', err=True)
        return failed

    def _lost_with(self, error: Unreadable, stretch: Stretch) -> list[Unreadable]:
        """Return the segments of a stretch that cannot be read: one, or all whose batch is given up."""
        given_up = {each.record.batch: self.fetcher.given_up(each.record.batch) for each in stretch.placed}
        lost = [Unreadable(each, why) for each in stretch.placed if (why := given_up[each.record.batch])]
        return lost or [error]

    async def _write_stretch(self, stretch: Stretch, on_written: Callable[[], object]) -> tuple[Path, list[str]]:
        """Return the path, and the names of the data-quality bits that the file could not hold."""
        others: list[str] = []
        path = self._path_of(stretch)
        with _writing(path, stretch) as (strain, check):
            quality: list[Sequence[str]] = []
            async with aclosing(self.fetcher.stretch(stretch)) as segments:
                async for place, segment, samples in segments:
                    quality += quality_of(segment)
                    strain[place.at : place.at + len(samples)] = samples
                    check()
                    on_written()
            if len(quality) == len(stretch.placed) and any(quality):
                others = write_quality(strain, stretch, quality)
        self.taken.add(path.name.casefold())
        return path, others

    def _path_of(self, stretch: Stretch) -> Path:
        """Return the path of the file for a stretch, or raise _NameTaken."""
        path = self.out / file_name(stretch, self.taken, EXTENSION)
        if path.is_dir() and not path.is_symlink():  # a link is replaced
            self.taken.add(path.name.casefold())  # so that the other files keep their names
            raise _NameTaken(f"{path} cannot be written: it is a folder")
        return path


def _not_stored_text(span: Span) -> str:
    return f"{_span_text(span)} is {_NOT_STORED}"


def _span_text(span: Span) -> str:
    name = printable(span.channel) or "no channel"
    return f"{name} [{span.start!r}, {span.stop!r})" if window_text(span.start, span.stop) else name


def _reason(lost: Unreadable) -> str:
    """Return why a segment is left out, the same for all of a batch, so that their spans are shown together."""
    if not is_general(lost.error):
        return str(lost)
    batch, reason = lost.place.record.batch, _in_short(lost.error)
    return reason if _names(reason, batch) else f"batch {batch}: {reason}"


def _without_reasons(left_out: Sequence[LeftOut], reasons: Container[str]) -> list[LeftOut]:
    """Return what is left out, without some of the reasons."""
    return [LeftOut(each.span, "" if each.reason in reasons else each.reason) for each in left_out]


def _is_in(record: SegmentRecord, stretch: Stretch) -> bool:
    return (record.channel or "") == stretch.channel and sampling(record.dt) == sampling(stretch.placed[0].record.dt)


@contextmanager
def _writing(path: Path, stretch: Stretch) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Write a file that appears at `path` when the block succeeds; see `gwfiles.gwosc.writing`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as temporary, writing(temporary, stretch) as opened:
            yield opened
    except OSError as error:
        raise unwritable(error.filename or path, error) from error


@contextmanager
def _open_lines(out: Path) -> Iterator[IO[bytes]]:
    if str(out) in _STDOUT:
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    try:
        path = out.resolve()
        if path.exists() and not path.is_file():
            with path.open("wb") as file:  # a device or a pipe
                yield file
            return
        with replacing(path, durable=False) as temporary, temporary.open("wb") as file:
            yield file
    except OSError as error:
        raise unwritable(out, error) from error
