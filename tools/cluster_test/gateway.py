"""A client of the gateway that needs only the standard library."""

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from tools.cluster_test.errors import StepFailed

_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    media_type: str
    body: bytes

    def json(self) -> Any:
        """Decode the body.

        Raises:
            StepFailed: it is not JSON.

        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise StepFailed(f"an answer with status {self.status} is not JSON: {self.body[:100]!r}") from None


@dataclass(frozen=True)
class Stored:
    """A stored segment, as the datastore lists it."""

    name: str
    sha256: str
    channel: str | None
    t0: float


@dataclass(frozen=True)
class Gateway:
    """A gateway at an address; `key` is sent with every request if it is given."""

    url: str
    key: str | None = field(default=None, repr=False)

    def ask(self, route: str, body: bytes | None = None, media_type: str = "application/json") -> Answer:
        """Send a GET, or a POST if there is a body; return the answer, whatever its status.

        Raises:
            StepFailed: there was no answer.

        """
        headers = {"Content-Type": media_type} if body else {}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        request = urllib.request.Request(self.url + route, body, headers)  # noqa: S310 (the gateway under test)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 (see above)
                return Answer(answer.status, answer.headers.get_content_type(), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers.get_content_type(), error.read())
        except (OSError, http.client.HTTPException) as error:
            raise StepFailed(f"{route}: no answer: {error}") from error

    def get(self, route: str) -> Any:
        """Send a GET and return the JSON of the answer, which must have status 200."""
        answer = self.ask(route)
        if answer.status != http.client.OK:
            raise StepFailed(f"GET {route}: status {answer.status}: {answer.body[:200]!r}")
        return answer.json()

    def post(self, route: str, order: Any) -> Any:
        """Send a POST and return the JSON of the answer, which must have status 200."""
        answer = self.ask(route, json.dumps(order).encode())
        if answer.status != http.client.OK:
            raise StepFailed(f"POST {route}: status {answer.status}: {answer.body[:200]!r}")
        return answer.json()

    def wait_ready(self, seconds: float = 180.0) -> None:
        """Wait until every service is ready."""
        end = time.monotonic() + seconds
        while (answer := self.ask("/readyz")).status != http.client.OK:
            if time.monotonic() > end:
                raise StepFailed(f"not ready after {seconds:.0f} s: {answer.body[:200]!r}")
            time.sleep(1)

    def segments(self, query: str = "") -> list[Stored]:
        """Return all stored segments, archived ones included."""
        found, after = [], 0
        while True:
            page = self.get(f"/segments?after={after}&limit=1000{query}")
            found += [Stored(one["name"], one["sha256"], one["channel"], one["t0"]) for one in page["segments"]]
            if not page["more"]:
                return found
            after = page["after"]

    def damaged(self, segments: list[Stored]) -> list[str]:
        """Read these segments; return the names of those whose content has changed."""
        return [
            one.name
            for one in segments
            if hashlib.sha256(self.ask(f"/segments/{one.name}").body).hexdigest() != one.sha256
        ]
