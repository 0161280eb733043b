"""The digest of a tar file that the datastore serves, which is its ETag."""

import hashlib
from collections.abc import Iterable

#: Changes whenever the bytes of a tar of the same members do.
_VERSION = b"tar 1\n"


def tar_digest(members: Iterable[tuple[str, int, str]]) -> str:
    """Return the SHA-256 of the (name, size, SHA-256) of a tar's members; equal for tars with equal bytes."""
    digest = hashlib.sha256(_VERSION)
    for name, size, sha256 in members:
        digest.update(f"{sha256} {size} {name}\n".encode())
    return digest.hexdigest()
