"""What is kept of a holder's token: enough to know it again, too little to find it out.

Scrypt, not a plain hash: a token is often a word that somebody chose, and whoever may read `/dstat` sees its
fingerprint. What it costs, a freeze pays once a batch; a thaw pays it beside the order of things.
"""

import hashlib
import hmac
import os
import re

#: Scrypt's cost: 2^14 blocks of 8 x 128 bytes are 16 MiB and some 50 ms a guess.
LOG_COST = 14
_BLOCK = 8
_PARALLEL = 1
_SALT_BYTES = 16
_MOST_MEMORY = 64 * 2**20
_WRITTEN = re.compile(r"scrypt:(?P<cost>\d{1,2}):(?P<salt>[0-9a-f]{32}):(?P<hash>[0-9a-f]{64})")


def fingerprint(token: str) -> str:
    """Give a token's fingerprint, `scrypt:LOG2N:SALT:HASH`; another one each time."""
    salt = os.urandom(_SALT_BYTES)
    return f"scrypt:{LOG_COST}:{salt.hex()}:{_hash(token, salt, LOG_COST).hex()}"


def is_fingerprint(text: str) -> bool:
    """Say whether `text` is a fingerprint; a token that an earlier version stored is none."""
    return _WRITTEN.fullmatch(text) is not None


def matches(written: str, token: str) -> bool:
    """Say whether `token` is the one with the fingerprint `written`."""
    parts = _WRITTEN.fullmatch(written)
    if parts is None:
        return False
    computed = _hash(token, bytes.fromhex(parts["salt"]), int(parts["cost"]))
    return hmac.compare_digest(computed, bytes.fromhex(parts["hash"]))


def _hash(token: str, salt: bytes, log_cost: int) -> bytes:
    return hashlib.scrypt(
        token.encode(), salt=salt, n=2**log_cost, r=_BLOCK, p=_PARALLEL, maxmem=_MOST_MEMORY, dklen=32
    )
