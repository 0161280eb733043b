"""The SHA-256 of a file in the ETag of an answer, which proxies may change."""

import re
from collections.abc import Mapping

#: Headers that ask a proxy for the bytes as they are; the rest of compressed ones could not be requested.
AS_STORED = {"Accept-Encoding": "identity"}
#: A proxy that compresses an answer makes its ETag a weak one (nginx), or adds a suffix (Apache httpd).
_ETAG = re.compile(r'(?:W/)?"([0-9a-f]{64})(?:-\w+)?"')


def digest_of(headers: Mapping[str, str]) -> str | None:
    """Return the digest in the ETag, or None if there is none: a proxy may leave it out."""
    found = _ETAG.fullmatch(headers.get("ETag", ""))
    return found[1] if found else None
