"""Problem documents, the error answers of every service (RFC 9457, `application/problem+json`).

A problem has a stable `code` for programs and a `detail` for people. Services raise a `ProblemError`; one handler per
service turns it into an HTTP response.
"""

from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

PROBLEM_TYPE = "application/problem+json"
#: The gateway's route that documents problems; a problem's `type` is this route and its code (docs/problems.md).
PROBLEM_PAGES = "/problems"


class ProblemCode(StrEnum):
    """The stable name of a problem."""

    INVALID_JSON = "invalid-json"
    BAD_REQUEST = "bad-request"
    INVALID_SEGMENT = "invalid-segment"
    INVALID_REQUEST = "invalid-request"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    TOO_LARGE = "too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    BUFFER_FROZEN = "buffer-frozen"
    BATCH_CHANGED = "batch-changed"
    BATCH_CLAIMED = "batch-claimed"
    BATCH_NOT_ARCHIVED = "batch-not-archived"
    BATCH_NOT_FROZEN = "batch-not-frozen"
    NOT_HOLDER = "not-holder"
    KEY_REUSED = "idempotency-key-reused"
    QUEUE_FULL = "queue-full"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    VOLUME_FULL = "volume-full"
    VOLUME_FAILED = "volume-failed"
    UPSTREAM_UNREACHABLE = "upstream-unreachable"
    UPSTREAM_INVALID = "upstream-invalid"
    UPSTREAM_TIMEOUT = "upstream-timeout"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_CALLER = "not-caller"
    CROSS_SITE = "cross-site"
    ISSUER_UNREACHABLE = "issuer-unreachable"
    TOO_MANY_SAMPLES = "too-many-samples"
    META_TOO_LARGE = "meta-too-large"
    TOO_DEEP = "too-deep"
    TOO_MANY_REQUESTS = "too-many-requests"
    QUOTA_EXCEEDED = "quota-exceeded"
    TIMEOUT = "timeout"
    INTERNAL_ERROR = "internal-error"


_KINDS: dict[ProblemCode, tuple[int, str]] = {
    ProblemCode.INVALID_JSON: (400, "The body is not JSON"),
    ProblemCode.BAD_REQUEST: (400, "The request cannot be understood"),
    ProblemCode.INVALID_SEGMENT: (422, "The body is not a segment"),
    ProblemCode.INVALID_REQUEST: (422, "The request does not have the expected fields"),
    ProblemCode.NOT_FOUND: (404, "There is nothing here"),
    ProblemCode.METHOD_NOT_ALLOWED: (405, "This route does not take that method"),
    ProblemCode.TOO_LARGE: (413, "The body is too large"),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: (415, "The body has the wrong media type"),
    ProblemCode.BUFFER_FROZEN: (409, "The batch is frozen"),
    ProblemCode.BATCH_CHANGED: (409, "The batch changed meanwhile"),
    ProblemCode.BATCH_CLAIMED: (409, "Another worker has the batch"),
    ProblemCode.BATCH_NOT_ARCHIVED: (409, "The batch is not archived"),
    ProblemCode.BATCH_NOT_FROZEN: (409, "The batch is not frozen"),
    ProblemCode.NOT_HOLDER: (403, "The batch is held by somebody else"),
    ProblemCode.KEY_REUSED: (422, "The Idempotency-Key was used for other bytes"),
    ProblemCode.QUEUE_FULL: (503, "The queue is full"),
    ProblemCode.TOO_MANY_CONNECTIONS: (503, "The service has too many connections"),
    ProblemCode.VOLUME_FULL: (507, "The volume is full"),
    ProblemCode.VOLUME_FAILED: (503, "The volume failed"),
    ProblemCode.UPSTREAM_UNREACHABLE: (502, "The next tier cannot be reached"),
    ProblemCode.UPSTREAM_INVALID: (502, "The next tier answered something unexpected"),
    ProblemCode.UPSTREAM_TIMEOUT: (504, "The next tier did not answer in time"),
    ProblemCode.UNAUTHORIZED: (401, "A valid credential is needed"),
    ProblemCode.FORBIDDEN: (403, "The credential does not allow this"),
    ProblemCode.NOT_CALLER: (403, "The user is somebody else"),
    ProblemCode.CROSS_SITE: (403, "Another site's page sent the request"),
    ProblemCode.ISSUER_UNREACHABLE: (503, "The issuer's keys cannot be had"),
    ProblemCode.TOO_MANY_SAMPLES: (422, "The segment has too many samples"),
    ProblemCode.META_TOO_LARGE: (422, "The segment's meta is too large"),
    ProblemCode.TOO_DEEP: (422, "The body is nested too deeply"),
    ProblemCode.TOO_MANY_REQUESTS: (429, "Too many requests"),
    ProblemCode.QUOTA_EXCEEDED: (429, "The quota of the day is used up"),
    ProblemCode.TIMEOUT: (408, "The request did not come in time"),
    ProblemCode.INTERNAL_ERROR: (500, "The service failed"),
}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem document (RFC 9457): `code` is stable, `detail` is for people."""

    type: Annotated[str, Meta(examples=["/problems/invalid-segment"])]
    title: Annotated[str, Meta(examples=["The body is not a segment"])]
    status: Annotated[int, Meta(examples=[422])]
    code: Annotated[str, Meta(examples=["invalid-segment"])]
    detail: Annotated[str, Meta(examples=["h[0]: expected `float`, got `null`"])]
    field: Annotated[str | None, Meta(description="the wrong part of the request", examples=["h"])] = None


class ProblemError(Exception):
    """An error that is reported to the caller as a problem document; each subclass sets its code.

    Attributes:
        code: the stable name of the problem.
        detail: one sentence for people.
        field: the wrong part of the request, or None.
        retry_after: s after which a retry may succeed, or None if unknown.

    """

    code: ClassVar[ProblemCode] = ProblemCode.INTERNAL_ERROR

    def __init__(self, detail: str, *, field: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.retry_after = retry_after

    def problem(self) -> Problem:
        """Return the problem document of this error."""
        return make_problem(self.code, self.detail, field=self.field)


def make_problem(code: ProblemCode, detail: str, *, field: str | None = None) -> Problem:
    """Return the problem document of `code`, with the code's status and title."""
    status, title = _KINDS[code]
    return Problem(f"{PROBLEM_PAGES}/{code}", title, status, code, detail, field)


def code_of_status(status: int) -> ProblemCode:
    """Return the problem code for an error status that a web framework produced (404, 405, 413 …)."""
    for code in (
        ProblemCode.BAD_REQUEST,
        ProblemCode.NOT_FOUND,
        ProblemCode.METHOD_NOT_ALLOWED,
        ProblemCode.TOO_LARGE,
        ProblemCode.UNSUPPORTED_MEDIA_TYPE,
        ProblemCode.INVALID_REQUEST,
    ):
        if _KINDS[code][0] == status:
            return code
    return ProblemCode.INTERNAL_ERROR if status >= 500 else ProblemCode.BAD_REQUEST  # noqa: PLR2004 (HTTP's own border)


def encode_problem(problem: Problem) -> bytes:
    """Return a problem document as JSON."""
    return msgspec.json.encode(problem)
