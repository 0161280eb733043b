"""`gwclient get`: fetch stored strain as HDF5 in GWOSC's layout, or as segments."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click
from tqdm import tqdm

from gwclient.account import left_out_lines
from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, check_span, seconds, with_connection
from gwclient.errors import (
    GatewayError,
    Incomplete,
    NotAsExpected,
    printable,
    unwritable,
)
from gwclient.fetch import Unreadable, decode_stored, fetch_bodies, fetch_stretch
from gwfiles.gwosc import NotDescribable, check_times, file_name, quality_of, write_quality, writing
from gwfiles.stretches import LeftOut, Span, Stretch, assemble, span_of
from gwservice.atomic import replacing
from gwwire.public import SegmentRecord


@click.command
@click.argument("name", required=False)
@click.option("--batch", help="Strain of this batch.")
@click.option("--channel", help="Strain of this channel, such as L1:GWOSC-4KHZ_R1_STRAIN.")
@click.option("--start", type=seconds(), help="GPS seconds of the first sample.")
@click.option("--stop", type=seconds(), help="GPS seconds of the end, which is not included.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(),
    help="HDF5: the folder for the files. NDJSON: the file, or - for standard output.  [default: this folder, or -]",
)  # fmt: skip
@click.option(
    "--format", "kind", type=click.Choice(["hdf5", "ndjson"]), default="hdf5", show_default=True,
    help="HDF5: one file for each stretch without a gap. NDJSON: one segment a line, as it was stored.",
)  # fmt: skip
@with_connection
def get(name: str | None, out: Path, kind: str, connection: Connection, **chosen: Any) -> None:
    """Get strain: a segment, a span or a batch.

    Samples come back bit for bit; each segment is checked against its SHA-256. HDF5 has exactly the samples in
    [--start, --stop), NDJSON the whole segments that overlap it. gwpy reads the HDF5 files (format="hdf5.gwosc").
    What cannot be fetched, or described in GWOSC's layout, is named, and the rest is fetched (exit code 4).

    \b
    Examples:
      gwclient get gwb1795224029597668971.json --format ndjson
      gwclient get --batch b1795224029597668971 --out batch/
      gwclient get --channel L1:GWOSC-4KHZ_R1_STRAIN --start 1126259458 --stop 1126259466
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    wanted = {option: value for option, value in chosen.items() if value is not None}
    if name and wanted:
        raise click.UsageError("a NAME selects one segment; leave out --batch, --channel, --start and --stop")
    if not (name or wanted):
        raise click.UsageError("name a segment, a --batch, a --channel, or a span")
    check_span(chosen["start"], chosen["stop"])
    start, stop = wanted.get("start", -math.inf), wanted.get("stop", math.inf)

    async def work(client: GlitchflowClient) -> list[str]:
        if name and kind == "ndjson":
            return await _write_lines(client, [name], out)
        records = [await _record(client, name)] if name else [each async for each in client.segments(**wanted)]
        if not records:
            raise NotAsExpected("the datastore has no such segment")
        if kind == "ndjson":
            return await _write_lines(client, [record.name for record in records], out)
        return await _Files(client, out, connection).write(records, start, stop)

    if failed := connection.call(work):
        rest = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise Incomplete(f"not everything could be fetched: {failed[0]}{rest}")


async def _record(client: GlitchflowClient, name: str) -> SegmentRecord:
    body = await client.segment(name)
    segment = decode_stored(name, body)
    return SegmentRecord(0, name, "", len(body), "", segment.channel, segment.t0, segment.dt, len(segment.h), "")


async def _write_lines(client: GlitchflowClient, names: Sequence[str], out: Path) -> list[str]:
    """Write the segments, one a line; return why some of them could not be fetched."""
    failed: list[str] = []
    with _open_lines(out) as file:
        async for name, body in fetch_bodies(client, names):
            if isinstance(body, GatewayError):
                if len(names) == 1:
                    raise body
                failed.append(f"{name}: {body}")
                click.echo(failed[-1], err=True)
            else:
                file.write(body + b"\n")
        file.flush()
    return failed


@dataclass
class _Files:
    """Writes files in GWOSC's layout to a folder: one for each stretch, and what cannot be written is left out."""

    client: GlitchflowClient
    out: Path
    connection: Connection
    taken: set[str] = field(default_factory=set)  # see `file_name`

    async def write(self, records: Sequence[SegmentRecord], start: float, stop: float) -> list[str]:
        """Write the samples in [start, stop) and print the answer; return why some of them could not be written."""
        waiting, left_out = assemble(records, start, stop)
        waiting.reverse()
        files: list[str] = []
        words: list[str] = []
        failed: list[str] = []
        total = sum(len(stretch.placed) for stretch in waiting)
        quiet = self.connection.as_json or None
        with tqdm(total=total, unit="segment", desc="get", leave=False, disable=quiet) as bar:
            while waiting:
                stretch = waiting.pop()
                name = printable(stretch.channel) or "no channel"
                span = f"{name} [{stretch.t0!r}, {stretch.stop!r})"
                try:
                    check_times(stretch)
                    path, bits = await self._write_stretch(stretch, bar.update)
                except NotDescribable as error:
                    reason = f"{error}; use --format ndjson"
                    failed.append(f"{span}: {reason}")
                    left_out.append(LeftOut(Span(stretch.channel, stretch.t0, stretch.stop), reason))
                except Unreadable as error:
                    failed.append(f"{name}: {error}")
                    left_out.append(LeftOut(span_of(error.place.record), str(error)))
                    # The segments before and after it are stretches of their own.
                    rest = [each.record for each in stretch.placed if each is not error.place]
                    waiting += reversed(assemble(rest, start, stop)[0])
                else:
                    files.append(str(path))
                    words.append(f"{path}: {span}, {stretch.count} samples")
                    failed += [f"{path}: data-quality bits beyond those of a mask: {', '.join(bits)}"] if bits else []
        words += left_out_lines(left_out)
        entries = [{**each.span._asdict(), "reason": each.reason} for each in left_out]
        self.connection.print_answer({"files": files, "left_out": entries}, "\n".join(words))
        if files and not quiet:
            click.echo('in Python: gwpy.timeseries.TimeSeries.read(FILE, format="hdf5.gwosc")', err=True)
        return failed

    async def _write_stretch(self, stretch: Stretch, on_written: Callable[[], object]) -> tuple[Path, list[str]]:
        """Return the path, and the names of the data-quality bits that the file could not hold."""
        others: list[str] = []
        path = self.out / file_name(stretch, self.taken)
        with _writing(path, stretch) as (strain, check):
            quality: list[Sequence[str]] = []
            async with aclosing(fetch_stretch(self.client, stretch)) as segments:
                async for place, segment, samples in segments:
                    quality += quality_of(segment)
                    strain[place.at : place.at + len(samples)] = samples
                    check()
                    on_written()
            if len(quality) == len(stretch.placed) and any(quality):
                others = write_quality(strain, stretch, quality)
        self.taken.add(path.name.casefold())
        return path, others


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
    if str(out) in {".", "-"}:
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
