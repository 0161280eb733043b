"""The speed of records, steps and the change feed, at the buffer.

Two buffers are measured in turns: one has many records and listeners that wait, the other has none.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from gwwire.segment import NDJSON
from scripts.trio import Trio
from tools.benchmark.goals import Goal
from tools.benchmark.load import Order, percentile, run_load
from tools.benchmark.processes import usage
from tools.benchmark.report import Circumstances
from tools.benchmark.servers import BUFFER, Server, ServerFailed, clean, servers_of

_CLAIM_MS, _FEED_MS, _ANSWER_MS, _LOOK_MS = 20, 1000, 100, 100
_INGEST = 0.95
_SYNCS = 300
_LINES = 1000
_KIND, _STEP = "job", "copy"
_SAMPLES, _CONNECTIONS = 4096, 16
_MAX_SEGMENTS = 20_000
_DONE = {"attempt": 1, "state": "DONE", "result": {"exit": 0}}
#: Time for any single request.
_TIMEOUT = ClientTimeout(total=300)


@dataclass(frozen=True)
class Plan:
    """The extent of a measurement: records, workers, seconds of each part, rounds, single changes."""

    records: int = 100_000
    workers: int = 8
    seconds: float = 3.0
    rounds: int = 5
    changes: int = 50


QUICK = Plan(records=2000, seconds=0.3, rounds=1, changes=10)


@dataclass(frozen=True)
class Claims:
    """Workers that claim one record, end it and claim the next: seconds, and claims per second."""

    claim_p50: float
    claim_p95: float
    end_p95: float
    rate: float
    cpu: float  # of the buffer, for a claim and its end


@dataclass(frozen=True)
class Reading:
    """The change feed read to its end: changes, those that were missing, seconds in all and for the longest part."""

    changes: int
    missing: int
    seconds: float
    longest: float


@dataclass(frozen=True)
class Ingest:
    """Segments per second and CPU seconds per segment of one measurement."""

    rate: float
    cpu: float


@dataclass(frozen=True)
class Measured:
    """All measurements.

    Attributes:
        sync_p50, sync_p95: seconds of a small synced transaction, without a server.
        claims: one for each round.
        loaded, empty: pushes to the buffer with records and listeners, and in turns to the one without.
        feed_p95: seconds from sending a change to its line in the feed.
        answer_p95: seconds from sending a change to the answer of the claim that waited for it.
        caught_up: a listener that was off for as many changes as there are records.
        quiet: a filter that no record passes.
        resident: bytes of memory of the buffer before the listener caught up, and at most.

    """

    plan: Plan
    sync_p50: float
    sync_p95: float
    claims: Sequence[Claims]
    loaded: Sequence[Ingest]
    empty: Sequence[Ingest]
    feed_p95: float
    answer_p95: float
    caught_up: Reading
    quiet: Reading
    resident: tuple[int, int]


def measure_records(plan: Plan, trio: Trio, other: Trio) -> Measured:
    """Measure at a buffer that gets records, and compare with another that has none.

    Raises:
        ServerFailed, GeneratorFailed, OSError: the measurements cannot continue.

    """
    try:
        return asyncio.run(_measure(plan, trio, other))
    except aiohttp.ClientError as error:
        raise ServerFailed(f"the {BUFFER} failed: {error!r}") from error


async def _measure(plan: Plan, trio: Trio, other: Trio) -> Measured:
    buffer, empty = servers_of(trio)[-1], servers_of(other)[-1]
    pid = buffer.pids[BUFFER]
    syncs = _syncs(trio.home)
    connector = TCPConnector(limit=0)
    async with ClientSession(buffer.url, connector=connector, timeout=_TIMEOUT, raise_for_status=True) as client:
        await _fill(client, plan.records)
        before = usage(pid).resident
        caught_up = await _read(client, plan.records, kind=_KIND)
        resident = before, usage(pid).peak
        quiet = await _read(client, 0, kind=_KIND, status="noisy")
        claims = [await _work(client, plan, pid) for _ in range(plan.rounds)]
        async with _listeners(client, plan.workers):
            pushed = [[await _push(server, plan.seconds) for server in (buffer, empty)] for _ in range(plan.rounds)]
        feed = await _feed_latencies(client, plan.changes)
        answers = [await _answer_latency(client, number) for number in range(plan.changes)]
    loaded, alone = zip(*pushed, strict=True)
    return Measured(
        *(plan, percentile(syncs, 0.5), percentile(syncs, 0.95), claims, loaded, alone),
        *(percentile(sorted(feed), 0.95), percentile(sorted(answers), 0.95), caught_up, quiet, resident),
    )


def _syncs(home: Path) -> list[float]:
    """Return the seconds of synced transactions of one row, ascending: what no claim can be faster than."""
    seconds = []
    with closing(sqlite3.connect(home / "floor.sqlite", isolation_level=None)) as database:
        for pragma in ("journal_mode = WAL", "synchronous = FULL"):
            database.execute(f"PRAGMA {pragma}")
        database.execute("CREATE TABLE floor (text)")
        for _ in range(_SYNCS):
            began = time.perf_counter()
            database.execute("INSERT INTO floor VALUES (?)", ("x" * 100,))
            seconds.append(time.perf_counter() - began)
    return sorted(seconds)


async def _fill(client: ClientSession, records: int) -> None:
    for start in range(0, records, _LINES):
        numbers = range(start, min(start + _LINES, records))
        lines = [{"id": f"{_KIND}/{number}", "conditions": {"temperature": number / records}} for number in numbers]
        body = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        async with client.post("/records", data=body, headers={"Content-Type": NDJSON}) as answer:
            await answer.read()


async def _read(client: ClientSession, expected: int, **wanted: str) -> Reading:
    """Read the change feed to its end, and count its records."""
    seen: set[str] = set()
    longest, began = 0.0, time.perf_counter()
    last = began
    async with client.get("/changes", params={"feed": "once", **wanted}) as answer:
        async for line in answer.content:
            now = time.perf_counter()
            last, longest = now, max(longest, now - last)
            seen |= {text for text in [json.loads(line).get("id")] if text}
    return Reading(len(seen), expected - len(seen), time.perf_counter() - began, longest)


async def _work(client: ClientSession, plan: Plan, pid: int) -> Claims:
    claims: list[float] = []
    ends: list[float] = []
    began, used = time.perf_counter(), usage(pid).cpu_seconds

    async def work(worker: int) -> None:
        while time.perf_counter() - began < plan.seconds:
            sent = time.perf_counter()
            records = await _claim(client, _STEP, {"worker": f"worker-{worker}", "kind": _KIND})
            claims.append(time.perf_counter() - sent)
            if not records:
                raise ServerFailed("the backlog is empty: it needs more records")
            sent = time.perf_counter()
            async with client.put(f"/records/{quote(records[0]['id'])}/steps/{_STEP}", json=_DONE) as answer:
                await answer.read()
            ends.append(time.perf_counter() - sent)

    await asyncio.gather(*map(work, range(plan.workers)))
    took, used = time.perf_counter() - began, usage(pid).cpu_seconds - used
    claims.sort()
    return Claims(
        *(percentile(claims, 0.5), percentile(claims, 0.95), percentile(sorted(ends), 0.95)),
        *(len(claims) / took, used / len(claims)),
    )


async def _claim(client: ClientSession, step: str, order: dict[str, Any]) -> list[dict[str, Any]]:
    async with client.post(f"/steps/{step}/claim", json=order) as answer:
        records: list[dict[str, Any]] = (await answer.json())["records"]
        return records


@asynccontextmanager
async def _listeners(client: ClientSession, number: int) -> AsyncIterator[None]:
    """Run listeners, half of them for one kind of record and half for any, and one read the change feed."""

    async def listen(order: dict[str, Any]) -> None:
        while True:
            await _claim(client, f"after-{order.get('kind', 'all')}", order)

    async def follow() -> None:
        async with client.get("/changes", params={"feed": "continuous", "kind": "batch"}) as answer:
            async for _ in answer.content:
                pass

    order = {"after": ["never"], "wait": 60}
    orders = [{**order, "worker": f"w{each}", **({"kind": _KIND} if each % 2 else {})} for each in range(number)]
    tasks = [asyncio.ensure_future(each) for each in (*map(listen, orders), follow())]
    await asyncio.sleep(0.5)  # until all of them wait
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)


async def _push(server: Server, seconds: float) -> Ingest:
    pid = server.pids[BUFFER]
    used = usage(pid).cpu_seconds
    order = Order(server.url + server.push, "single", _SAMPLES, _CONNECTIONS, seconds, _MAX_SEGMENTS)
    load = await asyncio.to_thread(run_load, order)  # so that the listeners go on
    used = usage(pid).cpu_seconds - used
    if load.refused:
        raise ServerFailed(f"{load.refused} segments were not stored: {load.complaint}")
    clean(server)
    return Ingest(load.rate, used / load.created)


async def _feed_latencies(client: ClientSession, changes: int) -> list[float]:
    latencies = []
    async with client.get("/changes", params={"feed": "continuous", "kind": "news"}) as answer:
        lines = aiter(answer.content)
        for number in range(changes):
            sent = time.perf_counter()
            await _put(client, f"news/{number}")
            while json.loads(await anext(lines)).get("id") != f"news/{number}":
                pass
            latencies.append(time.perf_counter() - sent)
    return latencies


async def _answer_latency(client: ClientSession, number: int) -> float:
    order = {"worker": "waiting", "kind": "arrival", "wait": 60}
    waiting = asyncio.ensure_future(_claim(client, "receive", order))
    await asyncio.sleep(0.1)  # until it waits
    sent = time.perf_counter()
    await _put(client, f"arrival/{number}")
    if not await waiting:
        raise ServerFailed("a waiting claim was answered without a record")
    return time.perf_counter() - sent


async def _put(client: ClientSession, record: str) -> None:
    async with client.put(f"/records/{record}", json={}) as answer:
        await answer.read()


def goals_of(measured: Measured) -> list[Goal]:
    """Compare the measurements with the goals."""
    claim, ratio = 1000 * median(each.claim_p95 for each in measured.claims), _ratio(measured)
    read = measured.caught_up
    enough = measured.plan.records >= Plan.records
    full = f"with {Plan.records:,} records"
    goals = [
        (f"p95 of a claim under {_CLAIM_MS} ms, {Plan.workers} workers", f"{claim:.1f} ms", claim < _CLAIM_MS),
        (
            f"segments/s, while {Plan.workers} listeners wait, at least {_INGEST} x those without records",
            f"{ratio:.2f} x",
            ratio >= _INGEST,
        ),
        (
            "a listener that was off for all of their changes misses none",
            f"{read.missing} missing, {read.seconds:.1f} s",
            not read.missing,
        ),
        *_latency_goals(measured),
    ]
    return [Goal(f"{full}, {wanted}", seen if enough else None, reached) for wanted, seen, reached in goals]


def _latency_goals(measured: Measured) -> Iterator[tuple[str, str, bool]]:
    for what, limit, seconds in (
        ("p95 from a change to its line in the feed", _FEED_MS, measured.feed_p95),
        ("p95 from a change to the answer of a claim that waited for it", _ANSWER_MS, measured.answer_p95),
        ("the longest look of a filter that no record passes", _LOOK_MS, measured.quiet.longest),
    ):
        yield f"{what} under {limit:,} ms", f"{1000 * seconds:.1f} ms", 1000 * seconds < limit


def _ratio(measured: Measured) -> float:
    """Return the median of the ratios of measurements that followed each other."""
    return median(one.rate / other.rate for one, other in zip(measured.loaded, measured.empty, strict=True))


def section(measured: Measured, circumstances: Circumstances) -> list[str]:
    """Return the section on records and steps."""
    plan, claims, quiet = measured.plan, measured.claims, measured.quiet
    text = (
        f"All at the buffer, over HTTP; medians of {plan.rounds} rounds of {plan.seconds:g} s. A listener that was off "
        f"reads {plan.records:,} changes; a filter that no record passes reads them too, and the time between two of "
        f"its marks is that of one look. Then {plan.workers} workers claim one of these records, end the step and "
        "claim the next, without a pause; every claim and every end is synced to the disk, and a small synced "
        "transaction without a server is the floor. Pushes go in turns to this buffer and to one without records; the "
        "listeners wait half for one kind of record and half for any, and one reads the feed. Latencies begin when a "
        "change is sent."
    )
    rows = [
        ("synced transaction alone, p50 / p95 ms", f"{_ms(measured.sync_p50)} / {_ms(measured.sync_p95)}"),
        ("claim, p50 / p95 ms", f"{_ms(_of(claims, 'claim_p50'))} / {_ms(_of(claims, 'claim_p95'))}"),
        ("end of a step, p95 ms", _ms(_of(claims, "end_p95"))),
        ("claims/s, each with its end", f"{_of(claims, 'rate'):,.0f}"),
        ("CPU of the buffer for a claim and its end, ms", f"{1000 * _of(claims, 'cpu'):.2f}"),
        ("segments/s with records and listeners", f"{_of(measured.loaded, 'rate'):,.0f}"),
        ("segments/s without", f"{_of(measured.empty, 'rate'):,.0f}"),
        ("CPU per segment with records and listeners, ms", f"{1000 * _of(measured.loaded, 'cpu'):.2f}"),
        ("CPU per segment without, ms", f"{1000 * _of(measured.empty, 'cpu'):.2f}"),
        ("change to line in the feed, p95 ms", _ms(measured.feed_p95)),
        ("change to answer of a waiting claim, p95 ms", _ms(measured.answer_p95)),
        (f"catching up with {measured.caught_up.changes:,} changes, s", f"{measured.caught_up.seconds:.1f}"),
        ("buffer before that / at most, MB", " / ".join(f"{size / 1e6:.0f}" for size in measured.resident)),
        ("filter that no record passes: all / longest look, ms", f"{_ms(quiet.seconds)} / {_ms(quiet.longest)}"),
    ]
    goals = [goal.line() for goal in goals_of(measured)]
    table = ["| | measured |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]
    return [*circumstances.lines(), "", "Goals:", "", *goals, "", text, "", *table]


def _of(measured: Sequence[Any], name: str) -> float:
    return float(median(getattr(each, name) for each in measured))


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
