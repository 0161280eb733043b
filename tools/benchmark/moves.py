"""The speed of copies to tiers and of recalls from tape beside plain copies of the same bytes."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from databuffer.tar import VirtualTar
from databuffer.tiers.packs.pack import folder_pack, key_of
from gwwire.tiering import DISK
from tools.benchmark import plain
from tools.benchmark.archive import Archiver, Batch

CACHE, TAPE = "cache", "tape"
#: Copies beside a move. The goals are about rclone's, or about plain ones if there is no rclone.
RCLONE, PLAIN, READ_BACK = "`rclone copy`", "plain", "plain, read back"
RCLONE_CHECK = "`rclone copy`, then `rclone check --download`"
_AT_ONCE = 2


@dataclass(frozen=True)
class Plan:
    """Bytes of a pack, samples of its segments, and packs for each measurement."""

    size: int
    samples: int
    packs: int


@dataclass
class Moves:
    """Moves of one kind: bytes and seconds of each, and the seconds of plain copies of these bytes, by name."""

    what: str
    bytes: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    copies: dict[str, list[float]] = field(default_factory=dict)

    def speed(self, name: str | None = None) -> float:
        """Return the median of the MB/s of the moves, or of the copies with a name."""
        seconds = self.seconds if name is None else self.copies[name]
        return median(size / each / 1e6 for size, each in zip(self.bytes, seconds, strict=True))

    def ratio(self, name: str) -> float:
        """Return the median of the ratios of a move's speed to that of the copy beside it."""
        return median(other / mine for mine, other in zip(self.seconds, self.copies[name], strict=True))

    def measure(self, size: int, move: Callable[[], float], copies: Mapping[str, Callable[[], float]]) -> None:
        """Measure a move and the copies beside it; every second time, the move comes last."""
        works = [(None, move), *copies.items()]
        for name, work in works if len(self.bytes) % 2 == 0 else reversed(works):
            os.sync()  # what the last one left
            (self.seconds if name is None else self.copies.setdefault(name, [])).append(work())
        self.bytes.append(size)


class Bench:
    """Measurements at a datastore with the tiers `cache`, unless that is the disk, and `tape`, a folder.

    Copies beside the moves go to `place`, which is on the same disk or server as the cache; rclone reads `files`.
    """

    def __init__(self, plan: Plan, archiver: Archiver, tape: Path, place: plain.Place, files: plain.FilePlace) -> None:
        self._plan = plan
        self._archiver = archiver
        self._tape = tape
        self._place = place
        self._files = files
        self._rclone = plain.rclone()
        self._copies = 0

    def copies(self, name: str) -> list[Moves]:
        """Measure copies from the disk to the cache, of one pack at a time and of two."""
        alone, both = Moves(f"copy to {name}"), Moves(f"copy to {name}, two packs at once")
        for batch in self._archive(self._plan.packs):
            self._measure_copy(alone, [batch])
        for _ in range(max(1, self._plan.packs // 2)):
            self._measure_copy(both, self._archive(_AT_ONCE))
        return [alone, both]

    def recalls(self, name: str) -> Moves:
        """Measure recalls to the cache of packs that are on tape only."""
        moves = Moves(f"recall to {name}")
        batches = self._archive(self._plan.packs)
        for batch in batches:
            self._keep_inodes(batch)
        self._archiver.keep(batches, TAPE, on_disk=0)
        self._archiver.wait_for(batches, f"drop:{DISK}")
        for batch in batches:
            self._measure_recall(moves, batch)
        return moves

    def _keep_inodes(self, batch: Batch) -> None:
        """Link the files of a batch under second names.

        Files created within minutes of a drop would be slow: ext4 then looks past each inode that became free.
        """
        names = self._files.path(self._name())
        names.mkdir()
        for path in batch.folder.iterdir():
            (names / path.name).hardlink_to(path)

    def _archive(self, number: int) -> list[Batch]:
        return [self._archiver.archive(self._plan.samples, self._plan.size) for _ in range(number)]

    def _measure_copy(self, moves: Moves, batches: Sequence[Batch]) -> None:
        tars = [(batch.folder, folder_pack(batch.folder).tar) for batch in batches]

        paths = [self._packed(folder, tar) for folder, tar in tars] if self._rclone else []

        def copy(*, back: bool) -> None:
            _at_once(
                partial(self._copy, self._name(), tar, plain.folder_chunks(folder, tar), back=back)
                for folder, tar in tars
            )

        def move() -> float:
            self._archiver.keep(batches, CACHE)
            return self._archiver.wait_for(batches, f"copy:{CACHE}")

        moves.measure(sum(tar.size for _, tar in tars), move, self._copies_beside(copy, paths))

    def _measure_recall(self, moves: Moves, batch: Batch) -> None:
        tar, path = folder_pack(batch.folder).tar, self._tape / "library" / key_of(batch.id)

        def move() -> float:
            self._archiver.recall([batch])
            return self._archiver.wait_for([batch], "recall")

        def copy(*, back: bool) -> None:
            self._copy(self._name(), tar, plain.file_chunks(path), back=back)

        sources = [self._place.source(path, tar)] if self._rclone else []
        moves.measure(tar.size, move, self._copies_beside(copy, sources))

    def _packed(self, folder: Path, tar: VirtualTar) -> Path:
        """Return a file with the bytes of a pack."""
        self._files.write(name := self._name(), tar, plain.folder_chunks(folder, tar))
        return self._files.path(name)

    def _copies_beside(self, copy: Callable[..., None], paths: Sequence[Path]) -> dict[str, Callable[[], float]]:
        """Return copies to measure, without and with reading back: those of some paths by rclone, and plain ones."""

        def copy_by_rclone(*, check: bool) -> None:
            copy_one = partial(plain.copy_by_rclone, self._rclone or "", check=check)
            _at_once(partial(copy_one, path, self._place.target(self._name())) for path in paths)

        copies: dict[str, Callable[[], None]] = {PLAIN: partial(copy, back=False), READ_BACK: partial(copy, back=True)}
        if paths:
            by_rclone = {
                RCLONE: partial(copy_by_rclone, check=False),
                RCLONE_CHECK: partial(copy_by_rclone, check=True),
            }
            copies = by_rclone | copies
        return {name: partial(_seconds, work) for name, work in copies.items()}

    def _copy(self, name: str, tar: VirtualTar, chunks: Iterable[bytes], *, back: bool) -> None:
        self._place.write(name, tar, chunks)
        for _ in self._place.read(name) if back else ():
            pass

    def _name(self) -> str:
        self._copies += 1
        return f"plain-{self._copies}"


def _at_once(works: Iterable[Callable[[], object]]) -> None:
    works = list(works)
    with ThreadPoolExecutor(len(works)) as threads:
        for work in [threads.submit(each) for each in works]:
            work.result()


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
