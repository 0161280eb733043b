"""The rows of holdings, transactions and files, who may see them, and their public models."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from gwwire.holdings import (
    FileState,
    Holding,
    HoldingFile,
    PathType,
    Transaction,
    TransactionKind,
    TransactionState,
)
from gwwire.tiering import BatchLocality

_SECOND = 10**9


class _Owned(Protocol):
    @property
    def user(self) -> str: ...
    @property
    def group(self) -> str | None: ...


@dataclass(frozen=True)
class Caller:
    """The sender of a request; an admin may do everything, and without authentication, as the user None, everybody."""

    user: str | None
    group: str | None
    is_admin: bool = False

    @property
    def may_do_everything(self) -> bool:
        """Return whether the caller may change and read what others have."""
        return self.user is None or self.is_admin

    def owns(self, row: _Owned) -> bool:
        """Return whether the caller may change something."""
        return self.may_do_everything or row.user == self.user

    def may_read(self, row: _Owned) -> bool:
        """Return whether the caller may read something: the owner and the group may."""
        return self.owns(row) or (self.group is not None and row.group == self.group)


@dataclass(frozen=True)
class HoldingRow:
    """A holding; times are nanoseconds of Unix time."""

    id: int
    label: str
    user: str
    group: str | None
    created: int
    deleted: int | None
    files: int
    bytes: int
    deleted_bytes: int

    def to_model(self, tags: dict[str, str]) -> Holding:
        """Return the public model of it."""
        return Holding(
            id=self.id,
            label=self.label,
            user=self.user,
            group=self.group,
            tags=tags,
            created=self.created / _SECOND,
            files=self.files,
            bytes=self.bytes,
            deleted=seconds(self.deleted),
        )


@dataclass(frozen=True)
class TransactionRow:
    """A transaction; `warnings` is a list as JSON."""

    number: int
    id: str
    kind: TransactionKind
    holding: int
    user: str
    group: str | None
    job_label: str | None
    time: int
    files: int
    bytes: int
    complete: int
    failed: int
    warnings: str
    undone: int | None = None

    def to_model(self) -> Transaction:
        """Return the public model of it."""
        ended = self.complete + self.failed
        return Transaction(
            id=self.id,
            number=self.number,
            kind=self.kind,
            holding=self.holding,
            user=self.user,
            group=self.group,
            job_label=self.job_label,
            time=self.time / _SECOND,
            state=self._state(),
            percent=math.ceil(100 * ended / self.files) if self.files else 100,
            files=self.files,
            bytes=self.bytes,
            complete=self.complete,
            failed=self.failed,
            warnings=msgspec.json.decode(self.warnings, type=list[str]),
        )

    def _state(self) -> TransactionState:
        if self.undone is not None:
            return TransactionState.UNDONE
        if self.complete + self.failed < self.files:
            return TransactionState.RUNNING
        if self.failed:
            return TransactionState.COMPLETE_WITH_ERRORS if self.complete else TransactionState.FAILED
        return TransactionState.COMPLETE if self.warnings == "[]" else TransactionState.COMPLETE_WITH_WARNINGS


class FileRow(NamedTuple):
    """A file of a holding; `transaction` is the number of the one that put it, `deletion` of that which deleted it."""

    number: int
    transaction: int
    holding: int
    path: str
    type: PathType
    size: int
    mode: int
    mtime: float
    link: str | None
    sha256: str | None
    state: FileState
    reason: str | None
    stored: int | None = None
    deleted: int | None = None
    deletion: int | None = None

    def to_model(self, transaction: str, locality: BatchLocality) -> HoldingFile:
        """Return the public model of it; `transaction` is the id of that which put it."""
        return HoldingFile(
            path=self.path,
            type=self.type,
            size=self.size,
            mode=self.mode,
            mtime=self.mtime,
            link=self.link,
            sha256=self.sha256,
            state=self.state,
            reason=self.reason,
            holding=self.holding,
            transaction=transaction,
            stored=seconds(self.stored),
            deleted=seconds(self.deleted),
            locality=locality if self.sha256 else None,
        )


def seconds(at: int | None) -> float | None:
    """Return nanoseconds as seconds."""
    return None if at is None else at / _SECOND
