"""The way of the data, in front of Flask: nearly every request is a POST to /stream, and is only passed on."""

import errno
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from http.client import responses
from typing import NamedTuple
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.datastructures import EnvironHeaders

from dslogic.buffer_client import BufferClient, Reply
from dslogic.errors import BodyCutShort, BodyTooLarge
from dslogic.orders import refused_as
from gwservice.correlation import note_frozen, note_passed_on, note_problem
from gwservice.passing import ANSWER_HEADERS, GROUP_HEADER, SENDING_HEADERS, pick
from gwwire.datastore import FROZEN_TEXT
from gwwire.problems import PROBLEM_TYPE, Problem, ProblemCode, ProblemError, encode_problem, make_problem
from gwwire.segment import NDJSON

log = logging.getLogger(__name__)

PATH = "/stream"
#: As much as gunicorn reads at a time, see `gunicorn.conf.py`.
_CHUNK = 64 * 1024
_PASSED_DOWN = (*SENDING_HEADERS, GROUP_HEADER)


class Told(NamedTuple):
    """What is answered."""

    status: int
    headers: Mapping[str, str]
    body: Iterable[bytes]


class DataPath:
    """A WSGI application that takes what is POSTed to /stream, and leaves all else to the one behind it.

    Flask's machinery, which makes objects of a request and its answer, takes longer than all else that is done here.
    """

    def __init__(self, behind: WSGIApplication, buffer: BufferClient, max_body: int) -> None:
        self._behind = behind
        self._buffer = buffer
        self._max_body = max_body

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] != PATH or environ["REQUEST_METHOD"] != "POST":
            return self._behind(environ, start_response)
        try:
            told = self._store(environ)
        except ProblemError as error:
            told = _problem(error.problem())
        except Exception as error:  # noqa: BLE001 (the log tells it)
            internal = make_problem(ProblemCode.INTERNAL_ERROR, "the service failed; its log says more")
            told = _problem(internal, error)
        start_response(f"{told.status} {responses.get(told.status, 'Unknown')}", list(told.headers.items()))
        return told.body

    def _store(self, environ: WSGIEnvironment) -> Told:
        """Store a segment, or many; a frozen datastore is told to one alone as 503 `Datastore frozen.`."""
        headers = pick(EnvironHeaders(environ), _PASSED_DOWN)
        if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() == NDJSON:
            # The limit is each line's, and the buffer's to watch.
            answer = self._buffer.send_lines(_pieces(environ), headers)
            return _passed_on(answer) if isinstance(answer, Reply) else _lines(answer)
        reply = self._buffer.send(_whole(environ, self._max_body), headers)
        if refused_as(reply, ProblemCode.BUFFER_FROZEN):
            note_frozen()
            return _sized(HTTPStatus.SERVICE_UNAVAILABLE, {"Content-Type": "text/plain; charset=utf-8"}, _FROZEN)
        return _passed_on(reply)


_FROZEN = FROZEN_TEXT.encode()


def _problem(problem: Problem, error: Exception | None = None) -> Told:
    note_problem(problem, error)
    return Told(problem.status, {"Content-Type": PROBLEM_TYPE}, [encode_problem(problem)])


def _passed_on(reply: Reply) -> Told:
    note_passed_on(reply.headers.get("Content-Type"), reply.body)
    return _sized(reply.status, pick(reply.headers, ANSWER_HEADERS), reply.body)


def _sized(status: int, headers: Mapping[str, str], body: bytes) -> Told:
    return Told(status, {**headers, "Content-Length": str(len(body))}, [body])


def _lines(parts: Iterator[bytes]) -> Told:
    return Told(HTTPStatus.OK, {"Content-Type": NDJSON}, _to_the_end(parts))


def _to_the_end(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Give an answer as it comes; where it breaks off, so does the connection that it is passed on over."""
    try:
        yield from parts
    except ProblemError as error:
        log.error("an answer broke off: %s", error.detail)  # noqa: TRY400 (the detail says it all)
        # What gunicorn takes for a client that went away: it closes the connection without the answer's end, and the
        # client knows that answers are missing.
        raise BrokenPipeError(errno.EPIPE, "the answer broke off") from error


def _whole(environ: WSGIEnvironment, limit: int) -> deque[bytes]:
    """Read the body in pieces, up to `limit` bytes of it.

    Raises:
        BodyTooLarge: there is more.
        BodyCutShort: it ends before it should.

    """
    if int(environ.get("CONTENT_LENGTH") or 0) > limit:
        raise BodyTooLarge(f"the body is larger than {limit} bytes (MAX_BODY)")
    pieces: deque[bytes] = deque()
    size = 0
    for piece in _pieces(environ):
        size += len(piece)
        if size > limit:
            raise BodyTooLarge(f"the body is larger than {limit} bytes (MAX_BODY)")
        pieces.append(piece)
    return pieces


def _pieces(environ: WSGIEnvironment) -> Iterator[bytes]:
    """Read the body piece by piece.

    Raises:
        BodyCutShort: it ends before it should.

    """
    length = environ.get("CONTENT_LENGTH")
    if not length and not environ.get("wsgi.input_terminated"):
        return
    # A body in chunks has an end of its own, which the server watches.
    left = int(length) if length else None
    read = environ["wsgi.input"].read
    try:
        while piece := read(_CHUNK if left is None else min(left, _CHUNK)):
            left = None if left is None else left - len(piece)
            yield piece
    except OSError as error:
        raise BodyCutShort("the body ended before it should") from error
    if left:
        raise BodyCutShort("the body ended before it should")
