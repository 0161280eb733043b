"""An HTTP connection to one gateway: sessions, retries, and aiohttp's errors as the client's own."""

import asyncio
import io
import os
import random
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from gwclient.answers import decode_answer, decode_problem, error_of, redirected
from gwclient.broken_answers import broken_text
from gwclient.errors import GatewayRefused, GatewayUnavailable, InvalidArgument, UnexpectedAnswer
from gwwire.agent import USER_AGENT
from gwwire.http_dates import parse_retry_after
from gwwire.problems import PROBLEM_TYPE, ProblemCode
from gwwire.segment import KEY_HEADER
from gwwire.url_user import hide_user, split_user

T = TypeVar("T")

_OK, _ACCEPTED = 200, 202
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: s between two pings of a WebSocket.
_HEARTBEAT_SECONDS = 20.0


@dataclass(frozen=True)
class Retry:
    """The number of attempts, and the pauses between them: `first` s, twice that, up to `longest` s, with jitter.

    If the gateway asks for a longer wait (`Retry-After`), it is that, up to `obey` s. While there is no connection, or
    the tiers fail, which the datastore has tried itself, it is tried `absent` times in all, or `tries` times if that is
    None.
    """

    tries: int = 6
    first: float = 0.25
    longest: float = 8.0
    obey: float = 60.0
    absent: int | None = None

    def delay(self, failures: int, asked: float | None) -> float:
        """Return the s to wait after this number of failures; the last answer requested `asked` s."""
        backoff = min(self.longest, self.first * 2.0 ** (failures - 1))
        jittered = backoff * random.uniform(0.5, 1)  # noqa: S311 (spreads clients out, guards nothing)
        return max(jittered, min(asked or 0, self.obey))


def parse_gateway_url(text: str) -> str:
    """Return the base URL in `http://host:port`, `host:port`, `host` or `:port`, or raise InvalidArgument."""
    if not isinstance(text, str):
        raise InvalidArgument(f"{hide_user(repr(text))[:80]} is not an address like http://127.0.0.1:8000")
    url = text if "://" in text else f"http://{'127.0.0.1' if text.startswith(':') else ''}{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        usable = usable and not (parts.query or parts.fragment)
        url.encode()
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable or any(letter.isspace() for letter in text):
        raise InvalidArgument(f"{hide_user(text)!r} is not an address like http://127.0.0.1:8000")
    return url.rstrip("/")


class GatewayConnection:
    """An HTTP connection to one gateway, to be used as an asynchronous context manager.

    Args:
        base_url: see `parse_gateway_url`; a user and password in it are sent unless there is an API key.
        session: an open session to use; it is not closed. Without it the connection opens and closes its own.
        retry: how often and how long to retry.
        timeout: s for one try.
        api_key: sent as `Authorization: Bearer`; visible ASCII characters.
        on_retry: called before each retry with the reason and the s to wait.

    """

    def __init__(  # noqa: PLR0913 (each has a default)
        self,
        base_url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        retry: Retry | None = None,
        timeout: float = 30.0,
        api_key: str | None = None,
        on_retry: Callable[[str, float], None] | None = None,
    ) -> None:
        self.base_url, user = split_user(parse_gateway_url(base_url))
        if api_key is not None:
            _check_visible("the API key", api_key)
        self._session = session
        self._owned: aiohttp.ClientSession | None = None
        self._retry = retry or Retry()
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, 5.0))
        authorization = user if api_key is None else f"Bearer {api_key}"
        self._authorization = {"Authorization": authorization} if authorization else {}
        self._on_retry = on_retry or (lambda _reason, _delay: None)

    async def __aenter__(self) -> Self:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = self._owned = aiohttp.ClientSession(connector=connector, headers={"User-Agent": USER_AGENT})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned is not None:
            await self._owned.close()
            self._session = self._owned = None

    async def ask(  # noqa: PLR0913 (the last three are for a few of the routes)
        self,
        verb: str,
        path: str,
        kind: type[T],
        body: bytes | msgspec.Struct | None = None,
        *,
        key: str | None = None,
        repeatable: bool = True,
        wait: float = 0,
    ) -> T:
        """Return the decoded answer to a request, which the gateway may delay by `wait` s on purpose."""
        headers = {} if body is None else media_headers("application/json", key)
        try:
            sent = msgspec.json.encode(body) if isinstance(body, msgspec.Struct) else body
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"{ascii(error.object)[:80]} is not UTF-8 text") from error
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"{verb} {path}: an argument is not a text that JSON can hold: {error}") from error

        async def once() -> T:
            async with self.request(verb, path, sent, headers, self._timeout_of(wait)) as response:
                return decode_answer(await read_success(response), kind, str(response.url))

        return await self.with_retries(once, repeatable=repeatable)

    async def with_retries(
        self,
        once: Callable[[], Awaitable[T]],
        *,
        repeatable: bool = True,
        failure: GatewayUnavailable | None = None,
    ) -> T:
        """Call `once` until it succeeds; if it is not repeatable, only while the gateway did not see the request.

        A `failure` is that of the first try, which was made already.
        """
        failures = 0
        while True:
            if failure is None:
                try:
                    return await once()
                except GatewayUnavailable as error:
                    failure = error
            failures += 1
            await self.back_off_or_raise(failures, failure, repeatable=repeatable)
            failure = None

    async def back_off_or_raise(self, failures: int, failure: GatewayUnavailable, *, repeatable: bool = True) -> None:
        """Wait before the next try, or raise the last of this number of failures in a row if there is none."""
        is_patient = failure.connected and failure.code != ProblemCode.TIER_FAILED
        tries = self._retry.tries if is_patient else self._retry.absent or self._retry.tries
        if failures >= tries or (failure.seen and not repeatable):
            message = f"{failure} (after {failures} {'tries' if failures > 1 else 'try'})"
            raise GatewayUnavailable(
                message,
                code=failure.code,
                retry_after=failure.retry_after,
                seen=failure.seen,
                connected=failure.connected,
            ) from failure
        await self.back_off(failures, failure)

    async def until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Call `ask` until the gateway answers or refuses, however long it takes."""
        failures = 0
        while True:
            try:
                return await ask()
            except GatewayUnavailable as failure:
                failures += 1
                await self.back_off(failures, failure)

    async def back_off(self, failures: int, failure: GatewayUnavailable) -> None:
        """Report the last of this number of failures in a row, and wait before the next try."""
        delay = self._retry.delay(failures, failure.retry_after)
        self._on_retry(str(failure), delay)
        await asyncio.sleep(delay)

    @asynccontextmanager
    async def request(
        self,
        verb: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        within: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request once; raise the errors of aiohttp and the system as GatewayError until the answer is read."""
        if self._session is None:
            raise RuntimeError("use it as `async with GlitchflowClient(…) as client`")
        # aiohttp would write plain bytes in one call and block the event loop; it reads a file in pieces.
        data = None if body is None else io.BytesIO(body)
        headers = {**(headers or {}), **self._authorization}
        timeout = within or self._timeout
        try:
            async with self._session.request(
                verb, self._url_of(path), data=data, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                if target := _redirect_target(response):
                    raise redirected(self.base_url, path, response.status, target)
                yield response
        except LineTooLong as error:
            raise UnexpectedAnswer(f"{self.base_url} does not answer as a gateway: a line without end") from error
        except aiohttp.ClientConnectorError as error:
            message = f"no gateway at {self.base_url}: {_why_not_connected(error)}"
            raise GatewayUnavailable(message, seen=False, connected=False) from error
        except aiohttp.ConnectionTimeoutError as error:
            message = f"no gateway at {self.base_url}: no connection in {self._timeout.sock_connect:g} s"
            raise GatewayUnavailable(message, seen=False, connected=False) from error
        except TimeoutError as error:
            raise GatewayUnavailable(
                f"{self.base_url} did not answer in {timeout.total or timeout.sock_read:g} s"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise GatewayUnavailable(f"{self.base_url} {broken_text(error)}") from error

    async def texts(self, path: str) -> AsyncGenerator[str]:
        """Yield the texts of a WebSocket until the gateway closes it.

        Raise GatewayUnavailable if it cannot be opened, as behind some proxies, or breaks.
        """
        if self._session is None:
            raise RuntimeError("use it as `async with GlitchflowClient(…) as client`")
        opening = self._session.ws_connect(
            self._url_of(path), headers=self._authorization, heartbeat=_HEARTBEAT_SECONDS
        )
        try:
            async with asyncio.timeout(self._timeout.total):
                socket = await opening
            async with socket:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        yield message.data
        except (aiohttp.ClientError, OSError) as error:
            raise GatewayUnavailable(f"no WebSocket at {self.base_url}{path}: {error}") from error

    def _url_of(self, path: str) -> URL:
        """Return the URL of a path, which is sent as it is written."""
        try:
            return URL(str(URL(self.base_url)).rstrip("/") + path, encoded=True)
        except ValueError as error:
            raise UnexpectedAnswer(f"{self.base_url} is not an address") from error

    def stream_timeout(self, pause: float) -> aiohttp.ClientTimeout:
        """Return the timeout of an answer without an end that never pauses for more than `pause` s on purpose."""
        waiting = self._timeout_of(pause)
        return aiohttp.ClientTimeout(sock_connect=waiting.sock_connect, sock_read=waiting.total)

    def _timeout_of(self, wait: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=(self._timeout.total or 0) + wait, sock_connect=self._timeout.sock_connect)


def _redirect_target(response: aiohttp.ClientResponse) -> str:
    """Return the address to which an answer redirects, or an empty text if it does not."""
    location = response.headers.get("Location", "")
    if response.status not in _REDIRECTS or not location:
        return ""
    try:
        return str(response.url.join(URL(location, encoded=True)))
    except ValueError:
        return location


def _why_not_connected(error: aiohttp.ClientConnectorError) -> str:
    cause = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error.os_error
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {tls_reason(cause)}"
    # The text of asyncio for an error of the system has the address once more.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)


def tls_reason(error: ssl.SSLError) -> str:
    """Return in plain words why TLS failed."""
    return getattr(error, "verify_message", "") or (error.reason or "no reason given").replace("_", " ").lower()


def media_headers(media_type: str, key: str | None) -> dict[str, str]:
    """Return the headers of a request body, with its idempotency key; raise InvalidArgument if it is none."""
    if key is not None:
        _check_visible("the idempotency key", key)
    return {"Content-Type": media_type} | ({} if key is None else {KEY_HEADER: key})


def _check_visible(what: str, value: object) -> None:
    """Raise InvalidArgument, without the value, if it is not a text of visible ASCII characters."""
    if not (isinstance(value, str) and re.fullmatch(r"[!-~]+", value)):
        raise InvalidArgument(f"{what} has to be a text of visible ASCII characters")


async def read_success(response: aiohttp.ClientResponse) -> bytes:
    """Return the body of an answer of status 200 or 202; raise the error of another one."""
    if response.status not in {_OK, _ACCEPTED}:
        raise await response_error(response)
    return await response.read()


async def response_error(response: aiohttp.ClientResponse) -> GatewayRefused | GatewayUnavailable:
    """Return the error that an answer of another status stands for."""
    body = await response.read()
    return error_of(
        f"{response.method} {response.url.path}",
        response.status,
        decode_problem(body) if response.content_type == PROBLEM_TYPE else None,
        source=str(response.url.origin()),
        reason=response.reason or "",
        retry_after=parse_retry_after(response.headers.get("Retry-After", "")),
    )
