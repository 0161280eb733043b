"""Commands that read: the current batch, all batches, and their segments."""

import asyncio

import click
import msgspec

from gwclient.commands.console import call_gateway, print_answer
from gwclient.commands.verify import verification_text
from gwclient.exits import EXIT_CODES
from gwclient.options import Connection, Seconds, with_connection
from gwwire.manifest import sha256sum_lines
from gwwire.public import Batch
from gwwire.spans import stop_of


@click.command(epilog=EXIT_CODES)
@with_connection
def stats(connection: Connection) -> None:
    """Show how many segments and bytes the current batch has.

    Example: gwclient stats --json
    """
    answer = call_gateway(connection, lambda client: client.stats())
    print_answer(connection, answer, f"{answer.n_itm} segments, {answer.buff_size} bytes")


@click.command(epilog=EXIT_CODES)
@with_connection
def desc(connection: Connection) -> None:
    """Show the datastore's state, OPERATIONAL or FROZEN.

    Example: gwclient desc --srv gateway:8000
    """
    answer = call_gateway(connection, lambda client: client.desc())
    print_answer(connection, answer, answer.resp)


@click.command("list", epilog=EXIT_CODES)
@with_connection
def list_command(connection: Connection) -> None:
    """List the files of the current batch, one per line.

    Example: gwclient list
    """
    answer = call_gateway(connection, lambda client: client.list())
    if answer.nmlist or connection.as_json:
        print_answer(connection, answer, "\n".join(answer.nmlist))


@click.command(epilog=EXIT_CODES)
@with_connection
def batches(connection: Connection) -> None:
    """List all batches, the oldest first, one per line.

    Example: gwclient batches
    """
    answer = call_gateway(connection, lambda client: client.batches())
    print_answer(connection, {"batches": answer}, "\n".join(map(_batch_text, answer)))


@click.command(epilog=EXIT_CODES)
@click.argument("batch")
@with_connection
def batch(batch: str, connection: Connection) -> None:
    """Show one batch.

    Example: gwclient batch b1795224029597668971
    """
    answer = call_gateway(connection, lambda client: client.batch(batch))
    print_answer(connection, answer, _batch_text(answer))


@click.command(epilog=EXIT_CODES)
@click.argument("batch")
@with_connection
def manifest(batch: str, connection: Connection) -> None:
    """List the files of a sealed batch in the format of sha256sum: the SHA-256 and the name, sorted by name.

    Example: gwclient manifest b1795224029597668971 --json
    """
    answer = call_gateway(connection, lambda client: client.manifest(batch))
    lines = sha256sum_lines((entry.name, entry.sha256) for entry in answer.segments)
    print_answer(connection, answer, "".join(lines).rstrip())


@click.command(epilog=EXIT_CODES)
@click.option("--batch", help="Of this batch only.")
@click.option("--channel", help="Of this channel only, as L1:GWOSC-4KHZ_R1_STRAIN.")
@click.option("--start", type=Seconds(), help="GPS seconds: those that end after it.")
@click.option("--stop", type=Seconds(), help="GPS seconds: those that begin before it.")
@with_connection
def segments(
    batch: str | None, channel: str | None, start: float | None, stop: float | None, connection: Connection
) -> None:
    """List stored segments in the order they were stored, one per line; with --json, one JSON object per line.

    Example: gwclient segments --channel L1:GWOSC-4KHZ_R1_STRAIN --start 1126259446 --stop 1126259478
    """

    async def work() -> None:
        async with connection.client() as client:
            async for each in client.segments(batch=batch, channel=channel, start=start, stop=stop):
                if connection.as_json:
                    click.echo(msgspec.json.encode(each))
                else:
                    end = stop_of(each.t0, each.n, each.dt)
                    click.echo(f"{each.name}  {each.channel or '-'}  [{each.t0!r}, {end!r})  {each.n} samples")

    asyncio.run(work())


def _batch_text(batch: Batch) -> str:
    holder = f", held by {batch.holder}" if batch.holder else ""
    counts = f"{batch.n_itm} segments, {batch.buff_size} bytes, opened {batch.opened}"
    found = f", {verification_text(batch.verification)}" if batch.verification else ""
    return f"{batch.id}  {batch.state}  {counts}{holder}{found}"
