"""The errors of the gateway itself; those between it and dslogic are in `gwservice.upstream`.

ProblemError
├── Unauthorized        no credential, or one that is not valid
├── Forbidden           the credential does not allow it
├── NotCaller           the order names another user than the caller
├── IssuerAway          the keys to check tokens with were not fetched yet
├── NoSuchProblem       no problem has this code
├── TooManyListeners    too many clients read /events
└── TooManyStreams      too many requests with many segments
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


class NoSuchProblem(ProblemError):
    """No problem has that code."""

    code = ProblemCode.NOT_FOUND


class TooManyStreams(ProblemError):
    """As many requests of many segments are passed on as this process takes."""

    code = ProblemCode.TOO_MANY_CONNECTIONS


class TooManyListeners(ProblemError):
    """As many listen as this process takes."""

    code = ProblemCode.TOO_MANY_CONNECTIONS
