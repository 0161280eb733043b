"""The gateway's routes of bundles as coroutines, and downloads of their archives that can be resumed.

An archive that is being downloaded is in a file whose name has its ETag, so that the next download continues it only if
the archive still has the same bytes. The ETag is also a digest of all that the archive contains.
"""

import asyncio
import hashlib
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path

import aiohttp

from gwclient.connection import GatewayConnection, response_error
from gwclient.digests import AS_STORED, digest_of
from gwclient.errors import (
    FolderError,
    GatewayUnavailable,
    Incomplete,
    NotAsExpected,
    UnexpectedAnswer,
    unwritable,
    write_errors,
)
from gwclient.partial_file import PartialFileBusy, alone
from gwclient.url_paths import url_path
from gwservice.atomic import replacing
from gwservice.regular_file import append_regular
from gwwire.bundles import INFO, Bundle, BundleFormat, BundleInfo, BundleOrder, BundleState
from gwwire.decoding import parse_json
from gwwire.tar import tar_digest

#: Is called with the number of bytes that are there, and of all.
OnBytes = Callable[[int, int], object]

_OK, _PARTIAL = 200, 206
_CHUNK = 2**18
#: s between two questions whether an archive is built, without a WebSocket: the first, and the most.
_POLL, _LONGEST_POLL = 0.1, 2.0
_BUILDING = re.compile(r"BUILDING (\d{1,3})%")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Bundles:
    """Bundles over a connection; `client.bundles`.

    Every method raises GatewayRefused for a request that is wrong or not allowed, and GatewayUnavailable if every try
    failed.
    """

    def __init__(self, connection: GatewayConnection) -> None:
        self._connection = connection

    async def make(self, order: BundleOrder) -> Bundle:
        """Make the bundle of what an order selects now, or return the one that exists already."""
        return await self._connection.ask("POST", "/bundles", Bundle, order)

    async def get(self, bundle: str) -> Bundle:
        """Return a bundle by its id, or raise GatewayRefused (404) if there is none."""
        return await self._connection.ask("GET", url_path("bundles", bundle), Bundle)

    async def cancel(self, bundle: str) -> Bundle:
        """Stop the building of an archive, or delete it."""
        return await self._connection.ask("DELETE", url_path("bundles", bundle), Bundle)

    async def wait(self, bundle: Bundle, on_percent: Callable[[int], object] = lambda _: None) -> Bundle:
        """Wait until the archive is built, and return the bundle; raise NotAsExpected if its building failed.

        `on_percent` is called with how much of it is built. The gateway says it over a WebSocket; if there is none, or
        it breaks, the state is polled.
        """
        if bundle.state is BundleState.BUILDING:
            await self._listen(bundle.id, on_percent)
            bundle = await self.get(bundle.id)
        pause = _POLL
        while bundle.state is BundleState.BUILDING:
            on_percent(bundle.percent)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_POLL)
            bundle = await self.get(bundle.id)
        if bundle.state in {BundleState.FAILED, BundleState.CANCELLED}:
            reason = f": {bundle.reason}" if bundle.reason else ""
            raise NotAsExpected(f"the archive of bundle {bundle.id} is {bundle.state}{reason}")
        on_percent(100)
        return bundle

    async def _listen(self, bundle: str, on_percent: Callable[[int], object]) -> None:
        """Follow the texts of the gateway until the archive is built, or they end."""
        with suppress(GatewayUnavailable):
            async with aclosing(self._connection.texts(url_path("bundles", bundle, "ready"))) as texts:
                async for text in texts:
                    if building := _BUILDING.fullmatch(text):
                        on_percent(int(building[1]))

    async def download(
        self, bundle: Bundle, folder: Path | str, on_bytes: OnBytes = lambda _there, _size: None
    ) -> Path:
        """Download the archive of a bundle into a folder, check its bytes, and return its file.

        It waits until the archive is built. A download that was cut off is continued, also by the next call, and an
        archive that is complete is not downloaded again. Raise FolderError or OutputError if it cannot be written, and
        FolderError while another download writes the same file.
        """
        await self.wait(bundle)
        path = Path(folder) / f"bundle-{bundle.id}.{'json' if bundle.format is BundleFormat.MANIFEST else 'tar'}"
        with write_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        return await self._connection.with_retries(lambda: self._fetch(bundle, path, on_bytes))

    async def _fetch(self, bundle: Bundle, path: Path, on_bytes: OnBytes) -> Path:
        source = url_path("bundles", bundle.id, "archive")
        async with self._connection.request("HEAD", source, headers=AS_STORED) as response:
            etag, size = await _archive_of(response)
        with write_errors(path):
            if not await asyncio.to_thread(_is_complete, path, etag, size):
                partial = path.with_name(f"{path.name}.{etag}.part")
                with _alone(partial):
                    await self._fetch_rest(source, partial, etag, size, on_bytes)
                    if not await asyncio.to_thread(_is_complete, partial, etag, size):
                        partial.unlink()
                        raise GatewayUnavailable(
                            f"the archive of bundle {bundle.id} has other bytes than its ETag says"
                        )
                    partial.replace(path)
            for other in path.parent.glob(f"{path.name}.*.part"):
                other.unlink(missing_ok=True)
        return path

    async def _fetch_rest(self, source: str, partial: Path, etag: str, size: int, on_bytes: OnBytes) -> None:
        with append_regular(partial) as file:
            if (there := file.tell()) >= size:
                return
            wanted = {"Range": f"bytes={there}-", "If-Range": f'"{etag}"'} if there else {}
            wanted |= AS_STORED
            within = self._connection.stream_timeout(0)
            async with self._connection.request("GET", source, headers=wanted, within=within) as response:
                if response.status not in {_OK, _PARTIAL}:
                    raise await response_error(response)
                if digest_of(response.headers) not in {None, etag}:
                    raise GatewayUnavailable(f"{response.url} has changed")
                begin = _begin_of(response)
                with write_errors(partial):  # here too: the connection takes an OSError for its own
                    file.truncate(begin)
                on_bytes(begin, size)
                async for chunk in response.content.iter_chunked(_CHUNK):
                    with write_errors(partial):
                        file.write(chunk)
                    on_bytes(file.tell(), size)


def read_info(path: Path) -> BundleInfo:
    """Return Info.json of a tar that was downloaded."""
    with tarfile.open(path) as tar:
        first = tar.next()
        content = tar.extractfile(first) if first else None
        return parse_json(content.read() if content else b"", BundleInfo)


def extract(path: Path) -> list[Path]:
    """Extract the files of a tar beside it, delete the tar, and return the files.

    Info.json, the last of them, is named after the tar: other bundles may be extracted to the same folder. Raise
    Incomplete, and keep the tar, if there are folders in the places of some files.
    """
    files, taken = [], []
    with write_errors(path.parent), tarfile.open(path) as tar:
        for number, member in enumerate(tar):
            name = path.with_suffix(f".{INFO}").name if number == 0 else member.name
            content = tar.extractfile(member)
            if content is None or name in {"", ".", ".."} or "/" in name:
                raise UnexpectedAnswer(f"{path} has {member.name!r}, which is no file of a bundle")
            # A link in the place of the file is replaced, not followed.
            try:
                with replacing(path.with_name(name), durable=False) as temporary, temporary.open("wb") as file:
                    shutil.copyfileobj(content, file)
            except IsADirectoryError as error:
                taken.append(str(unwritable(path.with_name(name), error)))
            else:
                files.append(path.with_name(name))
        if taken:
            more = f", and {len(taken) - 1} more" if len(taken) > 1 else ""
            raise Incomplete(f"not everything could be extracted; {path} is kept: {taken[0]}{more}")
        path.unlink()
    return [*files[1:], *files[:1]]


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    try:
        with alone(partial):
            yield
    except PartialFileBusy:
        reason = "another gwclient downloads the same archive into this folder"
        raise FolderError(f"{partial.parent}: {reason}") from None


def _is_complete(path: Path, etag: str, size: int) -> bool:
    """Return whether a file has the bytes that an ETag stands for; a file that is not there has not."""
    if not path.exists() or path.stat().st_size != size:
        return False
    if ".json" in path.suffixes:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == etag
    try:
        with tarfile.open(path) as tar:
            return tar_digest(_members(tar)) == etag
    except tarfile.TarError:
        return False


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, int, str]]:
    for member in tar:
        digest = hashlib.sha256()
        if content := tar.extractfile(member):
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
        yield member.name, member.size, digest.hexdigest()


async def _archive_of(response: aiohttp.ClientResponse) -> tuple[str, int]:
    """Return the digest in the ETag, and the size, of the archive in an answer to HEAD."""
    if response.status != _OK:
        raise await response_error(response)
    digest = digest_of(response.headers)
    if digest is None or response.content_length is None:
        raise UnexpectedAnswer(
            f"{response.url} does not answer as a gateway: no digest (ETag) or no length; a proxy may leave them out"
        )
    return digest, response.content_length


def _begin_of(response: aiohttp.ClientResponse) -> int:
    """Return the number of the first byte in an answer."""
    if response.status == _OK:
        return 0
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if found is None:
        raise UnexpectedAnswer(f"{response.url} does not answer as a gateway: no Content-Range")
    return int(found[1])
