"""The file of API keys: who has one, what it allows, and the hash of each. No key itself is in it."""

import fcntl
import hashlib
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from gwwire.public import Scope

_PREFIX = "gf"
_ID_BYTES = 6
_SECRET_BYTES = 32
_ID = slice(len(_PREFIX) + 1, len(_PREFIX) + 1 + 2 * _ID_BYTES)

#: What may stand in the path of a URL, a header, and a line of the log without more ado.
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._+-]{0,63}\Z")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key as the file knows it.

    The hash is SHA-256, without salt and without stretching: those protect what people choose, and could be guessed. A
    key has 256 random bits, so there is nothing to guess, and a check costs a microsecond.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{12}\Z")]
    name: Name
    scopes: Annotated[list[Scope], msgspec.Meta(min_length=1)]
    hash: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created: Time
    group: Name | None = None
    expires: Time | None = None
    revoked: Time | None = None

    def invalid_since(self) -> tuple[str, datetime] | None:
        """Tell why the key is not valid any more, and since when; None: it is."""
        if self.revoked:
            return "revoked", self.revoked
        if self.expires and self.expires <= datetime.now(UTC):
            return "expired", self.expires
        return None


class KeyList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of the file."""

    keys: list[KeyRecord]


Keys = dict[str, KeyRecord]


def parse_keys(text: bytes) -> Keys:
    """Read the file; gives the records by their id.

    Raises:
        ValueError: it is no list of keys, or two have the same id.

    """
    try:
        records = msgspec.json.decode(text, type=KeyList).keys
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error
    keys = {record.id: record for record in records}
    if len(keys) < len(records):
        raise ValueError("two keys have the same id")
    return keys


def make_key(
    name: str, scopes: list[Scope], *, group: str | None = None, expires: datetime | None = None
) -> tuple[str, KeyRecord]:
    """Make a new key; gives it, and what may be kept of it.

    Raises:
        ValueError: the name, the group or the scopes cannot be.

    """
    number = secrets.token_hex(_ID_BYTES)
    key = f"{_PREFIX}_{number}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    record = KeyRecord(
        number, name, scopes, digest_of(key).hex(), datetime.now(UTC).replace(microsecond=0), group, expires
    )
    try:
        return key, msgspec.convert(msgspec.to_builtins(record), KeyRecord)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def id_of(key: str) -> str:
    """Give the id that stands where the id of a key does; of what is no key, it is nobody's."""
    return key[_ID]


def digest_of(key: str) -> bytes:
    """Give what is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


def change_keys(path: Path, change: Callable[[Keys], None]) -> None:
    """Change the file as one step: a reader sees the old one or the new one, two who change it take turns.

    Raises:
        OSError: it cannot be read or written.
        ValueError: what is there is no list of keys; it is left as it is.

    """
    with _turn(path.parent):
        keys = parse_keys(path.read_bytes()) if path.exists() else {}
        change(keys)
        text = msgspec.json.format(msgspec.json.encode(KeyList(list(keys.values()))))
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as partial:  # mode 0600
            try:
                partial.write(text + b"\n")
                partial.flush()
                os.fsync(partial.fileno())
                Path(partial.name).replace(path)
            except BaseException:
                Path(partial.name).unlink()
                raise


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
        os.fsync(held)
    finally:
        os.close(held)
