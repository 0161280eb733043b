"""What can go wrong in the gateway, most of it between it and dslogic.

ProblemError
├── Unauthorized        no credential, or one that is not valid
├── Forbidden           the credential does not allow it
├── NotCaller           the order names another user than the caller
├── IssuerAway          the keys to check tokens with are not there yet
├── LogicUnreachable    no connection, or it broke
├── LogicSilent         no answer in time
├── LogicIncoherent     an answer that is none of the contract's
├── HeadTooLong         a header or a query that is longer than dslogic takes
├── NoSuchProblem       a page about a problem that there is not
├── TooManyListeners    as many listen to /events as may
└── TooManyStreams      as many requests of many segments are passed on as may
ProblemFromBelow        a problem that a lower tier told, to be passed on unchanged
"""

from gwwire.problems import ProblemCode, ProblemError


class Unauthorized(ProblemError):
    """There is no credential, or it is not valid."""

    code = ProblemCode.UNAUTHORIZED


class Forbidden(ProblemError):
    """The credential is valid, and does not allow what is asked."""

    code = ProblemCode.FORBIDDEN


class NotCaller(ProblemError):
    """The order is in the name of another user than the caller."""

    code = ProblemCode.NOT_CALLER


class IssuerAway(ProblemError):
    """The token cannot be checked now: its issuer's keys could not be fetched yet."""

    code = ProblemCode.ISSUER_UNREACHABLE


class LogicUnreachable(ProblemError):
    """Dslogic cannot be reached, or the connection broke before it answered."""

    code = ProblemCode.UPSTREAM_UNREACHABLE


class LogicSilent(ProblemError):
    """Dslogic did not answer in time; whether it carried out the order is not known."""

    code = ProblemCode.UPSTREAM_TIMEOUT


class LogicIncoherent(ProblemError):
    """Dslogic answered something that is not in the contract."""

    code = ProblemCode.UPSTREAM_INVALID


class HeadTooLong(ProblemError):
    """A header of the client's, or its query, is longer than dslogic takes."""

    code = ProblemCode.BAD_REQUEST


class NoSuchProblem(ProblemError):
    """No problem has that code."""

    code = ProblemCode.NOT_FOUND


class TooManyStreams(ProblemError):
    """As many requests of many segments are passed on as this process takes."""

    code = ProblemCode.TOO_MANY_CONNECTIONS


class TooManyListeners(ProblemError):
    """As many listen as this process takes."""

    code = ProblemCode.TOO_MANY_CONNECTIONS


class ProblemFromBelow(Exception):
    """A lower tier told a problem; the caller gets its words.

    Attributes:
        status: HTTP status.
        body: the problem document, undecoded.
        retry_after: the `Retry-After` header, where there was one.

    """

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(body.decode(errors="replace"))
        self.status = status
        self.body = body
        self.retry_after = retry_after
