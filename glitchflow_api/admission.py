"""Admission to the gateway: a request is refused, or answered with its caller known."""

import logging
from collections.abc import Mapping

from starlette.requests import cookie_parser

from glitchflow_api.access import COOKIE, NOBODY, Authenticator, Caller, scope_needed
from glitchflow_api.errors import Forbidden, IssuerAway, Unauthorized
from glitchflow_api.rate import RateLimit
from gwservice.asgi_types import Scope
from gwservice.correlation import RequestContext
from gwservice.security import refuse_cross_site
from gwwire import public

log = logging.getLogger(__name__)

_SCHEME = "bearer"
#: Orders that need these scopes are logged with the caller's name; there are too many segments to log each.
_LOGGED = frozenset({public.Scope.TRAIN, public.Scope.CLEAN})


class Admission:
    """Admits requests with sufficient credentials, within the rate limit, and not sent by pages of other sites."""

    def __init__(self, authenticator: Authenticator, rate: RateLimit | None = None) -> None:
        self._authenticator = authenticator
        self._rate = rate

    async def admit(self, request: RequestContext, scope: Scope) -> None:
        """Store the caller of a request in it, or raise the ProblemError that refuses it."""
        method, path = scope["method"], scope["path"]
        # A page can read a WebSocket of another site, unlike an answer of it.
        refuse_cross_site("WEBSOCKET" if scope["type"] == "websocket" else method, request.headers)
        request.caller = await self._caller(method, path, request.headers)
        if self._rate is not None:
            self._rate.take(request, scope)

    async def _caller(self, method: str, path: str, headers: Mapping[bytes, bytes]) -> Caller:
        needed = scope_needed(method, path)
        try:
            caller = await self._authenticator.identify(credential_of(headers))
        except (Unauthorized, IssuerAway):
            if needed is None:
                return NOBODY
            raise
        if needed is not None and needed not in caller.scopes:
            raise Forbidden(f"{method} {path} needs the scope `{needed}`, which the credential of {caller.name} lacks")
        if needed in _LOGGED:
            who = caller.name or "somebody"
            log.info("%s %r requested by %s", method, path, who, extra={"event": "order", "caller": caller.name})
        return caller

    async def still_allows(self, request: RequestContext, scope: public.Scope) -> bool:
        """Return whether the credential of a request, which was valid when it began, still has a scope."""
        try:
            return scope in (await self._authenticator.identify(credential_of(request.headers))).scopes
        except Unauthorized:
            return False


def credential_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the credential in the Authorization header, or else in the cookie, or None if there is none."""
    if given := headers.get(b"authorization"):
        scheme, _, credential = given.decode("latin-1").partition(" ")
        if scheme.lower() == _SCHEME:
            return credential.strip()
    cookies = headers.get(b"cookie", b"").decode("latin-1")
    return cookie_parser(cookies).get(COOKIE) if COOKIE in cookies else None
