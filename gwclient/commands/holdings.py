"""Commands on holdings: `holdings`, `find`, `meta`, `stat`, `delete`, `undo`."""

from datetime import UTC, datetime
from itertools import chain
from typing import Any

import click

from gwclient.amounts import bytes_text, count_text
from gwclient.client import GlitchflowClient
from gwclient.commands.holding_options import find_holdings, tag_text, tags, with_holding, with_order, with_owner
from gwclient.commands.options import PATH_TEXT, Connection, StrictCommand, confirmed, with_connection
from gwclient.commands.queries import locality_text
from gwclient.errors import NotAsExpected, listed
from gwclient.trees import absolute
from gwwire.decoding import InvalidRequest
from gwwire.holdings import (
    FileState,
    Holding,
    HoldingFile,
    HoldingPatch,
    PathType,
    Transaction,
    TransactionKind,
    TransactionState,
    check_path,
)
from gwwire.names import printable

_LETTERS = {PathType.FILE: "-", PathType.DIRECTORY: "d", PathType.LINK: "l"}


@click.command(cls=StrictCommand)
@with_holding
@with_owner
@click.option("-x", "--regex", is_flag=True, help="The label is a regular expression, found in labels.")
@click.option("--deleted", is_flag=True, help="Those that were deleted and can be restored, instead.")
@with_order
@with_connection
def holdings(  # noqa: PLR0913, PLR0917 (one for each option)
    label: str | None,
    holding: int | None,
    tagged: dict[str, str] | None,
    regex: bool,  # noqa: FBT001 (click calls it by name)
    page: dict[str, Any],
    connection: Connection,
    **filters: Any,
) -> None:
    """List holdings: your own, and those of your group.

    \b
    Examples:
      gwclient holdings
      gwclient holdings -t site:LLO -L 10 -9
      gwclient holdings -x -l '^O4a'
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    wanted = {"regex" if regex else "label": label, **filters, **page}
    found = connection.call(lambda client: find_holdings(client, holding, tagged, **wanted))
    connection.print_answer({"holdings": found}, "\n".join(map(_holding_text, found)))


@click.command(cls=StrictCommand)
@with_holding
@with_owner
@click.option("-p", "--path", type=PATH_TEXT, help="Only this path; below it, if it ends with a slash.")
@click.option("-x", "--regex", is_flag=True, help="The path is a regular expression, found in whole paths.")
@click.option("-1", "--simple", is_flag=True, help="Print paths only.")
@click.option("-L", "--limit", type=click.IntRange(1), help="How many files are shown.  [default: all]")
@with_connection
def find(  # noqa: PLR0913, PLR0917 (one for each option)
    label: str | None,
    holding: int | None,
    tagged: dict[str, str] | None,
    path: str | None,
    regex: bool,  # noqa: FBT001 (click calls it by name)
    simple: bool,  # noqa: FBT001 (click calls it by name)
    limit: int | None,
    connection: Connection,
    **owner: Any,
) -> None:
    """Find files in holdings.

    \b
    Examples:
      gwclient find -l "O4a glitches"
      gwclient find -x -p '[.]h5$' -1
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)

    async def work(client: GlitchflowClient) -> list[HoldingFile]:
        files: list[HoldingFile] = []
        for each in await find_holdings(client, holding, tagged, label, **owner):
            left = None if limit is None else limit - len(files)
            filters = {} if path is None else {"regex" if regex else "path": path}
            files += [file async for file in client.holdings.files(each.id, left, **filters)]
        return files

    found = connection.call(work)
    lines = [listed(each.path) if simple else _file_text(each) for each in found]
    connection.print_answer({"files": found}, "\n".join(lines))


@click.command(cls=StrictCommand)
@with_holding
@click.option("-n", "--new-label", help="The new label.")
@click.option("-T", "--new-tag", type=tags, help="Tags to set, NAME:VALUE with commas between them.")
@click.option("-D", "--del-tag", multiple=True, metavar="NAME", help="A tag to remove; for several, several times.")
@with_connection
def meta(  # noqa: PLR0913, PLR0917 (one for each option)
    label: str | None,
    holding: int | None,
    tagged: dict[str, str] | None,
    new_label: str | None,
    new_tag: dict[str, str] | None,
    del_tag: tuple[str, ...],
    connection: Connection,
) -> None:
    """Change the label and tags of a holding.

    \b
    Examples:
      gwclient meta -l "O4a glitches" -T run:O4a,site:LLO
      gwclient meta -i 5 -n "O4a glitches of LLO" -D draft
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)

    async def work(client: GlitchflowClient) -> Holding:
        found = await _the_holding(client, label, holding, tagged)
        changes = HoldingPatch(new_label, {**(new_tag or {}), **dict.fromkeys(del_tag)})
        return await client.holdings.patch(found.id, changes)

    done = connection.call(work)
    connection.print_answer(done, _holding_text(done))


@click.command(cls=StrictCommand)
@click.argument("transaction", required=False)
@click.option("-n", "--transaction-id", "named", help="The same as TRANSACTION.")
@click.option("-i", "--holding-id", "holding", type=click.IntRange(1), help="Only of this holding.")
@click.option("-b", "--job-label", help="Only with this job label.")
@click.option("-a", "--action", "kind", type=click.Choice([each.value for each in TransactionKind]), help="Only these.")
@click.option("-s", "--state", type=click.Choice([each.value for each in TransactionState]), help="Only in this state.")
@click.option("-F", "--failed-files", "failed", is_flag=True, help="Print the paths of failed files, for putlist.")
@with_owner
@with_order
@with_connection
def stat(
    transaction: str | None,
    named: str | None,
    failed: bool,  # noqa: FBT001 (click calls it by name)
    page: dict[str, Any],
    connection: Connection,
    **filters: Any,
) -> None:
    """Show transactions with their states; with -F, the files that failed, and the reasons on standard error.

    A file that could not be read when it was put is in no transaction: only `put` and `putlist` name it.

    \b
    Examples:
      gwclient stat 0ee42f6f-3f0f-4b0e-8c3f-0d0b3a0f6a55
      gwclient stat -9 -L 10
      gwclient stat -b nightly -F > failed.txt; gwclient putlist failed.txt -l "O4a glitches"
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)

    async def work(client: GlitchflowClient) -> tuple[list[Transaction], list[HoldingFile]]:
        if one := transaction or named:
            found = [await client.holdings.transaction(one)]
        else:
            found = [each async for each in client.holdings.transactions(**filters, **page)]
        files = [
            [file async for file in client.holdings.files_of(each.id, FileState.FAILED)]
            for each in found
            if failed and each.failed
        ]
        return found, list(chain.from_iterable(files))

    found, files = connection.call(work)
    answer = {"transactions": found, "failed_files": files} if failed else {"transactions": found}
    if not failed:
        connection.print_answer(answer, "\n".join(map(_transaction_text, found)))
        return
    for each in files:
        click.echo(f"{printable(each.path)}: {printable(each.reason or '')}", err=True)
    connection.print_answer(answer, "\n".join({listed(each.path): None for each in files}))


@click.command(cls=StrictCommand)
@click.argument("files", nargs=-1, type=PATH_TEXT)
@with_holding
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_connection
def delete(  # noqa: PLR0913, PLR0917 (one for each option)
    files: tuple[str, ...],
    label: str | None,
    holding: int | None,
    tagged: dict[str, str] | None,
    yes: bool,  # noqa: FBT001 (click calls it by name)
    connection: Connection,
) -> None:
    """Delete files of a holding, or all of it; each deletion is a transaction, which `undo` takes back.

    \b
    Examples:
      gwclient delete -i 5
      gwclient delete -l "O4a glitches" /data/notes.md --yes
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    paths: list[str | None] = [_path_in_holding(each) for each in files]

    async def look(client: GlitchflowClient) -> Holding:
        return await _the_holding(client, label, holding, tagged)

    found = connection.call(look)
    what = f"{count_text(len(files), 'file')} of" if files else "all of"
    if not yes and not confirmed(f"Delete {what} holding {found.id}, {found.label!r}?"):
        raise NotAsExpected("nothing was deleted; --yes answers for scripts")

    async def work(client: GlitchflowClient) -> list[Transaction]:
        return [await client.holdings.delete(found.id, path) for path in paths or [None]]

    done = connection.call(work)
    connection.print_answer({"transactions": done}, "\n".join(map(_transaction_text, done)))


@click.command(cls=StrictCommand)
@click.argument("transactions", nargs=-1, required=True)
@with_connection
def undo(transactions: tuple[str, ...], connection: Connection) -> None:
    """Restore what transactions deleted, until HOLDING_GRACE of the datastore is over.

    Example: gwclient undo 0ee42f6f-3f0f-4b0e-8c3f-0d0b3a0f6a55
    """

    async def work(client: GlitchflowClient) -> list[Transaction]:
        return [await client.holdings.undo(each) for each in transactions]

    done = connection.call(work)
    connection.print_answer({"transactions": done}, "\n".join(map(_transaction_text, done)))


async def _the_holding(
    client: GlitchflowClient, label: str | None, holding: int | None, tagged: dict[str, str] | None
) -> Holding:
    if label is None and holding is None and not tagged:
        raise click.UsageError("name the holding by -l LABEL, -i ID or -t TAG")
    found = await find_holdings(client, holding, tagged, label)
    if len(found) != 1:
        numbers = ", ".join(str(each.id) for each in found[:5])
        raise NotAsExpected(
            f"several holdings match: {numbers}; name one by -i" if found else "there is no such holding"
        )
    return found[0]


def _path_in_holding(text: str) -> str:
    try:
        return check_path(absolute(text))
    except InvalidRequest as error:
        raise click.UsageError(error.detail) from None


def _holding_text(each: Holding) -> str:
    owner = each.user + (f" ({each.group})" if each.group else "")
    deleted = f"  deleted {_time(each.deleted)}" if each.deleted else ""
    files, size = f"{count_text(each.files, 'file'):>12}", f"{bytes_text(each.bytes):>9}"
    words = [f"{each.id:6}", _time(each.created), files, size, owner]
    return "  ".join(filter(None, [*words, printable(each.label), tag_text(each.tags) or ""])) + deleted


def _file_text(each: HoldingFile) -> str:
    mode = f"{_LETTERS[each.type]}{each.mode:04o}"
    link = f" -> {printable(each.link)}" if each.link else ""
    state = "" if each.state is FileState.COMPLETE else f"  {each.state}"
    where = locality_text(each.locality) if each.locality else ""
    head = f"{each.holding:6}  {mode}  {bytes_text(each.size):>9}  {_time(each.mtime)}"
    return f"{head}  {printable(each.path)}{link}{state}{where}"


def _transaction_text(each: Transaction) -> str:
    failed = f", {each.failed:,} failed" if each.failed else ""
    counts = f"{each.complete:,} of {count_text(each.files, 'file')}{failed}"
    size = f", {bytes_text(each.bytes)}" if each.kind is TransactionKind.PUT else ""
    job = f"  {printable(each.job_label)}" if each.job_label else ""
    head = f"{each.id}  {_time(each.time)}  {each.kind:6}  holding {each.holding}  {each.state} {each.percent} %"
    return "\n    ".join([f"{head}  {counts}{size}{job}", *(f"warning: {printable(text)}" for text in each.warnings)])


def _time(unix: float) -> str:
    """Return a time in UTC, or in Unix seconds if its year does not have four digits."""
    try:
        return f"{datetime.fromtimestamp(unix, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return f"@{unix:.0f}".ljust(19)
