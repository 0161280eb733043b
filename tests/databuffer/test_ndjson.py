"""Many segments in one request."""

import asyncio
import codecs
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from databuffer.app import create_app, create_buffer
from databuffer.ingest.keys import LineKeys
from databuffer.ingest.ndjson import _MOST_UNREAD, LineTooLarge, split_lines, store_lines
from databuffer.settings import BufferSettings
from tests.support.segments import BAD_BODIES, segment_body

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def client(settings: BufferSettings) -> Iterator[TestClient]:
    with TestClient(create_app(create_buffer(settings), max_body=10_000)) as client:
        yield client


def answers(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def test_every_line_is_stored_and_answered_in_order(client: TestClient) -> None:
    lines = [segment_body(number) for number in range(200)]
    answer = client.post("/sendF", content=b"\n".join(lines) + b"\n", headers=NDJSON)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    seen = answers(answer.content)
    assert [each["resp"] for each in seen] == ["CREATED"] * 200
    assert client.get("/stat").json()["n_itm"] == 200
    for number, each in enumerate(seen):
        name = each["body"].split()[1]
        assert client.get(f"/segments/{name}").json()["h"][0] == number


def test_an_invalid_line_does_not_affect_the_others(client: TestClient) -> None:
    bad = {what: body for what, (body, _, _) in BAD_BODIES.items() if body and b"\n" not in body and len(body) < 10_000}
    lines = [line for body in bad.values() for line in (body, segment_body(1))]
    seen = answers(client.post("/sendF", content=b"\n".join(lines), headers=NDJSON).content)
    assert [each.get("resp") for each in seen] == [None, "CREATED"] * len(bad)
    for what, each in zip(bad, seen[::2], strict=True):
        _, status, field = BAD_BODIES[what]
        assert (each["status"], each.get("field")) == (status, field), what
    assert client.get("/stat").json()["n_itm"] == len(bad)


def test_a_byte_order_mark_before_the_first_line_is_named(client: TestClient) -> None:
    first, second = answers(
        client.post(
            "/sendF", content=codecs.BOM_UTF8 + segment_body(1) + b"\n" + segment_body(2), headers=NDJSON
        ).content
    )
    assert (first["status"], second["resp"]) == (400, "CREATED")
    assert "byte order mark" in first["detail"]


def test_a_line_that_is_too_long_is_refused_and_skipped(client: TestClient) -> None:
    lines = [segment_body(1), segment_body(2, samples=2000), segment_body(3)]
    seen = answers(client.post("/sendF", content=b"\n".join(lines), headers=NDJSON).content)
    assert [each.get("resp") or each["code"] for each in seen] == ["CREATED", "too-large", "CREATED"]


def test_each_line_for_a_frozen_batch_is_refused(client: TestClient) -> None:
    client.post("/sendF", content=segment_body(1), headers=NDJSON)
    client.post("/upddsc", json={"user": "alice", "token": "t"})
    seen = answers(client.post("/sendF", content=segment_body(1) + b"\n" + segment_body(2), headers=NDJSON).content)
    assert seen == [{"resp": "FROZEN", "body": "Datastore frozen."}] * 2
    assert client.get("/stat").json()["n_itm"] == 1


def test_the_requests_key_makes_one_for_each_line(client: TestClient) -> None:
    body = b"\n".join(segment_body(number) for number in range(10))
    first = client.post("/sendF", content=body, headers={**NDJSON, "Idempotency-Key": "a-key"})
    again = client.post("/sendF", content=body, headers={**NDJSON, "Idempotency-Key": "a-key"})
    assert answers(first.content) == answers(again.content)
    assert client.get("/stat").json()["n_itm"] == 10


def test_each_line_can_have_a_key_of_its_own(client: TestClient) -> None:
    def post(numbers: list[int], keys: str, **headers: str) -> list[Any]:
        body = b"\n".join(map(segment_body, numbers))
        headers |= {**NDJSON, "Idempotency-Keys": keys}
        return answers(client.post("/sendF", content=body, headers=headers).content)

    first = post([1, 2, 3], "a, b,c", **{"Idempotency-Key": "ignored"})
    assert post([3, 1], "c,a") == [first[2], first[0]]
    alone = client.post("/sendF", content=segment_body(2), headers={"Idempotency-Key": "b"})
    assert alone.json()["body"] == first[1]["body"]
    assert client.get("/stat").json()["n_itm"] == 3
    assert post([4, 4], "d,d")[0] == post([4], "d")[0]
    assert [each.get("code") for each in post([5], "a")] == ["idempotency-key-reused"]
    assert client.get("/stat").json()["n_itm"] == 4


def test_keys_in_several_header_lines_are_one_list(client: TestClient) -> None:
    body = b"\n".join(map(segment_body, range(3)))
    lines = [("Content-Type", "application/x-ndjson"), ("Idempotency-Keys", "a"), ("Idempotency-Keys", "b, c")]
    seen = answers(client.post("/sendF", content=body, headers=lines).content)
    assert [each["resp"] for each in seen] == ["CREATED"] * 3
    headers = {**NDJSON, "Idempotency-Keys": "a,b,c"}
    assert answers(client.post("/sendF", content=body, headers=headers).content) == seen
    both = [*lines[:1], ("Content-Type", "application/json")]
    assert client.post("/sendF", content=segment_body(4), headers=both).status_code == 415


def test_a_line_without_a_key_among_lines_with_one_is_refused(client: TestClient) -> None:
    body = b"\n".join(map(segment_body, range(3)))
    seen = answers(client.post("/sendF", content=body, headers={**NDJSON, "Idempotency-Keys": "a,"}).content)
    assert [each.get("resp") or (each["code"], each["field"]) for each in seen] == [
        "CREATED", ("invalid-request", "Idempotency-Key"), ("invalid-request", "Idempotency-Keys"),
    ]  # fmt: skip
    assert seen[2]["detail"] == "Idempotency-Keys: 2 keys, but none for line 3; each line needs one"
    assert client.get("/stat").json()["n_itm"] == 1


def test_keys_of_lines_are_refused_for_one_segment(client: TestClient) -> None:
    headers = {"Idempotency-Key": "a", "Idempotency-Keys": "a"}
    answer = client.post("/sendF", content=segment_body(1), headers=headers).json()
    assert (answer["code"], answer["field"]) == ("invalid-request", "Idempotency-Keys")
    assert answer["detail"] == "Idempotency-Keys is for application/x-ndjson; one segment has an Idempotency-Key"
    assert client.get("/stat").json()["n_itm"] == 0


@pytest.mark.parametrize("body", [b"", b"\n", b"\n\r\n\n"])
def test_a_body_without_lines_has_no_answer(client: TestClient, body: bytes) -> None:
    answer = client.post("/sendF", content=body, headers=NDJSON)
    assert answer.status_code == 200
    assert [each for each in answers(answer.content) if "resp" in each] == []
    assert client.get("/stat").json()["n_itm"] == 0


def test_the_server_offers_it(client: TestClient) -> None:
    answer = client.options("/sendF")
    assert answer.status_code == 204
    assert "application/x-ndjson" in answer.headers["accept-post"]


lines_of_text = st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b" ")), max_size=8)


@pytest.mark.anyio
@given(lines=lines_of_text, cuts=st.lists(st.integers(0, 200), max_size=8), ended=st.booleans())
async def test_lines_are_the_same_wherever_the_body_is_cut(lines: list[bytes], cuts: list[int], ended: bool) -> None:  # noqa: FBT001 (drawn)
    body = b"\n".join(lines) + (b"\n" if ended else b"")

    async def chunks() -> AsyncIterator[bytes]:
        ends = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
        for start, stop in pairwise(ends):
            yield body[start:stop]

    found = ["too large" if isinstance(line, LineTooLarge) else line async for line in split_lines(chunks(), 20)]
    assert found == ["too large" if len(line) > 20 else line for line in lines if line not in {b"", b"\r"}]


@pytest.mark.anyio
async def test_a_line_in_very_many_pieces_is_put_together_once() -> None:
    many = 200_000  # copying the pieces with each new one would take minutes

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(many):
            yield b"a"
        yield b"\nb"

    assert [line async for line in split_lines(pieces(), many)] == [b"a" * many, b"b"]


@pytest.mark.anyio
async def test_a_request_whose_answers_are_not_read_is_not_read_further(settings: BufferSettings) -> None:
    buffer = create_buffer(settings)
    await buffer.open()
    count, sent = 3 * _MOST_UNREAD, 0

    async def lines() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < count:
            sent += 1
            yield b"no JSON\n"

    answering = store_lines(buffer.ingest, lines(), keys=LineKeys({}), max_line=10**6)
    received = await anext(answering)
    before = 0
    while sent != before:  # until it stops reading
        before = sent
        await asyncio.sleep(0.2)
    assert sent <= 2 * _MOST_UNREAD
    received += b"".join([part async for part in answering])
    assert received.count(b"\n") == sent == count
    await buffer.close()


@pytest.mark.anyio
async def test_invalid_lines_whose_answers_are_not_read_are_neither_kept_nor_logged(
    settings: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = create_buffer(settings)
    await buffer.open()
    all_read = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b'{"h":[' + b"1," * 50_000 + b"x\n"
        all_read.set()
        await asyncio.Event().wait()

    tracemalloc.start()
    try:
        answering = store_lines(buffer.ingest, lines(), keys=LineKeys({}), max_line=10**6)
        assert b"invalid-json" in await anext(answering)
        await all_read.wait()
        while buffer.ingest.waiting:  # noqa: ASYNC110 (no event of the test's own)
            await asyncio.sleep(0.01)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000, "of 4 MB that came, half is no longer there at least"
    await answering.aclose()
    await buffer.close()
    gc.collect()
    assert "never retrieved" not in caplog.text
