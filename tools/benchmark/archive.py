"""A datastore whose batches are archived, copied and recalled by order, and how long its steps take."""

import json
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote

from scripts.trio import Trio
from tools.benchmark.bodies import lines_per_request, segment_bodies
from tools.benchmark.load import Order, run_load
from tools.benchmark.servers import BUFFER, ServerFailed, servers_of

_TIMEOUT = 60.0
_POLL_SECONDS = 0.25
#: Time for any single step, and for a fill.
_STEP_SECONDS, _FILL_SECONDS = 300.0, 120.0
_FILLERS = 4
_MOVED = "glitchflow_tier_moved_bytes_total{"


@dataclass(frozen=True)
class Batch:
    """An archived batch: its id, its folder, and the segments in it."""

    id: str
    folder: Path
    segments: int


class Archiver:
    """Orders to the buffer of a trio.

    Every method raises ServerFailed if the buffer fails, or a step does.
    """

    def __init__(self, trio: Trio) -> None:
        self._server = servers_of(trio)[-1]
        self._volume = trio.home / "datavar"
        self.pid = self._server.pids[BUFFER]

    def archive(self, samples: int, size: int) -> Batch:
        """Push segments of `size` bytes in all, as JSON, and archive them; no tier gets a copy."""
        segments = max(1, size // len(segment_bodies(samples)[0]))
        per_request = lines_per_request(segment_bodies(samples))
        url = self._server.url + self._server.push
        order = Order(url, "NDJSON", samples, _FILLERS, _FILL_SECONDS, segments // per_request * per_request)
        load = run_load(order)
        if load.refused:
            raise ServerFailed(f"{load.refused} segments were not stored: {load.complaint}")
        self._call("POST", self._server.clean, {})
        found = next(each for each in reversed(self._call("GET", "/batches")["batches"]) if each["state"] == "ARCHIVED")
        return Batch(found["id"], self._volume / found["path"], load.created)

    def keep(self, batches: Sequence[Batch], *tiers: str, on_disk: int | None = None) -> None:
        """Set the policy of some batches."""
        policy = {"archive_to": tiers, **({} if on_disk is None else {"keep_on_disk": on_disk})}
        for batch in batches:
            self._call("PUT", f"/batches/{quote(batch.id)}/tiering", policy)

    def recall(self, batches: Sequence[Batch]) -> None:
        """Begin to recall some batches from tape."""
        for batch in batches:
            self._call("POST", f"/batches/{quote(batch.id)}/recall")

    def wait_for(self, batches: Sequence[Batch], step: str) -> float:
        """Wait until a step is done for some batches; return the seconds from its first start to its last end."""
        times = [self._ended(batch, step) for batch in batches]
        return float(max(ended for _, ended in times) - min(started for started, _ in times))

    def moved(self, tier: str) -> float:
        """Return the bytes that moves wrote to a tier and read from it so far."""
        lines = self._read("GET", "/metrics").decode().splitlines()
        wanted = [line for line in lines if line.startswith(_MOVED) and f'tier="{tier}"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in wanted)

    def wait_until_moved(self, tier: str) -> None:
        """Wait until the first bytes were written to a tier."""
        give_up = time.monotonic() + _STEP_SECONDS
        while not self.moved(tier):
            if time.monotonic() > give_up:
                raise ServerFailed(f"nothing was written to tier {tier}")
            time.sleep(_POLL_SECONDS)

    def is_done(self, batch: Batch, step: str) -> bool:
        """Return whether a step is done for a batch."""
        return self._step(batch, step).get("state") == "DONE"

    def _ended(self, batch: Batch, step: str) -> tuple[float, float]:
        give_up = time.monotonic() + _STEP_SECONDS
        while (found := self._step(batch, step)).get("state") != "DONE":
            if found.get("reason") or time.monotonic() > give_up:
                raise ServerFailed(f"{step} of batch {batch.id} is not done: {found}")
            time.sleep(_POLL_SECONDS)
        return found["started"], found["ended"]

    def _step(self, batch: Batch, step: str) -> dict[str, Any]:
        steps = self._call("GET", f"/records/batch/{quote(batch.id)}")["steps"]
        return next((each for each in steps if each["name"] == step), {})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self._read(method, path, body))

    def _read(self, method: str, path: str, body: Any = None) -> bytes:
        sent = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 (an http address of the trio)
            self._server.url + path, sent, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 (the same)
                content: bytes = answer.read()
                return content
        except (URLError, OSError) as error:
            raise ServerFailed(f"the {BUFFER} failed at {method} {path}: {error}") from error
