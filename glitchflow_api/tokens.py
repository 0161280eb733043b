"""Tokens of an issuer (JWT, such as SciTokens and WLCG tokens), checked with its public keys."""

import asyncio
import hashlib
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import msgspec
from jwt import PyJWK
from jwt.exceptions import (
    DecodeError,
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuedAtError,
    InvalidIssuerError,
    InvalidKeyError,
    InvalidSignatureError,
    InvalidSubjectError,
    MissingRequiredClaimError,
    PyJWTError,
)
from jwt.types import Options

from glitchflow_api.access import Caller, implied
from glitchflow_api.errors import IssuerAway, Unauthorized
from glitchflow_api.jwks import ALL_ALGORITHMS, KeySet, parse_jwks
from glitchflow_api.settings import GatewaySettings
from gwservice.watched_file import WatchedFile
from gwwire.agent import USER_AGENT
from gwwire.names import PRINTABLE_WORDS, UserName
from gwwire.public import Scope

log = logging.getLogger(__name__)

_FETCH_SECONDS = 5.0
_MOST_BYTES = 1_000_000
#: A key that the issuer has withdrawn is accepted for this long.
_FRESH_SECONDS = 600.0
#: For tokens with an unknown key, the issuer is not asked more often than this.
_AGAIN_SECONDS = 30.0
#: Allowed difference of the clocks.
_LEEWAY_SECONDS = 10.0
#: Lifetime and number of cached results: a signature costs fifty times as much as everything else.
_CACHE_SECONDS = 60.0
_MOST_CACHED = 1024
_REQUIRED: Options = {"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True}

#: The first that fits applies: DecodeError is also the base of InvalidSignatureError.
_REASONS: Mapping[type[Exception] | tuple[type[Exception], ...], str] = {
    ExpiredSignatureError: "it has expired (exp)",
    ImmatureSignatureError: "it is not yet valid (nbf, iat)",
    InvalidAudienceError: "its audience (aud) is not one of JWT_AUDIENCE",
    InvalidIssuerError: "its issuer (iss) is not JWT_ISSUER",
    InvalidSubjectError: "its subject (sub) is not a string",
    InvalidIssuedAtError: "its iat is not a time",
    InvalidSignatureError: "its signature was not made with the issuer's key",
    InvalidKeyError: "the issuer's key is too short",
    MissingRequiredClaimError: "its exp, iss, aud or sub is missing",
    (DecodeError, OverflowError, RecursionError): "it is not a JWT, or its exp or nbf is not a time",
    PyJWTError: "its kid, crit or jti is not supported",
}


class KeysOfFile:
    """The keys in a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._file: WatchedFile[KeySet] = WatchedFile(path, parse_jwks)

    async def current(self) -> KeySet:
        """Return the keys in the file."""
        return self._file.current()

    renewed = current

    def close(self) -> None:
        """Do nothing: nothing is running."""


class KeysOfUrl:
    """The keys at a URL: fetched when first needed, and again when they are old or a token's key is missing.

    After a failed fetch the previous keys stay in force. All requests that wait for a fetch wait for the same one.

    Args:
        url: the address of the JWKS.
        clock: monotonic seconds.

    """

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: KeySet | None = None
        self._text = b""
        self._asked = -_AGAIN_SECONDS
        self._fetching: asyncio.Task[None] | None = None
        self._download: asyncio.Future[bytes] | None = None

    async def current(self) -> KeySet:
        """Return the known keys, the same object until they change; old keys are renewed in the background.

        Raises:
            IssuerAway: no keys have been fetched yet.

        """
        if not self._keys:
            return await self.renewed()
        if self._clock() - self._asked >= _FRESH_SECONDS:
            self._fetch()
        return self._keys

    async def renewed(self) -> KeySet:
        """Return the keys, fetched again unless they just were; raise IssuerAway if there are none."""
        if fetching := self._fetch():
            await asyncio.shield(fetching)  # cancelling this request does not cancel the fetch for the others
        if not self._keys:
            wait = max(1, round(self._asked + _AGAIN_SECONDS - self._clock()))
            raise IssuerAway("the keys to check tokens with could not be fetched yet", retry_after=wait)
        return self._keys

    def close(self) -> None:
        """End a running fetch."""
        if self._download:
            self._download.cancel()

    def _fetch(self) -> asyncio.Task[None] | None:
        """Return the current fetch or a new one, or None if it is too early for another."""
        if self._fetching is None and self._clock() - self._asked >= _AGAIN_SECONDS:
            self._fetching = asyncio.create_task(self._renew())
        return self._fetching

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(_FETCH_SECONDS):
                self._download = asyncio.wrap_future(_download_in_thread(self._url))
                text = await self._download
            if text != self._text:
                self._keys, self._text = parse_jwks(text), text
        except (OSError, HTTPException, ValueError) as error:
            reason = str(error) or f"no complete answer within {_FETCH_SECONDS:g} s"
            log.error("the issuer's keys cannot be fetched from %s: %s", self._url, reason)  # noqa: TRY400 (the message says it all)
        except asyncio.CancelledError:
            log.info("the service is stopping; the issuer's keys are not fetched from %s", self._url)
        finally:
            self._asked = self._clock()
            self._fetching = self._download = None


def _download_in_thread(url: str) -> Future[bytes]:
    """Start a download; it runs in a thread that a stop does not wait for."""
    future: Future[bytes] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(_download(url))
        except Exception as error:  # noqa: BLE001 (the future's reader handles it)
            future.set_exception(error.with_traceback(None))  # it would keep the connection open, in a cycle

    threading.Thread(target=run, daemon=True).start()
    return future


def _download(url: str) -> bytes:
    deadline = time.monotonic() + _FETCH_SECONDS
    request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})  # noqa: S310 (an http address, see issuer_keys)
    with urllib.request.urlopen(request, timeout=_FETCH_SECONDS) as answer:  # noqa: S310 (the same)
        text = b""
        while len(text) < _MOST_BYTES and (piece := answer.read1(_MOST_BYTES)):
            text += piece
            if time.monotonic() > deadline:  # the timeout above is that of one read
                raise TimeoutError
    return text


IssuerKeys = KeysOfFile | KeysOfUrl


def issuer_keys(source: str) -> IssuerKeys:
    """Return the keys of the setting JWT_JWKS; raise FileBroken if it is a file that cannot be read."""
    return KeysOfUrl(source) if source.startswith(("http://", "https://")) else KeysOfFile(Path(source))


class _CachedCaller(NamedTuple):
    caller: Caller
    until: float


class Tokens:
    """Identifies callers by the tokens of one issuer.

    The name is the token's `sub`; the scopes are those that JWT_SCOPES maps the words of its `scope` and `scp` to.

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
        self._checked_with: KeySet | None = None
        self._cache: dict[bytes, _CachedCaller] = {}

    async def identify(self, credential: str | None, /) -> Caller:
        """Return the caller with this token.

        Raises:
            Unauthorized: there is no token, or it is not valid.
            IssuerAway: there are no keys yet to check it with.

        """
        if credential is None:
            raise Unauthorized("a token is needed, as `Authorization: Bearer TOKEN`")
        keys = await self._keys.current()
        if keys is not self._checked_with:
            self._checked_with = keys
            self._cache.clear()
        digest = hashlib.sha256(credential.encode()).digest()
        known = self._cache.get(digest)
        if known is None or known.until <= self._clock():
            claims = await self._check(credential, keys)
            until = min(self._clock() + _CACHE_SECONDS, claims["exp"] + _LEEWAY_SECONDS)
            known = _CachedCaller(self._caller(claims), until)
            self._store(digest, known)
        return known.caller

    def close(self) -> None:
        """End a running fetch of the issuer's keys; the requests that wait for it are answered with IssuerAway."""
        self._keys.close()

    async def _check(self, token: str, keys: KeySet) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            if not (fitting := keys.fitting(header)):
                keys = await self._keys.renewed()
                fitting = keys.fitting(header)
            if not fitting:
                raise Unauthorized(keys.mismatch(header))
            claims = self._claims(token, fitting)
            claims["exp"] = float(claims["exp"])
        except (PyJWTError, OverflowError, RecursionError) as error:
            reason = next(words for kinds, words in _REASONS.items() if isinstance(error, kinds))
            raise Unauthorized(f"the token is not valid: {reason}") from error
        if not _is_name(claims["sub"]):
            raise Unauthorized(
                f"the token is not valid: its sub is no user name of 1 to 255 characters; {PRINTABLE_WORDS}"
            )
        return claims

    def _claims(self, token: str, keys: Sequence[PyJWK]) -> dict[str, Any]:
        """Return the claims of a token that one of the keys signed."""
        audience, issuer, leeway = self._audience, self._issuer, _LEEWAY_SECONDS
        refusal: PyJWTError = InvalidSignatureError()
        for key in keys:
            try:
                return jwt.decode(
                    token, key, ALL_ALGORITHMS, _REQUIRED, audience=audience, issuer=issuer, leeway=leeway
                )
            except InvalidSignatureError:
                continue
            except InvalidKeyError as too_short:
                refusal = too_short
        raise refusal

    def _caller(self, claims: dict[str, Any]) -> Caller:
        words = chain(*(part.split() for name in ("scope", "scp") for part in _texts(claims.get(name))))
        scopes: frozenset[Scope] = frozenset().union(*(self._scopes.get(word, frozenset()) for word in words))
        return Caller(claims["sub"], self._group(claims), implied(scopes))

    def _group(self, claims: dict[str, Any]) -> str | None:
        """Return the first group of a token or None; a group that cannot be used would be a caller without quotas."""
        claim = claims.get(self._group_claim)
        group = next((each for each in (claim if isinstance(claim, list) else [claim]) if each not in (None, "")), None)
        if group is not None and not _is_name(group):
            raise Unauthorized(
                f"the token is not valid: its {self._group_claim} has no group's name of 1 to 255 characters; "
                f"{PRINTABLE_WORDS}"
            )
        return group

    def _store(self, digest: bytes, known: _CachedCaller) -> None:
        self._cache.pop(digest, None)
        if len(self._cache) >= _MOST_CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[digest] = known


def _is_name(claim: Any) -> bool:
    """Return whether a claim is a name as those of users in orders, without halves of characters."""
    with suppress(msgspec.ValidationError):
        return msgspec.convert(claim, UserName).isprintable()
    return False


def _texts(claim: Any) -> Sequence[str]:
    """Return the strings of a claim that is a string or an array."""
    return [text for text in (claim if isinstance(claim, list) else [claim]) if isinstance(text, str)]
