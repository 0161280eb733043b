"""The exceptions of the client; those of aiohttp, h5py, gwpy and gwosc are converted to them.

GwclientError
├── GatewayError
│   ├── GatewayUnavailable    the gateway does not answer, or not now: worth a retry
│   ├── GatewayRefused        the gateway refused the request, and would again
│   └── UnexpectedAnswer      the answer does not follow the gateway's contract
├── SourceError
│   ├── SourceUnreachable     the archive of open data does not answer
│   └── InvalidSource         there is no such event or data, or the file is invalid
├── FolderError               a folder or file of results cannot be written
├── CursorError               a cursor cannot be read, or another process sends the same source
│   └── NoStateFolder         the folder of cursors cannot be written
├── SpoolError                the spool cannot be read or written
└── NotAsExpected             the datastore's state or data are not what was asked for
"""


class GwclientError(Exception):
    """The client could not do what it was asked to; the message is one line for people."""


class GatewayError(GwclientError):
    """The request failed, by the gateway's fault or by its own."""


class GatewayUnavailable(GatewayError):
    """The gateway does not answer, or says that it cannot do so now.

    Attributes:
        retry_after: seconds the gateway asks to wait, or None.
        seen: whether the request may have been received and executed.

    """

    def __init__(self, message: str, *, retry_after: float | None = None, seen: bool = True) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.seen = seen


class GatewayRefused(GatewayError):
    """The gateway refused the request, and the same request would be refused again.

    Attributes:
        status: the HTTP status.
        code: the stable name of the problem (`gwwire.problems`), empty if the answer has none.
        field: the wrong part of the request, or None.

    """

    def __init__(self, message: str, *, status: int, code: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.field = field


class UnexpectedAnswer(GatewayError):
    """The answer does not follow the gateway's contract."""


class SourceError(GwclientError):
    """The strain could not be fetched or read."""


class SourceUnreachable(SourceError):
    """The archive of open data does not answer."""


class InvalidSource(SourceError):
    """The source does not exist, or is not strain."""


class FolderError(GwclientError):
    """A folder or file of results cannot be written."""


class CursorError(GwclientError):
    """A cursor cannot be read or written, or is in use."""


class NoStateFolder(CursorError):
    """The folder of cursors cannot be written."""


class SpoolError(GwclientError):
    """The spool cannot be read or written."""


class NotAsExpected(GwclientError):
    """The gateway's answer is valid, but its state or data are not what was asked for."""
