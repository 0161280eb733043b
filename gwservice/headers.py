"""The headers that a service passes on, down and up, and those of segment routes and quotas."""

import time
from collections.abc import Iterable

from gwservice.correlation import RequestContext
from gwwire.problems import ProblemCode, ProblemError
from gwwire.public import Quota
from gwwire.segment import KEY_HEADER, NDJSON

#: Passed down by every service.
REQUEST_HEADERS = frozenset((
    *(b"content-type", b"idempotency-key", b"idempotency-keys"),
    *(b"range", b"if-range", b"if-match", b"if-none-match", b"accept-encoding"),
    *(b"upload-offset", b"content-digest", b"repr-digest"),
))  # fmt: skip
#: The group whose quota a request counts for, percent-encoded; the gateway sets it, a client's is ignored.
GROUP_HEADER = "X-Group"
RAW_GROUP_HEADER = GROUP_HEADER.lower().encode()
#: The user that sends a request, percent-encoded, and has what the request makes; the gateway sets it.
USER_HEADER = "X-User"
RAW_USER_HEADER = USER_HEADER.lower().encode()
#: Set by the gateway, if the user's scope is `admin`.
ADMIN_HEADER = "X-Admin"
RAW_ADMIN_HEADER = ADMIN_HEADER.lower().encode()
#: In a request of a service, the service that it is for; in a refusal, the one that answers.
SERVICE_HEADER = b"x-service"
#: Passed up by every service: what describes the body, and how long it may be kept.
ANSWER_HEADERS = frozenset((
    *(b"content-type", b"content-length", b"content-encoding", b"retry-after", b"allow"),
    *(b"age", b"content-disposition"),
    *(b"etag", b"last-modified", b"accept-ranges", b"content-range", b"cache-control", b"vary"),
    *(b"upload-offset", b"upload-complete", b"repr-digest"),
    *(b"ratelimit-policy", b"ratelimit"),
    *(b"content-security-policy", b"x-content-type-options", b"referrer-policy"),
))  # fmt: skip
#: The headers of an answer to OPTIONS: the media types that a POST may have.
SEGMENT_OFFER = {"Allow": "OPTIONS, POST", "Accept-Post": f"application/json, {NDJSON}"}
_DAY_SECONDS = 86_400
_RAW_KEY_HEADER = KEY_HEADER.lower().encode()


class SecondKey(ProblemError, code=ProblemCode.BAD_REQUEST):
    """The request has more than one Idempotency-Key."""


class Misdirected(ProblemError, code=ProblemCode.MISDIRECTED):
    """The request is for another service."""


def refuse_misdirected(request: RequestContext, service: str) -> None:
    """Raise Misdirected if a request is for another service; the answer names this one.

    A service that is its own upstream, because of a wrong address, does not call itself without end.
    """
    own = service.encode()
    if request.headers.get(SERVICE_HEADER, own) != own:
        request.answer_headers.append((SERVICE_HEADER, own))
        raise Misdirected(f"{service} answers here; the request is for another service", field="X-Service")


def refuse_second_key(lines: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise SecondKey for two keys; as one value, they would be another key when they are sent in another order."""
    if sum(name == _RAW_KEY_HEADER for name, _ in lines) > 1:
        raise SecondKey(f"the request has more than one {KEY_HEADER} header", field=KEY_HEADER)


def lists_etag(header: str, etag: str) -> bool:
    """Return whether If-Match or If-None-Match names an ETag, also as a weak one (RFC 9110, section 8.8.3), or any."""
    return header.strip() == "*" or etag in header


def quota_headers(quota: Quota) -> dict[str, str]:
    """Return the headers of a group's daily quota (draft-ietf-httpapi-ratelimit-headers)."""
    seconds = max(0, quota.reset - int(time.time()))
    return {
        "RateLimit-Policy": f'"bytes";q={quota.limit};w={_DAY_SECONDS};qu="content-bytes"',
        "RateLimit": f'"bytes";r={max(0, quota.limit - quota.used)};t={seconds}',
    }
