"""Callers, their scopes, and the scope that each route needs."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from gwwire.public import Scope

#: The cookie in which a browser keeps the credential.
COOKIE = "glitchflow"


EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request according to its credential; its group is the one whose quota applies."""

    name: str | None
    group: str | None
    scopes: frozenset[Scope]


#: Every caller, if no credential is required.
ANYBODY = Caller(None, None, EVERYTHING)
#: A caller without a required credential.
NOBODY = Caller(None, None, frozenset())


class Authenticator(Protocol):
    """Identifies callers by their credentials."""

    async def identify(self, credential: str | None, /) -> Caller:
        """Return the caller with this credential; raise Unauthorized if there is none, or it is not valid."""

    def close(self) -> None:
        """End what would delay a stop of the service."""


class NoAuthentication:
    """Requires no credential, and allows everything."""

    async def identify(self, _credential: str | None, /) -> Caller:
        """Return ANYBODY."""
        return ANYBODY

    def close(self) -> None:
        """Do nothing."""


def implied(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Return the scopes with those that they imply: `admin` implies the others."""
    return EVERYTHING if Scope.ADMIN in scopes else scopes


#: The first part of paths that need no scope: probes, documentation, and pages without data.
_OPEN = frozenset(
    {"healthz", "readyz", "whoami", "session", "dspage", "search", "static", ".well-known"}
    | {"problems", "docs", "redoc", "openapi.json"}
)
_QUESTIONS = frozenset(
    {"stats", "dumpbuf", "desc", "batches", "segments", "overview", "coverage", "facets", "events", "log", "metrics"}
    | {"records", "steps", "changes", "bundles", "api", "files", "tiers"}
    | {"holdings", "transactions"}
)
#: The scope of every change below a first part of the path.
_CHANGES = {
    "records": Scope.WORK,
    "steps": Scope.WORK,
    "api": Scope.READ,  # stage requests, as recalls
    "bundles": Scope.READ,  # an archive has nothing that /segments does not have
    "holdings": Scope.STREAM,
    "transactions": Scope.STREAM,
}
#: Of these, too, though others below their first part need less: changes that NLDS' client sends.
_NLDS_CHANGES = frozenset({"/api/1.0.0/files/", "/api/1.0.0/catalog/meta/"})
#: The scope to ask for a recall is also the scope to release it.
_RECALL = "batches/recall"
_ORDERS = {
    "streamdata": Scope.STREAM,
    "train": Scope.TRAIN,
    "thaw": Scope.TRAIN,
    "cleanbuf": Scope.CLEAN,
    "batches/verify": Scope.CLEAN,
    _RECALL: Scope.READ,
    "tiering/plan": Scope.READ,
    "graphql": Scope.READ,
}


@lru_cache(maxsize=1024)  # every request calls it
def scope_needed(method: str, path: str) -> Scope | None:
    """Return the scope that a route needs, or None if it needs none; a route not named above needs `admin`."""
    first, _, rest = path[1:].partition("/")
    if method == "OPTIONS" or first in _OPEN:
        return None
    if method in {"GET", "HEAD"}:
        if path in {"/", "/graphql"}:  # the first redirects to the status page, the second is a page without data
            return None
        return Scope.READ if first in _QUESTIONS else Scope.ADMIN
    if path in _NLDS_CHANGES:
        return Scope.STREAM
    if first in _CHANGES:
        return _CHANGES[first]
    order = f"{first}/{rest.rpartition('/')[2]}" if rest else first
    return _ORDERS.get(order, Scope.ADMIN) if method == "POST" or order == _RECALL else Scope.ADMIN
