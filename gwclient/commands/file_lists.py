"""The shared code of `put` and `getfile`: lists of files, parallel transfers, progress and failures."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import click
from tqdm import tqdm

from gwclient.commands.options import Connection
from gwclient.errors import NotAsExpected
from gwclient.trees import FileFailure, read_list
from gwwire.holdings import HoldingFile
from gwwire.names import printable

#: Failures that are shown one by one.
_MOST_SHOWN = 20

with_concurrency = click.option(
    "--concurrency", type=click.IntRange(1, 32), default=4, show_default=True, help="Files in flight."
)


def _read_paths(_: click.Context, __: click.Parameter, filelist: Any) -> list[str]:
    text = filelist.read()
    if "\0" in text:  # such as UTF-16
        raise click.UsageError(f"{filelist.name} has NULs: expected UTF-8 text with one path in each line")
    if not (paths := read_list(text)):
        raise click.UsageError(f"{filelist.name} has no path")
    return paths


#: The argument for a file with one path in each line; the command gets the paths, also those that are not UTF-8.
with_filelist = click.argument(
    "filelist", type=click.File(encoding="utf-8-sig", errors="surrogateescape"), callback=_read_paths
)


async def each_of(
    files: Iterable[HoldingFile], work: Callable[[HoldingFile], Awaitable[FileFailure | None]], concurrency: int
) -> list[FileFailure]:
    """Work on files, some at a time, and return what failed; the first error ends all."""
    left = iter(files)
    outcomes: list[FileFailure | None] = []

    async def worker() -> None:
        for file in left:
            outcomes.append(await work(file))  # noqa: PERF401 (several workers share the files)

    tasks = [asyncio.ensure_future(worker()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [each for each in outcomes if each]


def raise_for(failures: Sequence[FileFailure], kind: type[NotAsExpected] = NotAsExpected) -> None:
    """Raise an exception of a kind, after the list, if files failed."""
    for each in failures[:_MOST_SHOWN]:
        click.echo(f"{printable(each.path)}: {printable(each.reason)}", err=True)
    if len(failures) > _MOST_SHOWN:
        click.echo(f"and {len(failures) - _MOST_SHOWN} more", err=True)
    if failures:
        raise kind(f"{len(failures)} file{'' if len(failures) == 1 else 's'} failed")


def progress_bar(connection: Connection, what: str, size: int) -> "tqdm[Any]":
    """Return the progress of a transfer of some bytes."""
    disabled = connection.as_json or None
    return tqdm(desc=what, total=size, unit="B", unit_scale=True, leave=False, disable=disabled)
