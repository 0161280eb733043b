"""The exit codes of the command."""

from gwclient.errors import (
    CursorError,
    FolderError,
    GatewayRefused,
    GwclientError,
    InvalidSource,
    NotAsExpected,
    SpoolError,
)
from gwclient.push import Ending, Report

NOT_ACKNOWLEDGED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

EXIT_CODES = """\b
Exit codes:
  0    everything was acknowledged, or answered
  1    something was refused, not acknowledged, or not as asked for
  2    the command, or the data it names, cannot be used
  3    the gateway, or the source of the data, does not answer
  130  interrupted
"""


def exit_code_of(error: GwclientError) -> int:
    """Return the exit code that an error amounts to."""
    match error:
        case GatewayRefused() | NotAsExpected():
            return NOT_ACKNOWLEDGED
        case InvalidSource() | FolderError() | CursorError() | SpoolError():
            return USAGE
        case _:
            return UNREACHABLE


def exit_code_of_push(report: Report) -> int:
    """Return the exit code that a push which did not end COMPLETE amounts to."""
    if report.ending is Ending.INTERRUPTED:
        return INTERRUPTED
    return exit_code_of(report.error) if report.error else NOT_ACKNOWLEDGED
