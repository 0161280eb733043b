"""NLDS' way to answer: a JSON string that contains JSON; errors as `{"detail"}`."""

from collections.abc import Container
from typing import Any

import msgspec
from fastapi import Response

from gwservice.asgi_types import ASGIApp, Message, Receive, Scope, Send
from gwservice.problems import send_whole
from gwwire.problems import PROBLEM_TYPE, Problem

PREFIX = "/api/1.0.0"
_JSON = (b"content-type", b"application/json")
#: Statuses of requests that are wrong; NLDS has only the first.
_WRONG = frozenset({400, 422})
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN = 400, 401, 403


def accepted(content: Any) -> Response:
    """Return an answer of NLDS."""
    text = msgspec.json.encode(content).decode()
    return Response(msgspec.json.encode(text), 202, media_type="application/json")


class Slashed:
    """Contains the paths that are not redirected to those without a slash at the end: some, and all of NLDS' API.

    A redirect would repeat the query, in which NLDS' client sends secrets.
    """

    def __init__(self, others: Container[str]) -> None:
        self._others = others

    def __contains__(self, path: object) -> bool:
        """Return whether a path is one of them."""
        return path in self._others or (isinstance(path, str) and path.startswith(f"{PREFIX}/"))


class NldsErrors:
    """Translates problem documents below PREFIX to NLDS' errors; everything else passes unchanged."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        of_nlds = scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/")
        if of_nlds and scope["method"] != "HEAD":  # which has no body
            send = _translating(scope, send)
        await self._app(scope, receive, send)


def _translating(scope: Scope, send: Send) -> Send:
    head: Message | None = None
    body = b""

    async def translate(message: Message) -> None:
        nonlocal head, body
        if message["type"] == "http.response.start" and _is_problem(message):
            head = message
        elif head is None:
            await send(message)
        else:
            body += message.get("body", b"")
            if not message.get("more_body", False):
                status, detail = _error(scope, msgspec.json.decode(body, type=Problem))
                replaced = {b"content-type", b"content-length"}
                kept = [header for header in head["headers"] if header[0].lower() not in replaced]
                await send_whole(send, status, [*kept, _JSON], msgspec.json.encode({"detail": detail}))

    return translate


def _is_problem(message: Message) -> bool:
    headers = dict(message.get("headers", ()))
    return bytes(headers.get(b"content-type", b"")).decode("latin-1").startswith(PROBLEM_TYPE)


def _error(scope: Scope, problem: Problem) -> tuple[int, str]:
    """Return status and detail; the detail of a wrong request is itself JSON."""
    if problem.status in _WRONG:
        place = ["nlds", *([problem.field] if problem.field else [])]
        error = {"loc": place, "msg": problem.detail, "type": problem.title}
        return _BAD_REQUEST, msgspec.json.encode(error).decode()
    if problem.status == _UNAUTHORIZED and b"authorization" not in dict(scope["headers"]):
        return _FORBIDDEN, problem.detail
    return problem.status, problem.detail
