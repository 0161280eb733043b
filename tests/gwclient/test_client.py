import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gwclient.answers import LineAnswer
from gwclient.client import GlitchflowClient, Retry, parse_gateway_url
from gwclient.errors import GatewayRefused, GatewayUnavailable, InvalidArgument, UnexpectedAnswer
from gwwire.problems import ProblemCode
from gwwire.public import CleanAnswer, DatastoreState, NameList, State, Stats, StreamAnswer, TrainFrozen, TrainWaiting
from scripts.trio import draw_ports
from tests.support.gateway import Answering, Dropping, Fault, Slow, StandInGateway

SEGMENT = b'{"h":[1e-21],"t":[1126259446.0,0.000244140625]}'
OTHER = b'{"h":[2e-21],"t":[2,1]}'
QUICK = Retry(tries=4, first=0.001, longest=0.002)


@pytest.fixture
def gateway() -> Iterator[StandInGateway]:
    with StandInGateway() as gateway:
        yield gateway


def run(
    gateway: StandInGateway, verb: str, *arguments: object, retry: Retry = QUICK, timeout: float = 30, **options: Any
) -> Any:
    on_retry = options.pop("on_retry", None)

    async def work() -> Any:
        async with GlitchflowClient(gateway.url, retry=retry, timeout=timeout, on_retry=on_retry) as client:
            return await getattr(client, verb)(*arguments, **options)

    return asyncio.run(work())


def test_each_verb_gives_the_gateways_answer(gateway: StandInGateway) -> None:
    assert run(gateway, "train", "ada", "t") == TrainWaiting()
    assert run(gateway, "stream", SEGMENT) == StreamAnswer("CREATED", f"Written for {len(SEGMENT)} bytes")
    assert run(gateway, "stats") == Stats(1, len(SEGMENT))
    assert run(gateway, "list") == NameList(["gwb0000000000000000000.json"])
    assert run(gateway, "desc") == State(DatastoreState.OPERATIONAL)
    assert run(gateway, "train", "ada", "t") == TrainFrozen(1, len(SEGMENT), "ada")
    assert run(gateway, "stream", SEGMENT).resp == "FROZEN"
    assert run(gateway, "clean", "done") == CleanAnswer("CLEANED", "done")
    assert run(gateway, "stats") == Stats(0, 0)


@pytest.mark.parametrize("part", ["", ".", "..", "a/b"])
def test_an_id_that_would_name_another_path_is_refused_before_it_is_sent(gateway: StandInGateway, part: str) -> None:
    with pytest.raises(InvalidArgument, match="is not an id, nor a part of one between slashes"):
        run(gateway, "batch", part)
    assert not gateway.requests


@pytest.mark.parametrize(
    "fault",
    [
        Answering(ProblemCode.QUEUE_FULL),
        Answering(ProblemCode.UPSTREAM_UNREACHABLE),
        Answering(ProblemCode.UPSTREAM_TIMEOUT),
        Dropping(),
    ],
    ids=["503", "502", "504", "dropped"],
)
def test_what_may_pass_is_tried_again(gateway: StandInGateway, fault: Fault) -> None:
    gateway.faults.extend([fault, fault])
    assert run(gateway, "stream", SEGMENT).resp == "CREATED"
    assert gateway.bodies == [SEGMENT]
    assert len(gateway.requests) == 3


def test_a_slow_answer_is_a_timeout_and_is_tried_again(gateway: StandInGateway) -> None:
    gateway.faults.append(Slow(60))
    patient = Retry(tries=100, first=0.001, longest=0.002)  # more than two if the machine stands still
    assert run(gateway, "stream", SEGMENT, timeout=0.5, retry=patient).resp == "CREATED"
    assert len(gateway.requests) >= 2


def test_after_the_last_try_the_last_reason_is_reported(gateway: StandInGateway) -> None:
    gateway.faults.extend([Answering(ProblemCode.QUEUE_FULL)] * 4)
    with pytest.raises(GatewayUnavailable, match=r"answered 503: as the test wants it \(after 4 tries\)"):
        run(gateway, "stream", SEGMENT)
    assert not gateway.bodies


def test_retry_after_is_obeyed(gateway: StandInGateway) -> None:
    gateway.faults.append(Answering(ProblemCode.QUEUE_FULL, retry_after="1"))
    found: list[float] = []
    run(gateway, "stream", SEGMENT, on_retry=lambda _reason, delay: found.append(delay))
    assert found == [1.0]


def test_retry_after_may_be_a_date_and_nonsense_in_it_is_ignored(gateway: StandInGateway) -> None:
    past = "Wed, 21 Oct 2015 07:28:00 GMT"
    gateway.faults.extend(Answering(ProblemCode.QUEUE_FULL, retry_after=text) for text in (past, "soon"))
    assert run(gateway, "stream", SEGMENT).resp == "CREATED"


def test_waits_grow_but_stay_within_bounds() -> None:
    retry = Retry(tries=20, first=0.5, longest=8.0, obey=60.0)
    delays = [retry.delay(failures, None) for failures in range(1, 20)]
    assert all(0.25 <= delay <= 8.0 for delay in delays)
    assert all(delay >= 4.0 for delay in delays[5:])
    assert retry.delay(1, 30.0) == 30.0
    assert retry.delay(1, 1e9) == 60.0


@pytest.mark.parametrize("code", [ProblemCode.VOLUME_FULL, ProblemCode.TOO_LARGE, ProblemCode.INVALID_SEGMENT])
def test_a_refusal_is_final_and_carries_its_code(gateway: StandInGateway, code: ProblemCode) -> None:
    gateway.faults.append(Answering(code))
    with pytest.raises(GatewayRefused, match="as the test wants it") as refusal:
        run(gateway, "stream", SEGMENT)
    assert refusal.value.code == code
    assert len(gateway.requests) == 1


def test_a_bad_segment_is_refused_in_the_gateways_words(gateway: StandInGateway) -> None:
    with pytest.raises(GatewayRefused, match="h:") as refusal:
        run(gateway, "stream", b'{"h":[],"t":[0,1]}')
    assert refusal.value.status == 422


def test_nobody_there_is_said_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def work() -> None:
            async with GlitchflowClient(f"127.0.0.1:{port}", retry=QUICK) as client:
                await client.stats()

        with pytest.raises(
            GatewayUnavailable, match=rf"no gateway at http://127\.0\.0\.1:{port}.*after 4 tries"
        ) as error:
            asyncio.run(work())
        assert not error.value.seen


def test_clean_is_not_repeated_when_its_answer_was_lost(gateway: StandInGateway) -> None:
    gateway.faults.append(Dropping())
    with pytest.raises(GatewayUnavailable):
        run(gateway, "clean", "done")
    assert gateway.requests == ["/cleanbuf"]


def test_clean_is_repeated_when_it_was_not_carried_out(gateway: StandInGateway) -> None:
    gateway.faults.append(Answering(ProblemCode.QUEUE_FULL))
    assert run(gateway, "clean", "done").resp == "CLEANED"


def answering(make: Any, work: Callable[[str], Awaitable[None]]) -> None:
    """Run `work(url)` against a server whose only handler is `make`."""

    async def both() -> None:
        app = web.Application()
        app.router.add_route("*", "/{anything:.*}", make)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            await work(f"http://127.0.0.1:{runner.addresses[0][1]}")
        finally:
            await runner.cleanup()

    asyncio.run(both())


@pytest.mark.parametrize("body", [b"<html>hello</html>", b'{"resp":"MAYBE"}', b"", b"\xff"])
def test_an_answer_that_is_not_a_gateways_is_not_taken_for_one(body: bytes) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async def work(url: str) -> None:
        async with GlitchflowClient(url, retry=QUICK) as client:
            await client.stream(SEGMENT)

    with pytest.raises(UnexpectedAnswer, match="does not answer as a gateway"):
        answering(handler, work)


def test_an_address_is_sent_as_it_is_written() -> None:
    sent: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        sent.append(request.raw_path)
        return web.Response()

    async def work(url: str) -> None:
        async with GlitchflowClient(url, retry=QUICK) as client:
            await client.serves("/a/../b/./c%3A~?x=%3A+%2F")

    answering(handler, work)
    assert sent == ["/a/../b/./c%3A~?x=%3A+%2F"]


@pytest.mark.parametrize("code", [ProblemCode.TIER_FAILED, ProblemCode.ON_TAPE])
def test_a_segment_that_cannot_be_read_now_is_stored(gateway: StandInGateway, code: ProblemCode) -> None:
    retried: list[str] = []
    gateway.faults += [Answering(code)] * 2
    assert run(gateway, "has_segment", "gwb0.json", "digest", on_retry=lambda reason, _: retried.append(reason))
    assert not retried


def test_whether_a_segment_is_stored_is_asked_again_when_the_gateway_could_not_say(gateway: StandInGateway) -> None:
    run(gateway, "stream", SEGMENT)
    gateway.faults += [Answering(ProblemCode.UPSTREAM_UNREACHABLE)] * 2
    assert run(gateway, "has_segment", "gwb0.json", "digest")
    assert not run(gateway, "has_segment", "b0.json", "digest")


# ---- many segments in one request


def test_each_of_many_segments_can_have_a_key_of_its_own(gateway: StandInGateway) -> None:
    run(gateway, "stream_many", [SEGMENT, OTHER], keys=["a", "b"])
    assert gateway.keys == ["a", "b"]
    run(gateway, "stream_many", [OTHER], keys=["b"])
    run(gateway, "stream", OTHER, key="b")
    assert gateway.bodies == [SEGMENT, OTHER]
    with pytest.raises(ValueError, match="each segment has to have a key"):
        run(gateway, "stream_many", [SEGMENT, OTHER], keys=["a"])


def test_many_segments_are_answered_one_by_one_in_their_order(gateway: StandInGateway) -> None:
    gateway.freeze_at = 2
    answers = run(gateway, "stream_many", [SEGMENT, b'{"h":[],"t":[0,1]}', SEGMENT, SEGMENT], key="k")
    assert [getattr(answer, "resp", None) for answer in answers] == ["CREATED", None, "CREATED", "FROZEN"]
    assert isinstance(answers[1], GatewayRefused)
    assert (answers[1].status, answers[1].field) == (422, "h")
    assert gateway.keys == ["k/0", "k/1", "k/2", "k/3"]
    assert gateway.bodies == [SEGMENT, SEGMENT]


@pytest.mark.parametrize("fault", [Dropping(stored=True), Dropping(stored=True, answers=2), Dropping(answers=1)])
def test_answers_that_were_lost_are_asked_for_again_and_nothing_is_stored_twice(
    gateway: StandInGateway, fault: Fault
) -> None:
    gateway.faults.extend([fault, fault])
    heard: list[tuple[int, LineAnswer]] = []
    answers = run(gateway, "stream_many", [SEGMENT] * 3, on_answer=lambda i, answer: heard.append((i, answer)))
    assert len(gateway.bodies) == 3
    assert len(gateway.sizes) == 3
    assert len(set(gateway.keys)) == 3
    assert heard[-3:] == list(enumerate(answers))
    assert {answer.resp for answer in answers} == {"CREATED"}


def test_the_same_key_with_other_bytes_is_refused(gateway: StandInGateway) -> None:
    run(gateway, "stream_many", [SEGMENT, SEGMENT], key="k")
    with pytest.raises(GatewayRefused) as refusal:
        run(gateway, "stream", SEGMENT + b" ", key="k/1")
    assert (refusal.value.status, refusal.value.code) == (422, ProblemCode.KEY_REUSED)
    assert run(gateway, "stream", SEGMENT, key="k/1").resp == "CREATED"
    assert len(gateway.bodies) == 2


def test_a_segment_has_a_key_even_if_nobody_gives_it_one(gateway: StandInGateway) -> None:
    gateway.faults.append(Dropping(stored=True))
    for _ in range(2):
        run(gateway, "stream", SEGMENT)
    assert len(gateway.keys) == 3
    assert len(set(gateway.keys)) == len(gateway.bodies) == 2


def test_a_request_of_many_segments_is_tried_again_or_refused_as_a_whole(gateway: StandInGateway) -> None:
    gateway.faults.extend([Answering(ProblemCode.QUEUE_FULL), Answering(ProblemCode.TOO_LARGE)])
    with pytest.raises(GatewayRefused, match="answered 413"):
        run(gateway, "stream_many", [SEGMENT, SEGMENT])
    assert gateway.sizes == [2, 2]
    assert not gateway.bodies


def test_no_segments_are_no_request(gateway: StandInGateway) -> None:
    assert run(gateway, "stream_many", []) == []
    assert not gateway.requests


@pytest.mark.parametrize("body", [b"", b'{"h":[1e-21],\n"t":[0,1]}'])
def test_what_is_not_one_line_is_not_sent_as_one(gateway: StandInGateway, body: bytes) -> None:
    with pytest.raises(ValueError, match="JSON in one line"):
        run(gateway, "stream_many", [SEGMENT, body])
    assert not gateway.requests


@pytest.mark.parametrize(
    ("text", "content_type", "words"),
    [
        (b'{"resp":"CREATED"}\n' * 3, "application/x-ndjson", "more than 2 answers"),
        (b'{"resp":"CREATED"}\n' * 2, "application/json", "does not answer as a gateway: application/json"),
        (b"<html>\n", "application/x-ndjson", "does not answer as a gateway"),
        (b" " * 2**20 + b"\n", "application/x-ndjson", "a line without end"),
    ],
    ids=["more", "other type", "no JSON", "endless"],
)
def test_lines_that_are_not_a_gateways_are_not_taken_for_answers(text: bytes, content_type: str, words: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=text, content_type=content_type)

    async def work(url: str) -> None:
        async with GlitchflowClient(url, retry=QUICK) as client:
            await client.stream_many([SEGMENT, SEGMENT])

    with pytest.raises(UnexpectedAnswer, match=words):
        answering(handler, work)


@pytest.mark.parametrize("text", [b"", b'{"resp":"CREATED"}\n', b'{"resp":"CREATED"}\n{"resp":"CREATED"}'])
def test_an_answer_that_ends_too_soon_is_a_lost_answer(text: bytes) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=text, content_type="application/x-ndjson")

    async def work(url: str) -> None:
        async with GlitchflowClient(url, retry=QUICK) as client:
            await client.stream_many([SEGMENT, SEGMENT])

    with pytest.raises(GatewayUnavailable, match=r"answered [01] of 2 segments \(after 4 tries\)"):
        answering(handler, work)


def test_a_large_request_does_not_warn_and_arrives_whole(gateway: StandInGateway) -> None:
    large = b'{"h":[' + b"1e-21," * 300_000 + b'0],"t":[0,1]}'
    run(gateway, "stream", large)
    run(gateway, "stream_many", [large, large])
    assert gateway.bodies == [large] * 3


@pytest.mark.parametrize(
    ("status", "offer", "offered"),
    [
        (204, "application/x-ndjson", True),
        (200, "application/json, Application/X-NDJSON; charset=utf-8", True),
        (200, "application/json", False),
        (200, "", False),
        (404, "application/x-ndjson", False),
        (405, "", False),
        (500, "application/x-ndjson", False),
    ],
)
def test_many_segments_are_offered_by_a_header_of_a_good_answer(status: int, offer: str, offered: bool) -> None:  # noqa: FBT001 (a column of the table)
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        return web.Response(status=status, headers={"Accept-Post": offer} if offer else {})

    async def work(url: str) -> None:
        async with GlitchflowClient(url, retry=QUICK) as client:
            assert await client.takes_many() is offered

    answering(handler, work)
    assert asked == ["OPTIONS /streamdata"]


def test_a_gateway_that_is_busy_is_asked_again_for_its_offer() -> None:
    statuses = [503, 502, 204]

    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=statuses.pop(0), headers={"Accept-Post": "application/x-ndjson"})

    async def work(url: str) -> None:
        async with GlitchflowClient(url, retry=QUICK) as client:
            assert await client.takes_many()

    answering(handler, work)
    assert not statuses


def test_a_refusal_without_a_problem_document_is_reported_by_its_status() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=404, text="<html>nothing</html>", content_type="text/html")

    async def work(url: str) -> None:
        async with GlitchflowClient(url, retry=QUICK) as client:
            await client.stats()

    with pytest.raises(GatewayRefused, match=r"no gateway answers at http://127.0.0.1:\d+: GET /stats answered 404"):
        answering(handler, work)


def test_a_session_that_was_given_stays_open(gateway: StandInGateway) -> None:
    async def work() -> None:
        async with aiohttp.ClientSession() as session:
            async with GlitchflowClient(gateway.url, session=session) as client:
                await client.stats()
            assert not session.closed

    asyncio.run(work())


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("gateway:8000", "http://gateway:8000"),
        ("gateway", "http://gateway"),
        ("127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("https://gateway/glitchflow/", "https://gateway/glitchflow"),
        ("[::1]:8000", "http://[::1]:8000"),
        (":8000", "http://127.0.0.1:8000"),
    ],
)
def test_a_gateway_may_be_named_without_a_scheme(text: str, url: str) -> None:
    assert parse_gateway_url(text) == url


@pytest.mark.parametrize("text", ["", "ftp://gateway", "http://", "gateway:port", "a b", "http://g:99999", "[::1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address like"):
        parse_gateway_url(text)


def test_a_list_of_changes_ends_if_the_gateway_does_not_answer() -> None:
    [port] = draw_ports(1)

    async def work() -> list[Any]:
        async with GlitchflowClient(f"127.0.0.1:{port}", retry=QUICK) as client:
            return [each async for each in client.records.changes()]

    with pytest.raises(GatewayUnavailable, match=r"\(after 4 tries\)"):
        asyncio.run(asyncio.wait_for(work(), timeout=60))
