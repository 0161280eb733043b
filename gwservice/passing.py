"""Which headers travel with what a tier passes on, down and up, and what a route that takes segments offers."""

from collections.abc import Iterable
from typing import Protocol

from gwwire.segment import NDJSON

SENDING_HEADERS = ("Content-Type", "Idempotency-Key")
QUESTION_HEADERS = ("Range", "If-Range", "If-None-Match")
#: Whose quota a request counts for; the gateway says so, and no client.
GROUP_HEADER = "X-Group"
QUOTA_HEADERS = ("RateLimit-Policy", "RateLimit")
ANSWER_HEADERS = (
    *("Content-Type", "Retry-After", "ETag", "Last-Modified", "Accept-Ranges", "Content-Range"),
    *QUOTA_HEADERS,
)
#: Those of the page and its files: how they are kept, and what a browser may do with them.
PAGE_HEADERS = (
    *("Content-Type", "Content-Encoding", "Cache-Control", "Vary"),
    *("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"),
)

#: The headers of an answer to OPTIONS: what a POST may carry.
SEGMENT_OFFER = {"Allow": "OPTIONS, POST", "Accept-Post": f"application/json, {NDJSON}"}


class Headers(Protocol):
    """What every framework's headers can do."""

    def get(self, key: str, /) -> str | None:
        """Give a header, None where there is none of that name."""


def pick(headers: Headers, names: Iterable[str]) -> dict[str, str]:
    """Give the named headers that are there."""
    return {name: value for name in names if (value := headers.get(name)) is not None}
