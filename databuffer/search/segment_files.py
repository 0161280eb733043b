"""Open the files of segments in threads, wherever their batches are or are being moved."""

import asyncio
from collections.abc import Callable, Sequence
from typing import BinaryIO

from databuffer.errors import VolumeError
from databuffer.queries import Queries
from databuffer.storage.files import open_stored
from databuffer.tar import Member, Part


class SegmentFiles:
    """Opens files of segments; every method but `begin` is for threads.

    Unless it `recalls`, what is on tape only is refused without a recall of it.
    """

    def __init__(self, queries: Queries, *, recalls: bool = True) -> None:
        self._queries = queries
        self._recalls = recalls

    def begin(self) -> None:
        """Use the running event loop."""
        self._loop = asyncio.get_running_loop()

    def open(self, name: str) -> BinaryIO:
        """Open a segment's file, or raise NotFound."""
        try:
            file = self._queries.open_segment(name)
        except VolumeError:  # the catalog may have to be repaired
            file = None
        if file is None:
            opening = self._queries.segment_file(name, recalls=self._recalls)
            file = asyncio.run_coroutine_threadsafe(opening, self._loop).result()
        return file

    def opener(self, parts: Sequence[Part]) -> Callable[[Member], BinaryIO]:
        """Return a function that opens the members of some parts; the catalog is asked once where they are."""
        try:
            places = self._queries.segment_places(
                [part.source.name for part in parts if isinstance(part.source, Member)]
            )
        except VolumeError:
            places = {}

        def open_member(member: Member) -> BinaryIO:
            try:
                return open_stored(places[member.name], buffering=0)
            except (KeyError, OSError):  # its batch was moved meanwhile
                return self.open(member.name)

        return open_member
