"""The gate: every request passes it first, and goes on with its caller known, or not at all."""

import logging

from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from glitchflow_api.access import COOKIE, NOBODY, Authenticator, Caller, scope_needed
from glitchflow_api.errors import Forbidden, IssuerAway, Unauthorized
from gwservice.asgi import problem_response
from gwservice.crosssite import refuse_cross_site
from gwservice.passing import Headers
from gwwire import public
from gwwire.problems import ProblemError

log = logging.getLogger(__name__)

_SCHEME = "bearer"
#: What is given with these is told in the log, with the name of who gave it; segments come too fast for that.
_TOLD = frozenset({public.Scope.TRAIN, public.Scope.CLEAN})
#: The headers that are looked at, by the names ASGI gives them: one walk over all is cheaper than a search for each.
_HEADERS = {
    name.lower().encode(): name
    for name in ("Authorization", "Cookie", "Host", "Origin", "Sec-Fetch-Site", "X-Forwarded-Host")
}


class Gate:
    """A middleware that puts the Caller at `request.state.caller`, and refuses who may not do what they ask.

    Args:
        behind: the application.
        authenticator: knows whose a credential is.

    """

    def __init__(self, behind: ASGIApp, authenticator: Authenticator) -> None:
        self._behind = behind
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer with the problem."""
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["caller"] = await self._admit(scope)
            except ProblemError as error:
                await problem_response(error.problem(), error.retry_after)(scope, receive, send)
                return
        await self._behind(scope, receive, send)

    async def _admit(self, scope: Scope) -> Caller:
        method, path = scope["method"], scope["path"]
        headers = {_HEADERS[name]: value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
        refuse_cross_site(method, headers)
        needed = scope_needed(method, path)
        try:
            caller = await self._authenticator.identify(credential_of(headers))
        except (Unauthorized, IssuerAway):
            if needed is None:
                return NOBODY
            raise
        if needed is not None and needed not in caller.scopes:
            raise Forbidden(f"{method} {path} needs the scope `{needed}`, which the credential of {caller.name} lacks")
        if needed in _TOLD:
            who = caller.name or "somebody"
            log.info("%s %r was asked by %s", method, path, who, extra={"event": "order", "caller": caller.name})
        return caller


async def may_still(request: Request, scope: public.Scope) -> bool:
    """Tell whether the caller's credential, which was good when the request began, still allows something."""
    authenticator: Authenticator = request.app.state.authenticator
    try:
        return scope in (await authenticator.identify(credential_of(request.headers))).scopes
    except Unauthorized:
        return False


def credential_of(headers: Headers) -> str | None:
    """Give what is in the Authorization header, or else in the cookie."""
    scheme, _, credential = (headers.get("Authorization") or "").partition(" ")
    if scheme.lower() == _SCHEME:
        return credential.strip()
    if COOKIE not in (cookies := headers.get("Cookie") or ""):
        return None
    return cookie_parser(cookies).get(COOKIE)
