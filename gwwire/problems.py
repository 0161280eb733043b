"""Problem documents, the error answers of every service (RFC 9457, `application/problem+json`).

A problem has a stable `code` for programs and a `detail` for people. Services raise a `ProblemError`; one handler per
service turns it into an HTTP response.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Self

import msgspec
from msgspec import Meta

PROBLEM_TYPE = "application/problem+json"
#: The gateway's route that documents problems; a problem's `type` is this route and its code (docs/problems.md).
PROBLEM_PAGES = "/problems"


class ProblemCode(StrEnum):
    """The stable name of a problem, with its HTTP status and its title."""

    status: int
    heading: str

    def __new__(cls, value: str, status: int = 0, heading: str = "") -> Self:
        """Create a member; the defaults are for looking one up by its value."""
        code = str.__new__(cls, value)
        code._value_, code.status, code.heading = value, status, heading
        return code

    INVALID_JSON = "invalid-json", 400, "The body is not JSON"
    BAD_REQUEST = "bad-request", 400, "The request is malformed"
    INVALID_SEGMENT = "invalid-segment", 422, "The body is not a segment"
    INVALID_REQUEST = "invalid-request", 422, "The request does not have the expected fields"
    NOT_FOUND = "not-found", 404, "Not found"
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "The route does not accept this method"
    TOO_LARGE = "too-large", 413, "The body is too large"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable", 416, "The range has no bytes"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, "The body has the wrong media type"
    UPGRADE_REQUIRED = "upgrade-required", 426, "The route is a WebSocket"
    BUFFER_FROZEN = "buffer-frozen", 409, "The batch is frozen"
    BATCH_CHANGED = "batch-changed", 409, "The current batch is another one"
    BATCH_NOT_ARCHIVED = "batch-not-archived", 409, "The batch is not archived"
    BUNDLE_NOT_READY = "bundle-not-ready", 409, "The archive of the bundle does not exist"
    STEP_SUPERSEDED = "step-superseded", 409, "The attempt was replaced"
    STEP_RUNNING = "step-running", 409, "A worker performs the step"
    SEQ_AHEAD = "seq-ahead", 409, "The seq was not reached yet"
    RECORD_CHANGED = "record-changed", 412, "The record changed meanwhile"
    NOT_HOLDER = "not-holder", 403, "The batch is held by another user"
    KEY_REUSED = "idempotency-key-reused", 422, "The Idempotency-Key was used for other bytes"
    QUEUE_FULL = "queue-full", 503, "The queue is full"
    TOO_MANY_CONNECTIONS = "too-many-connections", 503, "The service has too many connections"
    VOLUME_FULL = "volume-full", 507, "The volume is full"
    VOLUME_FAILED = "volume-failed", 503, "The volume failed"
    ON_TAPE = "on-tape", 503, "The bytes are on tape"
    TIER_FAILED = "tier-failed", 503, "No tier returned the bytes"
    RECALL_TOO_LARGE = "recall-too-large", 409, "The recall is larger than the cache of the tape"
    UPSTREAM_UNREACHABLE = "upstream-unreachable", 502, "The next service cannot be reached"
    UPSTREAM_INVALID = "upstream-invalid", 502, "The next service sent an unexpected answer"
    UPSTREAM_TIMEOUT = "upstream-timeout", 504, "The next service did not answer in time"
    UNAUTHORIZED = "unauthorized", 401, "A valid credential is needed"
    FORBIDDEN = "forbidden", 403, "The credential does not allow this"
    NOT_CALLER = "not-caller", 403, "The request names another user"
    READ_ONLY = "read-only", 403, "Only the datastore itself writes this"
    MISDIRECTED = "misdirected", 421, "The request is for another service"
    CROSS_SITE = "cross-site", 403, "Another site's page sent the request"
    ISSUER_UNREACHABLE = "issuer-unreachable", 503, "The issuer's keys cannot be fetched"
    TOO_MANY_SAMPLES = "too-many-samples", 422, "The segment has too many samples"
    META_TOO_LARGE = "meta-too-large", 422, "The segment's meta is too large"
    QUERY_TOO_LARGE = "query-too-large", 422, "The query asks for too much"
    TOO_DEEP = "too-deep", 422, "The body is nested too deeply"
    TOO_MANY_REQUESTS = "too-many-requests", 429, "Too many requests"
    QUOTA_EXCEEDED = "quota-exceeded", 429, "The quota is used up"
    OFFSET_MISMATCH = "offset-mismatch", 409, "The bytes do not continue the upload"
    DIGEST_MISMATCH = "digest-mismatch", 422, "The bytes have another digest"
    UPLOAD_ENDED = "upload-ended", 409, "The file takes no bytes"
    LABEL_TAKEN = "label-taken", 409, "Another holding has the label"
    NOT_OWNER = "not-owner", 403, "The holding is another user's"
    TIMEOUT = "timeout", 408, "The request was not received in time"
    INTERNAL_ERROR = "internal-error", 500, "The service failed"


_OF_FRAMEWORKS = (
    *(ProblemCode.BAD_REQUEST, ProblemCode.NOT_FOUND, ProblemCode.METHOD_NOT_ALLOWED, ProblemCode.TOO_LARGE),
    *(ProblemCode.UNSUPPORTED_MEDIA_TYPE, ProblemCode.INVALID_REQUEST),
)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A problem document (RFC 9457): `code` is stable, `detail` is for people."""

    type: Annotated[str, Meta(examples=["/problems/invalid-segment"])]
    title: Annotated[str, Meta(examples=["The body is not a segment"])]
    status: Annotated[int, Meta(examples=[422])]
    code: Annotated[str, Meta(examples=["invalid-segment"])]
    detail: Annotated[str, Meta(examples=["h[0]: expected `float`, got `null`"])]
    field: Annotated[str | None, Meta(description="the wrong part of the request", examples=["h"])] = None


class ProblemError(Exception):
    """An error that is reported to the caller as a problem document, with the code in the head of its class.

    `detail` is one sentence for people, `field` the wrong part of the request, and `retry_after` the seconds after
    which a retry may succeed, or None if unknown.
    """

    code: ClassVar[ProblemCode] = ProblemCode.INTERNAL_ERROR

    def __init_subclass__(cls, code: ProblemCode | None = None) -> None:
        cls.code = code or cls.code

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
    return Problem(f"{PROBLEM_PAGES}/{code}", code.heading, code.status, code, detail, field)


def code_of_status(status: int) -> ProblemCode:
    """Return the problem code for an error status that a web framework produced (404, 405, 413 …)."""
    for code in _OF_FRAMEWORKS:
        if code.status == status:
            return code
    return ProblemCode.INTERNAL_ERROR if status >= 500 else ProblemCode.BAD_REQUEST  # noqa: PLR2004 (HTTP's own border)


def encode_problem(problem: Problem) -> bytes:
    """Return a problem document as JSON."""
    return msgspec.json.encode(problem)
