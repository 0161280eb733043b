import asyncio
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from gwclient.client import GlitchflowClient, Retry
from gwclient.errors import GatewayRefused, GatewayUnavailable, InvalidSource
from gwclient.push import Ending, Listener, Report, push
from gwclient.segmenting import Piece, cut
from gwclient.strain import Run, join_spans
from gwwire.problems import ProblemCode
from tests.support.gateway import Answering, Dropping, Slow, StandInGateway

T0 = 1126259446.0
RATE = 256
QUICK = Retry(tries=4, first=0.001, longest=0.002)


@pytest.fixture
def gateway() -> Iterator[StandInGateway]:
    with StandInGateway() as gateway:
        yield gateway


def some_run(seconds: int = 32, channel: str = "L1:STRAIN") -> Run:
    strain = np.random.default_rng(1).normal(0, 1e-21, seconds * RATE)
    return Run(strain, T0, 1 / RATE, channel, {"detector": channel[:2]})


def send(gateway: StandInGateway, pieces: Iterable[Piece], *, retry: Retry = QUICK, **options: Any) -> Report:
    async def work() -> Report:
        async with GlitchflowClient(gateway.url, retry=retry) as client:
            return await push(client, pieces, **{"poll": 0.05, "grace": 1.0, **options})

    return asyncio.run(work())


def stored_strain(gateway: StandInGateway) -> list[float]:
    return [h for segment in gateway.segments for h in segment.h]


def test_every_sample_arrives_exactly_once_in_whatever_order_it_is_sent(gateway: StandInGateway) -> None:
    run = some_run()
    pieces = list(cut(run, 1))
    random.Random(7).shuffle(pieces)
    report = send(gateway, pieces)
    assert report.ending is Ending.COMPLETE
    assert stored_strain(gateway) == run.strain.tolist()
    assert join_spans(report.acknowledged) == {"L1:STRAIN": [(T0, T0 + 32)]}
    assert report.bytes == sum(map(len, gateway.bodies))


def test_as_many_segments_are_on_their_way_as_asked_for_and_no_more(gateway: StandInGateway) -> None:
    gateway.faults.extend([Slow(0.05)] * 16)
    send(gateway, cut(some_run(), 1), concurrency=7)
    assert gateway.most_at_a_time == 7


def test_a_bad_time_at_the_gateway_costs_no_sample(gateway: StandInGateway) -> None:
    run = some_run()
    gateway.faults.extend([Answering(ProblemCode.QUEUE_FULL), Dropping(), Answering(ProblemCode.UPSTREAM_TIMEOUT)] * 6)
    report = send(gateway, cut(run, 1), retry=Retry(tries=30, first=0.001, longest=0.002))
    assert report.ending is Ending.COMPLETE
    assert stored_strain(gateway) == run.strain.tolist()


def test_a_segment_whose_answer_was_lost_is_stored_at_least_once_and_counted_once(gateway: StandInGateway) -> None:
    gateway.faults.append(Dropping(stored=True))
    report = send(gateway, cut(some_run(4), 1), concurrency=1)
    assert len(gateway.bodies) == 5
    assert len(report.acknowledged) == 4


def test_a_freeze_ends_the_push_and_the_account_says_what_was_not_sent(gateway: StandInGateway) -> None:
    gateway.freeze_at = 10
    report = send(gateway, cut(some_run(), 1), concurrency=4)
    assert report.ending is Ending.FROZEN
    assert len(report.acknowledged) == len(gateway.bodies) == 10
    assert len(report.unsent) == 22
    assert join_spans(report.acknowledged + report.unsent) == {"L1:STRAIN": [(T0, T0 + 32)]}
    assert sorted(span.start for span in report.acknowledged) == [segment.t0 for segment in gateway.segments]


def test_with_wait_a_freeze_only_delays_the_push(gateway: StandInGateway) -> None:
    heard: list[str] = []

    class Hearing(Listener):
        def frozen(self, poll: float) -> None:
            heard.append(f"frozen {poll}")

        def thawed(self) -> None:
            heard.append("thawed")

    run = some_run()
    gateway.freeze_at, gateway.thaw_after_asked = 10, 3
    report = send(gateway, cut(run, 1), wait=True, listener=Hearing())
    assert report.ending is Ending.COMPLETE
    assert stored_strain(gateway) == run.strain.tolist()
    assert heard == ["frozen 0.05", "thawed"]
    assert gateway.requests.count("/desc") == 3


def test_while_it_waits_the_segments_are_not_sent_over_and_over(gateway: StandInGateway) -> None:
    gateway.holder, gateway.thaw_after_asked = "somebody", 5
    send(gateway, cut(some_run(), 1), wait=True, concurrency=8)
    assert gateway.requests.count("/streamdata") == 32 + 8


def test_a_refused_segment_is_told_and_the_others_are_sent(gateway: StandInGateway) -> None:
    gateway.faults.append(Answering(ProblemCode.INVALID_SEGMENT))
    report = send(gateway, cut(some_run(8), 1), concurrency=1)
    assert report.ending is Ending.REFUSED
    assert len(report.acknowledged) == 7
    assert [refusal.span.start for refusal in report.refusals] == [T0]
    assert "answered 422: as the test wants it" in report.refusals[0].reason


def test_a_full_volume_ends_the_push_at_once(gateway: StandInGateway) -> None:
    gateway.faults.append(Answering(ProblemCode.VOLUME_FULL))
    report = send(gateway, cut(some_run(8), 1), concurrency=1)
    assert report.ending is Ending.REFUSED
    assert isinstance(report.error, GatewayRefused)
    assert (len(report.acknowledged), len(report.refusals), len(report.unsent)) == (0, 1, 7)


def test_a_gateway_that_goes_away_ends_the_push_with_a_true_account(gateway: StandInGateway) -> None:
    gateway.faults.extend([Slow(0.0)] * 5 + [Answering(ProblemCode.UPSTREAM_UNREACHABLE)] * 1000)
    report = send(gateway, cut(some_run(), 1), concurrency=3)
    assert report.ending is Ending.FAILED
    assert isinstance(report.error, GatewayUnavailable)
    assert len(report.acknowledged) == len(gateway.bodies) == 5
    assert len(report.acknowledged) + len(report.unsent) == 32


def test_a_push_that_is_stopped_lets_arrive_what_is_on_its_way(gateway: StandInGateway) -> None:
    async def work() -> Report:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def stop_at_six(count: int) -> None:
            if count == 6:
                loop.call_soon_threadsafe(stop.set)

        gateway.on_stored = stop_at_six
        async with GlitchflowClient(gateway.url, retry=QUICK) as client:
            return await push(client, cut(some_run(), 1), concurrency=2, stop=stop)

    gateway.faults.extend([Slow(0.02)] * 32)
    report = asyncio.run(work())
    assert report.ending is Ending.INTERRUPTED
    assert 6 <= len(report.acknowledged) < 32
    assert len(report.acknowledged) == len(gateway.bodies)
    assert len(report.acknowledged) + len(report.unsent) == 32


def test_a_push_that_is_stopped_gives_up_what_does_not_arrive_in_time(gateway: StandInGateway) -> None:
    async def work() -> Report:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.1, stop.set)
        async with GlitchflowClient(gateway.url, retry=QUICK) as client:
            return await push(client, cut(some_run(), 1), concurrency=2, stop=stop, grace=0.1)

    gateway.faults.extend([Slow(30)] * 2)
    report = asyncio.run(work())
    assert report.ending is Ending.INTERRUPTED
    assert (len(report.acknowledged), len(report.unsent)) == (0, 32)


def test_a_source_that_fails_halfway_does_not_hide_what_was_acknowledged(gateway: StandInGateway) -> None:
    def pieces() -> Iterator[Piece]:
        yield from cut(some_run(4), 1)
        raise InvalidSource("the second file is broken")

    report = send(gateway, pieces())
    assert report.ending is Ending.FAILED
    assert isinstance(report.error, InvalidSource)
    assert len(report.acknowledged) == len(gateway.bodies) == 4
