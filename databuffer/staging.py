"""A segment on its way in: validated, hashed, and written durably beside the batch.

This is all that is done for a segment before its turn in the order of things has come, and most of what it costs.
"""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from databuffer.errors import VolumeError, volume_error
from databuffer.meters import FSYNC_SEGMENT
from databuffer.storage.volume import create_file
from gwwire.problems import ProblemError
from gwwire.segment import SegmentLimits, compact, decode_segment


@dataclass(frozen=True)
class Staged:
    """A valid segment, and where its compact form is.

    Attributes:
        size: bytes of its compact form.
        sha256: of its compact form.
        channel: "DET:NAME", where it says so.
        t0: GPS seconds of the first sample.
        dt: sample spacing in s.
        n: number of samples.
        place: where its bytes are on the disk; why they could not be written; None: nobody has tried.

    """

    size: int
    sha256: str
    channel: str | None
    t0: float
    dt: float
    n: int
    place: Path | VolumeError | None


#: A segment as it came, and where it is to be written; None: nowhere.
Task = tuple[bytes, Path | None]
#: What becomes of it; an error tells that it is no segment.
Outcome = Staged | ProblemError


def stage(tasks: Sequence[Task], limits: SegmentLimits | None = None) -> list[Outcome]:
    """Validate segments, and write them durably.

    All are written before the first is synced: the file system then has all of them to put into one journal entry.
    """
    begun = [_begin(body, path, limits) for body, path in tasks]
    return [_sync(*each) if isinstance(each, tuple) else each for each in begun]


def _begin(body: bytes, path: Path | None, limits: SegmentLimits | None) -> Outcome | tuple[Staged, Path, int]:
    try:
        segment = decode_segment(body, limits)
    except ProblemError as error:
        # What is wrong is kept until the answer is fetched; the frames it came through would hold the segments.
        error.__traceback__ = error.__context__ = None
        return error
    content = compact(body, segment)
    sha256 = hashlib.sha256(content).hexdigest()
    staged = Staged(len(content), sha256, segment.channel, segment.t0, segment.dt, len(segment.h), path)
    if path is None:
        return staged
    try:
        return staged, path, create_file(path, content)
    except OSError as error:
        return _give_up(staged, path, error)


def _sync(staged: Staged, path: Path, descriptor: int) -> Staged:
    try:
        with FSYNC_SEGMENT.time():
            os.fsync(descriptor)
    except OSError as error:
        return _give_up(staged, path, error)
    finally:
        os.close(descriptor)
    return staged


def _give_up(staged: Staged, path: Path, error: OSError) -> Staged:
    with suppress(OSError):
        path.unlink()
    return replace(staged, place=volume_error(error))
