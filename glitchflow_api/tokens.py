"""Tokens of an issuer (JWT; SciTokens and WLCG tokens are such): a credential is checked against the issuer's keys."""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jwt
from jwt.exceptions import InvalidTokenError
from jwt.types import Options

from glitchflow_api.access import Caller, implied
from glitchflow_api.errors import Unauthorized
from glitchflow_api.issuer_keys import ALGORITHMS, IssuerKeys, KeySet
from glitchflow_api.settings import GatewaySettings
from gwwire.public import Scope

#: s that clocks may differ.
_LEEWAY = 10.0
#: s that a check is believed, and how many: a signature costs fifty times what all else does.
_BELIEVED_SECONDS = 60.0
_MOST_BELIEVED = 1024
_REQUIRED: Options = {"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True}
#: What may travel in a header without more ado; another group is none.
_GROUP = re.compile(r"[\w./@+-]{1,64}", re.ASCII)


class _Believed(NamedTuple):
    caller: Caller
    until: float


class Tokens:
    """Knows the callers by the tokens of one issuer.

    The name is the token's `sub`; the scopes are those that JWT_SCOPES gives for the words of its `scope`.

    Args:
        settings: the issuer, the audience, and what scopes mean.
        keys: the issuer's keys.
        clock: seconds since 1970.

    """

    def __init__(self, settings: GatewaySettings, keys: IssuerKeys, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._issuer = settings.JWT_ISSUER
        self._audience = [name.strip() for name in settings.JWT_AUDIENCE.split(",")]
        self._scopes = settings.JWT_SCOPES
        self._group_claim = settings.JWT_GROUP
        self._keys = keys
        self._checked_with: KeySet = ()
        self._believed: dict[bytes, _Believed] = {}

    async def identify(self, credential: str | None, /) -> Caller:
        """Give the caller with this token.

        Raises:
            Unauthorized: there is none, or it is not valid.
            IssuerAway: there are no keys yet to check it with.

        """
        if credential is None:
            raise Unauthorized("a token is needed, as `Authorization: Bearer TOKEN`")
        keys = await self._keys.current()
        if keys is not self._checked_with:
            self._checked_with = keys
            self._believed.clear()
        digest = hashlib.sha256(credential.encode()).digest()
        known = self._believed.get(digest)
        if known is None or known.until <= self._clock():
            claims = await self._check(credential, keys)
            known = _Believed(
                self._caller(claims), min(self._clock() + _BELIEVED_SECONDS, float(claims["exp"]) + _LEEWAY)
            )
            self._believe(digest, known)
        return known.caller

    async def _check(self, token: str, keys: KeySet) -> dict[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = _find(keys, kid) or _find(await self._keys.renewed(), kid)
            if key is None:
                raise Unauthorized("the token is signed with a key that is not the issuer's")
            return jwt.decode(
                token, key, sorted(ALGORITHMS), _REQUIRED, audience=self._audience, issuer=self._issuer, leeway=_LEEWAY
            )
        except (InvalidTokenError, jwt.InvalidKeyError) as error:
            raise Unauthorized(f"the token is not valid: {error}") from error
        except RecursionError:  # what is said to be its header may be arrays in arrays, from anybody
            raise Unauthorized("the token is not valid: it is nested too deeply") from None

    def _caller(self, claims: dict[str, Any]) -> Caller:
        words = str(claims.get("scope", "")).split()
        scopes: frozenset[Scope] = frozenset().union(*(self._scopes.get(word, frozenset()) for word in words))
        return Caller(claims["sub"], self._group(claims), implied(scopes))

    def _group(self, claims: dict[str, Any]) -> str | None:
        told = claims.get(self._group_claim)
        if isinstance(told, list) and told:
            told = told[0]
        return told if isinstance(told, str) and _GROUP.fullmatch(told) else None

    def _believe(self, digest: bytes, known: _Believed) -> None:
        self._believed.pop(digest, None)
        if len(self._believed) >= _MOST_BELIEVED:
            del self._believed[next(iter(self._believed))]
        self._believed[digest] = known


def _find(keys: KeySet, kid: str | None) -> jwt.PyJWK | None:
    """Give the key of that id; a token that names none means the only one."""
    if kid is None:
        return keys[0] if len(keys) == 1 else None
    return next((key for key in keys if key.key_id == kid), None)
