"""Guarantees that hold for every end of a process: no acknowledged segment is lost or counted twice."""

import itertools
import json
import os
import signal
import stat
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest
from urllib3.exceptions import HTTPError

from scripts.trio import Trio
from tests.support.segments import check_counts, numbers_on, segment_body, segment_files
from tests.support.writers import send_to_buffer, send_to_gateway
from tools.clients import ClientThreads, Connection

WRITERS = 16
ALICE = json.dumps({"user": "alice", "token": "secret"}).encode()


def test_pushing_freezing_and_cleaning_at_once_loses_nothing(start_trio: Callable[..., Trio]) -> None:
    trio = start_trio({"MAX_SIZE": "500"})
    frozen: list[int] = []
    cleaned: list[str] = []

    def freeze(connection: Connection) -> None:
        status, answer = connection.post("/train", ALICE)
        assert status == 200, answer
        if answer["resp"] == "FROZEN":
            assert answer["bt_wrt"] >= 500
            frozen.append(answer["n_f"])

    def clean_buffer(connection: Connection) -> None:
        status, answer = connection.post("/cleanbuf", b'{"msg":"over and over"}')
        assert (status, answer["resp"]) == (200, "CLEANED")
        cleaned.append(answer["body"])

    clients = ClientThreads(trio.url)
    clients.push(send_to_gateway, itertools.count(), writers=WRITERS)
    clients.repeat(freeze, pause=0.01)
    clients.repeat(clean_buffer, pause=0.1)
    with clients:
        clients.wait_for(lambda: len(clients.acknowledged) > 500 and len(frozen) > 20 and len(cleaned) > 20)

    assert Counter(numbers_on(trio.home / "datavar")) == Counter(clients.acknowledged)
    check_counts(trio.home, Connection(trio.url).get("/stats"))


def test_files_are_readable_by_all_users_for_every_inherited_umask(start_trio: Callable[..., Trio]) -> None:
    before = os.umask(0o077)
    try:
        trio = start_trio(services=1, fresh=True)
        assert Connection(trio.url).post("/sendF", segment_body(1))[0] == 201
    finally:
        os.umask(before)
    (file,) = segment_files(trio.home / "datavar")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_buffer_completes_accepted_requests_and_exits_with_0(
    start_trio: Callable[..., Trio], stop: signal.Signals
) -> None:
    trio = start_trio(services=1)
    process = trio.processes["databuffer"]
    clients = ClientThreads(trio.url, may_break=True)
    clients.push(send_to_buffer, itertools.count(), writers=WRITERS)
    with clients:
        clients.wait_for(lambda: len(clients.acknowledged) > 50)
        process.send_signal(stop)
        assert process.wait(60) == 0

    assert set(clients.acknowledged) <= set(numbers_on(trio.home / "datavar"))
    assert list((trio.home / "datavar" / ".incoming").iterdir()) == []
    with suppress(HTTPError):
        pytest.fail(f"still answers: {Connection(trio.url).get('/stat')}")
    trio.launch("databuffer")
    trio.wait_until_ready()
    assert "repaired" not in (trio.home / "services.log").read_text()
