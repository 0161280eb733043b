"""API keys: a credential is looked up in the key file, which may change while the gateway runs."""

import hmac
from pathlib import Path
from typing import NamedTuple

from glitchflow_api.access import Caller, implied
from glitchflow_api.errors import Unauthorized
from glitchflow_api.key_file import KeyRecord, digest_of, id_of, parse_keys
from gwservice.watched_file import WatchedFile


class _Known(NamedTuple):
    """A key, and what follows from it, worked out once and not for every request."""

    record: KeyRecord
    digest: bytes
    caller: Caller


class ApiKeys:
    """Knows the callers by their API keys.

    Args:
        path: the key file; a key that is revoked there is refused a second later.

    Raises:
        FileBroken: it cannot be read.

    """

    def __init__(self, path: Path) -> None:
        self._file: WatchedFile[dict[str, _Known]] = WatchedFile(path, _parse)

    async def identify(self, credential: str | None, /) -> Caller:
        """Give the caller with this key.

        Raises:
            Unauthorized: there is none, or it is not known, expired or revoked.

        """
        if credential is None:
            raise Unauthorized("an API key is needed, as `Authorization: Bearer KEY`")
        known = self._file.current().get(id_of(credential))
        if known is None or not hmac.compare_digest(digest_of(credential), known.digest):
            raise Unauthorized("the API key is not known")
        if ended := known.record.invalid_since():
            raise Unauthorized(f"the API key {known.record.id} is {ended[0]} since {ended[1]:%Y-%m-%d %H:%M:%S} UTC")
        return known.caller


def _parse(text: bytes) -> dict[str, _Known]:
    return {
        record.id: _Known(
            record, bytes.fromhex(record.hash), Caller(record.name, record.group, implied(frozenset(record.scopes)))
        )
        for record in parse_keys(text).values()
    }
