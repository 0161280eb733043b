"""Everything that can go wrong in the client; aiohttp's, h5py's, gwpy's and gwosc's exceptions end here.

GwclientError
├── GatewayError
│   ├── GatewayUnavailable    nobody answers, or not now: worth another try
│   ├── GatewayRefused        the gateway says no, and would say so again
│   └── UnexpectedAnswer      what answers there does not speak the gateway's contract
├── SourceError
│   ├── SourceUnreachable     the archive of open data does not answer
│   └── InvalidSource         there is no such event, no such data, or the file is not what it should be
├── FolderError               a folder or file of results cannot be written
├── CursorError               a cursor cannot be read, or somebody else is sending the same
│   └── NoStateFolder         there is no folder to keep cursors in
├── SpoolError                what waits cannot be kept on the disk
└── NotAsExpected             the datastore is not in the state, or has not the data, that was asked for
"""


class GwclientError(Exception):
    """The client could not do what it was asked to; the message is one line for people."""


class GatewayError(GwclientError):
    """The gateway is at fault, or it says that the request is."""


class GatewayUnavailable(GatewayError):
    """The gateway does not answer, or says that it cannot do so now.

    Attributes:
        retry_after: seconds the gateway asks to wait, where it does.
        seen: whether the request may have been received, and acted upon.

    """

    def __init__(self, message: str, *, retry_after: float | None = None, seen: bool = True) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.seen = seen


class GatewayRefused(GatewayError):
    """The gateway refused the request, and the same request would be refused again.

    Attributes:
        status: the HTTP status.
        code: the stable name of the problem (`gwwire.problems`), empty where the answer carried none.
        field: the offending part of the request, where the answer names one.

    """

    def __init__(self, message: str, *, status: int, code: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field


class UnexpectedAnswer(GatewayError):
    """The answer is not one the gateway would give."""


class SourceError(GwclientError):
    """The strain could not be had."""


class SourceUnreachable(SourceError):
    """The archive of open data does not answer."""


class InvalidSource(SourceError):
    """What was asked for does not exist, or cannot be read as strain."""


class FolderError(GwclientError):
    """A folder or file of results cannot be written."""


class CursorError(GwclientError):
    """What was acknowledged of a source cannot be read or kept."""


class NoStateFolder(CursorError):
    """The folder that cursors are kept in cannot be written."""


class SpoolError(GwclientError):
    """What waits to be sent cannot be kept on the disk."""


class NotAsExpected(GwclientError):
    """The gateway answers well, but what it tells is not what was asked for."""
