"""The robot of a tape library that is a folder: drives, mounts, seeks, and the area of what is online."""

import shutil
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Semaphore, Thread
from typing import TypeVar

from databuffer.tiers.backends.folder import CHUNK, FolderTier
from databuffer.tiers.backends.tape_library.faults import TapeFaults
from databuffer.tiers.backends.tape_library.requests import TapeRequests
from databuffer.tiers.tier import Staged, StageState, TierError

C = TypeVar("C", bound=Sized)


@dataclass(frozen=True, slots=True)
class TapeManners:
    """The properties of a library: `mount` and `seek` in seconds, `rate` in bytes a second, `online` in bytes."""

    drives: int = 1
    mount: float = 2.0
    seek: float = 0.5
    rate: int = 300_000_000
    online: int = 10_000_000_000


class TapeRobot:
    """Brings wanted keys online in threads, one per drive, which end when there is nothing to do."""

    def __init__(self, root: Path, library: FolderTier, faults: TapeFaults, manners: TapeManners) -> None:
        self.requests = TapeRequests()
        self._library = library
        self._online = FolderTier(library.name, root / "online")
        self._faults = faults
        self._manners = manners
        self._drives = Semaphore(manners.drives)
        self._threads = 0
        self._percent: dict[str, int] = {}  # of the keys that a drive reads
        self._claimed: dict[str, int] = {}  # bytes in the online area that are still to come

    def wake(self) -> None:
        """Evict what nobody wants, and begin to read what is wanted."""
        with self.requests.lock:
            self._evict()
            for _ in range(min(self._manners.drives - self._threads, len(self._waiting()))):
                self._threads += 1
                Thread(target=self._work, name=f"tape-{self._library.name}", daemon=True).start()

    def read_online(self, key: str, start: int, stop: int | None) -> Iterator[bytes]:
        """Yield bytes of a key that is online; raise NotThere if it is not."""
        return self._online.read(self._place(key), start, stop)

    def is_online(self, key: str) -> bool:
        """Return whether the bytes that are on tape now can be read."""
        return self._library.stat(key) is not None and self._online.stat(self._place(key)) is not None

    def progress(self, key: str) -> Staged:
        """Return how far a wanted key is."""
        with self.requests.lock:
            if key in self._percent:
                return Staged(StageState.STARTED, self._percent[key])
            return Staged(StageState.COMPLETED, 100) if self.is_online(key) else Staged(StageState.SUBMITTED)

    @contextmanager
    def drive(self) -> Iterator[None]:
        """Occupy a drive for the block, after a mount."""
        with self._drives:
            time.sleep(self._manners.mount)
            yield

    def at_rate(self, chunks: Iterable[C]) -> Iterator[C]:
        """Yield the chunks after a seek, no faster than a drive moves as many bytes."""
        time.sleep(self._manners.seek)
        for chunk in chunks:
            time.sleep(len(chunk) / self._manners.rate)
            yield chunk

    def _place(self, key: str) -> str:
        """Return the place in the online area of the bytes that are on tape now, not of earlier ones."""
        found = self._library.path(key).stat()
        return f"{found.st_ino:x}-{found.st_mtime_ns:x}/{key}"

    def _work(self) -> None:
        """Read one key after another, with one drive."""
        with self.drive():
            while (key := self._next()) is not None:
                self._bring_online(key)

    def _next(self) -> str | None:
        """Return the next key that fits into the online area; None ends the thread."""
        with self.requests.lock:
            try:
                key = next(self._that_fit(self._waiting()), None)
            except (TierError, OSError):
                key = None  # the next call of `wake` tries again
            if key is None:
                self._threads -= 1
            return key

    def _that_fit(self, keys: Iterable[str]) -> Iterator[str]:
        used = sum(one.size for one in self._online.list()) + sum(self._claimed.values())
        for key in keys:
            found = self._library.stat(key)
            if found is None:
                self.requests.fail(key, f"there is no {key} on tape")
            elif found.size > self._manners.online:
                self.requests.fail(key, f"{found.size} bytes; the online area has {self._manners.online} (online)")
            elif used + found.size <= self._manners.online:
                self._percent[key], self._claimed[key] = 0, found.size
                yield key

    def _bring_online(self, key: str) -> None:
        try:
            self._faults.check("stage", key)
            place, size = self._place(key), self._claimed[key]
            self._wind(key, size)
            self._online.link(place, self._library, key)
        except (TierError, OSError) as error:
            self.requests.fail(key, str(error))
        finally:
            with self.requests.lock, suppress(TierError, OSError):
                del self._percent[key], self._claimed[key]
                self._evict()

    def _wind(self, key: str, size: int) -> None:
        """Take the time in which a drive reads a key; the bytes themselves need not be copied to be online."""
        portions = (range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK))
        for portion in self.at_rate(portions):
            self._percent[key] = 100 * portion.stop // size

    def _waiting(self) -> list[str]:
        return [key for key in self.requests.wanted() if key not in self._percent and not self.is_online(key)]

    def _evict(self) -> None:
        """Delete copies that nobody wants, and those of bytes that are not on tape any more."""
        wanted = set(self.requests.wanted())
        for copy in self._online.list():
            place, _, key = copy.key.partition("/")
            if key in self._percent:
                continue
            if key not in wanted or self._library.stat(key) is None or self._place(key) != copy.key:
                shutil.rmtree(self._online.path(place))
