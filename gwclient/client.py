"""The gateway's verbs as coroutines; the only code that speaks HTTP to it."""

import asyncio
import hashlib
import io
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

import aiohttp
import msgspec
from aiohttp.http_exceptions import LineTooLong

from gwclient.answers import (
    About,
    Cleaned,
    LineAnswer,
    OpenApi,
    ProblemAnswer,
    State,
    Streamed,
    Thawed,
    Training,
    Whoami,
    decode_answer,
    decode_line,
    decode_problem,
    error_of,
    parse_date,
    parse_retry_after,
)
from gwclient.errors import GatewayError, GatewayUnavailable, UnexpectedAnswer
from gwwire.datastore import (
    Batch,
    Batches,
    BufferStats,
    Claim,
    ClaimOrder,
    CleanOrder,
    Manifest,
    Names,
    ReleaseOrder,
    SegmentPage,
    SegmentRecord,
    Verification,
)
from gwwire.problems import PROBLEM_TYPE

T = TypeVar("T")

_JSON = "application/json"
#: Many segments in one request: a line each, and as many lines in the answer (https://github.com/ndjson/ndjson-spec).
_NDJSON = "application/x-ndjson"
_STREAM = "/streamdata"
_OK, _BEGUN = 200, 202
_SHA256_DIGITS = 64


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

    What may pass is tried again: no connection, a lost answer, a timeout, 408, 429, 502, 503, 504; but not a quota of
    the day that is used up. A lost answer may mean that the order was carried out. A segment therefore carries the same
    key at each try (draft-ietf-httpapi-idempotency-key-header), by which the gateway stores it once, as long as the
    batch it went into is not archived. A gateway that does not know the key stores it at least once, sometimes twice.
    `clean`, which must
    not be carried out twice, is tried again only where it was not seen.

    Args:
        base_url: see `parse_gateway_url`.
        session: an open session to use; it is not closed. Without it the client opens and closes its own.
        retry: how long to insist.
        timeout: s for one try.
        api_key: goes along as `Authorization: Bearer`, where the gateway asks for one.
        on_retry: is told the reason and the s to wait before each further try.

    """

    def __init__(  # noqa: PLR0913 (each has a good default)
        self,
        base_url: str,
        *,
        session: aiohttp.ClientSession | None = None,
        retry: Retry | None = None,
        timeout: float = 30.0,
        api_key: str | None = None,
        on_retry: Callable[[str, float], None] | None = None,
    ) -> None:
        self.base_url = parse_gateway_url(base_url)
        self._session = session
        self._owned: aiohttp.ClientSession | None = None
        self._retry = retry or Retry()
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, 5.0))
        self._authorization = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
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

    async def stream(self, body: bytes, *, key: str | None = None) -> Streamed:
        """Send one segment, as JSON; only CREATED means that it is stored.

        Args:
            body: the segment.
            key: what its key is, for a caller who may send it again: up to 255 visible ASCII characters.

        Raises:
            GatewayRefused: the segment is not one, is too large, the volume is full, or other bytes have the key.
            GatewayUnavailable: every try failed.

        """
        return await self._ask("POST", _STREAM, Streamed, body, key=key or uuid4().hex)

    async def takes_many(self) -> bool:
        """Ask whether the gateway offers to take many segments in one request."""
        return await self._insist(self._takes_many)

    async def stream_many(
        self,
        bodies: Sequence[bytes],
        *,
        key: str | None = None,
        on_answer: Callable[[int, LineAnswer], None] | None = None,
    ) -> Sequence[LineAnswer]:
        """Send many segments in one request, to a gateway that `takes_many`.

        Args:
            bodies: the segments, each as JSON without line breaks.
            key: as for `stream`; segment `i`, from 0, then is the same to the gateway as one sent alone with the
                key `{key}/{i}`.
            on_answer: hears the index and the answer of each segment as it comes. After a lost connection all
                come again; what was CREATED is CREATED again, any other answer may change.

        Returns:
            The answer to each segment, in their order; one that is wrong does not spoil the others.

        Raises:
            GatewayRefused: the request as a whole is refused.
            GatewayUnavailable: every try failed.
            ValueError: a body is empty or has line breaks.

        """
        if any(not body or b"\n" in body for body in bodies):
            raise ValueError("each segment has to be JSON in one line")
        key = key or uuid4().hex
        hear = on_answer or (lambda _index, _answer: None)
        return await self._insist(lambda: self._stream_many(bodies, key, hear)) if bodies else []

    async def ready(self) -> None:
        """Ask whether every tier answers the one above it.

        Raises:
            GatewayUnavailable: one does not.

        """
        await self._ask("GET", "/readyz", msgspec.Raw)

    async def about(self) -> About:
        """Ask for the gateway's version, and the time of day at its machine."""

        async def once() -> About:
            async with self._request("GET", "/openapi.json") as response:
                body = await _read_good(response)
                told = parse_date(response.headers.get("Date", ""))
                return About(decode_answer(body, OpenApi, str(response.url)).info.version, told)

        return await self._insist(once)

    async def whoami(self) -> Whoami:
        """Ask who the gateway takes this client for."""
        return await self._ask("GET", "/whoami", Whoami)

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

    async def clean(self, message: str, batch: str | None = None) -> Cleaned:
        """Have the batch in hand archived and the datastore opened again; where `batch` is said, only that one."""
        body = msgspec.json.encode(CleanOrder(message, batch))
        return await self._ask("POST", "/cleanbuf", Cleaned, body, repeatable=False)

    async def thaw(self, user: str, token: str) -> Thawed:
        """Open the frozen batch again, for the one who froze it; nothing is archived.

        Raises:
            GatewayRefused: the batch is somebody else's (403).

        """
        return await self._ask("POST", "/thaw", Thawed, msgspec.json.encode({"user": user, "token": token}))

    async def batches(self) -> Sequence[Batch]:
        """Ask for all batches, the oldest first: archived, frozen, open."""
        return (await self._ask("GET", "/batches", Batches)).batches

    async def batch(self, batch: str) -> Batch:
        """Ask about one batch, by its id.

        Raises:
            GatewayRefused: there is no such batch (404).

        """
        return await self._ask("GET", f"/batches/{quote(batch, safe='')}", Batch)

    async def manifest(self, batch: str) -> Manifest:
        """Ask for the manifest of a sealed (frozen or archived) batch: every segment with its SHA-256.

        Raises:
            GatewayRefused: there is no such batch, or it is still open (404).

        """
        return await self._ask("GET", f"/batches/{quote(batch, safe='')}/manifest", Manifest)

    async def segments(  # noqa: PLR0913 (what the route can be asked, each optional)
        self,
        *,
        batch: str | None = None,
        channel: str | None = None,
        start: float | None = None,
        stop: float | None = None,
        after: int = 0,
        page: int = 1000,
    ) -> AsyncGenerator[SegmentRecord, None]:
        """Give the stored segments, in the order they were stored, asking for a page at a time.

        None is given twice and none left out, whatever is stored meanwhile.

        Args:
            batch: only of this batch (id).
            channel: only of this channel, `DET:NAME`.
            start: GPS seconds; only those that end after it.
            stop: GPS seconds; only those that begin before it.
            after: only those stored after this seq.
            page: how many to ask for at a time, up to 10,000.

        """
        named = {"batch": batch, "channel": channel, "start": start, "stop": stop}
        wanted = {name: value for name, value in named.items() if value is not None}
        more = True
        while more:
            question = urlencode({**wanted, "after": after, "limit": page})
            answer = await self._ask("GET", f"/segments?{question}", SegmentPage)
            for record in answer.segments:
                yield record
            after, more = answer.after, answer.more

    async def segment(self, name: str) -> bytes:
        """Ask for a stored segment, by its file name; gives its JSON, byte for byte as it was stored.

        The bytes are checked against the SHA-256 that the gateway gives as ETag; others are asked for again.

        Raises:
            GatewayRefused: there is no such segment (404).
            GatewayUnavailable: every try failed, or brought other bytes.

        """

        async def once() -> bytes:
            async with self._request("GET", f"/segments/{quote(name, safe='')}") as response:
                body = await _read_good(response)
                told = response.headers.get("ETag", "").strip('"')
            if len(told) == _SHA256_DIGITS and hashlib.sha256(body).hexdigest() != told:
                raise GatewayUnavailable(f"{name} came with other bytes than its SHA-256 {told[:12]}… says")
            return body

        return await self._insist(once)

    async def claim(self, batch: str, worker: str, lease: float) -> Claim:
        """Take a frozen batch for `worker`, for `lease` s from now; the same worker asking again renews the lease.

        Raises:
            GatewayRefused: another worker has it (409, code `batch-claimed`), it is not frozen (409,
                `batch-not-frozen`), or there is no such batch (404).

        """
        order = msgspec.json.encode(ClaimOrder(worker, lease))
        return await self._ask("POST", f"/batches/{quote(batch, safe='')}/claim", Claim, order)

    async def release(self, batch: str, worker: str) -> Claim:
        """Give a claimed batch back; doing so again changes nothing.

        Raises:
            GatewayRefused: another worker has it (409, code `batch-claimed`), or there is no such batch (404).

        """
        order = msgspec.json.encode(ReleaseOrder(worker))
        return await self._ask("POST", f"/batches/{quote(batch, safe='')}/release", Claim, order)

    async def verify(self, batch: str) -> Verification:
        """Have an archived batch compared with its manifest, in the background; the `verification` of `batch` goes on.

        Raises:
            GatewayRefused: it is not archived (409, code `batch-not-archived`), or there is no such batch (404).

        """
        return await self._ask("POST", f"/batches/{quote(batch, safe='')}/verify", Verification)

    async def _ask(  # noqa: PLR0913 (the last two are what sets two of the verbs apart)
        self,
        verb: str,
        path: str,
        kind: type[T],
        body: bytes | None = None,
        *,
        key: str | None = None,
        repeatable: bool = True,
    ) -> T:
        headers = {} if body is None else _headers(_JSON, key)

        async def once() -> T:
            async with self._request(verb, path, body, headers) as response:
                return decode_answer(await _read_good(response), kind, str(response.url))

        return await self._insist(once, repeatable=repeatable)

    async def _insist(self, once: Callable[[], Awaitable[T]], *, repeatable: bool = True) -> T:
        failures = 0
        while True:
            try:
                return await once()
            except GatewayUnavailable as failure:
                failures += 1
                if failures >= self._retry.tries or (failure.seen and not repeatable):
                    tries = f"{failures} tries" if failures > 1 else "1 try"
                    message = f"{failure} (after {tries})"
                    raise GatewayUnavailable(message, retry_after=failure.retry_after, seen=failure.seen) from failure
                delay = self._retry.delay(failures, failure.retry_after)
                self._on_retry(str(failure), delay)
                await asyncio.sleep(delay)

    async def _takes_many(self) -> bool:
        async with self._request("OPTIONS", _STREAM) as response:
            error = _error(response, await response.read())
        if isinstance(error, GatewayUnavailable):
            raise error
        offers = ",".join(response.headers.getall("Accept-Post", [])).lower().split(",")
        return response.ok and _NDJSON in [offer.partition(";")[0].strip() for offer in offers]

    async def _stream_many(
        self, bodies: Sequence[bytes], key: str, hear: Callable[[int, LineAnswer], None]
    ) -> Sequence[LineAnswer]:
        answers: list[LineAnswer] = []
        async with aclosing(self._answer_lines(bodies, key)) as lines:
            async for line in lines:
                if len(answers) == len(bodies):
                    raise UnexpectedAnswer(f"{self.base_url} gives more than {len(bodies)} answers to as many segments")
                answers.append(decode_line(line, f"POST {_STREAM}", self.base_url + _STREAM))
                hear(len(answers) - 1, answers[-1])
        if len(answers) < len(bodies):
            raise GatewayUnavailable(f"{self.base_url} answered {len(answers)} of {len(bodies)} segments")
        return answers

    async def _answer_lines(self, bodies: Sequence[bytes], key: str) -> AsyncGenerator[bytes, None]:
        """Send once, and give the answer's lines as they come; one that was cut off is none.

        A generator, so that what the hearer of a line raises is not taken for a failing connection.
        """
        text = b"".join(body + b"\n" for body in bodies)
        async with self._request("POST", _STREAM, text, _headers(_NDJSON, key)) as response:
            if response.status != _OK:
                raise _error(response, await response.read())
            if response.content_type != _NDJSON:
                raise UnexpectedAnswer(f"{response.url} does not answer as a gateway: {response.content_type}")
            async for line in response.content:
                if line.endswith(b"\n"):
                    yield line

    @asynccontextmanager
    async def _request(
        self, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask once; what aiohttp and the system raise until the answer is read becomes the client's own."""
        if self._session is None:
            raise RuntimeError("use it as `async with GlitchflowClient(…) as client`")
        # aiohttp would write plain bytes in one go, however many, and hold up everything else meanwhile.
        data = None if body is None else io.BytesIO(body)
        headers = {**(headers or {}), **self._authorization}
        try:
            async with self._session.request(
                verb, self.base_url + path, data=data, headers=headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                yield response
        except aiohttp.InvalidURL as error:
            raise UnexpectedAnswer(f"{self.base_url} is not an address") from error
        except LineTooLong as error:
            raise UnexpectedAnswer(f"{self.base_url} does not answer as a gateway: a line without end") from error
        except aiohttp.ClientConnectorError as error:
            reason = error.strerror or error
            raise GatewayUnavailable(f"no gateway at {self.base_url}: {reason}", seen=False) from error
        except TimeoutError as error:
            raise GatewayUnavailable(f"{self.base_url} did not answer in {self._timeout.total:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise GatewayUnavailable(f"{self.base_url} closed the connection: {reason}") from error


def _headers(media_type: str, key: str | None) -> dict[str, str]:
    return {"Content-Type": media_type} | ({} if key is None else {"Idempotency-Key": key})


async def _read_good(response: aiohttp.ClientResponse) -> bytes:
    body = await response.read()
    if response.status not in {_OK, _BEGUN}:
        raise _error(response, body)
    return body


def _error(response: aiohttp.ClientResponse, body: bytes) -> GatewayError:
    return error_of(
        f"{response.method} {response.url.path}",
        response.status,
        decode_problem(body) if response.content_type == PROBLEM_TYPE else ProblemAnswer(),
        reason=response.reason or "",
        retry_after=parse_retry_after(response.headers.get("Retry-After", "")),
    )
