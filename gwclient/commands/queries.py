"""Commands that read, or verify: the current batch, all batches, and their segments."""

import asyncio
import sys

import click
import msgspec

from gwclient.amounts import bytes_text, count_text
from gwclient.client import GlitchflowClient
from gwclient.commands.options import (
    Connection,
    StrictCommand,
    check_span,
    gps,
    name,
    parse_query,
    seconds,
    with_connection,
)
from gwclient.errors import NOT_ACKNOWLEDGED, NotAsExpected
from gwwire.manifest import sha256sum_lines
from gwwire.public import Batch, BatchState, SegmentRecord, Verification, VerificationState
from gwwire.spans import stop_of
from gwwire.tiering import DISK, BatchLocality, ReplicaState


@click.command(cls=StrictCommand)
@with_connection
def stats(connection: Connection) -> None:
    """Count the segments and bytes of the batch.

    Example: gwclient stats --json
    """
    answer = connection.call(lambda client: client.stats())
    connection.print_answer(answer, f"{count_text(answer.n_itm, 'segment')}, {bytes_text(answer.buff_size)}")


@click.command(cls=StrictCommand)
@with_connection
def desc(connection: Connection) -> None:
    """Show the state, OPERATIONAL or FROZEN.

    Example: gwclient desc --srv gateway:8000
    """
    answer = connection.call(lambda client: client.desc())
    connection.print_answer(answer, answer.resp)


@click.command("list", cls=StrictCommand)
@with_connection
def list_command(connection: Connection) -> None:
    """List the files of the current batch.

    Example: gwclient list
    """
    answer = connection.call(lambda client: client.list())
    if answer.nmlist or connection.as_json:
        connection.print_answer(answer, "\n".join(answer.nmlist))


@click.command(cls=StrictCommand)
@with_connection
def batches(connection: Connection) -> None:
    """List all batches, the oldest first.

    Example: gwclient batches
    """
    answer = connection.call(lambda client: client.batches())
    connection.print_answer({"batches": answer}, "\n".join(map(batch_text, answer)))


@click.command(cls=StrictCommand)
@click.argument("batch")
@with_connection
def batch(batch: str, connection: Connection) -> None:
    """Show one batch.

    Example: gwclient batch b1795224029597668971
    """
    answer = connection.call(lambda client: client.batch(batch))
    connection.print_answer(answer, batch_text(answer))


@click.command(cls=StrictCommand)
@click.argument("batch")
@with_connection
def manifest(batch: str, connection: Connection) -> None:
    """List the files of a sealed batch.

    The format is that of sha256sum: the SHA-256 and the name, sorted by name.

    Example: gwclient manifest b1795224029597668971 --json
    """
    answer = connection.call(lambda client: client.manifest(batch))
    lines = sha256sum_lines((entry.name, entry.sha256) for entry in answer.segments)
    connection.print_answer(answer, "".join(lines).rstrip())


@click.command(cls=StrictCommand)
@click.argument("query", nargs=-1)
@click.option("--batch", type=name, multiple=True, help="Segments of this batch; may be repeated.")
@click.option(
    "--channel", multiple=True, help="Segments of this channel, such as L1:GWOSC-4KHZ_R1_STRAIN; may be repeated."
)
@click.option("--start", type=gps, help="GPS seconds, or UTC; segments that end after it.")
@click.option("--stop", type=gps, help="GPS seconds, or UTC; segments that begin before it.")
@with_connection
def segments(  # noqa: PLR0913, PLR0917 (one for each option)
    query: tuple[str, ...],
    batch: tuple[str, ...],
    channel: tuple[str, ...],
    start: float | None,
    stop: float | None,
    connection: Connection,
) -> None:
    """List stored segments that match a query.

    A word of the query is a field, as detector=L1, or a condition on the metadata, as snr>8; options are fields too.
    UTC is written as 2015-09-14T09:50:45Z.
    Segments come in the order they were stored, one per line; with --json, one JSON object per line.

    \b
    Examples:
      gwclient segments --channel L1:GWOSC-4KHZ_R1_STRAIN --start 1126259446 --stop 1126259478
      gwclient segments detector=L1 start=1126259446 'snr>8'
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    check_span(start, stop)
    wanted = parse_query(query, batch=batch, channel=channel, start=start, stop=stop)

    async def work() -> None:
        async with connection.client() as client:
            async for each in client.segments(query=wanted):
                if connection.as_json:
                    click.echo(msgspec.json.encode(each))
                else:
                    click.echo(segment_text(each))

    asyncio.run(work())


@click.command(cls=StrictCommand)
@click.argument("batch")
@click.option(
    "--poll",
    type=seconds(0.05, 3600),
    default=2.0,
    show_default=True,
    help="The time between two requests for the progress.",
)
@with_connection
def verify(batch: str, poll: float, connection: Connection) -> None:
    """Compare every copy of an archived batch with its manifest.

    With tiers, those on tape too. Wait for the result; exit code 1 means that a copy is damaged or cannot be read. The
    comparison runs in the datastore, also after an interruption of this command; the same command waits for it again.

    Example: gwclient verify b1795224029597668971
    """
    found = connection.call(lambda client: _until_found(client, batch, poll))
    connection.print_answer(found, "\n".join(result_lines(batch, found)))
    if found.state is not VerificationState.INTACT:
        sys.exit(NOT_ACKNOWLEDGED)


async def _until_found(client: GlitchflowClient, batch: str, poll: float) -> Verification:
    begun = await client.verify(batch)
    printed = ""
    while True:
        found = (await client.batch(batch)).verification
        if found is None or found.at < begun.at:
            raise NotAsExpected(
                f"the verification of batch {batch} is lost; its record has the steps: gwclient record batch/{batch}"
            )
        if found.state is not VerificationState.RUNNING:
            return found
        if (progress := _read(found)) != printed:
            printed = progress
            click.echo(progress, err=True)
        await asyncio.sleep(poll)


def result_lines(batch: str, found: Verification) -> list[str]:
    """Return the problems that a verification found, and its result."""
    where = f" in {', '.join(found.tiers)}" if found.tiers else ""
    could_compare = found.state is not VerificationState.FAILED
    result = f"{batch} is {found.state}: {_read(found)}{where}" if could_compare else f"{batch} could not be compared"
    return [*found.problems, result]


def _read(found: Verification) -> str:
    is_tried_again = found.state is VerificationState.RUNNING and found.problems
    why = f"; it is tried again, because an attempt failed: {found.problems[0]}" if is_tried_again else ""
    return f"{found.checked:,} of {count_text(found.segments, 'file')} read{why}"


def segment_text(record: SegmentRecord) -> str:
    """Return one line about a segment."""
    end = stop_of(record.t0, record.n, record.dt)
    text = f"{record.name}  {record.channel or '-'}  [{record.t0!r}, {end!r})  {count_text(record.n, 'sample')}"
    return text + locality_text(record.locality)


def locality_text(locality: BatchLocality) -> str:
    """Return where bytes are that cannot be read at once, or ""."""
    match locality:
        case BatchLocality.DISK | BatchLocality.DISK_AND_TAPE:
            return ""
        case BatchLocality.TAPE:
            return ", on tape only"
        case BatchLocality.LOST | BatchLocality.NONE | BatchLocality.UNAVAILABLE:
            return f", CANNOT BE READ: {locality}"


def batch_text(batch: Batch) -> str:
    """Return one line about a batch."""
    held = "frozen" if batch.state is BatchState.ARCHIVED else "held"
    holder = f", {held} by {batch.holder}" if batch.holder else ""
    counts = f"{count_text(batch.n_itm, 'segment')}, {bytes_text(batch.buff_size)}, opened {batch.opened}"
    found = f", {_verification_text(batch.verification)}" if batch.verification else ""
    verified = (each for each in batch.replicas if each.state is ReplicaState.VERIFIED)
    copies = ", ".join(each.tier if each.in_tiers else f"{each.tier} (not in TIERS)" for each in verified)
    where = f", verified copies in {copies}" if copies else ""
    is_needed = any(each.tier == DISK and each.pinned for each in batch.replicas)
    pinned = " and when its recall is released" if is_needed else ""
    leaves = f", leaves the disk after {batch.leaves_disk}{pinned}" if batch.leaves_disk else ""
    return f"{batch.id}  {batch.state}  {counts}{holder}{found}{where}{leaves}{locality_text(batch.locality)}"


def _verification_text(found: Verification) -> str:
    match found.state:
        case VerificationState.RUNNING:
            return f"being verified: {_read(found)}"
        case VerificationState.INTACT:
            return "verified intact"
        case VerificationState.FAILED:
            return f"VERIFICATION FAILED: {found.problems[0]}"
        case VerificationState.DAMAGED:
            more = f" and {len(found.problems) - 1} more" if len(found.problems) > 1 else ""
            return f"DAMAGED: {found.problems[0]}{more}"
        case VerificationState.REPAIRED:
            return "was damaged, repaired and compared again"
