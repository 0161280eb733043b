"""`gwclient get`: fetch stored strain as HDF5 in GWOSC's layout, or as segments."""

import asyncio
import math
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
from tqdm import tqdm

from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, seconds, with_connection
from gwclient.errors import FolderError, NotAsExpected, UnexpectedAnswer
from gwclient.gwosc_file import file_name, write_quality, writing
from gwclient.strain import LeftOut
from gwclient.stretches import Stretch, assemble
from gwwire.problems import ProblemError
from gwwire.public import SegmentRecord
from gwwire.segment import Segment, decode_segment

#: Segments asked for at a time.
_AHEAD = 8


@click.command
@click.argument("name", required=False)
@click.option("--batch", help="The segments of this batch.")
@click.option("--channel", help="Of this channel only, as L1:GWOSC-4KHZ_R1_STRAIN.")
@click.option("--start", type=seconds(), help="GPS seconds: what comes before is not wanted.")
@click.option("--stop", type=seconds(), help="GPS seconds: what comes from then on is not wanted.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(),
    help="HDF5: the folder to write to. NDJSON: the file, - for standard output.  [default: the present folder, or -]",
)  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(["hdf5", "ndjson"]), default="hdf5", show_default=True,
    help="A file for each stretch of a channel without a gap; or a segment a line, as they were stored.",
)  # fmt: skip
@with_connection
def get(name: str | None, out: Path, kind: str, connection: Connection, **chosen: Any) -> None:
    """Get stored strain back: one segment by its NAME, a span, or a whole batch.

    Samples come back bit for bit; each segment is checked against its SHA-256. HDF5 holds exactly the samples in
    [--start, --stop); NDJSON whole segments that overlap it.

    \b
    Examples:
      gwclient get gwb1795224029597668971.json --format ndjson
      gwclient get --batch b1795224029597668971 --out batch/
      gwclient get --channel L1:GWOSC-4KHZ_R1_STRAIN --start 1126259458 --stop 1126259466
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    wanted = {option: value for option, value in chosen.items() if value is not None}
    if name and wanted:
        raise click.UsageError("a NAME says all; leave out --batch, --channel, --start and --stop")
    if not (name or wanted):
        raise click.UsageError("name a segment, a --batch, a --channel, or a span")
    start, stop = wanted.get("start", -math.inf), wanted.get("stop", math.inf)
    if not start < stop:
        raise click.UsageError(f"--start {start:g} is not before --stop {stop:g}")

    async def work(client: GlitchflowClient) -> None:
        if name and kind == "ndjson":
            await _write_lines(client, [name], out)
            return
        records = [await _record(client, name)] if name else [each async for each in client.segments(**wanted)]
        if not records:
            raise NotAsExpected("the datastore has no such segment")
        if kind == "ndjson":
            await _write_lines(client, [record.name for record in records], out)
        else:
            await _write_files(client, *assemble(records, start, stop), out, connection)

    connection.call(work)


async def _record(client: GlitchflowClient, name: str) -> SegmentRecord:
    body = await client.segment(name)
    segment = _decode(name, body)
    return SegmentRecord(0, name, "", len(body), "", segment.channel, segment.t0, segment.dt, len(segment.h), "")


async def _write_lines(client: GlitchflowClient, names: Sequence[str], out: Path) -> None:
    with _open_lines(out) as file:
        async for body in _bodies(client, names):
            file.write(body + b"\n")
        file.flush()


async def _write_files(
    client: GlitchflowClient,
    stretches: Sequence[Stretch],
    dropped: Sequence[LeftOut],
    out: Path,
    connection: Connection,
) -> None:
    if not all(stretch.channel for stretch in stretches):
        raise NotAsExpected("GWOSC's layout needs a channel, and these segments name none; ask for --format ndjson")
    paths = [out / file_name(stretch) for stretch in stretches]
    if twice := sorted({path.name for path in paths if paths.count(path) > 1}):
        raise NotAsExpected(f"several stretches would be named {twice[0]}; ask for a shorter span, or for NDJSON")
    total = sum(len(stretch.placed) for stretch in stretches)
    with tqdm(total=total, unit="segment", desc="get", leave=False, disable=connection.as_json or None) as bar:
        for path, stretch in zip(paths, stretches, strict=True):
            with writing(path, stretch) as strain:
                placed = iter(stretch.placed)
                quality: list[Sequence[str]] = []
                async for body in _bodies(client, [each.record.name for each in stretch.placed]):
                    place = next(placed)
                    segment = _decode(place.record.name, body)
                    quality += _quality_of(segment)
                    count = place.last - place.first
                    strain[place.at : place.at + count] = np.array(segment.h)[place.first : place.last]
                    bar.update()
                if len(quality) == len(stretch.placed) and any(quality):
                    write_quality(strain, stretch, quality)
    words = [
        f"{path}: {stretch.channel} [{stretch.t0!r}, {stretch.stop!r}), {stretch.count} samples"
        for path, stretch in zip(paths, stretches, strict=True)
    ]
    words += [f"left out, {reason}: {span.channel} [{span.start!r}, {span.stop!r})" for span, reason in dropped]
    left_out = [{**each.span._asdict(), "reason": each.reason} for each in dropped]
    connection.print_answer({"files": [str(path) for path in paths], "left_out": left_out}, "\n".join(words))


async def _bodies(client: GlitchflowClient, names: Sequence[str]) -> AsyncIterator[bytes]:
    """Fetch segments, several at a time, and yield them in order."""
    for i in range(0, len(names), _AHEAD):
        for body in await asyncio.gather(*map(client.segment, names[i : i + _AHEAD])):
            yield body


def _quality_of(segment: Segment) -> list[Sequence[str]]:
    """Return the names of a segment's data-quality bits in a list, which is empty if it names none."""
    told = segment.meta.get("quality") if isinstance(segment.meta, dict) else None
    return [told] if isinstance(told, list) and all(isinstance(name, str) for name in told) else []


def _decode(name: str, body: bytes) -> Segment:
    try:
        return decode_segment(body)
    except ProblemError as error:
        raise UnexpectedAnswer(f"{name} is no segment: {error.detail}") from error


def _open_lines(out: Path) -> AbstractContextManager[IO[bytes]]:
    if str(out) in {".", "-"}:
        sys.stdout.flush()
        return nullcontext(sys.stdout.buffer)
    try:
        return out.open("wb")
    except OSError as error:
        raise FolderError(f"{out} cannot be written: {error.strerror}") from error
