"""A tier behind an XRootD server: a tape system such as CTA or dCache, or a plain disk server.

Staging is XRootD's `prepare`, its progress `query prepare`, and going offline `prepare -e`.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from posixpath import dirname
from typing import Any
from uuid import uuid4

from XRootD.client import EnvPutInt, File, FileSystem
from XRootD.client.flags import DirListFlags, MkDirFlags, OpenFlags, PrepareFlags, QueryCode, StatInfoFlags

from databuffer.tier_urls import TierUrl
from databuffer.tiers.backends.exactly import exactly
from databuffer.tiers.backends.incoming import INCOMING, is_abandoned
from databuffer.tiers.backends.keys import check_key
from databuffer.tiers.tier import Capacity, Locality, NotOnline, NotThere, Staged, StageState, Stored, TierError

#: Bytes of a request.
_CHUNK = 4 << 20
#: Seconds for each request.
_SECONDS = 60
#: kXR_NotFound and kXR_Unsupported.
_NOT_FOUND, _UNSUPPORTED = 3011, 3013
#: The code of an answer that lacks nothing; there are others among those that are `ok` (suDone of XrdClStatus.hh).
_COMPLETE = 0
#: A request names its keys: the server reports the progress of a request only by path.
_REQUEST = "prepare "

# The library would try for minutes, look at timeouts every 15 seconds, and refuse every call for half an hour after a
# connection that failed. The variables of the environment, such as XRD_CONNECTIONWINDOW, have precedence.
EnvPutInt("ConnectionWindow", 10)
EnvPutInt("ConnectionRetry", 1)
EnvPutInt("StreamErrorWindow", 1)
EnvPutInt("TimeoutResolution", 1)


class XRootDTier:
    """Files below a path of a server, which has to exist; each is renamed to its key when it is whole."""

    kind = "tape"

    def __init__(self, url: TierUrl) -> None:
        self.name = url.name
        self._server = f"root://{url.host}"
        self._root = "/" + url.path.strip("/")
        self._calls = FileSystem(self._server)

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store `size` bytes under a key; see `Tier`."""
        path = self._path(key)
        self._check_root()
        self._delete_abandoned()
        temporary = f"{self._root}/{INCOMING}/{uuid4().hex}"
        file = File()
        self._done(key, file.open(self._url(temporary), OpenFlags.NEW | OpenFlags.MAKEPATH, timeout=_SECONDS))
        try:
            offset = 0
            for chunk in exactly(chunks, size):
                self._done(key, file.write(chunk, offset, timeout=_SECONDS))
                offset += len(chunk)
            self._done(key, file.sync(timeout=_SECONDS))
            self._done(key, file.close(timeout=_SECONDS))
            self._done(key, self._calls.mkdir(dirname(path), MkDirFlags.MAKEPATH, timeout=_SECONDS))
            self._done(key, self._calls.mv(temporary, path, timeout=_SECONDS))
        except BaseException:
            file.close(timeout=_SECONDS)
            self._calls.rm(temporary, timeout=_SECONDS)
            raise

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a key that is online; see `Tier`."""
        chunks = self._read(key, start, stop)
        next(chunks)  # opens the file, so that errors are raised by the call
        return chunks

    def _read(self, key: str, start: int, stop: int | None) -> Iterator[bytes]:
        found = self.stat(key)
        if found is None:
            raise NotThere(f"tier {self.name}: there is no {key}")
        if self._localities([key])[key] is Locality.NEARLINE:
            raise NotOnline(f"tier {self.name}: {key} is on tape and has to be staged")
        file = File()
        self._answer(key, file.open(self._url(self._path(key)), OpenFlags.READ, timeout=_SECONDS))
        try:
            yield b""
            end = found.size if stop is None else min(stop, found.size)
            for begin in range(start, end, _CHUNK):
                wanted = min(_CHUNK, end - begin)
                chunk: bytes = self._answer(key, file.read(begin, wanted, timeout=_SECONDS))
                if len(chunk) != wanted:
                    raise TierError(f"tier {self.name}: {key}: got {len(chunk)} bytes of {wanted}")
                yield chunk
        finally:
            file.close(timeout=_SECONDS)

    def stat(self, key: str) -> Stored | None:
        """Return what lies under a key, or None."""
        try:
            found = self._answer(key, self._calls.stat(self._path(key), timeout=_SECONDS))
        except NotThere:
            self._check_root()
            return None
        return None if found.flags & StatInfoFlags.IS_DIR else Stored(key, found.size, float(found.modtime))

    def delete(self, key: str) -> None:
        """Delete what lies under a key, if there is something."""
        try:
            self._answer(key, self._calls.rm(self._path(key), timeout=_SECONDS))
        except NotThere:
            self._check_root()

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies under keys with a prefix, in the order of the keys; all of them are read before the first."""
        self._check_root()
        flags = DirListFlags.STAT | DirListFlags.RECURSIVE
        status, found = self._calls.dirlist(self._root, flags, timeout=_SECONDS)
        listed = self._answer("", (status, found))
        if status.code != _COMPLETE:  # a list without the folders for which the server was asked in vain
            raise TierError(f"tier {self.name}: some folders below {self._server}/{self._root} cannot be listed")
        files = [
            Stored(entry.name, entry.statinfo.size, float(entry.statinfo.modtime))
            for entry in listed
            if not entry.statinfo.flags & StatInfoFlags.IS_DIR and entry.name.startswith(prefix)
        ]
        files.sort(key=lambda file: file.key)
        yield from (file for file in files if not any(part.startswith(".") for part in file.key.split("/")))

    def locality(self, keys: Sequence[str]) -> dict[str, Locality]:
        """Return where the bytes of each key are."""
        try:
            return self._localities(keys)
        except TierError:
            return dict.fromkeys(keys, Locality.UNAVAILABLE)

    def _localities(self, keys: Sequence[str]) -> dict[str, Locality]:
        self._check_root()
        prepared = self._prepared(INCOMING, keys)
        return {key: _locality(prepared[key]) for key in keys}

    def stage(self, keys: Sequence[str]) -> str:
        """Ask the server to bring keys online; return its request and the keys. Raise NotThere if a key is missing."""
        for key in keys:
            if self.stat(key) is None:
                raise NotThere(f"tier {self.name}: there is no {key}")
        paths = [self._path(key) for key in keys]
        answer = self._answer("", self._calls.prepare(paths, PrepareFlags.STAGE, timeout=_SECONDS))
        return f"{_REQUEST}{_text(answer) or '*'} {' '.join(keys)}"

    def staged(self, request: str) -> dict[str, Staged]:
        """Return the progress of each key of a request; the server reports no percentage."""
        if not request.startswith(_REQUEST):
            raise NotThere(f"tier {self.name}: there is no request {request[:100]!r}")
        server_id, *keys = request.removeprefix(_REQUEST).split()
        prepared = self._prepared(server_id, keys)
        return {key: _staged(key, prepared[key]) for key in keys}

    def release(self, keys: Sequence[str]) -> None:
        """Allow the server to evict keys that nobody else asked for."""
        paths = [self._path(key) for key in keys if self.stat(key)]
        if paths:
            self._answer("", self._calls.prepare(paths, PrepareFlags.EVICT, timeout=_SECONDS))

    def capacity(self) -> Capacity:
        """Return the space of the server below the path."""
        self._check_root()
        answer = _text(self._answer("", self._calls.query(QueryCode.SPACE, self._root, timeout=_SECONDS)))
        values = dict(pair.partition("=")[::2] for pair in answer.split("&"))
        total, used = (int(values[name]) if values.get(name, "").isdecimal() else None for name in _SPACE)
        return Capacity(total, used)

    def _prepared(self, server_id: str, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what the server says about keys, by key; a server without tape says where they are by `stat`."""
        paths = {self._path(key): key for key in keys}
        status, answer = self._calls.query(QueryCode.PREPARE, "\n".join([server_id, *paths]), timeout=_SECONDS)
        if status.ok:
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                found = {paths[one["path"]]: one for one in json.loads(_text(answer))["responses"]}
                return {key: found[key] for key in keys}
            raise TierError(f"tier {self.name}: the answer to `query prepare` cannot be read: {_text(answer)[:200]!r}")
        if status.errno != _UNSUPPORTED:
            self._answer("", (status, answer))
        return {key: self._stated(key) for key in keys}

    def _stated(self, key: str) -> dict[str, Any]:
        try:
            found = self._answer(key, self._calls.stat(self._path(key), timeout=_SECONDS))
        except NotThere:
            return {"path_exists": False}
        return {"path_exists": True, "online": not found.flags & StatInfoFlags.OFFLINE, "requested": True}

    def _delete_abandoned(self) -> None:
        """Delete files that a crash left behind."""
        incoming = f"{self._root}/{INCOMING}"
        with suppress(NotThere):  # nothing was written yet, or another write has deleted it
            for entry in self._answer("", self._calls.dirlist(incoming, DirListFlags.STAT, timeout=_SECONDS)):
                found = entry.statinfo  # or None, if it was renamed meanwhile
                if found and not found.flags & StatInfoFlags.IS_DIR and is_abandoned(found.modtime):
                    self._answer("", self._calls.rm(f"{incoming}/{entry.name}", timeout=_SECONDS))

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def _url(self, path: str) -> str:
        return f"{self._server}/{path}"

    def _check_root(self) -> None:
        try:
            self._answer("", self._calls.stat(self._root, timeout=_SECONDS))
        except NotThere:
            raise TierError(f"tier {self.name}: there is no folder {self._server}/{self._root}") from None

    def _answer(self, key: str, call: tuple[Any, Any]) -> Any:
        """Return the answer to a call, or raise TierError."""
        status, answer = call
        if status.ok:
            return answer
        if status.errno == _NOT_FOUND:
            raise NotThere(f"{self._place(key)}: there is no such file")
        raise self._error(key, status)

    def _done(self, key: str, call: tuple[Any, Any]) -> None:
        """Raise TierError if a step of a write failed, never NotThere: that would be taken for one of the source.

        The client repeats a rename whose answer was lost, and then the file that was renamed is not found.
        """
        status, _ = call
        if not status.ok:
            raise self._error(key, status)

    def _error(self, key: str, status: Any) -> TierError:
        return TierError(f"{self._place(key)}: {' '.join(status.message.split())}")

    def _place(self, key: str) -> str:
        return f"tier {self.name}: {key}" if key else f"tier {self.name}"


_SPACE = ("oss.space", "oss.used")


def _text(answer: bytes | None) -> str:
    """Return an answer without what is behind its end."""
    return (answer or b"").partition(b"\0")[0].decode(errors="replace").strip()


def _locality(prepared: dict[str, Any]) -> Locality:
    if not prepared.get("path_exists", True):
        return Locality.NONE
    return Locality.ONLINE if prepared.get("online") else Locality.NEARLINE


def _staged(key: str, prepared: dict[str, Any]) -> Staged:
    match _locality(prepared):
        case Locality.ONLINE:
            return Staged(StageState.COMPLETED, 100)
        case Locality.NONE:
            return Staged(StageState.FAILED, 0, f"there is no {key} any more")
        case _ if error := prepared.get("error_text"):
            return Staged(StageState.FAILED, 0, str(error))
        case _ if prepared.get("requested"):
            return Staged(StageState.SUBMITTED)
        case _:
            return Staged(StageState.FAILED, 0, "the server does not know the request any more")
