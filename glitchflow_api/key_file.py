"""API keys: the file with the holder, scopes and hash of each key, and the check of credentials."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from os.path import realpath  # `Path.resolve` raises an error for a link to itself
from pathlib import Path
from stat import S_IMODE
from typing import Annotated, NamedTuple

import msgspec

from glitchflow_api.access import Caller, implied
from glitchflow_api.errors import Unauthorized
from gwservice.atomic import locked, replacing
from gwservice.regular_file import read_regular
from gwservice.watched_file import MOST_BYTES, WatchedFile
from gwwire.decoding import parse_json
from gwwire.public import Scope

_PREFIX = "gf"
_ID_BYTES = 6
_SECRET_BYTES = 32
#: The id part of a key; other text yields an id that no key has.
_ID = slice(len(_PREFIX) + 1, len(_PREFIX) + 1 + 2 * _ID_BYTES)

#: A name that needs no quoting in the path of a URL, in a header, or in a log line.
NAME = r"^[A-Za-z0-9][A-Za-z0-9@._+-]{0,63}\Z"
Name = Annotated[str, msgspec.Meta(pattern=NAME)]
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
    """Return the records of the file by id; raise ValueError unless it is a list of keys with distinct ids."""
    try:
        records = parse_json(text, KeyList).keys
    except msgspec.DecodeError as error:
        raise ValueError(f"not a file of keys: {error}") from error
    keys = {record.id: record for record in records}
    if len(keys) < len(records):
        raise ValueError("two keys have the same id")
    return keys


def make_key(
    name: str, scopes: list[Scope], *, group: str | None = None, expires: datetime | None = None
) -> tuple[str, KeyRecord]:
    """Return a new key and its record; raise ValueError if the name, the group or the scopes are not allowed."""
    number = secrets.token_hex(_ID_BYTES)
    key = f"{_PREFIX}_{number}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    now = datetime.now(UTC).replace(microsecond=0)
    record = KeyRecord(number, name, scopes, _digest(key).hex(), now, group, expires)
    try:
        return key, msgspec.convert(msgspec.to_builtins(record), KeyRecord)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def read_keys(path: Path) -> Keys:
    """Return the keys in a file; raise OSError or ValueError."""
    return parse_keys(read_regular(path, MOST_BYTES, follow=True))


def change_keys(path: Path, change: Callable[[Keys], None]) -> None:
    """Change the file in one step, while other writers wait; raise OSError or ValueError and leave it unchanged.

    A link stays one: the file that it leads to is changed, which keeps its mode, and its owner if that is allowed.
    """
    path = Path(realpath(path))
    with locked(path.parent, folder=True, wait=True):
        before = path.stat() if path.exists() else None
        keys = read_keys(path) if before else {}
        change(keys)
        text = msgspec.json.format(msgspec.json.encode(KeyList(list(keys.values()))))
        with replacing(path, mode=0o600) as temporary:
            temporary.write_bytes(text + b"\n")
            if before:
                with suppress(PermissionError):
                    os.chown(temporary, before.st_uid, before.st_gid)
                temporary.chmod(S_IMODE(before.st_mode))


class _Known(NamedTuple):
    record: KeyRecord
    digest: bytes
    caller: Caller


class ApiKeys:
    """Identifies callers by their API keys; a key that is revoked in the file is refused a second later.

    Raises:
        FileBroken: the file cannot be read.

    """

    def __init__(self, path: Path) -> None:
        self._file: WatchedFile[dict[str, _Known]] = WatchedFile(path, _parse_known)

    def close(self) -> None:
        """Do nothing: nothing is running."""

    async def identify(self, credential: str | None, /) -> Caller:
        """Return the caller with this key; raise Unauthorized if there is none, or it is not valid."""
        if credential is None:
            raise Unauthorized("an API key is needed, as `Authorization: Bearer KEY`")
        known = self._file.current().get(credential[_ID])
        if known is None or not hmac.compare_digest(_digest(credential), known.digest):
            raise Unauthorized("the API key is not known")
        if ended := known.record.invalid_since():
            raise Unauthorized(f"the API key {known.record.id} is {ended[0]} since {ended[1]:%Y-%m-%d %H:%M:%S} UTC")
        return known.caller


def _parse_known(text: bytes) -> dict[str, _Known]:
    def known(record: KeyRecord) -> _Known:
        caller = Caller(record.name, record.group, implied(frozenset(record.scopes)))
        return _Known(record, bytes.fromhex(record.hash), caller)

    return {number: known(record) for number, record in parse_keys(text).items()}
