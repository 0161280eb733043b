"""The secret that two tiers share, so that the lower one answers nobody but its caller.

A file holds one, or two while they change: the first is presented, either is taken.
"""

import hmac
import sys
from pathlib import Path

from gwservice.watched import FileBroken, WatchedFile
from gwwire.problems import ProblemCode, ProblemError

#: What is answered to anybody: the platform asks, and has no secret.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

_FEWEST_CHARACTERS = 16
_MOST_SECRETS = 2


class NotOurCaller(ProblemError):
    """Whoever asks a tier is not the one that should."""

    code = ProblemCode.UNAUTHORIZED


class HopSecret:
    """The secret in a file; it is read again when that changes.

    Raises:
        FileBroken: there is none in it that could be used.

    """

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path, _parse)

    @classmethod
    def load(cls, path: Path | None, service: str, setting: str) -> "HopSecret | None":
        """Read the file that a setting names; where it is of no use, say so in one line and exit with status 2."""
        if path is None:
            return None
        try:
            return cls(path)
        except FileBroken as error:
            sys.stderr.write(f"{service}: setting {setting}: {error}\n")
            sys.exit(2)

    @property
    def headers(self) -> dict[str, str]:
        """What the caller of a tier sends with each request."""
        return {"Authorization": self._file.current()[0].decode()}

    def check(self, path: str, authorization: bytes) -> None:
        """Let a tier's caller in.

        Args:
            path: what is asked for.
            authorization: the Authorization header's value, empty where there is none.

        Raises:
            NotOurCaller: it is not the one.

        """
        if path in OPEN_PATHS:
            return
        # Each is compared, whatever the one before said.
        if not any([hmac.compare_digest(value, authorization) for value in self._file.current()]):  # noqa: C419 (see above)
            raise NotOurCaller("this tier answers its own caller only, and the secret of that is missing or wrong")


def _parse(content: bytes) -> list[bytes]:
    secrets = content.split()
    if not 1 <= len(secrets) <= _MOST_SECRETS:
        raise ValueError(f"it holds {len(secrets)} secrets; one is needed, or two, a line each")
    for secret in secrets:
        if len(secret) < _FEWEST_CHARACTERS or not secret.isascii() or not secret.decode().isprintable():
            raise ValueError(f"a secret has {_FEWEST_CHARACTERS} printable ASCII characters at least")
    return [b"Bearer " + secret for secret in secrets]
