"""The file of API keys: holder, scopes and hash of each key, never the key itself."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from gwservice.atomic import locked, replace_file
from gwwire.public import Scope

_PREFIX = "gf"
_ID_BYTES = 6
_SECRET_BYTES = 32
_ID = slice(len(_PREFIX) + 1, len(_PREFIX) + 1 + 2 * _ID_BYTES)

#: A name that needs no quoting in the path of a URL, in a header, or in a log line.
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9@._+-]{0,63}\Z")]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The record of a key.

    The hash is SHA-256 without salt or stretching: those protect passwords, which can be guessed. A key has 256 random
    bits, and checking it costs a microsecond.
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
        """Return why the key is invalid and since when, or None if it is valid."""
        if self.revoked:
            return "revoked", self.revoked
        if self.expires and self.expires <= datetime.now(UTC):
            return "expired", self.expires
        return None


class KeyList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file."""

    keys: list[KeyRecord]


Keys = dict[str, KeyRecord]


def parse_keys(text: bytes) -> Keys:
    """Parse the file, and return its records by their id.

    Raises:
        ValueError: it is not a list of keys, or two have the same id.

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
    """Return a new key and its record.

    Raises:
        ValueError: the name, the group or the scopes are not allowed.

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
    """Return the id part of a key; text that is not a key gives an id that no key has."""
    return key[_ID]


def digest_of(key: str) -> bytes:
    """Return the hash of a key."""
    return hashlib.sha256(key.encode()).digest()


def change_keys(path: Path, change: Callable[[Keys], None]) -> None:
    """Change the file in one step: readers see the old one or the new one, and writers wait for each other.

    Raises:
        OSError: it cannot be read or written.
        ValueError: it is not a list of keys; it stays unchanged.

    """
    with locked(path.parent, folder=True, wait=True):
        keys = parse_keys(path.read_bytes()) if path.exists() else {}
        change(keys)
        text = msgspec.json.format(msgspec.json.encode(KeyList(list(keys.values()))))
        replace_file(path, text + b"\n", mode=0o600)
