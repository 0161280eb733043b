import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gwclient.client import GlitchflowClient, Retry
from gwclient.pieces import Piece, in_time_order
from gwclient.push import Ending, Listener, Report
from gwclient.replay import Pace, replay
from gwclient.spool import Spool
from gwclient.strain import Run
from gwwire.problems import ProblemCode
from scripts.trio import draw_ports
from tests.support.gateway import Answering, StandInGateway

OpenSpool = Callable[[Path, int], Spool]

T0 = 1126259446.0
RATE = 64
QUICK = Retry(tries=2, first=0.001, longest=0.002)


@pytest.fixture
def gateway() -> Iterator[StandInGateway]:
    with StandInGateway() as gateway:
        yield gateway


def some_pieces(seconds: int) -> list[Piece]:
    """Return the segments of two channels."""
    runs = [Run(np.arange(seconds * RATE) * 1e-21, T0, 1 / RATE, f"{name}:STRAIN") for name in ("H1", "L1")]
    return list(in_time_order(runs, 1, lambda _: None))


async def send(  # noqa: PLR0913 (what a test wants to choose)
    url: str,
    pieces: list[Piece],
    spool: Spool,
    pace: Pace,
    *,
    seen: list[str] | None = None,
    meanwhile: Callable[[asyncio.Event], object] = lambda _: None,
) -> Report:
    stop = asyncio.Event()
    meanwhile(stop)
    async with GlitchflowClient(url, retry=QUICK) as client:
        return await asyncio.wait_for(
            replay(
                client, pieces, spool, pace, concurrency=16, poll=0.05, listener=Listener(),
                say=(seen if seen is not None else []).append, stop=stop,
            ),
            timeout=60,
        )  # fmt: skip


def stored(gateway: StandInGateway) -> list[tuple[str | None, float]]:
    return sorted((segment.channel, segment.t0) for segment in gateway.segments)


def expected(pieces: list[Piece]) -> list[tuple[str, float]]:
    return sorted((piece.span.channel, piece.span.start) for piece in pieces)


def test_every_channel_is_sent_and_never_before_its_time(
    gateway: StandInGateway, tmp_path: Path, open_spool: OpenSpool
) -> None:
    pieces, pace = some_pieces(8), Pace(rate=10)
    arrivals: list[float] = []

    async def work() -> Report:
        loop = asyncio.get_running_loop()
        began = loop.time()
        gateway.on_stored = lambda _: arrivals.append(loop.time() - began)
        return await send(gateway.url, pieces, open_spool(tmp_path, 10**7), pace)

    report = asyncio.run(work())
    assert report.ending is Ending.COMPLETE
    assert stored(gateway) == expected(pieces)
    assert all(arrival >= (i // 2 + 1) / 10 for i, arrival in enumerate(arrivals))
    assert pace.lag == 0
    assert not list(tmp_path.glob("*.json"))


def test_a_freeze_fills_the_spool_and_costs_nothing(
    gateway: StandInGateway, tmp_path: Path, open_spool: OpenSpool
) -> None:
    pieces, pace, spool = some_pieces(20), Pace(rate=40), open_spool(tmp_path, 10**7)
    gateway.freeze_at, gateway.thaw_after_asked = 6, 6
    most = 0

    def watch(_: asyncio.Event) -> None:
        async def look() -> None:
            nonlocal most
            while True:
                most = max(most, len(spool))
                await asyncio.sleep(0.01)

        tasks.append(asyncio.ensure_future(look()))

    tasks: list[asyncio.Future[None]] = []
    report = asyncio.run(send(gateway.url, pieces, spool, pace, meanwhile=watch))
    assert report.ending is Ending.COMPLETE
    assert stored(gateway) == expected(pieces)
    assert most > 4
    assert not pace.dropped


@pytest.mark.parametrize("code", [ProblemCode.UPSTREAM_UNREACHABLE, ProblemCode.VOLUME_FULL])
def test_a_store_that_is_away_or_full_is_waited_for(
    gateway: StandInGateway, tmp_path: Path, open_spool: OpenSpool, code: ProblemCode
) -> None:
    pieces, seen = some_pieces(6), []  # type: ignore[var-annotated]
    gateway.faults.extend([Answering(code)] * 5)
    report = asyncio.run(send(gateway.url, pieces, open_spool(tmp_path, 10**7), Pace(rate=40), seen=seen))
    assert report.ending is Ending.COMPLETE
    assert stored(gateway) == expected(pieces)
    assert any("wait in the spool, asking again in 0.05 s" in line for line in seen)


def test_only_what_comes_while_the_spool_is_full_is_dropped_and_reported(
    gateway: StandInGateway, tmp_path: Path, open_spool: OpenSpool
) -> None:
    pieces, pace, seen = some_pieces(20), Pace(rate=40), []  # type: ignore[var-annotated]
    capacity = sum(len(piece.body()) for piece in pieces[6:16])
    gateway.freeze_at, gateway.thaw_after_asked = 6, 8
    report = asyncio.run(send(gateway.url, pieces, open_spool(tmp_path, capacity), pace, seen=seen))
    dropped = {(span.channel, span.start) for span in pace.dropped}
    assert dropped
    assert sorted([*stored(gateway), *dropped]) == expected(pieces)
    assert set(report.unsent) == set(pace.dropped)
    assert sum("the spool is full" in line for line in seen) == 1


def test_what_is_interrupted_waits_in_the_spool_and_is_sent_first_the_next_time(
    gateway: StandInGateway, tmp_path: Path, open_spool: OpenSpool
) -> None:
    [port] = draw_ports(1)
    away = f"http://127.0.0.1:{port}"
    pieces = some_pieces(4)
    spool = open_spool(tmp_path, 10**7)
    tasks: list[asyncio.Future[None]] = []

    def interrupt(stop: asyncio.Event) -> None:
        async def when_eight_wait() -> None:
            while len(spool) < 8:  # noqa: ASYNC110 (a spool tells nobody of its growth)
                await asyncio.sleep(0.01)
            stop.set()

        tasks.append(asyncio.ensure_future(when_eight_wait()))

    interrupted = asyncio.run(send(away, some_pieces(100), spool, Pace(rate=40), meanwhile=interrupt))
    spool.close()
    assert interrupted.ending is Ending.INTERRUPTED
    waiting = open_spool(tmp_path, 10**7)
    assert len(waiting) == len(interrupted.unsent) >= 8
    left = waiting.spans
    report = asyncio.run(send(gateway.url, [p for p in pieces if p.span not in left], waiting, Pace(rate=100)))
    assert report.ending is Ending.COMPLETE
    assert stored(gateway) == sorted((span.channel, span.start) for span in left)


def test_a_segment_that_was_lost_from_the_spool_stops_none_of_the_others(
    gateway: StandInGateway, tmp_path: Path, open_spool: OpenSpool
) -> None:
    pieces, spool = some_pieces(3), open_spool(tmp_path, 10**7)
    for piece in pieces:
        spool.put(piece)
    (tmp_path / "000000000002.json").unlink()
    report = asyncio.run(send(gateway.url, [], spool, Pace(rate=100)))
    assert stored(gateway) == sorted(expected(pieces[:2] + pieces[3:]))
    assert report.unsent == []
    assert spool.unusable == [f"{tmp_path}/000000000002.json in the spool cannot be read: No such file or directory"]
