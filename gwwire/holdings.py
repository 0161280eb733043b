"""The models of holdings, their files, and transactions; part of the public API.

A holding is a labelled set of files of one user, which the user's group may read. A transaction puts files into a
holding, or deletes some. Times are Unix seconds.
"""

import re
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gwwire.decoding import InvalidRequest
from gwwire.names import TAG_NAME, UUID, Text
from gwwire.tiering import BatchLocality

#: Files that one transaction may have.
MOST_FILES = 10_000
#: Bytes of a path as UTF-8; percent-encoded in a URL, it is three times as long at most.
LONGEST_PATH = 2048
#: Tags of a holding.
MOST_TAGS = 100
_MOST_BYTES = 2**50

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Label = Annotated[Text, Meta(description="unique among the holdings of a user")]
TagName = Annotated[str, Meta(pattern=TAG_NAME)]
Tags = Annotated[dict[TagName, Text], Meta(max_length=MOST_TAGS)]
TransactionId = Annotated[str, Meta(pattern=UUID)]
FilePath = Annotated[str, Meta(min_length=1, max_length=LONGEST_PATH, description="absolute, as `/data/run 1/a.h5`")]


def check_path(path: str) -> str:
    """Return the path of a file in a holding, or raise InvalidRequest for one that no file can have."""
    parts = path.split("/")
    if _CONTROL.search(path):
        reason = "a line break or another control character"
    elif parts[0] or len(parts) == 1:
        reason = "not an absolute path, which begins with a slash"
    elif path == "/":
        reason = "it names no file"
    elif not {"", ".", ".."}.isdisjoint(parts[1:]):
        reason = "a part between slashes is empty, `.` or `..`"
    elif len(path.encode(errors="surrogatepass")) > LONGEST_PATH:
        reason = f"longer than {LONGEST_PATH} bytes"
    else:
        return path
    raise InvalidRequest(f"path: {path[:200]!r}: {reason}", field="path")


def check_link(link: str) -> str:
    """Return the target of a link to put, or raise InvalidRequest for one that could not be restored or shown."""
    if _CONTROL.search(link):
        reason = "the target has a line break or another control character"
        raise InvalidRequest(f"link: {link[:200]!r}: {reason}", field="link")
    return link


def parse_tags(text: str) -> dict[str, str]:
    """Return the tags in `NAME:VALUE,NAME:VALUE`, or raise InvalidRequest."""
    tags: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = (each.strip() for each in part.partition(":"))
        if not (name and value):
            raise InvalidRequest("tag: expected NAME:VALUE, several with commas between them", field="tag")
        if name in tags:
            raise InvalidRequest(f"tag: {name[:50]!r} is given twice", field="tag")
        tags[name] = value
    return tags


class PathType(StrEnum):
    """The type of a file."""

    FILE = "FILE"
    DIRECTORY = "DIRECTORY"
    LINK = "LINK"  # recorded, not followed


class FileState(StrEnum):
    """The state of a file."""

    WAITING = "WAITING"  # for its bytes
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"
    DELETED = "DELETED"  # until HOLDING_GRACE is over, this can be undone


class TransactionKind(StrEnum):
    """The kind of a transaction."""

    PUT = "put"
    DELETE = "delete"


class TransactionState(StrEnum):
    """The state of a transaction, which follows from its files."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    COMPLETE_WITH_WARNINGS = "COMPLETE_WITH_WARNINGS"
    COMPLETE_WITH_ERRORS = "COMPLETE_WITH_ERRORS"
    FAILED = "FAILED"
    UNDONE = "UNDONE"


class NewFile(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A file to put into a holding; a directory and a link have no bytes."""

    path: FilePath
    type: PathType = PathType.FILE
    size: Annotated[int, Meta(ge=0, le=_MOST_BYTES, description="bytes that will be sent")] = 0
    mode: Annotated[int, Meta(ge=0, le=0o7777, description="permissions, as a number")] = 0o644
    mtime: Annotated[float, Meta(ge=-(2**40), le=2**40, description="last modification")] = 0
    link: Annotated[str, Meta(min_length=1, max_length=LONGEST_PATH)] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a link without a target, or bytes of something else than a file."""
        if (self.type is PathType.LINK) != (self.link is not None):
            raise ValueError("link: a LINK has a target, and nothing else has one")
        if self.type is not PathType.FILE and self.size:
            raise ValueError("size: only a FILE has bytes")


class TransactionOrder(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request to put files into a holding, which is created if no holding of the user has the label."""

    files: Annotated[list[NewFile], Meta(min_length=1, max_length=MOST_FILES)]
    kind: Annotated[Literal["put"], Meta(description="files are deleted by DELETE")] = "put"
    label: Annotated[Label | None, Meta(description="default: the first 8 characters of the transaction id")] = None
    holding: Annotated[int, Meta(ge=1, le=2**63 - 1, description="id of an existing holding")] | None = None
    tags: Annotated[Tags, Meta(description="added to the holding; a tag that has another value already stays")] = {}
    job_label: Text | None = None
    id: Annotated[
        TransactionId | None, Meta(description="a UUID that the sender chooses: the same order again changes nothing")
    ] = None


class FileOutcome(Struct, frozen=True):
    """The result of an order for one file."""

    path: str
    state: FileState
    reason: Annotated[str | None, Meta(description="of a failure")] = None


class Transaction(Struct, frozen=True):
    """A transaction."""

    id: Annotated[str, Meta(description="UUID")]
    number: Annotated[int, Meta(description="grows with each transaction")]
    kind: TransactionKind
    holding: int
    user: Annotated[str, Meta(description="empty without authentication")]
    group: str | None
    job_label: str | None
    time: float
    state: TransactionState
    percent: Annotated[int, Meta(description="of the files, how many are complete or have failed")]
    files: int
    bytes: int
    complete: Annotated[int, Meta(description="files")]
    failed: Annotated[int, Meta(description="files; /transactions/{id}/files?state=FAILED has the reasons")]
    warnings: list[str]


class TransactionMade(Struct, frozen=True):
    """A transaction that was begun, and each of its files: those that are WAITING are to be sent."""

    transaction: Transaction
    files: list[FileOutcome]


class TransactionPage(Struct, frozen=True):
    """A page of transactions."""

    transactions: list[Transaction]
    after: Annotated[int, Meta(description="the next page begins after the transaction with this number")]
    more: Annotated[bool, Meta(description="whether there is a next page now")]


class Holding(Struct, frozen=True):
    """A holding."""

    id: int
    label: str
    user: Annotated[str, Meta(description="the owner; empty without authentication")]
    group: Annotated[str | None, Meta(description="may read it")]
    tags: dict[str, str]
    created: float
    files: Annotated[int, Meta(description="number of its files, directories and links, without failed and deleted")]
    bytes: int
    deleted: Annotated[float | None, Meta(description="when it was deleted; it can be restored during HOLDING_GRACE")]


class HoldingPage(Struct, frozen=True):
    """A page of holdings."""

    holdings: list[Holding]
    after: Annotated[int, Meta(description="the next page begins after the holding with this id")]
    more: Annotated[bool, Meta(description="whether there is a next page now")]


class HoldingPatch(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Changes of a holding."""

    label: Label | None = None
    tags: Annotated[
        dict[TagName, Text | None], Meta(max_length=MOST_TAGS, description="null removes a tag; others are left")
    ] = {}


class HoldingFile(Struct, frozen=True):
    """A file of a holding."""

    path: str
    type: PathType
    size: int
    mode: int
    mtime: float
    link: str | None
    sha256: Annotated[str | None, Meta(description="of a FILE, once it is complete")]
    state: FileState
    reason: Annotated[str | None, Meta(description="of a failure")]
    holding: int
    transaction: Annotated[str, Meta(description="that put it")]
    stored: Annotated[float | None, Meta(description="when its last byte was stored")]
    deleted: Annotated[float | None, Meta(description="when it was deleted")]
    locality: Annotated[BatchLocality | None, Meta(description="where the bytes of a complete FILE are")] = None


class FilePage(Struct, frozen=True):
    """A page of files, in the order of their paths."""

    files: list[HoldingFile]
    after: Annotated[str, Meta(description="the next page begins after this path")]
    more: Annotated[bool, Meta(description="whether there may be a next page")]


class Upload(Struct, frozen=True):
    """A file of a transaction, and how much of it has arrived."""

    file: HoldingFile
    received: Annotated[int, Meta(description="bytes; the next request continues here")]
