"""Fingerprints of holders' tokens, which are stored instead of the tokens.

Scrypt, not a plain hash: a token is often a word that can be guessed, and `/dstat` shows its fingerprint.
"""

import hashlib
import hmac
import os
import re

#: Scrypt's cost: 2^14 blocks of 8 x 128 bytes are 16 MiB and about 50 ms a guess.
LOG_COST = 14
_BLOCK = 8
_MOST_MEMORY = 64 * 2**20
_WRITTEN = re.compile(r"scrypt:(?P<cost>\d{1,2}):(?P<salt>[0-9a-f]{32}):(?P<hash>[0-9a-f]{64})")


def fingerprint(token: str) -> str:
    """Return a fingerprint of a token with a new salt, `scrypt:LOG2N:SALT:HASH`."""
    salt = os.urandom(16)
    return f"scrypt:{LOG_COST}:{salt.hex()}:{_hash(token, salt, LOG_COST).hex()}"


def is_fingerprint(text: str) -> bool:
    """Return whether a text is a fingerprint, not a token that an earlier version stored."""
    return _WRITTEN.fullmatch(text) is not None


def matches(written: str, token: str) -> bool:
    """Return whether `token` has the stored fingerprint `written`."""
    parts = _WRITTEN.fullmatch(written)
    if parts is None:
        return False
    computed = _hash(token, bytes.fromhex(parts["salt"]), int(parts["cost"]))
    return hmac.compare_digest(computed, bytes.fromhex(parts["hash"]))


def _hash(token: str, salt: bytes, log_cost: int) -> bytes:
    return hashlib.scrypt(token.encode(), salt=salt, n=2**log_cost, r=_BLOCK, p=1, maxmem=_MOST_MEMORY, dklen=32)
