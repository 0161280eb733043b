"""Plain words for answers that a server or a proxy cut off or garbled, as aiohttp reports them."""

import os
import re

import aiohttp
from aiohttp.http_exceptions import (
    BadHttpMessage,
    ContentEncodingError,
    ContentLengthError,
    HttpProcessingError,
    TransferEncodingError,
)

from gwclient.errors import one_line


def broken_text(error: aiohttp.ClientError | OSError) -> str:
    """Return what a server did that caused the error, to follow its address."""
    match _cause_of(error):
        case ContentLengthError(message=message) | TransferEncodingError(message=message) if "Not enough" in message:
            sizes = re.search(r"\d+ of \d+ bytes", message)
            return "cut off its answer" + (f" ({sizes[0]})" if sizes else "")
        case ContentEncodingError(message=message):
            return _encoding_text(message)
        case BadHttpMessage():
            return "does not answer in valid HTTP"
        case aiohttp.ServerDisconnectedError():
            return "closed the connection without a complete answer"
        case OSError(errno=int(number)) if number > 0:
            return f"closed the connection: {os.strerror(number)}"
        case cause:
            return f"closed the connection: {one_line(cause) or type(cause).__name__}"


def _cause_of(error: BaseException) -> BaseException:
    """Return the exception of aiohttp's parser that caused an error, or the error."""
    cause, found = error.__cause__, error
    while isinstance(cause, HttpProcessingError):
        found, cause = cause, cause.__cause__
    return found


def _encoding_text(message: str) -> str:
    """Return the words for an encoding that aiohttp cannot decode; it asks only for those that it can."""
    if "install" in message and (name := re.search(r"\((\w+)\)", message)):
        return f"answers in an encoding ({name[1]}) that was not asked for"
    return "answers with compressed data that cannot be read"
