"""API keys: a credential is looked up in the key file, which may change while the gateway runs."""

import hmac
from pathlib import Path

from glitchflow_api.access import Caller, implied
from glitchflow_api.errors import Unauthorized
from glitchflow_api.key_file import KeyRecord, Keys, hash_of, id_of, parse_keys
from gwservice.watched import WatchedFile

_NEEDED = "an API key is needed, as `Authorization: Bearer KEY`"


class ApiKeys:
    """Knows the callers by their API keys.

    Args:
        path: the key file; a key that is revoked there is refused a second later.

    Raises:
        FileBroken: it cannot be read.

    """

    def __init__(self, path: Path) -> None:
        self._file: WatchedFile[Keys] = WatchedFile(path, parse_keys)

    async def identify(self, credential: str | None, /) -> Caller:
        """Give the caller with this key.

        Raises:
            Unauthorized: there is none, or it is not known, expired or revoked.

        """
        if credential is None:
            raise Unauthorized(_NEEDED)
        record = self._find(credential)
        if ended := record.invalid_since():
            raise Unauthorized(f"the API key {record.id} is {ended[0]} since {ended[1]:%Y-%m-%d %H:%M:%S} UTC")
        return Caller(record.name, record.group, implied(frozenset(record.scopes)))

    def _find(self, key: str) -> KeyRecord:
        record = self._file.current().get(id_of(key) or "")
        if record is None or not hmac.compare_digest(hash_of(key), record.hash):
            raise Unauthorized("the API key is not known")
        return record
