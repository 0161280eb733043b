"""The identity of the caller, and browser sessions: a cookie that scripts cannot read holds the credential."""

import re
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from glitchflow_api.access import COOKIE, Authenticator, Caller
from glitchflow_api.errors import NotCaller, Unauthorized
from glitchflow_api.openapi import json_body, json_response, problems
from gwservice.asgi import JsonBody
from gwwire.decoding import InvalidRequest, decode_order
from gwwire.public import Scope, SessionOrder, ThawOrder, Whoami

router = APIRouter(tags=["access"])

#: The characters of a credential in RFC 6750; all are allowed in a cookie.
_CREDENTIAL = re.compile(r"[\w.~+/-]+=*", re.ASCII)
#: Browsers silently drop a cookie whose name and value together are longer.
_LONGEST = 4096 - len(COOKIE)


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["context"].caller
    return caller


CurrentCaller = Annotated[Caller, Depends(_caller)]


def refuse_other_user(caller: Caller, order: bytes) -> None:
    """Raise NotCaller if an order names a `user` other than its caller; `admin` may name any."""
    if Scope.ADMIN in caller.scopes:
        return
    user = decode_order(ThawOrder, order).user
    if user != caller.name:
        raise NotCaller(
            f"the order names the user {user!r}, but the credential belongs to {caller.name!r}", field="user"
        )


@router.get("/whoami", responses=json_response(Whoami), response_class=Response)
async def whoami(request: Request, caller: CurrentCaller) -> Response:
    """Return the caller's identity and scopes; without a valid credential the user is null and the scopes are empty."""
    scopes: list[str] = [scope for scope in Scope if scope in caller.scopes]
    answer = Whoami(request.app.state.auth, caller.name, caller.group, scopes)
    return Response(msgspec.json.encode(answer), media_type="application/json")


@router.post(
    "/session", status_code=204, openapi_extra=json_body(SessionOrder), responses=problems(400, 401, 413, 415, 422)
)
async def begin_session(request: Request, body: JsonBody) -> Response:
    """Store a credential in a browser's cookie; the session ends when the browser is closed, or with DELETE."""
    key = decode_order(SessionOrder, body).key
    if not _CREDENTIAL.fullmatch(key):
        raise Unauthorized("the credential is neither an API key nor a token")
    if len(key) > _LONGEST:
        raise InvalidRequest(
            f"key: {len(key)} characters; a browser's cookie holds at most {_LONGEST}: "
            "use an API key, or a token with fewer scopes and groups",
            field="key",
        )
    authenticator: Authenticator = request.app.state.authenticator
    await authenticator.identify(key)
    return _with_cookie(request, key, None)


@router.delete("/session", status_code=204)
async def end_session(request: Request) -> Response:
    """Delete the cookie with the credential."""
    return _with_cookie(request, "", 0)


def public_scheme(request: Request) -> str:
    """Return `http` or `https`, as the client sent the request; a proxy keeps it in X-Forwarded-Proto."""
    return request.headers.get("X-Forwarded-Proto", request.url.scheme).partition(",")[0].strip()


def public_url(request: Request, path: str) -> str:
    """Return the URL of a path of the gateway, with the address that the client used.

    Each proxy appends the path that it removes to X-Forwarded-Prefix, so that the outermost one is the first.
    """
    host = request.headers.get("X-Forwarded-Host", request.url.netloc).partition(",")[0].strip()
    removed = ",".join(request.headers.getlist("X-Forwarded-Prefix")).split(",")
    prefix = "".join(f"/{part}" for each in removed if (part := each.strip().strip("/")))
    return f"{public_scheme(request)}://{host}{prefix}{path}"


def _with_cookie(request: Request, value: str, max_age: int | None) -> Response:
    response = Response(status_code=204)
    secure = public_scheme(request) == "https"
    response.set_cookie(COOKIE, value, max_age, path="/", secure=secure, httponly=True, samesite="strict")
    return response
