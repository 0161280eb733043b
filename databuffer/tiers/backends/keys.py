"""Keys of tiers."""

import re

from databuffer.tiers.tier import TierError

#: A part that begins with a dot is reserved for the tiers' own files.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", re.ASCII)
#: Characters of a key, with a backend's prefix below the 1024 bytes of S3.
_LONGEST = 800
#: Characters of a part; the limit of file systems is 255.
_LONGEST_PART = 200


def check_key(key: str) -> str:
    """Return the key, or raise TierError if no tier can store it."""
    if not _KEY.fullmatch(key) or len(key) > _LONGEST or any(len(part) > _LONGEST_PART for part in key.split("/")):
        raise TierError(f"{key[:100]!r} is not the key of a tier: expected a relative path of A-Z a-z 0-9 . _ -")
    return key
