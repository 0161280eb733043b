"""The errors of the gateway itself; those between it and dslogic are in `gwservice.upstream`."""

from gwwire.problems import ProblemCode, ProblemError


class Unauthorized(ProblemError, code=ProblemCode.UNAUTHORIZED):
    """There is no credential, or it is not valid."""


class Forbidden(ProblemError, code=ProblemCode.FORBIDDEN):
    """The credential is valid, but does not allow the request."""


class NotCaller(ProblemError, code=ProblemCode.NOT_CALLER):
    """The order names a user other than the caller."""


class IssuerAway(ProblemError, code=ProblemCode.ISSUER_UNREACHABLE):
    """The token cannot be checked now: its issuer's keys could not be fetched yet."""


class NoSuchProblem(ProblemError, code=ProblemCode.NOT_FOUND):
    """No problem has that code."""


class NoSuchFile(ProblemError, code=ProblemCode.NOT_FOUND):
    """No strain file has that name."""


class NoSuchMember(ProblemError, code=ProblemCode.NOT_FOUND):
    """A request of NLDS' client names a user or a group that are not those of its token."""


class NotAHandshake(ProblemError, code=ProblemCode.UPGRADE_REQUIRED):
    """The route is a WebSocket, and the request is not its handshake."""


class TooManyStreams(ProblemError, code=ProblemCode.TOO_MANY_CONNECTIONS):
    """This process already relays MAX_STREAMS requests of many segments."""


class TooManyListeners(ProblemError, code=ProblemCode.TOO_MANY_CONNECTIONS):
    """This process already serves the maximum number of event streams and WebSockets."""
