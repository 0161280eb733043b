"""Who asks, and what they may do: the scopes, the caller, and which scope each route needs."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from gwwire.public import Scope

#: The cookie in which a browser keeps the credential.
COOKIE = "glitchflow"


EVERYTHING = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request comes from, as the credential says.

    Attributes:
        name: the user; None where nobody had to say.
        group: whose quota it counts for, where there is one.
        scopes: all that is allowed.

    """

    name: str | None
    group: str | None
    scopes: frozenset[Scope]


#: Whoever comes where no credential is asked for.
ANYBODY = Caller(None, None, EVERYTHING)
#: Whoever comes without a credential where one is asked for.
NOBODY = Caller(None, None, frozenset())


class Authenticator(Protocol):
    """Knows whose a credential is."""

    async def identify(self, credential: str | None, /) -> Caller:
        """Give the caller with this credential.

        Raises:
            Unauthorized: there is none, or it is not valid.

        """


class NoAuthentication:
    """Asks for nothing, and lets everybody do everything."""

    async def identify(self, _credential: str | None, /) -> Caller:
        """Give the same caller whatever comes."""
        return ANYBODY


def implied(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Give all that the scopes allow: `admin` implies the others."""
    return EVERYTHING if Scope.ADMIN in scopes else scopes


#: The first part of paths that are open to all: probes, documentation, and pages that hold no data.
_OPEN = frozenset(
    {"healthz", "readyz", "whoami", "session", "dspage", "static", "problems", "docs", "redoc", "openapi.json"}
)
_QUESTIONS = frozenset(
    {"stats", "dumpbuf", "desc", "batches", "segments", "overview", "coverage", "events", "log", "metrics"}
)
_ORDERS = {
    "streamdata": Scope.STREAM,
    "train": Scope.TRAIN,
    "thaw": Scope.TRAIN,
    "cleanbuf": Scope.CLEAN,
    "batches/claim": Scope.TRAIN,
    "batches/release": Scope.TRAIN,
    "batches/verify": Scope.CLEAN,
}


@lru_cache(maxsize=1024)  # it is asked for every request
def scope_needed(method: str, path: str) -> Scope | None:
    """Give the scope that a route needs; None: it is open.

    What is not named above needs `admin`: a new route is closed until somebody has said who may use it.
    """
    first, _, rest = path[1:].partition("/")
    if method == "OPTIONS" or first in _OPEN:
        return None
    if method in {"GET", "HEAD"}:
        return Scope.READ if first in _QUESTIONS else Scope.ADMIN
    order = f"{first}/{rest.rpartition('/')[2]}" if rest else first
    return _ORDERS.get(order, Scope.ADMIN) if method == "POST" else Scope.ADMIN
