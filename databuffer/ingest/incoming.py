"""A segment from its arrival to its answer."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from databuffer.storage.scalars import Scalars


@dataclass(slots=True, eq=False)
class Incoming:
    """A segment on its way to the volume; each step of the ingest fills in its part.

    Attributes:
        body: the bytes to store; empty once they are in a file or refused.
        key: the Idempotency-Key, or None.
        group: the group whose quota counts, or None.
        span: the trace span of the request, or None.
        arrived: bytes of the request's body.
        answered: done when `name` or `error` is final; its result is this record.
        size, sha256: bytes and digest of the compact JSON.
        channel, t0, dt, n: "DET:NAME" or None, GPS seconds of the first sample, sample spacing in s, samples.
        conditions: the scalars of its `meta` that can be searched.
        path, file: the staged file and its open descriptor; empty and -1 if there is none.
        name: the file name in the batch once the segment is stored, else empty.
        error: why the segment was not stored, or None.

    """

    body: bytes
    key: str | None = None
    group: str | None = None
    span: Any = None
    arrived: int = 0
    answered: "asyncio.Future[Incoming]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    size: int = 0
    sha256: str = ""
    channel: str | None = None
    t0: float = 0.0
    dt: float = 0.0
    n: int = 0
    conditions: Scalars = ()
    path: str = ""
    file: int = -1
    name: str = ""
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        """Return whether the outcome is final."""
        return bool(self.name) or self.error is not None

    @property
    def receipt(self) -> str:
        """The sentence that acknowledges a stored segment."""
        return f"Written {self.name} for {self.size} bytes"

    def refuse(self, error: Exception) -> None:
        """Set the outcome: not stored."""
        self.error = error
        self.body = b""

    def store_as(self, name: str, size: int) -> None:
        """Set the outcome: stored, now or by an earlier request with the same key."""
        self.name, self.size = name, size

    def answer(self) -> None:
        """Pass the outcome to the request; call it on the event loop."""
        if not self.answered.done():
            self.answered.set_result(self)


def refuse_unsettled(group: Iterable[Incoming], error: Exception) -> None:
    """Refuse the segments of a group that have no outcome yet: every sender must be answered."""
    for each in group:
        if not each.settled:
            each.refuse(error)
