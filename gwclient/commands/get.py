"""`gwclient get`: fetch stored strain as HDF5 in GWOSC's layout, or as segments."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
from tqdm import tqdm

from gwclient.client import GlitchflowClient
from gwclient.commands.console import print_answer
from gwclient.errors import FolderError, NotAsExpected, UnexpectedAnswer
from gwclient.exits import EXIT_CODES
from gwclient.gwosc_file import file_name, write_quality, writing
from gwclient.options import Connection, Seconds, with_connection
from gwclient.strain import LeftOut
from gwclient.stretches import Stretch, assemble
from gwwire.problems import ProblemError
from gwwire.public import SegmentRecord
from gwwire.segment import Segment, decode_segment

#: Segments asked for at a time.
_AHEAD = 8


@click.command(epilog=EXIT_CODES)
@click.argument("name", required=False)
@click.option("--batch", help="The segments of this batch.")
@click.option("--channel", help="Of this channel only, as L1:GWOSC-4KHZ_R1_STRAIN.")
@click.option("--start", type=Seconds(), help="GPS seconds: what comes before is not wanted.")
@click.option("--stop", type=Seconds(), help="GPS seconds: what comes from then on is not wanted.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(),
    help="HDF5: the folder to write to. NDJSON: the file, - for standard output.  [default: the present folder, or -]",
)  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(["hdf5", "ndjson"]), default="hdf5", show_default=True,
    help="A file for each stretch of a channel without a gap; or a segment a line, as they were stored.",
)  # fmt: skip
@with_connection
def get(  # noqa: PLR0913, PLR0917 (one for each option)
    name: str | None,
    batch: str | None,
    channel: str | None,
    start: float | None,
    stop: float | None,
    out: Path,
    kind: str,
    connection: Connection,
) -> None:
    """Get stored strain back: one segment by its NAME, a span, or a whole batch.

    Samples come back bit for bit; each segment is checked against its SHA-256. HDF5 holds exactly the samples in
    [--start, --stop); NDJSON whole segments that overlap it.

    \b
    Examples:
      gwclient get gwb1795224029597668971.json --format ndjson
      gwclient get --batch b1795224029597668971 --out batch/
      gwclient get --channel L1:GWOSC-4KHZ_R1_STRAIN --start 1126259458 --stop 1126259466
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    some = [value for value in (batch, channel, start, stop) if value is not None]
    if name and some:
        raise click.UsageError("a NAME says all; leave out --batch, --channel, --start and --stop")
    if not (name or some):
        raise click.UsageError("name a segment, a --batch, a --channel, or a span")
    start, stop = -math.inf if start is None else start, math.inf if stop is None else stop
    if not start < stop:
        raise click.UsageError(f"--start {start:g} is not before --stop {stop:g}")
    asyncio.run(_get(_Wanted(name, batch, channel, start, stop), kind, out, connection))


@dataclass(frozen=True)
class _Wanted:
    """Which segments are wanted."""

    name: str | None
    batch: str | None
    channel: str | None
    start: float
    stop: float

    async def records(self, client: GlitchflowClient) -> list[SegmentRecord]:
        start, stop = (edge if math.isfinite(edge) else None for edge in (self.start, self.stop))
        found = client.segments(batch=self.batch, channel=self.channel, start=start, stop=stop)
        return [each async for each in found]


async def _get(wanted: _Wanted, kind: str, out: Path, connection: Connection) -> None:
    async with connection.client() as client:
        if wanted.name and kind == "ndjson":
            _write_lines_to(out, [await client.segment(wanted.name)])
            return
        if wanted.name:
            await _get_one(client, wanted.name, out, connection)
            return
        records = await wanted.records(client)
        if not records:
            raise NotAsExpected("the datastore has no such segment")
        if kind == "ndjson":
            await _get_lines(client, records, out)
        else:
            await _get_files(client, records, wanted, out, connection)


async def _get_lines(client: GlitchflowClient, records: Sequence[SegmentRecord], out: Path) -> None:
    with _open_lines(out) as file:
        async for _, body in _bodies(client, records):
            file.write(body + b"\n")
        file.flush()


async def _get_one(client: GlitchflowClient, name: str, out: Path, connection: Connection) -> None:
    body = await client.segment(name)
    segment = _decode(name, body)
    record = SegmentRecord(0, name, "", len(body), "", segment.channel, segment.t0, segment.dt, len(segment.h), "")
    stretches, _ = assemble([record], -math.inf, math.inf)
    path = _path_for(out, stretches[0])
    with writing(path, stretches[0]) as strain:
        strain[:] = np.array(segment.h)
    print_answer(connection, {"files": [str(path)], "left_out": []}, _file_text(path, stretches[0]))


async def _get_files(
    client: GlitchflowClient, records: Sequence[SegmentRecord], wanted: _Wanted, out: Path, connection: Connection
) -> None:
    stretches, dropped = assemble(records, wanted.start, wanted.stop)
    paths = [_path_for(out, stretch) for stretch in stretches]
    if twice := sorted({path.name for path in paths if paths.count(path) > 1}):
        raise NotAsExpected(f"several stretches would be named {twice[0]}; ask for a shorter span, or for NDJSON")
    bar = tqdm(
        total=len(records), unit="segment", desc="get", leave=False, disable=None if not connection.as_json else True
    )
    with bar:
        for path, stretch in zip(paths, stretches, strict=True):
            with writing(path, stretch) as strain:
                placed = iter(stretch.placed)
                quality: list[Sequence[str]] = []
                async for record, body in _bodies(client, [each.record for each in stretch.placed]):
                    place = next(placed)
                    segment = _decode(record.name, body)
                    h = np.array(segment.h)
                    quality += _quality_of(segment)
                    strain[place.at : place.at + place.last - place.first] = h[place.first : place.last]
                    bar.update()
                if len(quality) == len(stretch.placed) and any(quality):
                    write_quality(strain, stretch, quality)
    words = [_file_text(*each) for each in zip(paths, stretches, strict=True)]
    words += [
        f"left out, {each.reason}: {each.span.channel} [{each.span.start!r}, {each.span.stop!r})" for each in dropped
    ]
    print_answer(
        connection, {"files": [str(path) for path in paths], "left_out": _for_programs(dropped)}, "\n".join(words)
    )


async def _bodies(
    client: GlitchflowClient, records: Sequence[SegmentRecord]
) -> AsyncIterator[tuple[SegmentRecord, bytes]]:
    """Fetch segments, several at a time, and yield them in order."""
    for i in range(0, len(records), _AHEAD):
        some = records[i : i + _AHEAD]
        for record, body in zip(some, await asyncio.gather(*(client.segment(each.name) for each in some)), strict=True):
            yield record, body


def _quality_of(segment: Segment) -> list[Sequence[str]]:
    """Return the names of a segment's data-quality bits in a list, which is empty if it names none."""
    told = segment.meta.get("quality") if isinstance(segment.meta, dict) else None
    known = isinstance(told, list) and all(isinstance(name, str) for name in told)
    return [told] if known and told is not None else []


def _decode(name: str, body: bytes) -> Segment:
    try:
        return decode_segment(body)
    except ProblemError as error:
        raise UnexpectedAnswer(f"{name} is no segment: {error.detail}") from error


def _path_for(out: Path, stretch: Stretch) -> Path:
    if not stretch.channel:
        raise NotAsExpected("GWOSC's layout needs a channel, and these segments name none; ask for --format ndjson")
    return out / file_name(stretch)


def _file_text(path: Path, stretch: Stretch) -> str:
    return f"{path}: {stretch.channel} [{stretch.t0!r}, {stretch.stop!r}), {stretch.count} samples"


def _for_programs(dropped: Sequence[LeftOut]) -> list[dict[str, Any]]:
    return [{**each.span._asdict(), "reason": each.reason} for each in dropped]


def _write_lines_to(out: Path, bodies: Sequence[bytes]) -> None:
    with _open_lines(out) as file:
        file.writelines(body + b"\n" for body in bodies)
        file.flush()


def _open_lines(out: Path) -> AbstractContextManager[IO[bytes]]:
    if str(out) in {".", "-"}:
        sys.stdout.flush()
        return nullcontext(sys.stdout.buffer)
    try:
        return out.open("wb")
    except OSError as error:
        raise FolderError(f"{out} cannot be written: {error.strerror}") from error
