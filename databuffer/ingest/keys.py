"""The Idempotency-Keys of the segments of a request, from its headers."""

from collections.abc import Mapping

from gwwire.decoding import InvalidRequest
from gwwire.segment import KEY_HEADER, KEYS_HEADER, NDJSON

_LONGEST = 255
_KEY, _KEYS = KEY_HEADER.lower().encode(), KEYS_HEADER.lower().encode()


def check_key(key: str) -> None:
    """Raise InvalidRequest for a text that is not a key."""
    if not (0 < len(key) <= _LONGEST and key.isascii() and key.isprintable()):
        raise InvalidRequest(f"{KEY_HEADER}: expected 1 to {_LONGEST} printable ASCII characters", field=KEY_HEADER)


def key_of_one(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the key of a request with one segment, or None; raise InvalidRequest for the keys of lines."""
    if _KEYS in headers:
        raise InvalidRequest(f"{KEYS_HEADER} is for {NDJSON}; one segment has an {KEY_HEADER}", field=KEYS_HEADER)
    return None if (key := headers.get(_KEY)) is None else key.decode("latin-1")


class LineKeys:
    """The key of each line of a request: from its Idempotency-Keys, else `KEY/i`, else none.

    The number of lines is only known when the last one was received, and the others are stored by then. So a line
    without a key is refused by itself, and keys without a line are ignored.
    """

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        key, keys = (headers[name].decode("latin-1") if name in headers else None for name in (_KEY, _KEYS))
        self._key = key
        self._keys = None if keys is None else [each.strip() for each in keys.split(",")]

    def __getitem__(self, index: int) -> str | None:
        """Return the key of a line, or raise InvalidRequest if other lines have one."""
        if self._keys is None:
            return None if self._key is None else f"{self._key}/{index}"
        if index >= len(self._keys):
            detail = f"{KEYS_HEADER}: {len(self._keys)} keys, but none for line {index + 1}; each line needs one"
            raise InvalidRequest(detail, field=KEYS_HEADER)
        return self._keys[index]
