"""`gwclient verify`: compare an archived batch with its manifest."""

import asyncio
import sys

import click

from gwclient.client import GlitchflowClient
from gwclient.commands.console import call_gateway, print_answer
from gwclient.errors import NotAsExpected
from gwclient.exits import EXIT_CODES, NOT_ACKNOWLEDGED
from gwclient.options import Connection, Seconds, with_connection
from gwwire.public import Verification, VerificationState


@click.command(epilog=EXIT_CODES)
@click.argument("batch")
@click.option(
    "--poll", type=Seconds(0.05, 3600), default=2.0, show_default=True, help="How often to look how far it is."
)
@with_connection
def verify(batch: str, poll: float, connection: Connection) -> None:
    """Compare an archived batch with its manifest, and wait for the result (exit code 1: it is damaged).

    It goes on at the datastore when this is interrupted, and asking again while it does begins nothing anew.

    Example: gwclient verify b1795224029597668971
    """
    found = call_gateway(connection, lambda client: _until_found(client, batch, poll))
    print_answer(connection, found, "\n".join([*found.problems, f"{batch} is {found.state}: {_read(found)}"]))
    if found.state is VerificationState.DAMAGED:
        sys.exit(NOT_ACKNOWLEDGED)


def verification_text(found: Verification) -> str:
    """Return the result of a verification in a few words."""
    match found.state:
        case VerificationState.RUNNING:
            return f"being verified: {_read(found)}"
        case VerificationState.INTACT:
            return "verified intact"
        case VerificationState.DAMAGED:
            more = f" and {len(found.problems) - 1} more" if len(found.problems) > 1 else ""
            return f"DAMAGED: {found.problems[0]}{more}"


async def _until_found(client: GlitchflowClient, batch: str, poll: float) -> Verification:
    begun = await client.verify(batch)
    told = ""
    while True:
        found = (await client.batch(batch)).verification
        if found is None or found.at < begun.at:
            raise NotAsExpected(f"the datastore was restarted before batch {batch} was verified; ask again")
        if found.state is not VerificationState.RUNNING:
            return found
        if (progress := _read(found)) != told:
            told = progress
            click.echo(progress, err=True)
        await asyncio.sleep(poll)


def _read(found: Verification) -> str:
    return f"{found.checked} of {found.segments} files read"
