"""A stand-in for the gateway that a test can make fail on purpose: a real server on a free loopback port.

It implements the gateway's contract and keeps acknowledged segments in memory. It accepts many segments in one request
if `ndjson` is true, and stores a segment that is repeated under its key once if `knows_keys` is true. Faults apply to
coming requests to store, archive or read segments, one each, in the order they arrive. The segment `gwb0.json` is the
first that was stored, and so on.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import msgspec
from aiohttp import web

from gwwire.problems import PROBLEM_TYPE, Problem, ProblemCode, ProblemError, encode_problem, make_problem
from gwwire.public import SegmentPage, SegmentRecord
from gwwire.segment import Segment, decode_segment
from tests.support.app_server import AppServer

NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Answering:
    """A fault: answer with this problem instead; if segments are named, only to these."""

    code: ProblemCode
    retry_after: str | None = None
    lines: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dropping:
    """A fault: close the connection after this number of answers.

    `stored` is whether the segments that are not answered were stored before.
    """

    stored: bool = False
    answers: int = 0


@dataclass(frozen=True)
class Slow:
    """A fault: take this many seconds."""

    seconds: float


@dataclass(frozen=True)
class Crowded:
    """A fault: answer once this number of segments were on their way at a time."""

    segments: int


Fault = Answering | Dropping | Slow | Crowded
Outcome = dict[str, str] | Problem


@dataclass
class StandInGateway:
    """Use it as `with StandInGateway() as gateway`; `gateway.url` is its address.

    `batch` is the id of the current batch; with another id it is another datastore.
    `keys` are those of all received segments, in order; `sizes` the number of segments in each request.
    """

    ndjson: bool = True
    knows_keys: bool = True
    faults: deque[Fault] = field(default_factory=deque)
    bodies: list[bytes] = field(default_factory=list)
    holder: str = ""
    freeze_at: int | None = None
    thaw_after_asked: int | None = None
    requests: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    most_at_a_time: int = 0
    on_stored: Callable[[int], None] = lambda _count: None
    url: str = ""
    batch: str = "b1"
    _now: int = 0
    _first: dict[str, tuple[bytes, Outcome]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        app = web.Application(client_max_size=2**26)
        app.add_routes(
            [
                web.options("/streamdata", self._offer),
                web.post("/streamdata", self._stream),
                web.get("/stats", self._stats),
                web.get("/dumpbuf", self._list),
                web.get("/desc", self._desc),
                web.post("/train", self._train),
                web.post("/cleanbuf", self._clean),
                web.get("/batches", self._batches),
                web.get("/segments", self._segments),
                web.get(r"/segments/gwb{number:\d+}.json", self._segment),
            ]
        )
        self._server = AppServer(app)
        self.url = self._server.__enter__().url
        return self

    def __exit__(self, *of_block: object) -> None:
        self._server.__exit__(*of_block)

    @property
    def segments(self) -> list[Segment]:
        """The segments stored, in the order of their t0."""
        return sorted((decode_segment(body) for body in self.bodies), key=lambda segment: segment.t0)

    def forget_keys(self) -> None:
        """Become a datastore without segments."""
        self._first.clear()

    async def _offer(self, _: web.Request) -> web.Response:
        self.requests.append("OPTIONS /streamdata")
        if not self.ndjson:
            return _problem(make_problem(ProblemCode.METHOD_NOT_ALLOWED, "there is no OPTIONS here"))
        return web.Response(status=204, headers={"Accept-Post": f"application/json, {NDJSON}"})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("/streamdata")
        key = request.headers.get("Idempotency-Key")
        body = await request.read()
        if many := request.content_type == NDJSON:
            assert body.endswith(b"\n")
            lines = body.splitlines()
            keys = request.headers.get("Idempotency-Keys")
            of_lines = keys.split(", ") if keys else [f"{key}/{i}" if key else None for i in range(len(lines))]
            segments = list(zip(of_lines, lines, strict=True))
        else:
            segments = [(key, body)]
        self.keys.extend(key for key, _ in segments)
        self.sizes.append(len(segments))
        self._now += len(segments)
        self.most_at_a_time = max(self.most_at_a_time, self._now)
        try:
            return await self._answer(request, segments, many=many)
        finally:
            self._now -= len(segments)

    async def _answer(
        self, request: web.Request, segments: list[tuple[str | None, bytes]], *, many: bool
    ) -> web.StreamResponse:
        instead: dict[int, Outcome] = {}
        match self.faults.popleft() if self.faults else None:
            case Answering(code, _, lines) if lines:
                instead = dict.fromkeys(lines, make_problem(code, "as the test wants it"))
            case Answering(code, retry_after):
                return _problem(make_problem(code, "as the test wants it"), retry_after)
            case Dropping(stored, answers):
                outcomes = [self._take(*each) for each in (segments if stored else segments[:answers])]
                return await _drop(request, outcomes[:answers])
            case Slow(seconds):
                await asyncio.sleep(seconds)
            case Crowded(count):
                while self.most_at_a_time < count:  # noqa: ASYNC110 (each request counts itself)
                    await asyncio.sleep(0.01)
            case None:
                pass
        if request.content_type not in ({NDJSON} if many and self.ndjson else {"application/json"}):
            return _problem(make_problem(ProblemCode.UNSUPPORTED_MEDIA_TYPE, f"got {request.content_type}"))
        outcomes = [instead[i] if i in instead else self._take(*each) for i, each in enumerate(segments)]
        if many:
            return web.Response(body=b"".join(map(_line, outcomes)), content_type=NDJSON)
        [outcome] = outcomes
        return _problem(outcome) if isinstance(outcome, Problem) else _json(outcome)

    def _take(self, key: str | None, body: bytes) -> Outcome:
        if key in self._first:
            first, outcome = self._first[key]
            return outcome if first == body else make_problem(ProblemCode.KEY_REUSED, "other bytes came with it")
        if self.holder:
            return {"resp": "FROZEN", "body": "Datastore frozen."}
        outcome = self._store(body)
        if key and self.knows_keys and not isinstance(outcome, Problem):
            self._first[key] = body, outcome
        return outcome

    def _store(self, body: bytes) -> Outcome:
        try:
            decode_segment(body)
        except ProblemError as error:
            return error.problem()
        self.bodies.append(body)
        self.on_stored(len(self.bodies))
        if self.freeze_at is not None and len(self.bodies) >= self.freeze_at:
            self.holder, self.freeze_at = "somebody", None
        return {"resp": "CREATED", "body": f"Written for {len(body)} bytes", "later": "field"}

    async def _stats(self, _: web.Request) -> web.Response:
        return _json({"n_itm": len(self.bodies), "buff_size": sum(map(len, self.bodies)), "later": 1})

    async def _batches(self, _: web.Request) -> web.Response:
        counts = {"n_itm": len(self.bodies), "buff_size": sum(map(len, self.bodies))}
        times = {"opened": "2026-11-20T23:41:00Z", "frozen": None, "archived": None}
        batch = {"id": self.batch, "state": "OPEN", **times, "holder": "", **counts, "path": "data", "digest": None}
        return _json({"batches": [batch]})

    async def _segments(self, _: web.Request) -> web.Response:
        found = []
        for number, body in enumerate(self.bodies):
            segment, sha256 = decode_segment(body), hashlib.sha256(body).hexdigest()
            name, size = f"gwb{number}.json", len(body)
            found.append(
                SegmentRecord(
                    number, name, self.batch, size, sha256, segment.channel, segment.t0, segment.dt, len(segment.h), ""
                )
            )
        return _json(SegmentPage(found, len(found), more=False))

    async def _segment(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        match self.faults.popleft() if self.faults else None:
            case Answering(code, retry_after):
                return _problem(make_problem(code, "as the test wants it"), retry_after)
            case _:
                return web.Response(body=self.bodies[int(request.match_info["number"])])

    async def _list(self, _: web.Request) -> web.Response:
        return _json({"nmlist": [f"gwb{number:019}.json" for number in range(len(self.bodies))]})

    async def _desc(self, _: web.Request) -> web.Response:
        self.requests.append("/desc")
        if self.holder and self.thaw_after_asked is not None:
            self.thaw_after_asked -= 1
            if self.thaw_after_asked <= 0:
                self.holder = ""
        return _json({"resp": "FROZEN" if self.holder else "OPERATIONAL"})

    async def _train(self, request: web.Request) -> web.Response:
        order = msgspec.json.decode(await request.read(), type=dict[str, str])
        assert set(order) == {"user", "token"}
        if not self.bodies:
            return _json({"resp": "WAITING"})
        self.holder = self.holder or order["user"]
        size = sum(map(len, self.bodies))
        return _json({"resp": "FROZEN", "n_f": len(self.bodies), "bt_wrt": size, "holder": self.holder})

    async def _clean(self, request: web.Request) -> web.StreamResponse:
        self.requests.append("/cleanbuf")
        match self.faults.popleft() if self.faults else None:
            case Dropping():
                return await _drop(request, [])
            case Answering(code, retry_after):
                return _problem(make_problem(code, "as the test wants it"), retry_after)
            case _:
                pass
        order = msgspec.json.decode(await request.read(), type=dict[str, str])
        self.bodies.clear()
        self._first.clear()
        self.holder = ""
        return _json({"resp": "CLEANED", "body": order["msg"]})


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _line(outcome: Outcome) -> bytes:
    return msgspec.json.encode(outcome) + b"\n"


def _problem(problem: Problem, retry_after: str | None = None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return web.Response(body=encode_problem(problem), status=problem.status, headers=headers, content_type=PROBLEM_TYPE)


async def _drop(request: web.Request, outcomes: list[Outcome]) -> web.StreamResponse:
    """Close the connection after this number of answers, in the middle of the next one if there is one."""
    response = web.StreamResponse(headers={"Content-Type": NDJSON})
    if outcomes:
        await response.prepare(request)
        await response.write(b"".join(map(_line, outcomes)) + b'{"resp":"CREA')
    assert request.transport is not None
    request.transport.abort()
    return response
