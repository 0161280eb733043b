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


class Unauthorized(ProblemError, code=ProblemCode.UNAUTHORIZED):
    """There is no credential, or it is not valid."""


class Forbidden(ProblemError, code=ProblemCode.FORBIDDEN):
    """The credential is valid, and does not allow what is asked."""


class NotCaller(ProblemError, code=ProblemCode.NOT_CALLER):
    """The order is in the name of another user than the caller."""


class IssuerAway(ProblemError, code=ProblemCode.ISSUER_UNREACHABLE):
    """The token cannot be checked now: its issuer's keys could not be fetched yet."""


class NoSuchProblem(ProblemError, code=ProblemCode.NOT_FOUND):
    """No problem has that code."""


class TooManyStreams(ProblemError, code=ProblemCode.TOO_MANY_CONNECTIONS):
    """As many requests of many segments are passed on as this process takes."""


class TooManyListeners(ProblemError, code=ProblemCode.TOO_MANY_CONNECTIONS):
    """As many listen as this process takes."""
