"""The secret shared by two services, and the refusal of orders and WebSockets from pages of other sites."""

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from gwservice.watched_file import WatchedFile, exiting_if_broken
from gwwire.problems import ProblemCode, ProblemError

#: Answered without a credential, because the platform has none.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

_FEWEST_CHARACTERS = 16
_MOST_SECRETS = 2

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({"same-origin", "none"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class NotOurCaller(ProblemError, code=ProblemCode.UNAUTHORIZED):
    """The request does not present the service's secret."""


class CrossSite(ProblemError, code=ProblemCode.CROSS_SITE):
    """A browser sent the order for a page of another site."""


class CallerSecret:
    """The secret shared by a service and its caller; it is read again when its file changes.

    The file holds one secret, or two during a change: the first is presented, either is accepted. Raise FileBroken if
    it holds no usable secret.
    """

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path, _parse)

    @classmethod
    def load(cls, path: Path | None, service: str, setting: str) -> Self | None:
        """Read the file that a setting names; exit with status 2, and one line, if it is unusable."""
        if path is None:
            return None
        with exiting_if_broken(f"{service}: setting {setting}"):
            return cls(path)

    @property
    def line(self) -> bytes:
        """The header that the caller sends with each request."""
        return b"authorization: %b\r\n" % self._file.current()[0]

    def check(self, path: str, authorization: bytes) -> None:
        """Raise NotOurCaller unless the Authorization header holds the secret, or the path is open."""
        if path in OPEN_PATHS:
            return
        # Every secret is compared, so that the time does not reveal which one was close.
        if not any([hmac.compare_digest(value, authorization) for value in self._file.current()]):  # noqa: C419 (see above)
            raise NotOurCaller("this service answers only the one above it; the secret is missing or wrong")


def _parse(content: bytes) -> list[bytes]:
    secrets = content.split()
    if not 1 <= len(secrets) <= _MOST_SECRETS:
        raise ValueError(f"it has {len(secrets)} secrets; expected one or two, one per line")
    for secret in secrets:
        if len(secret) < _FEWEST_CHARACTERS or not secret.isascii() or not secret.decode().isprintable():
            raise ValueError(f"a secret needs at least {_FEWEST_CHARACTERS} printable ASCII characters")
    return [b"Bearer " + secret for secret in secrets]


def refuse_cross_site(method: str, headers: Mapping[bytes, bytes]) -> None:
    """Raise CrossSite if a browser sent an order, or the handshake of a WebSocket, for a page of another site.

    A browser adds the session cookie to it. It also sends `Sec-Fetch-Site` and `Origin`, which a page cannot
    change; programs send neither.
    """
    if method in _SAFE_METHODS:
        return
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None and (given := site.decode("latin-1")) not in _SAME_SITE:
        raise CrossSite(f"the browser says that the request is {given}: only this site's own pages may send it")
    if origin is not None and not _is_own(origin.decode("latin-1"), headers):
        raise CrossSite("the Origin of the request is another site: only this site's own pages may send it")


def _is_own(origin: str, headers: Mapping[bytes, bytes]) -> bool:
    """Compare with the host the browser asked, which a proxy keeps in X-Forwarded-Host (of several, the first)."""
    try:
        scheme, asked, *_ = urlsplit(origin)
    except ValueError:
        return False
    port = _DEFAULT_PORTS.get(scheme, "")
    forwarded = headers.get(b"x-forwarded-host", b"").partition(b",")[0].strip()
    hosts = (headers.get(b"host", b""), forwarded)
    names = {host.decode("latin-1").lower().removesuffix(port) for host in hosts if host}
    return asked.lower().removesuffix(port) in names
