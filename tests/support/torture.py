"""A buffer that is killed again and again, and writers who remember what it answered."""

import itertools
import json
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from databuffer.storage.manifest import differences, read_manifest
from scripts.trio import Trio, free_ports
from tests.support.segments import segment_body
from tests.support.writers import Connection, Crowd

WRITERS = 16
_ALICE = json.dumps({"user": "alice", "token": "secret"}).encode()
_ORDERS = {"/upddsc": _ALICE, "/thaw": _ALICE, "/cleanall": b"{}"}

#: What somebody does while the writers write, and what the buffer does with segments that meet a frozen batch.
_ROUNDS = (
    ((), "reject"),
    (("/cleanall",), "reject"),
    (("/upddsc", "/thaw", "/cleanall"), "reject"),
    (("/upddsc", "/thaw", "/cleanall"), "rotate"),
    (("/upddsc", "/cleanall"), "rotate"),
)


@dataclass
class Ledger:
    """What became of the segments sent, by their numbers; every other one is sent with a key."""

    sent: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    retried: int = 0

    @property
    def to_retry(self) -> list[int]:
        """Those that nobody answered, and whose key makes it safe to try again."""
        return sorted(number for number in self.sent - self.acknowledged - self.refused if key_of(number))

    def send(self, connection: Connection, number: int) -> None:
        self.sent.add(number)
        status, answer = connection.post("/sendF", body_of(number), key_of(number))
        if status == 201:
            self.acknowledged.add(number)
        else:
            assert (status, answer["code"]) == (409, "buffer-frozen"), answer
            self.refused.add(number)


def body_of(number: int) -> bytes:
    return segment_body(number).replace(b" ", b"")


def key_of(number: int) -> str | None:
    return f"segment-{number}" if number % 2 else None


class Torture:
    """Rounds of writing and killing on one volume, under `home`; a round that finds something wrong raises.

    Attributes:
        ledger: what was sent, and what became of it.

    """

    def __init__(self, home: Path, seed: int) -> None:
        self.ledger = Ledger()
        self._home = home
        self._volume = home / "datavar"
        self._log = home / "services.log"
        self._random = Random(seed)
        self._numbers = itertools.count()
        self._rounds = itertools.count()
        self._archived: dict[Path, list[int]] = {}
        home.mkdir(exist_ok=True)

    def kill_once(self) -> None:
        """Start on what the round before left, see that nothing is wrong, write, and kill."""
        number = next(self._rounds)
        orders, on_frozen = _ROUNDS[number % len(_ROUNDS)]
        with self._log.open("ab") as log:
            trio = Trio(self._home, free_ports(), {"ON_FROZEN": on_frozen}, output=log, tiers=1)
            if number % 4 == 3:
                self._kill_while_it_recovers(trio)
            with trio:
                self._check_after_start(Connection(trio.url))
                self._write_and_kill(trio, orders)

    def finish(self) -> None:
        """Start once more, see that nothing is wrong, and stop cleanly."""
        with self._log.open("ab") as log, Trio(self._home, free_ports(), output=log, tiers=1) as trio:
            connection = Connection(trio.url)
            self._check_after_start(connection)
            self._check_catalog(connection)
        assert trio.processes["databuffer"].returncode == 0
        assert b"Traceback" not in self._log.read_bytes(), f"see {self._log}"

    def _write_and_kill(self, trio: Trio, orders: tuple[str, ...]) -> None:
        def write(connection: Connection) -> None:
            number = next(self._numbers)
            self.ledger.send(connection, number)
            if number in self.ledger.refused:
                time.sleep(0.005)  # others have something to do meanwhile

        def meddle(connection: Connection) -> None:
            order = self._random.choice(orders)
            status, answer = connection.post(order, _ORDERS[order])
            assert status == 201, answer

        crowd = Crowd(trio.url, may_break=True)
        crowd.repeat(write, times=WRITERS)
        if orders:
            crowd.repeat(meddle, pause=self._random.uniform(0, 0.02))
        enough = len(self.ledger.acknowledged) + self._random.randint(1, 120)
        with crowd:
            crowd.wait_for(lambda: len(self.ledger.acknowledged) >= enough)
            time.sleep(self._random.uniform(0, 0.05))
            _kill(trio)

    def _kill_while_it_recovers(self, trio: Trio) -> None:
        """Kill right after it has locked the volume: it then looks at what the last kill left."""
        trio.launch("databuffer")
        locked = f"process {trio.processes['databuffer'].pid} ".encode()
        while not (self._volume / ".lock").read_bytes().startswith(locked):
            trio.check()
            time.sleep(0.001)
        time.sleep(self._random.uniform(0, 0.02))
        _kill(trio)

    # ---- what must be so

    def _check_after_start(self, connection: Connection) -> None:
        self._check(connection)
        if connection.get("/dstat")["dstatus"] == "FROZEN":
            order = self._random.choice(["/thaw", "/cleanall"])
            assert connection.post(order, _ORDERS[order])[0] == 201
        for number in self.ledger.to_retry:
            self.ledger.send(connection, number)
            self.ledger.retried += 1
        assert self.ledger.to_retry == []
        self._check(connection)

    def _check(self, connection: Connection) -> None:
        """Everything acknowledged is there, intact and once; what was refused is not; counts equal files."""
        for folder in self._volume.glob("2*"):
            if folder not in self._archived:
                assert list(differences(folder, read_manifest(folder))) == [], folder
                self._archived[folder] = list(_numbers_in(folder).values())
        hand, following = _numbers_in(self._volume / "data"), _numbers_in(self._volume / "next")
        stored = Counter(itertools.chain(hand.values(), following.values(), *self._archived.values()))
        twice = [number for number, times in stored.items() if times > 1]
        assert not twice, f"stored more than once: {twice}"
        assert not (lost := self.ledger.acknowledged - stored.keys()), f"acknowledged, but lost: {lost}"
        assert not (odd := stored.keys() & self.ledger.refused), f"refused, but stored: {odd}"
        assert stored.keys() <= self.ledger.sent
        assert list((self._volume / ".incoming").iterdir()) == []
        self._check_counts(connection, hand, following)

    def _check_counts(self, connection: Connection, hand: dict[str, int], following: dict[str, int]) -> None:
        counts = {"n_itm": len(hand), "buff_size": _size(hand)}
        assert json.loads((self._home / "appdata" / "adm" / "StatDesc.json").read_bytes()) == counts
        if (self._volume / "next").exists():
            counts |= {"next_n_itm": len(following), "next_buff_size": _size(following)}
        assert connection.get("/stat") == counts
        assert connection.get("/dumpF") == {"nmlist": list(hand)}

    def _check_catalog(self, connection: Connection) -> None:
        catalogued: list[str] = []
        page: dict[str, Any] = {"after": 0, "more": True}
        while page["more"]:
            page = connection.get(f"/segments?after={page['after']}")
            catalogued += [segment["name"] for segment in page["segments"]]
        folders = [self._volume / "data", self._volume / "next", *self._archived]
        assert sorted(catalogued) == sorted(name for folder in folders for name in _numbers_in(folder))


def _kill(trio: Trio) -> None:
    trio.processes["databuffer"].send_signal(signal.SIGKILL)
    trio.processes["databuffer"].wait()


def _numbers_in(folder: Path) -> dict[str, int]:
    """Give the number of each file's segment, in the order of names; every file has the very bytes that were sent."""
    numbers = {}
    for path in sorted(folder.glob("gwb*.json")):
        content = path.read_bytes()
        numbers[path.name] = int(json.loads(content)["h"][0])
        assert content == body_of(numbers[path.name]), f"{path} is not what was sent"
    return numbers


def _size(numbers: dict[str, int]) -> int:
    return sum(len(body_of(number)) for number in numbers.values())
