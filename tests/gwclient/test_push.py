import asyncio
import random
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from gwclient.client import GlitchflowClient, Retry
from gwclient.errors import GatewayRefused, GatewayUnavailable, InvalidSource
from gwclient.groups import Sendable
from gwclient.pieces import Piece, cut
from gwclient.push import Ending, Listener, Report, push
from gwclient.strain import Run, join_spans
from gwfiles.stretches import Span
from gwwire.problems import ProblemCode
from gwwire.segment import decode_segment
from scripts.trio import draw_ports
from tests.support.gateway import Answering, Crowded, Dropping, Fault, Slow, StandInGateway

T0 = 1126259446.0
RATE = 256
QUICK = Retry(tries=4, first=0.001, longest=0.002)


@pytest.fixture(params=[True, False], ids=["together", "one by one"])
def gateway(request: pytest.FixtureRequest) -> Iterator[StandInGateway]:
    with StandInGateway(ndjson=request.param) as gateway:
        yield gateway


@pytest.fixture
def together() -> Iterator[StandInGateway]:
    with StandInGateway() as gateway:
        yield gateway


@pytest.fixture
def one_by_one() -> Iterator[StandInGateway]:
    with StandInGateway(ndjson=False) as gateway:
        yield gateway


def some_run(seconds: int = 32, channel: str = "L1:STRAIN") -> Run:
    strain = np.random.default_rng(1).normal(0, 1e-21, seconds * RATE)
    return Run(strain, T0, 1 / RATE, channel, {"detector": channel[:2]})


def send(gateway: StandInGateway, pieces: Iterable[Piece | None], *, retry: Retry = QUICK, **options: Any) -> Report:
    async def work() -> Report:
        async with GlitchflowClient(gateway.url, retry=retry) as client:
            return await push(client, pieces, **{"poll": 0.05, "grace": 60.0, **options})

    return asyncio.run(work())


def stored_strain(gateway: StandInGateway) -> list[float]:
    return [h for segment in gateway.segments for h in segment.h]


def test_every_sample_arrives_exactly_once_in_whatever_order_it_is_sent(gateway: StandInGateway) -> None:
    run = some_run()
    pieces = list(cut(run, 1))
    random.Random(7).shuffle(pieces)
    report = send(gateway, pieces)
    assert report.ending is Ending.COMPLETE
    assert stored_strain(gateway) == run.strain[:].tolist()
    assert join_spans(report.acknowledged) == {"L1:STRAIN": [(T0, T0 + 32)]}
    assert report.bytes == sum(map(len, gateway.bodies))


def test_as_many_segments_are_on_their_way_as_asked_for_and_no_more(gateway: StandInGateway) -> None:
    gateway.faults.extend([Crowded(7)] * 7 + [Slow(0.05)] * 7)
    send(gateway, cut(some_run(), 1), concurrency=7)
    assert gateway.most_at_a_time == 7


def test_a_bad_time_at_the_gateway_costs_no_sample(gateway: StandInGateway) -> None:
    run = some_run()
    gateway.faults.extend([Answering(ProblemCode.QUEUE_FULL), Dropping(), Answering(ProblemCode.UPSTREAM_TIMEOUT)] * 6)
    report = send(gateway, cut(run, 1), retry=Retry(tries=30, first=0.001, longest=0.002))
    assert report.ending is Ending.COMPLETE
    assert stored_strain(gateway) == run.strain[:].tolist()


def test_segments_whose_answers_were_lost_are_stored_exactly_once(gateway: StandInGateway) -> None:
    run = some_run(64)
    lost: list[Fault] = [
        Dropping(stored=True),
        Dropping(stored=True, answers=3),
        Dropping(stored=False, answers=2),
        Dropping(),
    ]
    gateway.faults.extend(lost * 6)
    report = send(gateway, cut(run, 1), retry=Retry(tries=30, first=0.001, longest=0.002))
    assert report.ending is Ending.COMPLETE
    assert not gateway.faults
    assert stored_strain(gateway) == run.strain[:].tolist()
    assert len(report.acknowledged) == len(gateway.bodies) == 64
    assert report.bytes == sum(map(len, gateway.bodies))


def test_segments_are_stored_exactly_once_though_answers_are_lost_and_a_freeze_comes_between(
    gateway: StandInGateway,
) -> None:
    run = some_run(64)
    lost: list[Fault] = [Dropping(stored=True, answers=1), Answering(ProblemCode.QUEUE_FULL, lines=(0, 2)), Slow(0)]
    gateway.faults.extend(lost * 5)
    gateway.freeze_at, gateway.thaw_after_asked = 21, 2
    report = send(gateway, cut(run, 1), wait=True, retry=Retry(tries=30, first=0.001, longest=0.002))
    assert report.ending is Ending.COMPLETE
    assert stored_strain(gateway) == run.strain[:].tolist()
    assert len(report.acknowledged) == len(gateway.bodies) == 64


def test_a_gateway_that_does_not_know_keys_stores_a_segment_at_least_once(one_by_one: StandInGateway) -> None:
    one_by_one.knows_keys = False
    one_by_one.faults.append(Dropping(stored=True))
    report = send(one_by_one, cut(some_run(4), 1), concurrency=1)
    assert len(one_by_one.bodies) == 5
    assert len(report.acknowledged) == 4


def test_every_segment_has_a_key_of_its_own_and_keeps_it(gateway: StandInGateway) -> None:
    gateway.faults.extend([Dropping(), Answering(ProblemCode.QUEUE_FULL), Slow(0), Dropping(stored=True)])
    gateway.freeze_at, gateway.thaw_after_asked = 10, 2
    report = send(gateway, cut(some_run(), 1), wait=True)
    assert report.ending is Ending.COMPLETE
    assert len(gateway.keys) > 32
    assert len(set(gateway.keys)) == 32
    assert all(key and len(key) <= 255 and key.isascii() and key.isprintable() for key in gateway.keys)


def test_pushing_the_same_strain_again_stores_nothing_twice(gateway: StandInGateway) -> None:
    for concurrency in (16, 3):
        report = send(gateway, cut(some_run(20), 1), concurrency=concurrency)
        assert len(report.acknowledged) == 20
    assert len(gateway.bodies) == len(set(gateway.keys)) == 20
    assert len(gateway.keys) == 40


def test_with_another_salt_the_same_strain_is_stored_again(gateway: StandInGateway) -> None:
    send(gateway, cut(some_run(4), 1))
    send(gateway, cut(some_run(4), 1), salt="again")
    assert len(gateway.bodies) == len(set(gateway.keys)) == 8


def test_what_was_acknowledged_before_is_not_sent_again_and_the_rest_keeps_its_keys(gateway: StandInGateway) -> None:
    send(gateway, cut(some_run(20), 1))
    keys = dict(zip([s.t0 for s in map(decode_segment, gateway.bodies)], gateway.keys, strict=True))
    gateway.keys.clear()
    done = {T0, T0 + 3, T0 + 11}
    report = send(gateway, cut(some_run(20), 1), is_done=lambda span: span.start in done)
    assert {span.start for span in report.before} == done
    assert len(report.acknowledged) == len(gateway.keys) == 17
    assert set(gateway.keys) == {key for t0, key in keys.items() if t0 not in done}
    assert len(gateway.bodies) == 20


def test_a_live_source_is_sent_as_it_comes_about(gateway: StandInGateway) -> None:
    def now_and_then() -> Iterator[Piece | None]:
        for number, piece in enumerate(cut(some_run(5), 1)):
            yield piece
            while len(gateway.bodies) <= number:  # for ever, where a piece waits for the next one
                yield None

    report = send(gateway, now_and_then())
    assert report.ending is Ending.COMPLETE
    assert len(gateway.bodies) == 5


def test_many_segments_travel_in_one_request_where_the_gateway_offers_it(together: StandInGateway) -> None:
    assert send(together, cut(some_run(100), 1), concurrency=99).ending is Ending.COMPLETE
    assert together.requests.count("OPTIONS /streamdata") == 1
    assert sorted(together.sizes) == [4, *[8] * 12]


def test_where_the_gateway_does_not_offer_it_each_segment_is_a_request(one_by_one: StandInGateway) -> None:
    assert send(one_by_one, cut(some_run(), 1), concurrency=64).ending is Ending.COMPLETE
    assert one_by_one.sizes == [1] * 32


def test_a_request_that_is_too_large_goes_in_pieces_and_the_next_ones_too(together: StandInGateway) -> None:
    run = some_run(128)
    together.faults.append(Answering(ProblemCode.TOO_LARGE))
    report = send(together, cut(run, 1), concurrency=16)
    assert report.ending is Ending.COMPLETE
    assert stored_strain(together) == run.strain[:].tolist()
    assert together.sizes[0] == 8
    assert max(together.sizes[-6:]) <= 5  # about half as large


def test_a_gateway_that_takes_its_offer_back_still_gets_everything(together: StandInGateway) -> None:
    run = some_run()
    together.on_stored = lambda _count: setattr(together, "ndjson", False)
    report = send(together, cut(run, 1))
    assert report.ending is Ending.COMPLETE
    assert stored_strain(together) == run.strain[:].tolist()


def test_a_line_that_is_refused_is_reported_and_does_not_spoil_the_others(together: StandInGateway) -> None:
    together.faults.append(Answering(ProblemCode.INVALID_SEGMENT, lines=(2,)))
    report = send(together, cut(some_run(8), 1), concurrency=16)
    assert report.ending is Ending.REFUSED
    assert len(report.acknowledged) == len(together.bodies) == 7
    assert [refusal.span.start for refusal in report.refusals] == [T0 + 2]
    assert report.refusals[0].reason == "POST /streamdata answered 422: as the test wants it"
    assert together.sizes == [8]


def test_only_the_lines_that_may_pass_are_tried_again(together: StandInGateway) -> None:
    together.faults.append(Answering(ProblemCode.QUEUE_FULL, lines=(1, 5)))
    report = send(together, cut(some_run(8), 1), concurrency=16)
    assert report.ending is Ending.COMPLETE
    assert together.sizes == [8, 1, 1]
    assert together.keys[8:] == [together.keys[1], together.keys[5]]
    assert len(together.bodies) == 8


def test_a_volume_that_is_full_in_the_middle_of_a_request_ends_the_push(together: StandInGateway) -> None:
    together.faults.append(Answering(ProblemCode.VOLUME_FULL, lines=(3, 4, 5, 6, 7)))
    report = send(together, cut(some_run(), 1), concurrency=16)
    assert report.ending is Ending.REFUSED
    assert isinstance(report.error, GatewayRefused)
    assert len(report.acknowledged) == len(together.bodies)
    assert not report.refusals  # nothing is wrong with them
    assert len(report.acknowledged) + len(report.unsent) == 32


def test_what_was_acknowledged_before_the_connection_broke_for_good_stays_acknowledged(
    together: StandInGateway,
) -> None:
    together.faults.extend([Dropping(answers=3), *[Answering(ProblemCode.UPSTREAM_UNREACHABLE)] * 10])
    report = send(together, cut(some_run(8), 1), concurrency=16)
    assert report.ending is Ending.FAILED
    assert [span.start for span in report.acknowledged] == [T0, T0 + 1, T0 + 2]
    assert [span.start for span in report.unsent] == [T0 + second for second in range(3, 8)]
    assert report.bytes == sum(map(len, together.bodies))


def test_a_gateway_that_is_not_there_ends_the_push_with_everything_unsent() -> None:
    [port] = draw_ports(1)
    report = send(StandInGateway(url=f"http://127.0.0.1:{port}"), cut(some_run(), 1))
    assert report.ending is Ending.FAILED
    assert isinstance(report.error, GatewayUnavailable)
    assert (len(report.acknowledged), len(report.unsent)) == (0, 32)


def test_a_listener_that_fails_is_not_taken_for_a_failing_gateway(gateway: StandInGateway) -> None:
    class Broken(Listener):
        def acknowledged(self, piece: Sendable) -> None:
            raise BrokenPipeError(f"nobody hears of {piece.span}")

    with pytest.raises(BrokenPipeError, match="nobody hears"):
        send(gateway, cut(some_run(4), 1), listener=Broken(), concurrency=4)
    assert len(gateway.bodies) == len(gateway.keys) == 4


def test_a_freeze_ends_the_push_and_the_account_says_what_was_not_sent(gateway: StandInGateway) -> None:
    gateway.freeze_at = 10
    report = send(gateway, cut(some_run(), 1), concurrency=6)
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
    assert stored_strain(gateway) == run.strain[:].tolist()
    assert heard == ["frozen 0.05", "thawed"]
    assert gateway.requests.count("/desc") == 3


def test_while_it_waits_the_segments_are_not_sent_over_and_over(gateway: StandInGateway) -> None:
    gateway.holder, gateway.thaw_after_asked = "somebody", 5
    send(gateway, cut(some_run(), 1), wait=True, concurrency=8)
    assert len(gateway.keys) == 32 + 8


def test_a_refused_segment_is_reported_and_the_others_are_sent(gateway: StandInGateway) -> None:
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
    assert (len(report.acknowledged), len(report.refusals), len(report.unsent)) == (0, 0, 8)


def test_a_gateway_that_goes_away_ends_the_push_with_a_true_account(gateway: StandInGateway) -> None:
    gateway.faults.extend([Slow(0.0)] * 5 + [Answering(ProblemCode.UPSTREAM_UNREACHABLE)] * 1000)
    report = send(gateway, cut(some_run(), 1), concurrency=3)
    assert report.ending is Ending.FAILED
    assert isinstance(report.error, GatewayUnavailable)
    assert len(report.acknowledged) == len(gateway.bodies) == sum(gateway.sizes[:5])
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


def test_the_report_of_an_endless_push_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gwclient.push._JOIN_AFTER", 10)
    report = Report()
    for second in range(1000):
        report.note_acknowledged(Span("H1:A", second, second + 1), 5)
    assert len(report.acknowledged) < 10
    assert join_spans(report.acknowledged) == {"H1:A": [(0, 1000)]}
    assert (report.segments, report.bytes) == (1000, 5000)


def test_what_a_live_source_has_when_the_push_has_ended_is_not_read_to_its_end(one_by_one: StandInGateway) -> None:
    one_by_one.holder = "ada"
    report = send(one_by_one, cycle(cut(some_run(1), 1.0)), live=True)
    assert (report.ending, report.segments) == (Ending.FROZEN, 0)
    assert report.unsent
    assert report.unread == ["what came when the push had ended"]
