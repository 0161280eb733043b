"""The first half of the ingest: decode, validate, hash, and write segments to the staging folder.

One thread does this for all segments: several threads that decode JSON would compete for the GIL.
"""

import hashlib
import os
from contextlib import suppress

from databuffer.errors import volume_error
from databuffer.ingest.incoming import Incoming
from databuffer.state import State
from databuffer.storage.files import create_file
from databuffer.storage.scalars import meta_scalars
from databuffer.storage.volume import Volume
from gwwire.problems import ProblemError
from gwwire.segment import SegmentLimits, compact, validate_segment


class Staging:
    """Validates segments by `limits`, if any, and writes their files, not yet synced, to the staging folder."""

    def __init__(self, volume: Volume, state: State, limits: SegmentLimits | None) -> None:
        self._volume = volume
        self._state = state
        self._limits = limits

    def stage(self, incoming: Incoming) -> None:
        """Validate and describe a segment, and write its file.

        While segments are refused, it keeps its bytes: the commit writes them if the batch is open by then.
        """
        try:
            segment = validate_segment(incoming.body, self._limits)
        except ProblemError as error:
            # The error outlives this call until the answer is sent; its frames would keep the decoded segment.
            error.__traceback__ = error.__context__ = None
            incoming.refuse(error)
            return
        incoming.body = content = compact(incoming.body, segment)
        incoming.size = len(content)
        incoming.sha256 = hashlib.sha256(content).hexdigest()
        incoming.channel = segment.channel
        incoming.t0, incoming.dt = segment.t
        incoming.n = len(segment.h)
        if segment.meta:
            incoming.conditions = meta_scalars(segment.meta)
        if not self._state.refuses_segments:
            self.write(incoming)

    def write(self, incoming: Incoming) -> None:
        """Write the bytes of a segment into a new file, or refuse the segment if the volume rejects the write."""
        path = self._volume.staging_path()
        try:
            incoming.file = create_file(path, incoming.body)
        except OSError as error:
            with suppress(OSError):
                os.unlink(path)  # noqa: PTH108 (a `Path` for each segment would cost more than its write)
            incoming.refuse(volume_error(error))
            return
        incoming.path, incoming.body = path, b""


def discard(incoming: Incoming) -> None:
    """Remove the staged file of a segment that is not stored; a start-up removes it if this fails."""
    if incoming.file >= 0:
        file, incoming.file = incoming.file, -1
        with suppress(OSError):
            os.close(file)
    if incoming.path:
        with suppress(OSError):
            os.unlink(incoming.path)  # noqa: PTH108 (see above)
        incoming.path = ""
