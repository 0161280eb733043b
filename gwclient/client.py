"""The gateway's verbs as coroutines; the only code that speaks HTTP to it."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.metadata import version
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from gwclient.errors import GatewayError, GatewayRefused, GatewayUnavailable, UnexpectedAnswer
from gwwire.datastore import BufferStats, DatastoreState, Names
from gwwire.problems import PROBLEM_TYPE

Answer = TypeVar("Answer")

#: Statuses that say "not now".
_TRANSIENT = frozenset({429, 502, 503, 504})
#: Statuses that also say "I did nothing".
_UNTOUCHED = frozenset({429, 503})


class StreamOutcome(StrEnum):
    """What became of a segment."""

    CREATED = "CREATED"
    FROZEN = "FROZEN"


class TrainOutcome(StrEnum):
    """What became of the wish to train."""

    FROZEN = "FROZEN"
    WAITING = "WAITING"


class Streamed(msgspec.Struct, frozen=True):
    """The answer to a segment: `body` is for people."""

    resp: StreamOutcome
    body: str = ""


class State(msgspec.Struct, frozen=True):
    """The datastore's state."""

    resp: DatastoreState


class Training(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to the wish to train: when FROZEN, the batch's `n_f` segments, `bt_wrt` bytes, and its holder."""

    resp: TrainOutcome
    n_f: int | None = None
    bt_wrt: int | None = None
    holder: str | None = None


class Cleaned(msgspec.Struct, frozen=True):
    """The answer to the order to archive the batch; `resp` is CLEANED."""

    resp: str
    body: str = ""


class _ProblemAnswer(msgspec.Struct, frozen=True):
    """As much of a problem document as is needed to tell it; nothing in it is taken for granted."""

    title: str = ""
    detail: str = ""
    code: str = ""
    field: str | None = None


@dataclass(frozen=True)
class Retry:
    """How long to insist: `tries` in all, waiting `first` s, twice that, and so on up to `longest` s, with jitter.

    A gateway that names the time to wait (`Retry-After`) is obeyed up to `obey` s.
    """

    tries: int = 6
    first: float = 0.25
    longest: float = 8.0
    obey: float = 60.0

    def delay(self, failures: int, asked: float | None) -> float:
        """Give the s to wait after so many failures, of which the last asked for `asked` s."""
        backoff = min(self.longest, self.first * 2.0 ** (failures - 1))
        jittered = backoff * random.uniform(0.5, 1)  # noqa: S311 (spreads clients out, guards nothing)
        return max(jittered, min(asked or 0, self.obey))


def parse_gateway_url(text: str) -> str:
    """Give the base URL of a gateway named as `http://host:port`, `host:port` or `host`.

    Raises:
        ValueError: it is none of these.

    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        usable = usable and not (parts.query or parts.fragment)
    except ValueError:
        usable = False
    if not usable or any(letter.isspace() for letter in text):
        raise ValueError(f"{text!r} is not an address like http://127.0.0.1:8000")
    return url.rstrip("/")


class GlitchflowClient:
    """Speaks to one gateway; use it as `async with GlitchflowClient("http://127.0.0.1:8000") as client`.

    What may pass is tried again: no connection, a lost answer, a timeout, 429, 502, 503, 504. A lost answer may mean
    that the order was carried out. A segment is therefore stored at least once, sometimes twice (preprocessing drops
    the second); `clean`, which must not be carried out twice, is tried again only where it was not seen.

    Args:
        base_url: see `parse_gateway_url`.
        session: an open session to use; it is not closed. Without it the client opens and closes its own.
        retry: how long to insist.
        timeout: s for one try.
        on_retry: is told the reason and the s to wait before each further try.

    """

    def __init__(
        self,
        base_url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        retry: Retry | None = None,
        timeout: float = 30.0,
        on_retry: Callable[[str, float], None] | None = None,
    ) -> None:
        self.base_url = parse_gateway_url(base_url)
        self._session = session
        self._owned: aiohttp.ClientSession | None = None
        self._retry = retry or Retry()
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, 5.0))
        self._on_retry = on_retry or (lambda _reason, _delay: None)

    async def __aenter__(self) -> Self:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = self._owned = aiohttp.ClientSession(
                connector=connector, headers={"User-Agent": f"gwclient/{version('glitchflow-datastore')}"}
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned is not None:
            await self._owned.close()
            self._session = self._owned = None

    async def stream(self, body: bytes) -> Streamed:
        """Send one segment, as JSON; only CREATED means that it is stored.

        Raises:
            GatewayRefused: the segment is not one, is too large, or the volume is full.
            GatewayUnavailable: every try failed.

        """
        return await self._ask("POST", "/streamdata", Streamed, body)

    async def stats(self) -> BufferStats:
        """Ask for the number of segments and bytes in the batch in hand."""
        return await self._ask("GET", "/stats", BufferStats)

    async def desc(self) -> State:
        """Ask for the datastore's state."""
        return await self._ask("GET", "/desc", State)

    async def list(self) -> Names:
        """Ask for the file names of the batch in hand."""
        return await self._ask("GET", "/dumpbuf", Names)

    async def train(self, user: str, token: str) -> Training:
        """Ask for the batch to be frozen for `user`; doing so again changes nothing."""
        return await self._ask("POST", "/train", Training, msgspec.json.encode({"user": user, "token": token}))

    async def clean(self, message: str) -> Cleaned:
        """Have the batch archived and the datastore opened again."""
        body = msgspec.json.encode({"msg": message})
        return await self._ask("POST", "/cleanbuf", Cleaned, body, repeatable=False)

    async def _ask(
        self, verb: str, path: str, kind: type[Answer], body: bytes | None = None, *, repeatable: bool = True
    ) -> Answer:
        failures = 0
        while True:
            try:
                return await self._ask_once(verb, path, kind, body)
            except GatewayUnavailable as failure:
                failures += 1
                if failures >= self._retry.tries or (failure.seen and not repeatable):
                    tries = f"{failures} tries" if failures > 1 else "1 try"
                    message = f"{failure} (after {tries})"
                    raise GatewayUnavailable(message, retry_after=failure.retry_after, seen=failure.seen) from failure
                delay = self._retry.delay(failures, failure.retry_after)
                self._on_retry(str(failure), delay)
                await asyncio.sleep(delay)

    async def _ask_once(self, verb: str, path: str, kind: type[Answer], body: bytes | None) -> Answer:
        if self._session is None:
            raise RuntimeError("use it as `async with GlitchflowClient(…) as client`")
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self._session.request(
                verb, self.base_url + path, data=body, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                answer = await response.read()
        except aiohttp.InvalidURL as error:
            raise UnexpectedAnswer(f"{self.base_url} is not an address") from error
        except aiohttp.ClientConnectorError as error:
            reason = error.strerror or error
            raise GatewayUnavailable(f"no gateway at {self.base_url}: {reason}", seen=False) from error
        except TimeoutError as error:
            raise GatewayUnavailable(f"{self.base_url} did not answer in {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise GatewayUnavailable(f"{self.base_url} closed the connection: {reason}") from error
        if response.status != 200:  # noqa: PLR2004 (the contract's only good status)
            raise _refusal(response, answer)
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnexpectedAnswer(f"{response.url} does not answer as a gateway: {error}") from error


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> GatewayError:
    problem = _ProblemAnswer()
    if response.content_type == PROBLEM_TYPE:
        try:
            problem = msgspec.json.decode(body, type=_ProblemAnswer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = _ProblemAnswer()
    reason = problem.detail or problem.title or response.reason or "no reason given"
    message = f"{response.method} {response.url.path} answered {response.status}: {reason}"
    if response.status in _TRANSIENT:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        return GatewayUnavailable(message, retry_after=wait, seen=response.status not in _UNTOUCHED)
    return GatewayRefused(message, status=response.status, code=problem.code, field=problem.field)


def _retry_after(header: str) -> float | None:
    """Read the header's two forms, seconds and an HTTP date; anything else says nothing."""
    if header.isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
