"""`make torture`: kill a buffer again and again while 16 clients write to it.

After every kill the buffer is started on the files that are left. Exit status 1 if an acknowledged segment is lost,
stored twice or changed, if a rejected one is stored, or if the counts differ from the files.
"""

import argparse
import itertools
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from databuffer.storage.manifest import differences, read_manifest
from scripts.trio import ServiceDied, Trio, free_ports
from tools.clients import ClientThreads, Connection

WRITERS = 16
_CREATED, _CONFLICT = 201, 409
_ALICE = json.dumps({"user": "alice", "token": "secret"}).encode()
_ORDERS = {"/upddsc": _ALICE, "/thaw": _ALICE, "/cleanall": b"{}"}

#: Orders sent during the writing, and the ON_FROZEN setting, by turns.
_ROUNDS = (
    ((), "reject"),
    (("/cleanall",), "reject"),
    (("/upddsc", "/thaw", "/cleanall"), "reject"),
    (("/upddsc", "/thaw", "/cleanall"), "rotate"),
    (("/upddsc", "/cleanall"), "rotate"),
)


class Violation(Exception):
    """The buffer broke a guarantee; the message names it."""


def _require(holds: object, complaint: object) -> None:
    if not holds:
        raise Violation(str(complaint))


@dataclass
class Ledger:
    """The outcome of every segment sent, by its number; every other segment has an idempotency key."""

    sent: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    rejected: set[int] = field(default_factory=set)
    retried: int = 0

    @property
    def to_retry(self) -> list[int]:
        """Return the unanswered segments that can safely be sent again, because they have a key."""
        return sorted(number for number in self.sent - self.acknowledged - self.rejected if key_of(number))

    def send(self, connection: Connection, number: int) -> None:
        """Send a segment and record the outcome."""
        self.sent.add(number)
        status, answer = connection.post("/sendF", body_of(number), key_of(number))
        if status == _CREATED:
            self.acknowledged.add(number)
        else:
            _require((status, answer["code"]) == (_CONFLICT, "buffer-frozen"), answer)
            self.rejected.add(number)


def body_of(number: int) -> bytes:
    """Return a segment, as compact JSON, whose first sample is `number`."""
    segment = {"h": [float(number), *[1e-21] * 7], "t": [1e9, 1 / 4096]}
    return json.dumps(segment, separators=(",", ":")).encode()


def key_of(number: int) -> str | None:
    """Return the idempotency key of a segment, or None if it is sent without one."""
    return f"segment-{number}" if number % 2 else None


class Torture:
    """Rounds of writing and killing on one volume, under `home`; a broken guarantee raises Violation.

    Attributes:
        ledger: the outcome of every segment sent.

    """

    def __init__(self, home: Path, seed: int) -> None:
        self.ledger = Ledger()
        self._home = home
        self._volume = home / "datavar"
        self._log = home / "services.log"
        self._random = random.Random(seed)  # noqa: S311 (reproducible, not secret)
        self._numbers = itertools.count()
        self._rounds = itertools.count()
        self._archived: dict[Path, list[int]] = {}
        home.mkdir(exist_ok=True)

    def kill_once(self) -> None:
        """Start on the state the last round left, check it, write, and kill."""
        number = next(self._rounds)
        orders, on_frozen = _ROUNDS[number % len(_ROUNDS)]
        with self._log.open("ab") as log:
            trio = Trio(self._home, free_ports(), {"ON_FROZEN": on_frozen}, output=log, services=1)
            if number % 4 == 3:  # noqa: PLR2004 (every fourth round)
                self._kill_during_recovery(trio)
            with trio:
                self._check_after_start(Connection(trio.url))
                self._write_and_kill(trio, orders)

    def finish(self) -> None:
        """Start once more, check the state, and stop cleanly."""
        with self._log.open("ab") as log, Trio(self._home, free_ports(), output=log, services=1) as trio:
            connection = Connection(trio.url)
            self._check_after_start(connection)
            self._check_catalog(connection)
        status = trio.processes["databuffer"].returncode
        _require(status == 0, f"the buffer ended with status {status}")
        _require(b"Traceback" not in self._log.read_bytes(), f"a traceback in {self._log}")

    def _write_and_kill(self, trio: Trio, orders: tuple[str, ...]) -> None:
        def write(connection: Connection) -> None:
            number = next(self._numbers)
            self.ledger.send(connection, number)
            if number in self.ledger.rejected:
                time.sleep(0.005)  # leave the processor to the other threads

        def give_an_order(connection: Connection) -> None:
            order = self._random.choice(orders)
            status, answer = connection.post(order, _ORDERS[order])
            _require(status == _CREATED, answer)

        clients = ClientThreads(trio.url, may_break=True)
        clients.repeat(write, times=WRITERS)
        if orders:
            clients.repeat(give_an_order, pause=self._random.uniform(0, 0.02))
        enough = len(self.ledger.acknowledged) + self._random.randint(1, 120)
        with clients:
            clients.wait_for(lambda: len(self.ledger.acknowledged) >= enough)
            time.sleep(self._random.uniform(0, 0.05))
            _kill(trio)

    def _kill_during_recovery(self, trio: Trio) -> None:
        """Kill a starting buffer right after it has locked the volume."""
        trio.launch("databuffer")
        locked = f"process {trio.processes['databuffer'].pid} ".encode()
        while not (self._volume / ".lock").read_bytes().startswith(locked):
            trio.check()
            time.sleep(0.001)
        time.sleep(self._random.uniform(0, 0.02))
        _kill(trio)

    # ---- the guarantees

    def _check_after_start(self, connection: Connection) -> None:
        self._check(connection)
        if connection.get("/dstat")["dstatus"] == "FROZEN":
            order = self._random.choice(["/thaw", "/cleanall"])
            status, answer = connection.post(order, _ORDERS[order])
            _require(status == _CREATED, answer)
        for number in self.ledger.to_retry:
            self.ledger.send(connection, number)
            self.ledger.retried += 1
        _require(not self.ledger.to_retry, "a retry was not answered")
        self._check(connection)

    def _check(self, connection: Connection) -> None:
        """Check that acknowledged segments are stored once and unchanged, and that counts equal files."""
        for folder in self._volume.glob("2*"):
            if folder not in self._archived:
                found = list(differences(folder, read_manifest(folder)))
                _require(not found, f"{folder} is not what its manifest says: {found}")
                self._archived[folder] = list(_numbers_in(folder).values())
        current, following = _numbers_in(self._volume / "data"), _numbers_in(self._volume / "next")
        stored = Counter(itertools.chain(current.values(), following.values(), *self._archived.values()))
        twice = [number for number, times in stored.items() if times > 1]
        lost, rejected = self.ledger.acknowledged - stored.keys(), self.ledger.rejected & stored.keys()
        _require(not twice, f"stored more than once: {twice}")
        _require(not lost, f"acknowledged, but lost: {lost}")
        _require(not rejected, f"rejected, but stored: {rejected}")
        _require(stored.keys() <= self.ledger.sent, "stored, but never sent")
        _require(not list((self._volume / ".incoming").iterdir()), "unfinished files are left in .incoming")
        self._check_counts(connection, current, following)

    def _check_counts(self, connection: Connection, current: dict[str, int], following: dict[str, int]) -> None:
        counts = {"n_itm": len(current), "buff_size": _size(current)}
        written = json.loads((self._home / "appdata" / "adm" / "StatDesc.json").read_bytes())
        _require(written == counts, f"StatDesc.json: {written}, not {counts}")
        if (self._volume / "next").exists():
            counts |= {"next_n_itm": len(following), "next_buff_size": _size(following)}
        answered = connection.get("/stat")
        _require(answered == counts, f"/stat: {answered}, not {counts}")
        _require(connection.get("/dumpF") == {"nmlist": list(current)}, "/dumpF: not the files in data/")

    def _check_catalog(self, connection: Connection) -> None:
        listed: list[str] = []
        page: dict[str, Any] = {"after": 0, "more": True}
        while page["more"]:
            page = connection.get(f"/segments?after={page['after']}")
            listed += [segment["name"] for segment in page["segments"]]
        folders = [self._volume / "data", self._volume / "next", *self._archived]
        names = sorted(name for folder in folders for name in _numbers_in(folder))
        _require(sorted(listed) == names, "/segments: not the files on the volume")


def _kill(trio: Trio) -> None:
    trio.processes["databuffer"].send_signal(signal.SIGKILL)
    trio.processes["databuffer"].wait()


def _numbers_in(folder: Path) -> dict[str, int]:
    """Return the number of each file's segment, in the order of names; every file must have the bytes sent."""
    numbers = {}
    for path in sorted(folder.glob("gwb*.json")):
        content = path.read_bytes()
        numbers[path.name] = int(json.loads(content)["h"][0])
        _require(content == body_of(numbers[path.name]), f"{path} is not what was sent")
    return numbers


def _size(numbers: dict[str, int]) -> int:
    return sum(len(body_of(number)) for number in numbers.values())


def main() -> int:
    """Run the rounds in a temporary folder, which is kept if a guarantee is broken."""
    parser = argparse.ArgumentParser("python -m tools.torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="number of kills (default: 100)")
    parser.add_argument("--seed", type=int, help="the seed of an earlier run (default: a new one)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    home = Path(tempfile.mkdtemp(prefix="torture-"))
    print(f"{options.rounds} rounds with seed {seed} in {home}")
    torture = Torture(home, seed)
    try:
        for _ in tqdm(range(options.rounds), unit="kill"):
            torture.kill_once()
        torture.finish()
    except (Violation, ExceptionGroup, TimeoutError, ServiceDied) as error:
        causes = error.exceptions if isinstance(error, ExceptionGroup) else [error]
        sys.stderr.write(f"failed with seed {seed}: {'; '.join(map(str, causes))}\nthe data are in {home}\n")
        return 1
    shutil.rmtree(home)
    ledger = torture.ledger
    print(
        f"{options.rounds} kills: {len(ledger.acknowledged)} segments acknowledged, {ledger.retried} of them on a "
        "retry; none lost, none stored twice, all intact, counts equal files"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
