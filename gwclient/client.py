"""The gateway's routes as coroutines."""

import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from gwclient.answers import About, LineAnswer, OpenApi, decode_answer, decode_line
from gwclient.connection import Retry, media_headers, parse_gateway_url, read_success, response_error
from gwclient.digests import digest_of
from gwclient.errors import GatewayUnavailable, InvalidArgument, OnTape, UnexpectedAnswer
from gwclient.holdings import Holdings
from gwclient.listen import Listening, own_name
from gwclient.records import Records
from gwclient.search import SearchClient
from gwclient.url_paths import url_path
from gwwire import public
from gwwire.http_dates import parse_date
from gwwire.overview import Overview
from gwwire.problems import ProblemCode
from gwwire.records import StepClaim
from gwwire.segment import KEYS_HEADER, NDJSON
from gwwire.tiering import ANYBODY, Recall, Tiering, TieringOrder, TieringPlan, Tiers

__all__ = ["GlitchflowClient", "Retry", "parse_gateway_url"]

_STREAM = "/streamdata"
_OK = 200
_NO_ROUTE = frozenset({404, 405})
#: Problems of a segment that is stored, but cannot be read now.
_STORED = frozenset({ProblemCode.TIER_FAILED, ProblemCode.ON_TAPE})


class GlitchflowClient(SearchClient):
    """A client of one gateway; use it as `async with GlitchflowClient("http://127.0.0.1:8000") as client`.

    Transient errors are retried: no connection, a lost answer, a timeout, 408, 429, 502, 503, 504; but not a daily
    quota that is used up. After a lost answer the client cannot know whether the request was carried out. Every try of
    a segment therefore has the same key (draft-ietf-httpapi-idempotency-key-header), and the gateway stores it once,
    also after its batch was archived. A gateway that ignores the key stores it at least once, sometimes twice. `clean`
    must not be carried out twice: it is retried only if the gateway did not see the request.
    """

    async def stream(self, body: bytes, *, key: str | None = None) -> public.StreamAnswer:
        """Store one segment; only CREATED means that it is stored.

        `body` is the segment as JSON; `key` the idempotency key, for a caller that may send it again: up to 255 visible
        ASCII characters. Raises GatewayRefused for an invalid or too large segment, a full volume, or a key that was
        used for other bytes, and GatewayUnavailable if every try failed.
        """
        return await self.ask("POST", _STREAM, public.StreamAnswer, body, key=key or uuid4().hex)

    async def takes_many(self) -> bool:
        """Return whether the gateway accepts many segments in one request."""

        async def once() -> bool:
            async with self.request("OPTIONS", _STREAM) as response:
                error = await response_error(response)
            if isinstance(error, GatewayUnavailable):
                raise error
            offers = ",".join(response.headers.getall("Accept-Post", [])).lower().split(",")
            return response.ok and NDJSON in [offer.partition(";")[0].strip() for offer in offers]

        return await self.with_retries(once)

    async def stream_many(
        self,
        bodies: Sequence[bytes],
        *,
        key: str | None = None,
        keys: Sequence[str] = (),
        on_answer: Callable[[int, LineAnswer], None] | None = None,
    ) -> Sequence[LineAnswer]:
        """Store many segments in one request; the gateway has to accept that (`takes_many`).

        Args:
            bodies: the segments, each as JSON without line breaks.
            key: as for `stream`; the key of segment `i`, from 0, is `{key}/{i}`.
            keys: the key of each segment, instead, without commas; a gateway that ignores them uses `{key}/{i}`.
            on_answer: called with the index and the answer of each segment as it arrives. After a lost connection
                it is called again for all; CREATED is CREATED again, any other answer may change.

        Returns:
            The answer to each segment, in the same order; an invalid segment does not affect the others.

        Raises:
            GatewayRefused: the gateway refused the whole request.
            GatewayUnavailable: every try failed.
            InvalidArgument: a body is empty or has line breaks, or the keys are not as many as the bodies.

        """
        if any(not body or b"\n" in body for body in bodies):
            raise InvalidArgument("each segment has to be JSON in one line")
        if keys and len(keys) != len(bodies):
            raise InvalidArgument("each segment has to have a key")
        headers = media_headers(NDJSON, key or uuid4().hex) | ({KEYS_HEADER: ", ".join(keys)} if keys else {})
        report = on_answer or (lambda _index, _answer: None)
        return await self.with_retries(lambda: self._stream_many(bodies, headers, report)) if bodies else []

    async def ready(self) -> public.Health:
        """Return whether segments can be stored, or raise GatewayUnavailable if a service does not answer."""
        return await self.ask("GET", "/readyz", public.Health)

    async def about(self) -> About:
        """Return the gateway's version and the time of its clock."""

        async def once() -> About:
            async with self.request("GET", "/openapi.json") as response:
                body = await read_success(response)
                date = parse_date(response.headers.get("Date", ""))
                return About(decode_answer(body, OpenApi, str(response.url)).info.version, date)

        return await self.with_retries(once)

    async def serves(self, path: str) -> bool:
        """Return whether the service answers at a path; a web page or a refusal of the path does not count."""
        async with self.request("GET", path) as response:
            await response.read()
            return response.status not in _NO_ROUTE and response.content_type != "text/html"

    async def whoami(self) -> public.Whoami:
        """Return the caller, as the gateway identifies this client."""
        return await self.ask("GET", "/whoami", public.Whoami)

    async def stats(self) -> public.Stats:
        """Return the number of segments and bytes in the current batch."""
        return await self.ask("GET", "/stats", public.Stats)

    async def desc(self) -> public.State:
        """Return the state of the datastore."""
        return await self.ask("GET", "/desc", public.State)

    async def overview(self) -> Overview:
        """Return state, sizes and channels of the current batch; an earlier gateway refuses that (GatewayRefused)."""
        return await self.ask("GET", "/overview", Overview)

    async def list(self) -> public.NameList:
        """Return the file names of the current batch."""
        return await self.ask("GET", "/dumpbuf", public.NameList)

    async def train(self, user: str, token: str) -> public.TrainFrozen | public.TrainWaiting:
        """Freeze the batch for `user` if it is large enough; a second call changes nothing."""
        union: Any = public.TrainFrozen | public.TrainWaiting  # a union is no `type[T]`
        answer: public.TrainFrozen | public.TrainWaiting
        answer = await self.ask("POST", "/train", union, public.TrainOrder(user, token))
        return answer

    async def clean(
        self, message: str, batch: str | None = None, holder: str | None = None, tiering: Tiering | None = None
    ) -> public.CleanAnswer:
        """Archive the current batch and open the datastore; if `batch` is given, only that batch.

        If `holder` is given, only a batch that this user has frozen, or an open one if it is empty. A `tiering` says
        where the batch is kept, instead of the datastore's own policy.
        """
        order = public.CleanOrder(message, batch, holder, tiering)
        return await self.ask("POST", "/cleanbuf", public.CleanAnswer, order, repeatable=False)

    async def thaw(self, user: str, token: str) -> public.ThawAnswer:
        """Open the frozen batch again; raise GatewayRefused (403) to all but its holder."""
        return await self.ask("POST", "/thaw", public.ThawAnswer, public.ThawOrder(user, token))

    async def batches(self) -> Sequence[public.Batch]:
        """Return all batches, the oldest first: archived, frozen, open."""
        return (await self.ask("GET", "/batches", public.Batches)).batches

    async def batch(self, batch: str) -> public.Batch:
        """Return one batch by its id, or raise GatewayRefused (404) if there is none."""
        return await self.ask("GET", url_path("batches", batch), public.Batch)

    async def manifest(self, batch: str) -> public.Manifest:
        """Return the manifest of a sealed (frozen or archived) batch: every segment with its SHA-256.

        Raises GatewayRefused (404) if there is no such batch, or it is still open.
        """
        return await self.ask("GET", url_path("batches", batch, "manifest"), public.Manifest)

    async def segment(self, name: str) -> bytes:
        """Return a stored segment by its file name, byte for byte as it was stored.

        The bytes are compared with the SHA-256 in the ETag; if they differ, the segment is requested again. Raises
        GatewayRefused (404) if there is no such segment, GatewayUnavailable if every try failed or had other bytes.
        """
        return await self.with_retries(lambda: self.segment_once(name))

    async def segment_once(self, name: str) -> bytes:
        """Do `segment` with one try."""
        async with self.request("GET", url_path("segments", name)) as response:
            body = await read_success(response)
            sha256 = digest_of(response.headers)
        if sha256 and hashlib.sha256(body).hexdigest() != sha256:
            message = f"{name} came with other bytes than its SHA-256 {sha256[:12]}… says"
            raise GatewayUnavailable(message, code=ProblemCode.DIGEST_MISMATCH)
        return body

    async def has_segment(self, name: str, sha256: str) -> bool:
        """Return whether a segment with this name and SHA-256 is stored, also if its tier does not answer."""

        async def once() -> bool:
            async with self.request("HEAD", url_path("segments", name)) as response:
                if response.status == HTTPStatus.NOT_FOUND:
                    return False
                if response.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    await read_success(response)
                    return digest_of(response.headers) in {None, sha256}
            try:  # the answer to GET says why
                return hashlib.sha256(await self.segment_once(name)).hexdigest() == sha256
            except (OnTape, GatewayUnavailable) as error:
                if error.code not in _STORED:
                    raise
                return True

        return await self.with_retries(once)

    async def verify(self, batch: str) -> public.Verification:
        """Start to verify an archived batch in the background; its progress is in `verification` of `batch`.

        Raises GatewayRefused if it is not archived (409, `batch-not-archived`), or there is no such batch (404).
        """
        return await self.ask("POST", url_path("batches", batch, "verify"), public.Verification)

    async def recall(self, batch: str, asker: str = ANYBODY) -> Recall:
        """Keep a batch readable for an asker, and begin its recall if it is on tape only; return how far it is.

        Raises GatewayRefused if it is larger than the cache of the tape (409, `recall-too-large`), or there is no such
        batch (404).
        """
        return await self.ask("POST", _recall_path(batch, asker), Recall)

    async def recall_state(self, batch: str, asker: str = ANYBODY) -> Recall:
        """Return how far the recall of a batch is; it begins nothing."""
        return await self.ask("GET", _recall_path(batch, asker), Recall)

    async def release(self, batch: str, asker: str = ANYBODY) -> Recall:
        """Keep a batch no longer for an asker."""
        return await self.ask("DELETE", _recall_path(batch, asker), Recall)

    async def tiers(self) -> Tiers:
        """Return the tiers of the datastore, the disk first, the moves under way, and the recalls that wait."""
        return await self.ask("GET", "/tiers", Tiers)

    async def plan_tiering(self, tiering: Tiering | None = None, batches: Sequence[str] = ()) -> TieringPlan:
        """Return what a policy changes for archived batches, by default the datastore's own for all; change nothing.

        Raises GatewayRefused for an unknown tier (422), an unknown batch (404), or one that is not archived (409).
        """
        return await self.ask("POST", "/tiering/plan", TieringPlan, TieringOrder(tiering, tuple(batches)))

    async def apply_tiering(self, tiering: Tiering | None = None, batches: Sequence[str] = ()) -> TieringPlan:
        """Set the policy of archived batches, and return its plan; the same call again changes nothing."""
        return await self.ask("POST", "/tiering/apply", TieringPlan, TieringOrder(tiering, tuple(batches)))

    @property
    def records(self) -> Records:
        """The routes of records, steps and the change feed."""
        return Records(self)

    @property
    def holdings(self) -> Holdings:
        """The routes of holdings and transactions, and transfers of files."""
        return Holdings(self)

    def listen(self, step: str, *, worker: str | None = None, **wanted: Any) -> Listening:
        """Return the work of a step, to be used as `async with client.listen(…) as work`; see Listening.

        `worker` is a name for this process; `wanted` are other fields of `gwwire.records.StepClaim`: `after`,
        `before`, `kind`, `query`, `since`, `attempts`, `lease`.
        """
        return Listening(self, step, StepClaim(worker or own_name(), **wanted))

    async def _stream_many(
        self, bodies: Sequence[bytes], headers: dict[str, str], report: Callable[[int, LineAnswer], None]
    ) -> Sequence[LineAnswer]:
        answers: list[LineAnswer] = []
        async with aclosing(self._answer_lines(bodies, headers)) as lines:
            async for line in lines:
                if len(answers) == len(bodies):
                    raise UnexpectedAnswer(f"{self.base_url} gives more than {len(bodies)} answers to as many segments")
                answers.append(decode_line(line, f"POST {_STREAM}", self.base_url + _STREAM))
                report(len(answers) - 1, answers[-1])
        if len(answers) < len(bodies):
            raise GatewayUnavailable(f"{self.base_url} answered {len(answers)} of {len(bodies)} segments")
        return answers

    async def _answer_lines(self, bodies: Sequence[bytes], headers: dict[str, str]) -> AsyncGenerator[bytes, None]:
        """Send the segments once and yield the lines of the answer; a line that is cut off is left out.

        It is a generator so that an exception of `on_answer` is not taken for a connection error.
        """
        text = b"".join(body + b"\n" for body in bodies)
        async with self.request("POST", _STREAM, text, headers) as response:
            if response.status != _OK:
                raise await response_error(response)
            if response.content_type != NDJSON:
                raise UnexpectedAnswer(f"{response.url} does not answer as a gateway: {response.content_type}")
            async for line in response.content:
                if line.endswith(b"\n"):
                    yield line


def _recall_path(batch: str, asker: str) -> str:
    return f"{url_path('batches', batch, 'recall')}?{urlencode({'asker': asker})}"
