"""The public keys of an issuer (JWKS, RFC 7517): from a file, or from a URL that is asked beside the requests."""

import asyncio
import logging
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Protocol

from jwt import PyJWK, PyJWKSet
from jwt.exceptions import PyJWTError

from glitchflow_api.errors import IssuerAway
from gwservice.watched_file import WatchedFile

log = logging.getLogger(__name__)

#: All asymmetric: who can check a signature with one of these cannot make one.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)

_FETCH_SECONDS = 5.0
_MOST_BYTES = 1_000_000
#: A key that the issuer has taken back is believed so long.
_FRESH_SECONDS = 600.0
#: A token with a key nobody knows is no reason to ask the issuer more often.
_AGAIN_SECONDS = 30.0

KeySet = tuple[PyJWK, ...]


class IssuerKeys(Protocol):
    """Gives the keys an issuer signs with."""

    async def current(self) -> KeySet:
        """Give the keys as they are known now, the same object until they change.

        Raises:
            IssuerAway: there are none yet.

        """

    async def renewed(self) -> KeySet:
        """Look for a key that is not among the known ones."""


def parse_jwks(text: bytes) -> KeySet:
    """Read a JWKS; keys of other kinds, and those for encryption, are left out.

    Raises:
        ValueError: there is no key in it that a signature can be checked with.

    """
    try:
        found = PyJWKSet.from_json(text.decode())
    except (PyJWTError, AttributeError, TypeError) as error:
        raise ValueError(f"no JWKS with a usable key: {error}") from error
    keys = tuple(key for key in found.keys if key.algorithm_name in ALGORITHMS and key.public_key_use in {None, "sig"})
    if not keys:
        raise ValueError(f"no JWKS with a key for one of {', '.join(sorted(ALGORITHMS))}")
    return keys


def issuer_keys(source: str) -> IssuerKeys:
    """Give the keys of the setting JWT_JWKS.

    Raises:
        FileBroken: it is a file, and cannot be read.

    """
    return KeysOfUrl(source) if source.startswith(("http://", "https://")) else KeysOfFile(Path(source))


class KeysOfFile:
    """The keys in a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        self._file: WatchedFile[KeySet] = WatchedFile(path, parse_jwks)

    async def current(self) -> KeySet:
        """Give the keys in the file."""
        return self._file.current()

    async def renewed(self) -> KeySet:
        """Give the same: the file is looked at anyway."""
        return self._file.current()


class KeysOfUrl:
    """The keys at a URL: fetched when the first is needed, and again when they are old or do not suffice.

    A fetch that fails leaves the keys that are known in force. All who wait for one wait for the same one.

    Args:
        url: where the JWKS is.
        again_seconds: from one fetch to the next at least.
        fresh_seconds: how long keys are used without asking whether they are still the same.
        clock: seconds, monotonic.

    """

    def __init__(
        self,
        url: str,
        *,
        again_seconds: float = _AGAIN_SECONDS,
        fresh_seconds: float = _FRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._again_seconds = again_seconds
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._keys: KeySet = ()
        self._text = b""
        self._asked = -again_seconds
        self._fetching: asyncio.Task[None] | None = None

    async def current(self) -> KeySet:
        """Give the keys that are known; old ones are renewed meanwhile.

        Raises:
            IssuerAway: there are none yet.

        """
        if not self._keys:
            return await self.renewed()
        if self._clock() - self._asked >= self._fresh_seconds:
            self._fetch()
        return self._keys

    async def renewed(self) -> KeySet:
        """Ask the issuer, unless that was just done.

        Raises:
            IssuerAway: there are no keys yet.

        """
        if fetching := self._fetch():
            await asyncio.shield(fetching)  # whoever goes away while waiting does not end it for the others
        if not self._keys:
            wait = max(1, round(self._asked + self._again_seconds - self._clock()))
            raise IssuerAway("the keys to check tokens with could not be fetched yet", retry_after=wait)
        return self._keys

    def _fetch(self) -> asyncio.Task[None] | None:
        """Give the fetch under way, or begin one; None: it is too early for another."""
        if self._fetching is None and self._clock() - self._asked >= self._again_seconds:
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
