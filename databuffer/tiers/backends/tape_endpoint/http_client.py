"""An HTTP client for storage systems: tokens, redirects, and repetitions with growing pauses."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from databuffer.tiers.backends.tape_endpoint.http_access import Access, ClientTls, origin_of
from databuffer.tiers.backends.tape_endpoint.http_exchange import Answer, Exchange, Interrupted
from databuffer.tiers.tier import TierError
from gwservice.upstream_connection import Origin, quote_target
from gwwire.agent import USER_AGENT
from gwwire.http_dates import parse_retry_after

T = TypeVar("T")

#: A server that asks for a longer pause is asked again by the next attempt of the step, not by this call.
_LONGEST_PAUSE = 30.0
#: Seconds for a request without a file.
_CALL_SECONDS = 120.0
#: Bytes of an answer that is no file.
_MOST_BYTES = 64 << 20
_MOST_REDIRECTS = 4
_LONGEST_ERROR = 200
_REDIRECTS = frozenset({301, 302, 307, 308})
#: 429 and 503 ask for patience; 502 and 504 are a proxy's.
_AGAIN = frozenset({429, 502, 503, 504})
_MEANINGS = {
    401: "access denied",
    403: "access denied",
    404: "there is no such path",
    405: "the server does not allow this method here",
    429: "the server asks for fewer requests",
    501: "the server does not know this method, so it is not one of WebDAV",
    503: "the server is not available",
    507: "the server has no space left",
}

Headers = Sequence[tuple[str, str]]


class HttpClient:
    """Requests to URLs, by default below `base`; `name` is that of the tier, for messages."""

    def __init__(self, name: str, base: str, access: Access) -> None:
        self.name = name
        self.base = base
        self._access = access
        self._trusted = {origin_of(base)}
        self._tls = ClientTls()

    def trust(self, url: str) -> None:
        """Send the token to the server of a URL too; raise TierError if it is not encrypted."""
        self._origin(url, self._place("GET", url))
        self._trusted.add(origin_of(url))

    def call(
        self, method: str, url: str, headers: Headers = (), body: bytes = b"", *, ok: Collection[int] = (200,)
    ) -> Answer:
        """Return the answer to a request that may be repeated; raise TierError if its status is not `ok`."""
        return self.repeated(lambda: self.call_once(method, url, headers, body, ok=ok))

    def call_once(
        self, method: str, url: str, headers: Headers = (), body: bytes = b"", *, ok: Collection[int] = (200,)
    ) -> Answer:
        """Do `call` without repetition; raise Interrupted if it could be repeated."""
        place = self._place(method, url)
        framing = [("Content-Length", str(len(body)))] if body or method == "POST" else []
        until = time.monotonic() + _CALL_SECONDS
        with self._answered(place, method, url, [*headers, *framing], [body], until=until) as (answer, exchange):
            return self._accepted(place, replace(answer, body=_whole(exchange, place)), ok)

    def put(self, url: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store `size` bytes. This is repeated only as long as nothing was taken from `chunks`."""
        place, source = self._place("PUT", url), _Source(chunks)
        headers = [("Content-Length", str(size)), *([("Expect", "100-continue")] if size else [])]

        def once() -> None:
            with self._answered(place, "PUT", url, headers, source, asks=size > 0) as (answer, exchange):
                self._accepted(place, replace(answer, body=_whole(exchange, place)), {200, 201, 204})

        self.repeated(once, lambda: not source.begun)

    @contextmanager
    def get(
        self, url: str, headers: Headers = (), *, ok: Collection[int] = (200,)
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """Yield the head of the answer to a GET, and its body. Both raise Interrupted; nothing is repeated."""
        place = self._place("GET", url)
        with self._answered(place, "GET", url, headers, []) as (answer, exchange):
            if answer.status not in ok:
                self._accepted(place, replace(answer, body=_whole(exchange, place)), ok)
            yield answer, exchange.body()

    def repeated(self, call: Callable[[], T], again: Callable[[], bool] = lambda: True) -> T:
        """Return the result of a call, repeated with pauses while it is interrupted; TierError if that is no help."""
        for pause in self.pauses():
            try:
                return call()
            except Interrupted as error:
                if not again():
                    raise TierError(str(error)) from error
                wait(pause, error)
        raise AssertionError("the last pause is infinite")

    def pauses(self) -> Iterator[float]:
        """Yield the seconds before each repetition, and then infinity."""
        yield from self._access.pauses
        yield math.inf

    @contextmanager
    def _answered(  # noqa: PLR0913 (the parts of a request)
        self,
        place: str,
        method: str,
        url: str,
        headers: Headers,
        body: Iterable[bytes],
        *,
        asks: bool = False,
        until: float = math.inf,
    ) -> Iterator[tuple[Answer, Exchange]]:
        """Yield the head of the answer, after redirects, and its exchange; with `asks`, a body is sent when wanted."""
        for _ in range(_MOST_REDIRECTS):
            origin = self._origin(url, place)
            head = [*self._own_headers(url), *headers]  # an unreadable token is reported, whatever the server answers
            with Exchange(origin, self._tls.current(), place, until) as exchange:
                exchange.send_head(method, _target(url), head)
                answer = exchange.answer() if asks and not exchange.agrees() else _sent(exchange, body)
                location = answer.headers.get("location")
                if answer.status not in _REDIRECTS or location is None:
                    yield answer, exchange
                    return
            url = urljoin(url, location)
        raise TierError(f"{place}: too many redirects")

    def _own_headers(self, url: str) -> Headers:
        """Return the headers of every request; the token is sent by https only, and not to servers of redirects."""
        own = [("Host", urlsplit(url).netloc), ("User-Agent", USER_AGENT)]
        if url.startswith("https:") and origin_of(url) in self._trusted and (token := self._access.token()):
            own.append(("Authorization", f"Bearer {token}"))
        return own

    def _origin(self, url: str, place: str) -> Origin:
        """Return where a URL is; raise TierError if it is none, or not encrypted and that is not allowed."""
        scheme, host = urlsplit(url).scheme, urlsplit(url).netloc
        if scheme not in {"http", "https"} or not host or "@" in host:
            raise TierError(f"{place}: it leads to an address that is not one of HTTP")
        if scheme == "http" and not self._access.allow_http:
            raise TierError(f"{place}: http://{host} is not encrypted; TAPE_ALLOW_HTTP=true would allow it")
        try:
            return Origin.parse(url)
        except ValueError as error:
            raise TierError(f"{place}: it leads to an address that is not one of HTTP: {error}") from error

    def _accepted(self, place: str, answer: Answer, ok: Collection[int]) -> Answer:
        """Return an answer whose status is `ok`; raise Interrupted or TierError."""
        if answer.status in ok:
            return answer
        text = f"{place}: {self._explained(answer)}"
        if answer.status in _AGAIN:
            raise Interrupted(text, parse_retry_after(answer.headers.get("retry-after", "")) or 0.0)
        raise TierError(text)

    def _explained(self, answer: Answer) -> str:
        meaning = _MEANINGS.get(answer.status, "an unexpected answer")
        text = " ".join(answer.body[:4096].decode(errors="replace").split())
        with suppress(TierError):
            if token := self._access.token():
                text = text.replace(token, "…")
        is_readable = text.isprintable() and not text.startswith("<")
        return f"{meaning} ({answer.status})" + (f": {text[:_LONGEST_ERROR]}" if text and is_readable else "")

    def _place(self, method: str, url: str) -> str:
        """Return the beginning of messages; the query of a URL can be secret."""
        return f"tier {self.name}: {method} {urlsplit(url)._replace(query='').geturl()}"


class _Source:
    """The bytes of a request; `begun` is true once some were read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.begun = False

    def __iter__(self) -> Iterator[bytes]:
        self.begun = True
        yield from self._chunks


def wait(pause: float, error: Interrupted) -> None:
    """Wait before a repetition, or raise TierError if the pause is too long, or there is none after the last one."""
    longest = max(pause, error.pause)
    if longest > _LONGEST_PAUSE:
        raise TierError(str(error)) from error
    time.sleep(longest)


def _sent(exchange: Exchange, body: Iterable[bytes]) -> Answer:
    """Send the body and return the answer; one that came before the end of the body counts if it is an error."""
    try:
        exchange.send_body(body)
    except Interrupted:
        with suppress(Interrupted):
            answer = exchange.answer()
            if answer.status >= 400:  # noqa: PLR2004 (an error)
                return answer
        raise
    return exchange.answer()


def _whole(exchange: Exchange, place: str) -> bytes:
    """Return the body of an answer that is no file."""
    body, size = [], 0
    for part in exchange.body():
        body.append(part)
        size += len(part)
        if size > _MOST_BYTES:
            raise TierError(f"{place}: the answer has more than {_MOST_BYTES:,} bytes")
    return b"".join(body)


def _target(url: str) -> str:
    """Return what a request line names."""
    parts = urlsplit(url)
    return quote_target((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).decode()
