"""`gwclient watch`: show how the current batch fills."""

import asyncio
import sys
import time
from datetime import UTC, datetime

import click
import msgspec

from gwclient.amounts import bytes_text, count_text
from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, StrictCommand, seconds, size, with_connection
from gwclient.errors import GatewayUnavailable
from gwwire.public import Stats

_BAR = 24
#: A time in s, and the gateway's answer.
_Seen = tuple[float, Stats]


@click.command(cls=StrictCommand)
@click.option("--every", type=seconds(0.05, 3600), default=2.0, show_default=True, help="The time between two polls.")
@click.option("--count", type=click.IntRange(1), help="Number of polls before it exits.  [default: until Ctrl-C]")
@click.option("--full", type=size, help="The size at which a batch is complete (MAX_SIZE), to draw a bar.")
@with_connection
def watch(every: float, count: int | None, full: int | None, connection: Connection) -> None:
    """Show how the current batch fills: segments, bytes, and how many arrive per second.

    On a terminal one line is kept up to date; elsewhere each poll prints one line; with --json, one object per line.

    Example: gwclient watch --full 50MB
    """
    asyncio.run(_watch(connection, every, count, full))


async def _watch(connection: Connection, every: float, count: int | None, full: int | None) -> None:
    last: _Seen | None = None
    looks = 0
    live = sys.stdout.isatty() and not connection.as_json
    async with connection.client() as client:
        while True:
            began = time.monotonic()
            line, last = await _look(client, connection, last, full)
            click.echo(f"\r\x1b[K{line}" if live else line, nl=not live)
            looks += 1
            if looks == count:
                break
            await asyncio.sleep(max(0.0, began + every - time.monotonic()))
    if live:
        click.echo()


async def _look(
    client: GlitchflowClient, connection: Connection, last: _Seen | None, full: int | None
) -> tuple[str, _Seen | None]:
    try:
        stats, state = await asyncio.gather(client.stats(), client.desc())
    except GatewayUnavailable as error:
        if last is None:
            raise
        return (msgspec.json.encode({"error": str(error)}).decode() if connection.as_json else str(error)), last
    now = time.monotonic()
    rates: dict[str, float] = {}
    if last is not None and stats.n_itm >= last[1].n_itm:
        passed = max(now - last[0], 1e-6)
        rates["segments_per_s"] = (stats.n_itm - last[1].n_itm) / passed
        rates["bytes_per_s"] = (stats.buff_size - last[1].buff_size) / passed
    if connection.as_json:
        line = {"time": time.time(), "resp": state.resp, **msgspec.to_builtins(stats), **rates}
        return msgspec.json.encode(line).decode(), (now, stats)
    speed = f", {rates['segments_per_s']:,.1f} segments/s, {bytes_text(rates['bytes_per_s'])}/s" if rates else ""
    held = f"{count_text(stats.n_itm, 'segment')}, {bytes_text(stats.buff_size)}"
    words = f"{datetime.now(UTC):%H:%M:%SZ} {state.resp} {held}{speed}"
    if full:
        part = stats.buff_size / full
        words += f" [{'#' * min(_BAR, int(part * _BAR)):.<{_BAR}}] {part:.0%}"
    return words, (now, stats)
