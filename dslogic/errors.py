"""What can go wrong between dslogic and the buffer, and with what dslogic is sent.

ProblemError
├── BufferUnreachable    no connection, or it broke
├── BufferSilent         no answer in time
├── BufferIncoherent     an answer that is none of the contract's
├── BodyTooLarge         a body of more than MAX_BODY bytes
├── BodyLate             a body that does not come within BODY_TIMEOUT
└── BodyCutShort         a body whose sender went away
"""

from gwwire.problems import ProblemCode, ProblemError


class BufferUnreachable(ProblemError):
    """The buffer cannot be reached, or the connection broke before it answered."""

    code = ProblemCode.UPSTREAM_UNREACHABLE


class BufferSilent(ProblemError):
    """The buffer did not answer in time; whether it carried out the order is not known."""

    code = ProblemCode.UPSTREAM_TIMEOUT


class BufferIncoherent(ProblemError):
    """The buffer answered something that is not in the contract."""

    code = ProblemCode.UPSTREAM_INVALID


class BodyTooLarge(ProblemError):
    """The body is larger than this service takes."""

    code = ProblemCode.TOO_LARGE


class BodyLate(ProblemError):
    """The body did not come in time."""

    code = ProblemCode.TIMEOUT


class BodyCutShort(ProblemError):
    """The body ended before it should."""

    code = ProblemCode.BAD_REQUEST
