"""The finished blocks of a run, in a folder beside its result, so that an interrupted run can continue.

Each block of windows is one file, complete or missing: an array as in an NPY file, and its SHA-256. The blocks belong
to a key that identifies the input and everything that determines the result; with another key they are removed.
"""

import errno
import hashlib
import json
import platform
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
import scipy
from numpy.typing import NDArray

from gwservice.atomic import locked
from gwservice.regular_file import open_regular, read_regular
from preproc.errors import OutputFailed, Unwritable
from preproc.parameters import Parameters
from preproc.publish import published

#: Windows in a block: some seconds of work.
WINDOWS_IN_BLOCK = 32
_MOST_KEY = 1000
#: Errors of network file systems without locks; there, each run needs its own output folder.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF}


def job_key(digest: str, parameters: Parameters) -> str:
    """Return the SHA-256 of the input and everything that determines the result."""
    deciding = {"batch": digest, "parameters": parameters.given(), "versions": versions()}
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of the software that determines the result."""
    libraries = {"numpy": np.__version__, "scipy": scipy.__version__, "h5py": h5py.__version__}
    return {"glitchflow_datastore": version("glitchflow-datastore"), "python": platform.python_version()} | libraries


@contextmanager
def working_in(out: Path) -> Iterator[None]:
    """Lock an output folder, which is created if missing, or raise OutputFailed."""
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            # A run that fails early leaves no empty folder.
            stack.callback(_remove_empty, out)
            stack.enter_context(locked(out, folder=True))
        except BlockingIOError:
            raise OutputFailed(f"another run is using {out}") from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise Unwritable(f"cannot write to {out}: {error.strerror}") from error
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _content(key: Path) -> bytes | None:
    try:
        return read_regular(key, _MOST_KEY)
    except OSError:
        return None


class Job:
    """The blocks of one run, in a folder within the folder `out` of its result; for the key, see `job_key`."""

    def __init__(self, out: Path, key: str) -> None:
        self._folder = out / ".job"
        self.key = key

    def begin(self) -> None:
        """Remove the existing blocks unless they are of this job."""
        key = self._folder / "key"
        try:
            if _content(key) != self.key.encode():
                self.forget()
                with published(key) as partial:
                    partial.write_text(self.key)
        except OSError as error:
            raise Unwritable(f"cannot write {key}: {error.strerror}") from error

    def has(self, block: int) -> bool:
        """Return whether a block is finished and can be read; a damaged one is computed again."""
        try:
            self.load(block)
        except OutputFailed:
            return False
        return True

    def save(self, block: int, energy: NDArray[np.float32]) -> None:
        """Store a block: its spectrograms, shape [W, C, F, T]."""
        with published(self._path(block)) as partial, partial.open("wb") as file:
            # `np.save` does not report why a write failed.
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(energy))
            file.write(np.ascontiguousarray(energy).data)
            file.write(_digest(energy))

    def load(self, block: int) -> NDArray[np.float32]:
        """Return a finished block, or raise OutputFailed if it is missing or damaged."""
        path = self._path(block)
        try:
            with open_regular(path) as file:
                energy = np.asarray(np.lib.format.read_array(file, allow_pickle=False), dtype=np.float32)
                if file.read() == _digest(energy):
                    return energy
        except OSError as error:
            raise OutputFailed(f"cannot read {path}: {error.strerror or error}") from error
        except Exception:  # noqa: BLE001, S110 (NumPy reads the header as Python code, with errors of all kinds)
            pass
        raise OutputFailed(f"{path} is damaged; the same command computes it again")

    def forget(self) -> None:
        """Remove the blocks."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, block: int) -> Path:
        return self._folder / f"block-{block:06d}.npy"


def _digest(energy: NDArray[np.float32]) -> bytes:
    digest = hashlib.sha256(str(energy.shape).encode())
    digest.update(np.ascontiguousarray(energy).data)
    return digest.digest()
