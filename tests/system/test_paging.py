"""A reader that pages through the segments while others write sees each of them once, in order."""

import itertools
import json
import random
import threading
from collections.abc import Callable
from typing import Any

from scripts.trio import Trio
from tests.support.writers import send_to_buffer
from tools.clients import ClientThreads, Connection

READERS = WRITERS = 16
ENOUGH = 400
_ALICE = json.dumps({"user": "alice", "token": "secret"}).encode()


class Reader:
    """Pages through the segments, a few at a time, from the first one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.after = 0
        self.names: list[str] = []

    def read_on(self, connection: Connection) -> bool:
        """Read a page; return whether it has new segments."""
        page = connection.get(f"/segments?after={self.after}&limit={self._limit}")
        seqs = [segment["seq"] for segment in page["segments"]]
        assert seqs == sorted(set(seqs))
        assert all(seq > self.after for seq in seqs)
        assert len(seqs) <= self._limit
        assert page["after"] == (seqs[-1] if seqs else self.after)
        self.after = page["after"]
        self.names += [segment["name"] for segment in page["segments"]]
        return bool(seqs)


def test_readers_that_page_while_writers_write_see_every_segment_once(start_trio: Callable[..., Trio]) -> None:
    trio = start_trio({"ON_FROZEN": "rotate"}, services=1)
    randomness = random.Random(1)
    readers = [Reader(randomness.randint(1, 20)) for _ in range(READERS)]
    idle = iter(readers)
    mine = threading.local()
    acts = itertools.cycle([("/upddsc", _ALICE), ("/thaw", _ALICE), ("/upddsc", _ALICE), ("/cleanall", b"{}")])
    changes: list[Any] = []

    def read(connection: Connection) -> None:
        if not hasattr(mine, "reader"):
            mine.reader = next(idle)
        mine.reader.read_on(connection)

    def change_batches(connection: Connection) -> None:
        status, answer = connection.post(*next(acts))
        assert status == 201, answer
        changes.append(answer)

    clients = ClientThreads(trio.url)
    clients.push(send_to_buffer, itertools.count(), writers=WRITERS)
    clients.repeat(read, times=READERS)
    clients.repeat(change_batches, pause=0.01)
    with clients:
        clients.wait_for(lambda: len(clients.acknowledged) >= ENOUGH and len(changes) > 8)
        clients.wait_for(lambda: all(len(each.names) > 20 for each in readers))

    connection = Connection(trio.url)
    for reader in readers:
        while reader.read_on(connection):
            pass
    everything = Reader(10_000)
    everything.read_on(connection)
    stored = {path.name for folder in (trio.home / "datavar").glob("[dn2]*") for path in folder.glob("gwb*.json")}
    assert len(everything.names) == len(clients.acknowledged)
    assert set(everything.names) == stored
    assert all(reader.names == everything.names for reader in readers)
