"""The exceptions of the client; those of aiohttp, h5py, gwpy and gwosc are converted to them.

GwclientError
├── GatewayError
│   ├── GatewayUnavailable
│   ├── GatewayRefused
│   │   ├── OnTape
│   │   └── Redirected
│   └── UnexpectedAnswer
├── SourceError
│   ├── SourceUnreachable
│   └── InvalidSource
├── InvalidArgument (also a ValueError)
├── FolderError
├── CursorError
│   └── NoStateFolder
├── SpoolError
├── OutputError
└── NotAsExpected
    ├── Incomplete
    ├── HeldByAnother
    ├── LeaseLost
    └── PushFailed (in gwclient.push, with the report)
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gwwire.names import printable
from gwwire.problems import ProblemCode

#: Exit codes of the command.
NOT_ACKNOWLEDGED, USAGE, UNREACHABLE, INCOMPLETE, OUTPUT, HELD, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130


class GwclientError(Exception):
    """The base class of all errors of the client; the message is one line."""

    exit_code = UNREACHABLE

    def __str__(self) -> str:
        return printable(super().__str__())


class GatewayError(GwclientError):
    """A request failed."""


class GatewayUnavailable(GatewayError):
    """The gateway does not answer, or cannot serve the request now; a retry may succeed.

    `code` is the stable name of the problem, or empty; `retry_after` is the s to wait that the gateway asks for, or
    None; `seen`: the request may have been executed; `connected`: there was a connection.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        retry_after: float | None = None,
        seen: bool = True,
        connected: bool = True,
    ) -> None:
        super().__init__(message)
        self.code, self.retry_after, self.seen, self.connected = code, retry_after, seen, connected
        if code == ProblemCode.TIER_FAILED:  # the services answer
            self.exit_code = NOT_ACKNOWLEDGED


class GatewayRefused(GatewayError):
    """The gateway refused the request, and the same request would be refused again.

    `code` is the stable name of the problem (`gwwire.problems`), empty if the answer has none; `field` is the wrong
    part of the request, or None.
    """

    exit_code = NOT_ACKNOWLEDGED

    def __init__(self, message: str, *, status: int, code: str = "", field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field


class OnTape(GatewayRefused):
    """The bytes are on tape, and their recall has begun.

    `state` says how far it is; `retry_after` is an estimate of its end, in s, or None.
    """

    def __init__(self, message: str, *, status: int, code: str, state: str, retry_after: float | None) -> None:
        super().__init__(message, status=status, code=code)
        self.state, self.retry_after = state, retry_after


class Redirected(GatewayRefused):
    """The answer redirects to another address; it is not followed, because the request may have a key or strain."""

    exit_code = UNREACHABLE


class UnexpectedAnswer(GatewayError):
    """The answer does not follow the gateway's contract."""


class SourceError(GwclientError):
    """The strain could not be fetched or read."""


class SourceUnreachable(SourceError):
    """The archive of open data does not answer."""


class InvalidSource(SourceError):
    """There is no such event or data, or the file is not strain."""

    exit_code = USAGE


class InvalidArgument(GwclientError, ValueError):
    """An argument of a Python function cannot be used."""

    exit_code = USAGE


class FolderError(GwclientError):
    """A folder or file of results cannot be written for another reason than a full disk."""

    exit_code = USAGE


class CursorError(GwclientError):
    """A cursor cannot be read or written, or another process sends the same source."""

    exit_code = USAGE


class NoStateFolder(CursorError):
    """The folder of cursors cannot be written."""


class SpoolError(GwclientError):
    """The spool cannot be read or written."""

    exit_code = USAGE


class OutputError(GwclientError):
    """The output cannot be written: the disk is full or broken, or the reader of standard output has closed it."""

    exit_code = OUTPUT


class NotAsExpected(GwclientError):
    """The gateway's answer is valid, but its state or data are not as requested."""

    exit_code = NOT_ACKNOWLEDGED


class Incomplete(NotAsExpected):
    """A part of the requested strain or files could not be fetched, or is missing."""

    exit_code = INCOMPLETE


class HeldByAnother(NotAsExpected):
    """Another user holds the frozen batch."""

    exit_code = HELD


class LeaseLost(NotAsExpected):
    """The lease of a record ended, or another attempt or a redo of the step replaced this one."""


def is_disk_full(error: OSError) -> bool:
    """Return whether a write failed because the disk or the user's quota is full, or the disk is broken."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def unwritable(
    path: Path | str, error: OSError, what: str = "written", otherwise: type[GwclientError] = FolderError
) -> GwclientError:
    """Return the exception for a file or folder that cannot be written: OutputError if the disk is full."""
    kind = OutputError if is_disk_full(error) else otherwise
    return kind(f"{path} cannot be {what}: {error.strerror or error}")


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Raise an OSError as FolderError, or as OutputError if the disk is full."""
    try:
        yield
    except OSError as error:
        raise unwritable(error.filename or path, error) from error


def why_unread(error: OSError | UnicodeDecodeError) -> str:
    """Return why a text file could not be read, in plain words."""
    return "it is not text" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)


def listed(path: str) -> str:
    """Return a path for a list of paths: as it is for a program or file, `printable` for a terminal."""
    return printable(path) if sys.stdout.isatty() else path


def one_line(error: BaseException) -> str:
    """Return an exception's message in one line."""
    return " ".join(str(error).split())


def address_hint(error: GwclientError | None) -> str:
    """Return how another gateway is named, to follow an error without a connection, or an empty text."""
    absent = isinstance(error, GatewayUnavailable) and not error.connected
    return "; --srv or SRV names another gateway" if absent else ""
