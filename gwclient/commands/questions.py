"""What can be asked of the gateway: the batch in hand, all batches, and the segments in them."""

import asyncio

import click
import msgspec

from gwclient.commands.talking import ask, tell
from gwclient.commands.verify import tell_verification
from gwclient.exits import EXIT_CODES
from gwclient.options import Door, Seconds, with_door
from gwwire.public import Batch


@click.command(epilog=EXIT_CODES)
@with_door
def stats(door: Door) -> None:
    """Tell how many segments and bytes the batch in hand has.

    Example: gwclient stats --json
    """
    answer = ask(door, lambda client: client.stats())
    tell(door, answer, f"{answer.n_itm} segments, {answer.buff_size} bytes")


@click.command(epilog=EXIT_CODES)
@with_door
def desc(door: Door) -> None:
    """Tell the datastore's state, OPERATIONAL or FROZEN.

    Example: gwclient desc --srv gateway:8000
    """
    answer = ask(door, lambda client: client.desc())
    tell(door, answer, answer.resp)


@click.command("list", epilog=EXIT_CODES)
@with_door
def list_command(door: Door) -> None:
    """List the files of the batch in hand, one in a line.

    Example: gwclient list
    """
    answer = ask(door, lambda client: client.list())
    if answer.nmlist or door.as_json:
        tell(door, answer, "\n".join(answer.nmlist))


@click.command(epilog=EXIT_CODES)
@with_door
def batches(door: Door) -> None:
    """List all batches, the oldest first, one in a line.

    Example: gwclient batches
    """
    answer = ask(door, lambda client: client.batches())
    tell(door, {"batches": answer}, "\n".join(map(_tell_batch, answer)))


@click.command(epilog=EXIT_CODES)
@click.argument("batch")
@with_door
def batch(batch: str, door: Door) -> None:
    """Tell about one batch.

    Example: gwclient batch b1795224029597668971
    """
    answer = ask(door, lambda client: client.batch(batch))
    tell(door, answer, _tell_batch(answer))


@click.command(epilog=EXIT_CODES)
@click.argument("batch")
@with_door
def manifest(batch: str, door: Door) -> None:
    """Tell what a sealed batch holds, in the format of sha256sum: the digest of each file, and its name.

    Example: gwclient manifest b1795224029597668971 --json
    """
    answer = ask(door, lambda client: client.manifest(batch))
    tell(door, answer, "\n".join(f"{entry.sha256}  {entry.name}" for entry in answer.segments))


@click.command(epilog=EXIT_CODES)
@click.option("--batch", help="Of this batch only.")
@click.option("--channel", help="Of this channel only, as L1:GWOSC-4KHZ_R1_STRAIN.")
@click.option("--start", type=Seconds(), help="GPS seconds: those that end after it.")
@click.option("--stop", type=Seconds(), help="GPS seconds: those that begin before it.")
@with_door
def segments(batch: str | None, channel: str | None, start: float | None, stop: float | None, door: Door) -> None:
    """List stored segments in the order they were stored, one in a line; with --json, a JSON object a line.

    Example: gwclient segments --channel L1:GWOSC-4KHZ_R1_STRAIN --start 1126259446 --stop 1126259478
    """

    async def work() -> None:
        async with door.client() as client:
            async for each in client.segments(batch=batch, channel=channel, start=start, stop=stop):
                if door.as_json:
                    click.echo(msgspec.json.encode(each))
                else:
                    end = each.t0 + each.n * each.dt
                    click.echo(f"{each.name}  {each.channel or '-'}  [{each.t0!r}, {end!r})  {each.n} samples")

    asyncio.run(work())


def _tell_batch(batch: Batch) -> str:
    holder = f", held by {batch.holder}" if batch.holder else ""
    counts = f"{batch.n_itm} segments, {batch.buff_size} bytes, opened {batch.opened}"
    found = f", {tell_verification(batch.verification)}" if batch.verification else ""
    return f"{batch.id}  {batch.state}  {counts}{holder}{found}"
