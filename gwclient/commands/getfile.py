"""Commands that fetch files from holdings: `getfile`, `getlist`."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from gwclient.client import GlitchflowClient
from gwclient.commands.file_lists import each_of, progress_bar, raise_for, with_concurrency, with_filelist
from gwclient.commands.holding_options import find_holdings, with_holding
from gwclient.commands.options import PATH_TEXT, Command, Connection, GivenPath, StrictCommand, with_connection
from gwclient.commands.recall_progress import RecallProgress
from gwclient.errors import (
    GatewayUnavailable,
    GwclientError,
    Incomplete,
    NotAsExpected,
    OnTape,
    OutputError,
)
from gwclient.holdings import OnBytes, newest
from gwclient.outages import PackReads, concerns_pack
from gwclient.trees import (
    FileFailure,
    absolute,
    failure_of,
    place,
    restore_directory,
    restore_link,
    restore_metadata,
)
from gwwire.decoding import InvalidRequest
from gwwire.holdings import FileState, HoldingFile, PathType, check_path

#: The longest time between two looks at what is recalled from tape.
_POLL_SECONDS = 2.0


class GetReport(Struct, frozen=True):
    """The result of fetching files."""

    files: list[str]
    failures: list[FileFailure]


def _with_target(command: Command) -> Command:
    for option in (
        with_concurrency,
        click.option("--wait", is_flag=True, help="Wait for what has to be recalled from tape."),
        click.option("-x", "--regex", is_flag=True, help="The paths are regular expressions, found in whole paths."),
        click.option(
            "-r", "--target", type=GivenPath(file_okay=False, path_type=Path), default=Path(),
            help="The folder below which files get their whole path.  [default: this folder]",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(cls=StrictCommand)
@click.argument("files", nargs=-1, required=True, type=PATH_TEXT)
@with_holding
@_with_target
@with_connection
def getfile(files: tuple[str, ...], connection: Connection, **options: Any) -> None:
    """Fetch files from holdings, directories with all that is in them.

    Without a label, id or tag, each file comes from the holding in which it was stored last. Modes and times are
    restored, users and groups are not. A file that is there already with the same bytes is not fetched again. What is
    on tape is recalled: without --wait, these files fail at once, and the same command succeeds later. The exit code is
    4 if a part could not be fetched, 1 if nothing could be.

    \b
    Examples:
      gwclient getfile /data/spectrograms/ -l "O4a glitches" -r restored/
      gwclient getfile -x '[.]h5$' -i 5
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    _get(files, connection, **options)


@click.command(cls=StrictCommand)
@with_filelist
@with_holding
@_with_target
@with_connection
def getlist(filelist: list[str], connection: Connection, **options: Any) -> None:
    """Fetch the files in a list, one path in each line, as `getfile` does; `-` is standard input.

    \b
    Examples:
      gwclient find -i 5 -1 > files.txt; gwclient getlist files.txt -i 5 -r restored/
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    _get(filelist, connection, **options)


def _get(  # noqa: PLR0913 (the options)
    paths: Sequence[str],
    connection: Connection,
    *,
    label: str | None,
    holding: int | None,
    tagged: dict[str, str] | None,
    target: Path,
    regex: bool,
    wait: bool,
    concurrency: int,
) -> None:
    filters = {"label": label, "holding": holding, "tagged": tagged}

    async def work(client: GlitchflowClient) -> GetReport:
        found, failures = await _find_all(client, paths, filters, regex=regex)
        failures += await _restore_all(client, connection, found, target, concurrency, wait=wait)
        failed = {each.path for each in failures}
        return GetReport([str(target / each.path[1:]) for each in found if each.path not in failed], failures)

    report = connection.call(work)
    connection.print_answer(report, "\n".join(report.files))
    raise_for(report.failures, Incomplete if report.files else NotAsExpected)


async def _find_all(
    client: GlitchflowClient, paths: Sequence[str], filters: dict[str, Any], *, regex: bool
) -> tuple[list[HoldingFile], list[FileFailure]]:
    """Return the complete files at paths, or below them, and the paths of which there are none."""
    chosen = None
    if any(filters.values()):
        chosen = [each.id for each in await find_holdings(client, **filters)]
        if not chosen:
            raise NotAsExpected("there is no such holding")
    found: dict[str, HoldingFile] = {}
    failures = []
    for text in paths:
        try:
            files = await _matching(client, text, chosen, regex=regex)
        except (UnicodeEncodeError, InvalidRequest) as error:
            failures.append(failure_of(text, error))
            continue
        if not files:
            failures.append(FileFailure(text, "no holding has a complete file there"))
        for each in files:
            if each.path not in found or (each.stored or 0) > (found[each.path].stored or 0):
                found[each.path] = each
    return sorted(found.values(), key=lambda each: each.path), failures


async def _matching(client: GlitchflowClient, text: str, chosen: list[int] | None, *, regex: bool) -> list[HoldingFile]:
    path = text if regex else check_path(absolute(text))
    if chosen is None and not regex:
        having = [each.id async for each in client.holdings.holdings(path=path)]
        file = await newest(client.holdings, path, having)
        if file and file.type is not PathType.DIRECTORY:
            return [file]
        chosen = [file.holding] if file else None
    numbers = chosen if chosen is not None else [each.id async for each in client.holdings.holdings()]
    wanted: list[dict[str, Any]] = [{"regex": text}] if regex else [{"path": path}, {"path": f"{path}/"}]
    return [
        each
        for number in numbers
        for filters in wanted
        async for each in client.holdings.files(number, **filters)
        if each.state is FileState.COMPLETE
    ]


async def _restore_all(  # noqa: PLR0913 (the options)
    client: GlitchflowClient,
    connection: Connection,
    files: Sequence[HoldingFile],
    target: Path,
    concurrency: int,
    *,
    wait: bool,
) -> list[FileFailure]:
    """Restore directories, files and links in this order, then the modes and times of directories."""
    fetcher = _FileFetcher(client, RecallProgress() if wait else None)
    by_type = {kind: [each for each in files if each.type is kind] for kind in PathType}

    async def fetch(file: HoldingFile) -> None:
        path = await asyncio.to_thread(place, target, file.path)
        await fetcher.fetch(file, path, bar.update)

    async def directory(file: HoldingFile) -> None:
        await asyncio.to_thread(restore_directory, target, file)

    async def link(file: HoldingFile) -> None:
        await asyncio.to_thread(restore_link, target, file)

    async def metadata(file: HoldingFile) -> None:
        await asyncio.to_thread(lambda: restore_metadata(place(target, file.path), file))

    with progress_bar(connection, "get", sum(each.size for each in by_type[PathType.FILE])) as bar:
        failures = await each_of(by_type[PathType.DIRECTORY], _caught(directory), 1)
        failed = {each.path for each in failures}
        failures += await each_of(by_type[PathType.FILE], _caught(fetch), concurrency)
    failures += await each_of(by_type[PathType.LINK], _caught(link), 1)
    restored = [each for each in reversed(by_type[PathType.DIRECTORY]) if each.path not in failed]
    return failures + await each_of(restored, _caught(metadata), 1)


class _FileFetcher:
    """Fetches files; with a `progress`, waits for those on tape."""

    def __init__(self, client: GlitchflowClient, progress: RecallProgress | None) -> None:
        self._client = client
        self._progress = progress
        self._reads = PackReads(client, waits_for_tape=progress is not None)

    async def fetch(self, file: HoldingFile, path: Path, on_bytes: OnBytes) -> None:
        """Fetch a file to a path, or raise the error."""
        while True:
            try:
                return await self._client.holdings.fetch(file, path, on_bytes, self._reads)
            except OnTape as reason:
                if self._progress is None:
                    raise
                self._progress.show(reason.state)
                await asyncio.sleep(min(reason.retry_after or _POLL_SECONDS, _POLL_SECONDS))


def _caught(
    work: Callable[[HoldingFile], Awaitable[None]],
) -> Callable[[HoldingFile], Awaitable[FileFailure | None]]:
    """Return the work, with an error that concerns one file as its failure."""

    async def caught(file: HoldingFile) -> FileFailure | None:
        try:
            await work(file)
        except OutputError:
            raise
        except GatewayUnavailable as error:
            if not concerns_pack(error):
                raise
            return FileFailure(file.path, str(error))
        except (GwclientError, OSError, InvalidRequest) as error:
            return FileFailure(file.path, getattr(error, "strerror", None) or str(error))
        return None

    return caught
