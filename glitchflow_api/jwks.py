"""The public keys of an issuer (JWKS, RFC 7517), and which of them fits a token."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

log = logging.getLogger(__name__)

#: The algorithms of each type of key (`kty`), or of its curve (`crv`). All are asymmetric: a key that can check a
#: signature cannot make one.
_ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA", "Ed25519"),
    "Ed448": ("EdDSA", "Ed448"),
}
ALL_ALGORITHMS = tuple(dict.fromkeys(chain(*_ALGORITHMS.values())))
#: Later names of the same algorithm, which have the curve of the key (RFC 9864).
_ALIASES = {"Ed25519": "EdDSA", "Ed448": "EdDSA"}
#: The private members of a JWK (RFC 7518).
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of an issuer, each once for each of its algorithms, and the ids of the others."""

    keys: tuple[PyJWK, ...]
    unusable: frozenset[str]

    def fitting(self, header: Mapping[str, Any]) -> Sequence[PyJWK]:
        """Return the keys that fit a token's header; if it has no key id, only a single one.

        A key without an id fits every token.
        """
        kid, alg = header.get("kid"), header.get("alg")
        found = [key for key in self.keys if key.algorithm_name == alg and (kid is None or key.key_id in (None, kid))]
        return found if kid is not None or len(found) == 1 else ()

    def mismatch(self, header: Mapping[str, Any]) -> str:
        """Return why no key fits a token with this header."""
        kid = header.get("kid")
        if kid is None:
            return "the token has no key id (kid), and the issuer has no single key for its alg"
        if any(key.key_id in (None, kid) for key in self.keys):
            return "the token is not valid: its alg does not fit the issuer's key"
        if kid in self.unusable:
            return (
                "the issuer's key with the token's key id (kid) cannot be used: it is damaged, not for signatures "
                "(use, key_ops), or its kty, crv or alg is not supported"
            )
        return "the issuer has no key with the token's key id (kid)"


def parse_jwks(text: bytes) -> KeySet:
    """Parse a JWKS.

    Keys of other types, keys for encryption and damaged keys cannot be used, and the private parts of keys are left
    out. Raise ValueError if no usable key remains.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("not a JWKS: it is nested too deeply") from None
    except ValueError:
        raise ValueError("not a JWKS: it is not JSON") from None
    found = document.get("keys") if isinstance(document, dict) else None
    jwks = [jwk for jwk in (found if isinstance(found, list) else ()) if isinstance(jwk, dict)]
    keys = tuple(chain(*map(_usable, jwks)))
    if not keys:
        raise ValueError(f"not a JWKS with a key for one of {', '.join(ALL_ALGORITHMS)}")
    ids = {kid for jwk in jwks if isinstance(kid := jwk.get("kid"), str)}
    return KeySet(keys, frozenset(ids - {key.key_id for key in keys}))


def _usable(jwk: dict[str, Any]) -> Iterator[PyJWK]:
    """Yield a key for each of its algorithms; none if it is damaged, or not for signatures."""
    if jwk.get("use") not in (None, "sig") or not _may_verify(jwk.get("key_ops")):
        return
    if not isinstance(jwk.get("kid"), str | None):
        return
    fitting = _ALGORITHMS.get(str(jwk.get("crv") or jwk.get("kty")), ())
    if fitting and not _PRIVATE.isdisjoint(jwk):
        log.warning("the JWKS has the private part of the key %r: with it, anyone can make tokens", jwk.get("kid"))
    public = {name: value for name, value in jwk.items() if name not in _PRIVATE}
    alg = jwk.get("alg")
    for algorithm in fitting:
        name = _ALIASES.get(algorithm, algorithm)
        if alg is None or (alg in fitting and _ALIASES.get(alg, alg) == name):
            with suppress(PyJWTError, ValueError, TypeError, AttributeError, KeyError):
                key = PyJWK(public, name)
                key.algorithm_name = algorithm  # PyJWT compares it with that of the token
                yield key


def _may_verify(key_ops: Any) -> bool:
    """Return whether a key may verify signatures; `sign` stands with a published private part."""
    return key_ops is None or (isinstance(key_ops, list) and any(each in ("verify", "sign") for each in key_ops))
