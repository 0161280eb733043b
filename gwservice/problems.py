"""Problem documents as answers over ASGI."""

from http import HTTPStatus

from gwservice.asgi_types import Send
from gwservice.correlation import note_problem
from gwwire.problems import PROBLEM_TYPE, Problem, encode_problem

_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


def problem_headers(problem: Problem, retry_after: int | None = None) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with a problem document."""
    headers = [(b"content-type", PROBLEM_TYPE.encode())]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    if problem.status == HTTPStatus.REQUEST_TIMEOUT:
        headers.append((b"connection", b"close"))  # the rest of the request may still come, and is no new request
    if problem.status == HTTPStatus.UPGRADE_REQUIRED:
        headers += [(b"connection", b"upgrade"), (b"upgrade", b"websocket")]
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers


async def send_problem(
    send: Send, problem: Problem, retry_after: int | None = None, *, error: BaseException | None = None
) -> None:
    """Answer with a problem document; `error` is the unexpected error behind it, for the log."""
    note_problem(problem, error)
    await send_whole(send, problem.status, problem_headers(problem, retry_after), encode_problem(problem))


async def send_whole(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Answer with a body of known length."""
    if status not in _WITHOUT_BODY:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
