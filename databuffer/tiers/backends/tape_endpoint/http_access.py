"""Access to storage systems: the bearer token, the trusted certificates, and the pauses."""

import os
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from databuffer.tiers.tier import TierError
from gwservice.regular_file import read_regular

#: Seconds before each repetition of a request that got no answer, or for which the server had no time.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
#: Bytes of the file of a token.
_MOST_TOKEN = 1 << 16
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)
#: The time after which certificates are read again; authorities of the grid change every few weeks.
_TLS_SECONDS = 3600.0


def no_token() -> None:
    """Return None: servers are asked without a token."""


@dataclass(frozen=True, slots=True)
class Access:
    """A function that returns the token or raises TierError, whether http:// is allowed, and pauses in seconds."""

    token: Callable[[], str | None] = no_token
    allow_http: bool = False
    pauses: Sequence[float] = PAUSES

    @classmethod
    def of_environment(cls, tier: str, environment: Mapping[str, str] = os.environ) -> "Access":
        """Return what BEARER_TOKEN, BEARER_TOKEN_FILE and TAPE_ALLOW_HTTP say; the file is read for each request."""
        allow_http = environment.get("TAPE_ALLOW_HTTP", "").lower() in {"1", "true", "yes", "on"}
        given, file = environment.get("BEARER_TOKEN", ""), environment.get("BEARER_TOKEN_FILE", "")
        if given:
            return cls(lambda: _checked(given, f"tier {tier}: BEARER_TOKEN"), allow_http)
        return cls(lambda: _read(Path(file), tier), allow_http) if file else cls(allow_http=allow_http)


class ClientTls:
    """The context of connections: it trusts the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._until = 0.0

    def current(self) -> ssl.SSLContext:
        """Return the context; its certificates are read again after an hour."""
        if self._context is None or time.monotonic() > self._until:
            # Unlike that of `ssl.create_default_context`, it does not write the keys of connections to SSLKEYLOGFILE.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.set_default_verify_paths()
            self._context, self._until = context, time.monotonic() + _TLS_SECONDS
        return self._context


def origin_of(url: str) -> tuple[str, str]:
    """Return what has to be the same for a server to be the same."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _read(file: Path, tier: str) -> str:
    place = f"tier {tier}: BEARER_TOKEN_FILE {file}"
    try:
        content = read_regular(file, _MOST_TOKEN, follow=True)  # a mounted Secret is a link
    except OSError as error:
        raise TierError(f"{place} cannot be read: {error.strerror}") from error
    return _checked(content.decode("latin-1").strip(), place)


def _checked(token: str, place: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise TierError(f"{place} is empty, or has blanks or other characters that no token has")
    return token
