"""Tokens of an issuer (JWT, such as SciTokens and WLCG tokens), checked with its public keys (JWKS, RFC 7517)."""

import asyncio
import hashlib
import logging
import re
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from jwt import PyJWK, PyJWKSet
from jwt.exceptions import InvalidTokenError, PyJWTError
from jwt.types import Options

from glitchflow_api.access import Caller, implied
from glitchflow_api.errors import IssuerAway, Unauthorized
from glitchflow_api.settings import GatewaySettings
from gwservice.watched_file import WatchedFile
from gwwire.public import Scope

log = logging.getLogger(__name__)

#: All asymmetric: a key that can check a signature cannot make one.
_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
_FETCH_SECONDS = 5.0
_MOST_BYTES = 1_000_000
#: A key that the issuer has withdrawn is accepted for so long.
_FRESH_SECONDS = 600.0
#: A token with an unknown key is no reason to ask the issuer more often.
_AGAIN_SECONDS = 30.0
#: Allowed difference of the clocks.
_LEEWAY_SECONDS = 10.0
#: How long, and how many, results are cached: a signature costs fifty times as much as everything else.
_BELIEVED_SECONDS = 60.0
_MOST_BELIEVED = 1024
_REQUIRED: Options = {"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True}
#: Groups that are safe in a header; any other is ignored.
_GROUP = re.compile(r"[\w./@+-]{1,64}", re.ASCII)

KeySet = tuple[PyJWK, ...]


def parse_jwks(text: bytes) -> KeySet:
    """Parse a JWKS without its keys of other kinds or for encryption; raise ValueError if no key remains."""
    try:
        found = PyJWKSet.from_json(text.decode())
    except (PyJWTError, AttributeError, TypeError) as error:
        raise ValueError(f"no JWKS with a usable key: {error}") from error
    keys = tuple(key for key in found.keys if key.algorithm_name in _ALGORITHMS and key.public_key_use in {None, "sig"})
    if not keys:
        raise ValueError(f"no JWKS with a key for one of {', '.join(sorted(_ALGORITHMS))}")
    return keys


class KeysOfFile:
    """The keys in a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._file: WatchedFile[KeySet] = WatchedFile(path, parse_jwks)

    async def current(self) -> KeySet:
        """Return the keys in the file."""
        return self._file.current()

    renewed = current


class KeysOfUrl:
    """The keys at a URL: fetched when the first is needed, and again when they are old or do not suffice.

    After a failed fetch the previous keys stay in force. All requests that wait for a fetch wait for the same one.

    Args:
        url: of the JWKS.
        clock: monotonic seconds.

    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: KeySet = ()
        self._text = b""
        self._asked = -_AGAIN_SECONDS
        self._fetching: asyncio.Task[None] | None = None

    async def current(self) -> KeySet:
        """Return the known keys, the same object until they change; old ones are renewed meanwhile.

        Raises:
            IssuerAway: there are none yet.

        """
        if not self._keys:
            return await self.renewed()
        if self._clock() - self._asked >= _FRESH_SECONDS:
            self._fetch()
        return self._keys

    async def renewed(self) -> KeySet:
        """Return the keys after asking the issuer, unless that was just done; raise IssuerAway if there are none."""
        if fetching := self._fetch():
            await asyncio.shield(fetching)  # a request that is cancelled does not end it for the others
        if not self._keys:
            wait = max(1, round(self._asked + _AGAIN_SECONDS - self._clock()))
            raise IssuerAway("the keys to check tokens with could not be fetched yet", retry_after=wait)
        return self._keys

    def _fetch(self) -> asyncio.Task[None] | None:
        """Return the current fetch, or a new one, or None if it is too early for another."""
        if self._fetching is None and self._clock() - self._asked >= _AGAIN_SECONDS:
            self._fetching = asyncio.create_task(self._renew())
        return self._fetching

    async def _renew(self) -> None:
        try:
            text = await asyncio.to_thread(_download, self._url)
            if text != self._text:
                self._keys, self._text = parse_jwks(text), text
        except (OSError, HTTPException, ValueError) as error:
            log.error("the issuer's keys cannot be had from %s: %s", self._url, error)  # noqa: TRY400 (the message says it all)
        finally:
            self._asked = self._clock()
            self._fetching = None


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_FETCH_SECONDS) as answer:  # noqa: S310 (an http address, see issuer_keys)
        text: bytes = answer.read(_MOST_BYTES)
    return text


IssuerKeys = KeysOfFile | KeysOfUrl


def issuer_keys(source: str) -> IssuerKeys:
    """Return the keys of the setting JWT_JWKS; raise FileBroken if it is a file that cannot be read."""
    return KeysOfUrl(source) if source.startswith(("http://", "https://")) else KeysOfFile(Path(source))


class _Believed(NamedTuple):
    caller: Caller
    until: float


class Tokens:
    """Identifies callers by the tokens of one issuer.

    The name is the token's `sub`; the scopes are those that JWT_SCOPES maps the words of its `scope` to.

    Args:
        settings: the issuer, the audience, and the meaning of scopes.
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
        """Return the caller with this token.

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
            until = min(self._clock() + _BELIEVED_SECONDS, float(claims["exp"]) + _LEEWAY_SECONDS)
            known = _Believed(self._caller(claims), until)
            self._believe(digest, known)
        return known.caller

    async def _check(self, token: str, keys: KeySet) -> dict[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = _find(keys, kid) or _find(await self._keys.renewed(), kid)
            if key is None:
                raise Unauthorized("the token is signed with a key that is not the issuer's")
            audience, issuer, leeway = self._audience, self._issuer, _LEEWAY_SECONDS
            return jwt.decode(token, key, _ALGORITHMS, _REQUIRED, audience=audience, issuer=issuer, leeway=leeway)
        except (InvalidTokenError, jwt.InvalidKeyError) as error:
            raise Unauthorized(f"the token is not valid: {error}") from error
        except RecursionError:  # anybody can send nested arrays as the header of a token
            raise Unauthorized("the token is not valid: it is nested too deeply") from None

    def _caller(self, claims: dict[str, Any]) -> Caller:
        words = str(claims.get("scope", "")).split()
        scopes: frozenset[Scope] = frozenset().union(*(self._scopes.get(word, frozenset()) for word in words))
        group = claims.get(self._group_claim)
        if isinstance(group, list) and group:
            group = group[0]
        if not isinstance(group, str) or not _GROUP.fullmatch(group):
            group = None
        return Caller(claims["sub"], group, implied(scopes))

    def _believe(self, digest: bytes, known: _Believed) -> None:
        self._believed.pop(digest, None)
        if len(self._believed) >= _MOST_BELIEVED:
            del self._believed[next(iter(self._believed))]
        self._believed[digest] = known


def _find(keys: KeySet, kid: str | None) -> jwt.PyJWK | None:
    """Return the key with this id, or the only key for a token without an id, or None."""
    if kid is None:
        return keys[0] if len(keys) == 1 else None
    return next((key for key in keys if key.key_id == kid), None)
