"""A bundle whose archive is built as slowly as a test wants: its segments are leased files."""

import json
import os
from types import TracebackType
from typing import Any, Self

import httpx2

from scripts.trio import Trio
from tests.support.lease import leased
from tests.support.segments import JSON

_RATE = 64
_SECONDS = 60.0


class SlowBundle:
    """Use it as `with SlowBundle(…) as bundle`: each `release` lets the datastore read one more of its segments.

    `headers` are those of a caller that may stream and read.
    """

    def __init__(self, trio: Trio, channel: str, *, segments: int = 4, headers: dict[str, str] | None = None) -> None:
        self._client = httpx2.Client(base_url=trio.url, headers=headers or {}, timeout=_SECONDS)
        self._data = trio.home / "datavar" / "data"
        self._channel = channel
        self._count = segments
        self._held: list[int] = []
        self.id = ""

    def __enter__(self) -> Self:
        for second in range(self._count):
            segment = {"h": [1e-21] * _RATE, "t": [second, 1 / _RATE], "meta": {"channel": self._channel}}
            body = json.dumps(segment, separators=(",", ":")).encode()
            name = self._client.post("/streamdata", content=body, headers=JSON).json()["body"].split()[1]
            self._held.append(leased(self._data / name))
        self.id = self.order()["id"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release(len(self._held))
        self._client.close()

    def order(self) -> dict[str, Any]:
        """Order the bundle, again."""
        order = {"query": {"channel": self._channel}, "format": "hdf5"}
        made: dict[str, Any] = self._client.post("/bundles", json=order).json()
        return made

    def state(self, **question: Any) -> dict[str, Any]:
        """Return the bundle as `GET /bundles/{bundle}` does."""
        found: dict[str, Any] = self._client.get(f"/bundles/{self.id}", params=question).json()
        return found

    def cancel(self) -> None:
        """Cancel the bundle."""
        assert self._client.delete(f"/bundles/{self.id}").json()["state"] == "CANCELLED"

    def release(self, count: int = 1) -> None:
        """Release the next segments to the datastore."""
        for _ in range(count):
            os.close(self._held.pop(0))
