"""A tier in a tape system of the grid, such as dCache, EOS with CTA, or StoRM.

Files are written, read and listed over WebDAV, and staged and released over the WLCG Tape REST API. Nothing that the
server reports of a file's content, such as an ETag, is taken for a checksum.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from posixpath import dirname
from uuid import uuid4

from databuffer.tier_urls import TierUrl
from databuffer.tiers.backends.exactly import exactly
from databuffer.tiers.backends.incoming import INCOMING, is_abandoned
from databuffer.tiers.backends.keys import check_key
from databuffer.tiers.backends.tape_endpoint.http_access import Access
from databuffer.tiers.backends.tape_endpoint.http_client import HttpClient
from databuffer.tiers.backends.tape_endpoint.open_stages import ENDED, Ending, OpenStages
from databuffer.tiers.backends.tape_endpoint.tape_rest import TapeRestApi, portions
from databuffer.tiers.backends.tape_endpoint.webdav import Entry, WebDav, collapsed
from databuffer.tiers.tier import Capacity, Locality, NotOnline, NotThere, Staged, StageState, Stored, TierError

log = logging.getLogger(__name__)

_SCHEME = "tape+"
#: Some servers compare quoted and unquoted paths, so a folder has no characters that are quoted in a URL.
_FOLDER = re.compile(r"[A-Za-z0-9._~/-]+", re.ASCII)
#: A request names those of the server.
_REQUEST = "stage "
_LOCALITIES = {
    "DISK": Locality.ONLINE,
    "DISK_AND_TAPE": Locality.ONLINE,
    "TAPE": Locality.NEARLINE,
    "UNAVAILABLE": Locality.UNAVAILABLE,
}


def open_tape_endpoint(url: TierUrl, access: Access | None = None) -> "TapeEndpointTier":
    """Return the tier of a `tape+https://` or `tape+http://` URL, with the token of the environment.

    Nothing is contacted. Raise TierError if http:// is not allowed, or the folder has other characters than paths of
    the grid.
    """
    if not _FOLDER.fullmatch(url.path):
        raise TierError(f"tier {url.name}: the folder {url.path!r} has characters other than A-Z a-z 0-9 . _ ~ - /")
    if "@" in url.host:
        raise TierError(f"tier {url.name}: expected HOST:PORT without a user; the token is in BEARER_TOKEN_FILE")
    access = access or Access.of_environment(url.name)
    base = f"{url.scheme.removeprefix(_SCHEME)}://{url.host}"
    http = HttpClient(url.name, base, access)
    http.trust(base)
    return TapeEndpointTier(http, url.path, int(url.options["capacity"]) if "capacity" in url.options else None)


class TapeEndpointTier:
    """Files below a folder of a server, which has to exist; each is renamed to its key when it is whole."""

    kind = "tape"

    def __init__(self, http: HttpClient, root: str, capacity: int | None = None) -> None:
        self.name = http.name
        self._root = collapsed("/" + root)
        self._files = WebDav(http)
        self._tape = TapeRestApi(http)
        self._stages = OpenStages()
        self._unreleased: deque[Ending] = deque()
        self._capacity = capacity
        self._address = http.base + self._root

    # ---- files

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store `size` bytes under a key; see `Tier`."""
        path, incoming = self._path(key), f"{self._root}/{INCOMING}"
        self._check_root()
        if (found := self._files.entry(path)) and found.is_folder:  # it would be replaced with all that lies in it
            raise TierError(f"tier {self.name}: {key} is a folder")
        self._files.make_folder(incoming)
        self._delete_abandoned(incoming)
        temporary = f"{incoming}/{uuid4().hex}"
        try:
            self._files.write(temporary, size, exactly(chunks, size))
            self._files.make_folder(dirname(path))
            self._files.move(temporary, path)
        except BaseException:
            with suppress(TierError):
                self._files.delete(temporary)
            raise

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a key that is online; see `Tier`."""
        found = self.stat(key)
        if found is None:
            raise NotThere(f"tier {self.name}: there is no {key}")
        where = self._localities([key])[key]
        if where is Locality.NEARLINE:
            raise NotOnline(f"tier {self.name}: {key} is on tape and has to be staged")
        if where is not Locality.ONLINE:
            raise TierError(f"tier {self.name}: the server says that {key} is {where}")
        return self._files.read(
            self._path(key), start, found.size if stop is None else min(stop, found.size), found.size
        )

    def stat(self, key: str) -> Stored | None:
        """Return what lies under a key, or None."""
        entry = self._files.entry(self._path(key))
        if entry is None:
            self._check_root()
        return None if entry is None or entry.is_folder else Stored(key, entry.size, entry.modified)

    def delete(self, key: str) -> None:
        """Delete what lies under a key, if there is something."""
        if self.stat(key) is not None:  # a folder would be deleted with all keys below it
            self._files.delete(self._path(key))

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies under keys with a prefix, in the order of the keys; all of them are read before the first."""
        folder = collapsed(f"{self._root}/{dirname(prefix)}")
        found = [self._stored(entry) for entry in self._below(folder)]
        found.sort(key=lambda stored: stored.key)
        yield from (stored for stored in found if stored.key.startswith(prefix))

    def _below(self, folder: str) -> Iterator[Entry]:
        entries = self._files.entries(folder)
        if entries is None:
            self._check_root()
        for entry in entries or ():
            if entry.path.rpartition("/")[2].startswith("."):
                continue
            if entry.is_folder:
                yield from self._below(entry.path)
            else:
                yield entry

    def capacity(self) -> Capacity:
        """Return the capacity that was given, or what the server says of the space of the folder."""
        return self._files.space(self._root) if self._capacity is None else Capacity(self._capacity)

    # ---- staging

    def locality(self, keys: Sequence[str]) -> dict[str, Locality]:
        """Return where the bytes of each key are."""
        try:
            return self._localities(keys)
        except TierError:
            return dict.fromkeys(keys, Locality.UNAVAILABLE)

    def _localities(self, keys: Sequence[str]) -> dict[str, Locality]:
        told = self._tape.localities([self._path(key) for key in keys])
        return {key: _LOCALITIES.get(told.get(self._path(key), "")) or self._untold(key) for key in keys}

    def _untold(self, key: str) -> Locality:
        """Return the locality of a key for which the server reports an error, LOST, or NONE, as for empty files."""
        found = self.stat(key)
        if found is None:
            return Locality.NONE
        return Locality.UNAVAILABLE if found.size else Locality.ONLINE

    def stage(self, keys: Sequence[str]) -> str:
        """Ask the server to bring keys online; return its requests. Raise NotThere if a key is missing."""
        self._release_again()
        for key, where in self._localities(keys).items():
            if where is Locality.NONE:
                raise NotThere(f"tier {self.name}: there is no {key}")
        requests: list[str] = []
        done: list[str] = []
        try:
            for some in portions(keys):
                requests.append(self._tape.stage([self._path(key) for key in some]))
                self._stages.add(requests[-1], some)
                done.extend(some)
        except TierError:
            self.release(done)
            raise
        return _REQUEST + " ".join(requests)

    def staged(self, request: str) -> dict[str, Staged]:
        """Return the progress of each key of a request; the server reports no percentage."""
        if not request.startswith(_REQUEST):
            raise NotThere(f"tier {self.name}: there is no request {request[:100]!r}")
        found: dict[str, Staged] = {}
        for one in request.removeprefix(_REQUEST).split():
            found |= self._staged(one)
        return found

    def _staged(self, request: str) -> dict[str, Staged]:
        stage = self._stages.get(request)
        if stage is None:
            return self._confirmed(self._told(request))
        if (told := stage.told()) is None:
            told = self._confirmed(self._told(request))
            stage.note(told)
        unknown = Staged(StageState.FAILED, 0, "the server does not know that it is part of the request")
        return {key: told.get(key, unknown) for key in sorted(stage.keys)}

    def _told(self, request: str) -> dict[str, Staged]:
        return {path.removeprefix(f"{self._root}/"): found for path, found in self._tape.staged(request).items()}

    def _confirmed(self, told: dict[str, Staged]) -> dict[str, Staged]:
        """Return the reported progress, corrected by the locality of the files that were staged or failed."""
        ended = [key for key, found in told.items() if found.state in ENDED]
        for key, where in self._localities(ended).items() if ended else ():
            if where is Locality.NONE:
                told[key] = Staged(StageState.FAILED, 0, f"there is no {key} any more")
            elif told[key].state is StageState.COMPLETED and where is not Locality.ONLINE:
                told[key] = Staged(StageState.FAILED, 0, f"it was staged, and the server now says that it is {where}")
        return told

    def release(self, keys: Sequence[str]) -> None:
        """Allow the server to evict keys that nobody else asked for; what fails is done again by the next call."""
        self._unreleased.extend(self._stages.release(keys))
        self._release_again()

    def _release_again(self) -> None:
        failed: list[Ending] = []
        with suppress(IndexError):  # all are done
            while True:
                ending = self._unreleased.popleft()
                try:
                    self._end(ending)
                except TierError as error:
                    log.warning("%s; it will be released later", error, extra={"event": "release-failed"})
                    failed.append(ending)
        self._unreleased.extend(failed)

    def _end(self, ending: Ending) -> None:
        if ending.waiting:
            self._tape.cancel(ending.id, [self._path(key) for key in ending.waiting])
        self._tape.release(ending.id, [self._path(key) for key in ending.keys])
        if ending.is_last:
            self._tape.delete(ending.id)

    # ---- paths

    def _delete_abandoned(self, incoming: str) -> None:
        """Delete files that a crash left behind."""
        for entry in self._files.entries(incoming) or ():
            if not entry.is_folder and is_abandoned(entry.modified):
                self._files.delete(entry.path)

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _stored(self, entry: Entry) -> Stored:
        return Stored(entry.path.removeprefix(f"{self._root}/"), entry.size, entry.modified)

    def _check_root(self) -> None:
        entry = self._files.entry(self._root)
        if entry is None or not entry.is_folder:
            raise TierError(f"tier {self.name}: there is no folder {self._address}")
