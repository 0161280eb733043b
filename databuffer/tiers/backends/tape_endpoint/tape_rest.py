"""A client of the WLCG Tape REST API, version 1, which dCache, EOS with CTA, and StoRM serve.

Additions of servers to the protocol are ignored, and fields that some of them leave out are not needed.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from databuffer.tiers.backends.tape_endpoint.http_client import HttpClient
from databuffer.tiers.backends.tape_endpoint.http_exchange import Answer
from databuffer.tiers.backends.tape_endpoint.webdav import collapsed
from databuffer.tiers.tier import NotThere, Staged, StageState, TierError
from gwwire.decoding import parse_json
from gwwire.tape import MOST_PATHS

T = TypeVar("T")

_DISCOVERY = "/.well-known/wlcg-tape-rest-api"
_VERSION = "v1"
#: Files that nobody releases, such as after a crash, stay online for a day (ISO 8601).
_LIFETIME = "P1D"
_DONE = (200, 201, 202, 204)
_NOT_FOUND = 404


class _Endpoint(msgspec.Struct):
    uri: str
    version: str


class _Discovery(msgspec.Struct):
    endpoints: list[_Endpoint]


class _Accepted(msgspec.Struct, rename="camel"):
    request_id: str


class _Info(msgspec.Struct):
    path: str
    locality: str | None = None
    error: str | None = None


class _File(msgspec.Struct, rename="camel"):
    path: str
    state: str | None = None
    on_disk: bool | None = None
    error: str | None = None


class _Request(msgspec.Struct):
    files: list[_File]


class TapeRestApi:
    """The API that the server of an HTTP client names; requests have an id that the server gives them.

    A request that is repeated because its answer was lost has no effect, except `stage`: the server then has another
    request, which ends by its lifetime.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._found: str | None = None

    def localities(self, paths: Sequence[str]) -> dict[str, str]:
        """Return the protocol's locality of each path; paths with an error are left out."""
        found: dict[str, str] = {}
        for some in portions(paths):
            infos = self._decoded(self._call("POST", "/archiveinfo", {"paths": some}), list[_Info])
            found |= {collapsed(info.path): info.locality for info in infos if info.locality and not info.error}
        return found

    def stage(self, paths: Sequence[str]) -> str:
        """Begin to stage some paths, a portion at most; return the id of the request."""
        files = [{"path": path, "diskLifetime": _LIFETIME} for path in paths]
        return self._decoded(self._call("POST", "/stage", {"files": files}), _Accepted).request_id

    def staged(self, request: str) -> dict[str, Staged]:
        """Return how far the paths of a request are; raise NotThere if there is no such request."""
        answer = self._call("GET", f"/stage/{_quoted(request)}", ok=(200, _NOT_FOUND))
        if answer.status == _NOT_FOUND:
            raise NotThere(f"tier {self._http.name}: there is no request {request[:100]!r}")
        return {collapsed(file.path): _staged(file) for file in self._decoded(answer, _Request).files}

    def cancel(self, request: str, paths: Sequence[str]) -> None:
        """Stop the staging of some paths of a request."""
        self._call("POST", f"/stage/{_quoted(request)}/cancel", {"paths": paths}, ok=(*_DONE, _NOT_FOUND))

    def release(self, request: str, paths: Sequence[str]) -> None:
        """Keep some paths no longer online for a request."""
        self._call("POST", f"/release/{_quoted(request)}", {"paths": paths}, ok=(*_DONE, _NOT_FOUND))

    def delete(self, request: str) -> None:
        """Cancel what is left of a request, and let the server forget it."""
        self._call("DELETE", f"/stage/{_quoted(request)}", ok=(*_DONE, _NOT_FOUND))

    def _call(self, method: str, route: str, order: Any = None, *, ok: Sequence[int] = _DONE) -> Answer:
        body = b"" if order is None else msgspec.json.encode(order)
        headers = [("Accept", "application/json"), *([("Content-Type", "application/json")] if body else [])]
        try:
            return self._http.call(method, self._uri() + route, headers, body, ok=ok)
        except TierError:
            self._found = None  # the next call looks for it again: it may have moved
            raise

    def _uri(self) -> str:
        """Return where the API is."""
        if self._found is None:
            answer = self._http.call("GET", self._http.base + _DISCOVERY, ok=(200, _NOT_FOUND))
            endpoints = [] if answer.status == _NOT_FOUND else self._decoded(answer, _Discovery).endpoints
            uri = next((each.uri for each in endpoints if each.version == _VERSION), None)
            if uri is None:
                where = self._http.base + _DISCOVERY
                raise TierError(f"tier {self._http.name}: {where} names no Tape REST API of version {_VERSION}")
            self._http.trust(uri)
            self._found = uri.rstrip("/")
        return self._found

    def _decoded(self, answer: Answer, shape: type[T]) -> T:
        try:
            return parse_json(answer.body, shape)
        except msgspec.DecodeError as error:
            raise TierError(f"tier {self._http.name}: an answer of the Tape REST API is not valid: {error}") from error


def portions(items: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield as many items at a time as one request may have."""
    return (items[start : start + MOST_PATHS] for start in range(0, len(items), MOST_PATHS))


def _quoted(request: str) -> str:
    return quote(request, safe="")


def _staged(file: _File) -> Staged:
    """Return the progress of a file; some servers report states, others `onDisk` or an error."""
    if file.error or file.state in {"FAILED", "CANCELED"}:
        return Staged(StageState.FAILED, 0, file.error or f"the server says {file.state}")
    if file.on_disk or file.state == "COMPLETED":
        return Staged(StageState.COMPLETED, 100)
    return Staged(StageState.STARTED if file.state == "STARTED" else StageState.SUBMITTED)
