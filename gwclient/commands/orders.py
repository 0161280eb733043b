"""Commands that change a batch: `train`, `thaw`, `clean`."""

from functools import partial
from pathlib import Path

import click

from gwclient.amounts import bytes_text, count_text
from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, GivenPath, StrictCommand, name, seconds, with_connection, with_tiering
from gwclient.errors import GatewayRefused, HeldByAnother, NotAsExpected, OutputError, unwritable, why_unread
from gwclient.folder import check_writable
from gwclient.freeze import is_held_by, until_done, until_frozen, waiting_text
from gwservice.regular_file import read_regular
from gwwire.public import CleanAnswer, ThawAnswer, TrainFrozen, TrainWaiting
from gwwire.tiering import Tiering

#: Bytes of a file that names a batch.
_MOST_BYTES = 1000

_user = click.option("--user", type=name, help="The holder of the batch.  [default: the name of the API key]")
_token = click.option("--token", required=True, envvar="GLITCHFLOW_TOKEN", show_envvar=True, help="The holder's token.")


@click.command(cls=StrictCommand)
@_user
@_token
@click.option("--wait", is_flag=True, help="Repeat until the batch is frozen for this user.")
@click.option(
    "--poll", type=seconds(0.05, 3600), default=10.0, show_default=True, help="With --wait: the time between two tries."
)
@click.option(
    "--deadline", type=seconds(0.05), help="With --wait: the time after which to give up (exit code 1, or 6)."
)
@click.option(
    "--batch-file",
    type=GivenPath(dir_okay=False, path_type=Path),
    help="Write the id of the frozen batch to this file.",
)
@with_connection
def train(  # noqa: PLR0913, PLR0917 (one for each option)
    user: str | None,
    token: str,
    wait: bool,  # noqa: FBT001 (click calls it by name)
    poll: float,
    deadline: float | None,
    batch_file: Path | None,
    connection: Connection,
) -> None:
    """Freeze the current batch if it is large enough.

    The answer is FROZEN, or WAITING for more data. If another user holds the batch, the exit code is 6.

    \b
    Examples:
      gwclient train --user ada --token s3cret
      gwclient train --user ada --token s3cret --wait --poll 10 --deadline 3600 --json
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if batch_file:
        check_writable(batch_file)  # before the freeze, which stops the stream

    async def work(client: GlitchflowClient) -> tuple[str, TrainFrozen | TrainWaiting, str]:
        own = user or await _own_name(client)
        if wait:
            return own, await until_frozen(client, own, token, poll, deadline, partial(click.echo, err=True)), ""
        answer = await client.train(own, token)
        return own, answer, await waiting_text(client) if isinstance(answer, TrainWaiting) else ""

    own, answer, reason = connection.call(work)
    if isinstance(answer, TrainWaiting):
        connection.print_answer(answer, f"WAITING: {reason}")
        return
    holder = f", held by {answer.holder}" if answer.holder else ""
    words = f"FROZEN: {count_text(answer.n_f, 'segment')}, {bytes_text(answer.bt_wrt)}{holder}"
    if not is_held_by(answer, own):
        connection.print_answer(answer, words)
        raise HeldByAnother(f"{answer.holder} holds the batch, not {own}")
    if batch_file:
        if not answer.batch:
            raise NotAsExpected("the gateway does not name the frozen batch")
        try:
            batch_file.write_text(f"{answer.batch}\n")
        except OSError as error:
            named = f"the batch {answer.batch} is frozen, but {batch_file}"
            raise unwritable(named, error, otherwise=OutputError) from error
    connection.print_answer(answer, words)


async def _own_name(client: GlitchflowClient) -> str:
    name = (await client.whoami()).name
    if name is None:
        raise click.UsageError("--user is required: there is no API key with a name")
    return name


@click.command(cls=StrictCommand)
@_user
@_token
@with_connection
def thaw(user: str | None, token: str, connection: Connection) -> None:
    """Open the frozen batch again; only its holder may.

    Example: gwclient thaw --user ada --token s3cret
    """

    async def work(client: GlitchflowClient) -> ThawAnswer:
        return await client.thaw(user or await _own_name(client), token)

    answer = connection.call(work)
    connection.print_answer(answer, f"{answer.resp}: {answer.body}" if answer.body else answer.resp)


@click.command(cls=StrictCommand)
@click.option("--message", default="cleaned by gwclient", show_default=True, help="A message for the log.")
@click.option("--batch", type=name, help="Archive this batch, and no other.")
@click.option(
    "--batch-file",
    type=GivenPath(dir_okay=False, path_type=Path),
    help="Read the batch id from this file, which `train --batch-file` wrote.",
)
@click.option(
    "--after", type=name,
    help="Wait until this step is done on the batch; if it FAILED, archive nothing (exit code 1).",
)  # fmt: skip
@with_tiering
@with_connection
def clean(  # noqa: PLR0913, PLR0917 (one for each option)
    message: str,
    batch: str | None,
    batch_file: Path | None,
    after: str | None,
    tiering: Tiering | None,
    connection: Connection,
) -> None:
    """Archive the current batch, and open the datastore again.

    \b
    Examples:
      gwclient clean --message "epoch 12 done"
      gwclient clean --archive-to object,tape --keep-on-disk 7d
      gwclient clean --batch b1795224029597668971 --after spectrograms
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if batch_file is not None:
        if batch is not None:
            raise click.UsageError("--batch and --batch-file exclude each other")
        batch = _read_batch(batch_file)
    if after is not None and batch is None:
        raise click.UsageError("--after needs --batch or --batch-file")

    async def work(client: GlitchflowClient) -> CleanAnswer:
        if batch is None:
            return await client.clean(message, *await _current(client), tiering)
        if after is not None:
            await until_done(client, batch, after)
        return await client.clean(message, batch, tiering=tiering)

    answer = connection.call(work)
    connection.print_answer(answer, f"{answer.resp}: {answer.body}" if answer.body else answer.resp)


async def _current(client: GlitchflowClient) -> tuple[str | None, str | None]:
    """Return the current batch and its holder, or nothing if the key may not read them."""
    try:
        overview = await client.overview()
    except GatewayRefused:
        return None, None
    return overview.batch, overview.holder or ""


def _read_batch(path: Path) -> str:
    try:
        batch = read_regular(path, _MOST_BYTES, follow=True, pipes=True).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{path} cannot be read: {why_unread(error)}") from None
    if not batch:
        raise click.UsageError(f"{path} names no batch")
    return batch
