"""`gwclient recall`: bring batches back from tape."""

import sys
from collections.abc import Sequence

import click

from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, StrictCommand, name, seconds, with_connection
from gwclient.commands.records import one_line
from gwclient.commands.tiers import time_text
from gwclient.errors import NOT_ACKNOWLEDGED, GatewayRefused
from gwclient.recalls import wait_for_recalls
from gwwire.tiering import ANYBODY, Recall, RecallState


@click.command(cls=StrictCommand)
@click.argument("batches", nargs=-1, type=name, required=True, metavar="BATCH...")
@click.option("--wait", is_flag=True, help="Wait until all of them can be read, or cannot be recalled.")
@click.option("--release", is_flag=True, help="Let the datastore evict them again, which it does later by itself.")
@click.option(
    "--asker", type=name, help="With --release: for whom it is kept, instead of you: a name that --release has shown."
)
@click.option(
    "--poll", type=seconds(0.05, 3600), default=2.0, show_default=True, help="With --wait: the time between two looks."
)
@with_connection
def recall(  # noqa: PLR0913 (the options)
    batches: tuple[str, ...],
    *,
    wait: bool,
    release: bool,
    asker: str | None,
    poll: float,
    connection: Connection,
) -> None:
    """Bring batches back from tape, so that they can be read, or show how far that is.

    A batch that can be read already is kept readable. Batches that do not fit into the cache of the tape together are
    refused. The exit code is 1 if a recall failed.

    \b
    Examples:
      gwclient recall b1795224029597668971 --wait
      gwclient recall b1795224029597668971 --release
      gwclient recall b1795224029597668971 --release --asker get-0123456789abcdef0123456789abcdef
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if wait and release:
        raise click.UsageError("--wait and --release exclude each other")
    if asker and not release:
        raise click.UsageError("--asker needs --release")

    if release:
        released = connection.call(lambda client: _release(client, batches, asker or ANYBODY))
        lines = [f"{recall_text(each)}; {end}" for each, end in released]
        connection.print_answer({"recalls": [each for each, _ in released]}, "\n".join(lines))
        return

    async def work(client: GlitchflowClient) -> list[Recall]:
        found = await _ask_for_all(client, batches)
        if not wait:
            return found
        return await wait_for_recalls(client, batches, poll, lambda each: click.echo(recall_text(each), err=True))

    found = connection.call(work)
    connection.print_answer({"recalls": found}, "\n".join(map(recall_text, found)))
    if any(each.state is RecallState.FAILED for each in found):
        sys.exit(NOT_ACKNOWLEDGED)


async def _release(client: GlitchflowClient, batches: Sequence[str], asker: str) -> list[tuple[Recall, str]]:
    """Release some batches for an asker; return each with what that did."""
    before = [await client.recall_state(batch, asker) for batch in batches]
    nothing = f"nothing to release: it was not kept for {'you' if asker == ANYBODY else asker}"
    ends = ["released" if each.pinned is not None else nothing for each in before]
    after = [await client.release(batch, asker) for batch in batches]
    return [(each, end + _kept_text(each)) for each, end in zip(after, ends, strict=True)]


def _kept_text(recall: Recall) -> str:
    """Return for whom else a batch is kept; `readers` have read from it without an order of their own."""
    kept = [f"for {one_line(asker)} until {time_text(until)}" for asker, until in recall.others.items()]
    return f"; still kept {', '.join(kept)}" if kept else ""


async def _ask_for_all(client: GlitchflowClient, batches: Sequence[str]) -> list[Recall]:
    """Ask for some batches; if one is refused, keep none that was not kept before."""
    before = [await client.recall_state(batch) for batch in batches]
    found: list[Recall] = []
    try:
        for batch in batches:
            found.append(await client.recall(batch))  # noqa: PERF401 (what was asked for is released)
    except GatewayRefused:
        for each in before[: len(found)]:
            if each.pinned is None:
                await client.release(each.batch)
        raise
    return found


def recall_text(recall: Recall) -> str:
    """Return one line about a recall."""
    waits = f"waits: {one_line(recall.reason)}" if recall.reason else ""
    match recall.state:
        case RecallState.ONLINE:
            rest = "can be read"
        case RecallState.NEARLINE:
            rest = "is on tape"
        case RecallState.QUEUED:
            rest = waits or f"number {recall.position} of the queue, {_estimate_text(recall)}"
        case RecallState.RUNNING:
            rest = waits or f"{recall.percent} %, {_estimate_text(recall)}"
        case RecallState.FAILED:
            rest = one_line(recall.reason or "no reason given")
    return f"{recall.batch}  {recall.state}: {rest}"


def _estimate_text(recall: Recall) -> str:
    return f"about {recall.seconds} s" + ("" if recall.measured else ", a guess: no recall was made yet")
