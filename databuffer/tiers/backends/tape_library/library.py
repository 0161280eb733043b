"""A tape library that is a folder: bytes can be read only after they were staged, which takes its time.

It has the manners of a library behind dCache or CTA, so that everything that is built on tiers can be run without one.
`library/` in the folder contains what is on tape, `online/` hard links to what is online. Requests end with the process
that made them.
A write goes to tape and leaves no copy online, so that reading it back reads the tape.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.backends.tape_library.faults import TapeFaults
from databuffer.tiers.backends.tape_library.lock import TapeLock, tape_lock
from databuffer.tiers.backends.tape_library.robot import TapeManners, TapeRobot
from databuffer.tiers.tier import Capacity, Locality, NotOnline, NotThere, Staged, StageState, Stored, TierError


class TapeTier:
    """Files of a folder `root`, which has to exist."""

    kind = "tape"

    def __init__(self, name: str, root: Path, manners: TapeManners) -> None:
        self.name = name
        self._root = root
        self._library = FolderTier(name, root / "library")
        self._faults = TapeFaults(root / "faults")
        self._robot = TapeRobot(root, self._library, self._faults, manners)
        self._lock: TapeLock | None = None

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store `size` bytes under a key, on tape only; see `Tier`."""
        with self._ready():
            self._faults.check("write", key)
        with self._robot.drive():
            self._library.write(key, size, self._robot.at_rate(chunks))

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a key that is online; see `Tier`."""
        with self._ready():
            self._faults.check("read", key)
            if self._library.stat(key) is None:
                raise NotThere(f"tier {self.name}: there is no {key}")
            try:
                return self._robot.read_online(key, start, stop)
            except NotThere:
                raise NotOnline(f"tier {self.name}: {key} is on tape and has to be staged") from None

    def stat(self, key: str) -> Stored | None:
        """Return what lies under a key, or None."""
        with self._ready():
            return self._library.stat(key)

    def delete(self, key: str) -> None:
        """Delete what lies under a key, if there is something."""
        with self._ready():
            self._library.delete(key)
            self._robot.wake()

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies under keys with a prefix, in the order of the keys."""
        with self._ready():
            yield from self._library.list(prefix)

    def locality(self, keys: Sequence[str]) -> dict[str, Locality]:
        """Return where the bytes of each key are."""
        return {key: self._locality(key) for key in keys}

    def _locality(self, key: str) -> Locality:
        try:
            with self._ready():
                if self._library.stat(key) is None:
                    return Locality.NONE
                return Locality.ONLINE if self._robot.is_online(key) else Locality.NEARLINE
        except TierError:
            return Locality.UNAVAILABLE

    def stage(self, keys: Sequence[str]) -> str:
        """Begin to bring keys online; return the id of the request. Raise NotThere if a key is missing."""
        with self._ready():
            for key in keys:
                if self._library.stat(key) is None:
                    raise NotThere(f"tier {self.name}: there is no {key}")
            request = self._robot.requests.add(keys)
            try:
                self._robot.wake()
            except BaseException:
                self._robot.requests.release(keys)
                raise
            return request

    def staged(self, request: str) -> dict[str, Staged]:
        """Return how far each key of a request is; NotThere if there is none, or all its keys were released."""
        with self._ready():
            self._robot.wake()  # goes on after an error
            found = self._robot.requests.get(request)
            if found is None:
                raise NotThere(f"tier {self.name}: there is no request {request[:100]!r}")
            return {
                key: Staged(StageState.FAILED, 0, found.failed[key])
                if key in found.failed
                else self._robot.progress(key)
                for key in found.keys
            }

    def release(self, keys: Sequence[str]) -> None:
        """Remove each key from its oldest request; what no other request has goes offline.

        If that raises TierError, it goes offline with the next request.
        """
        self._robot.requests.release(keys)
        with self._ready():
            self._robot.wake()

    def capacity(self) -> Capacity:
        """Return the size of the file system, and what is used of it by anybody."""
        with self._ready():
            return self._library.capacity()

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Lock the folder and create those in it; raise TierError instead of OSError."""
        try:
            self._lock = self._lock or tape_lock(self._root)
            for name in ("library", "online"):
                (self._root / name).mkdir(exist_ok=True)  # not their parent: it is missing if nothing is mounted
            yield
        except OSError as error:
            raise TierError(f"tier {self.name}: {error.filename or self._root}: {error.strerror or error}") from error
