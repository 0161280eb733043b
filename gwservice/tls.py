"""TLS of a service's own: a certificate and its key from files, taken up anew when they change."""

import logging
import ssl
import time
from pathlib import Path
from typing import Any

from gwservice.watched_file import FileBroken

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
#: Of an encrypted key: OpenSSL would ask for its passphrase on a terminal that nobody sits at.
_NO_PASSPHRASE = ""


class ServerTls:
    """A certificate with its chain, and its key.

    Each handshake gets the certificate that is in the files then; a change that is no good is told in the log, and the
    certificate from before stays.

    Raises:
        FileBroken: they cannot be read now, at the start, or do not belong to each other.

    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._seen = self._look()
        self._looked = time.monotonic()
        self._current = self._load()
        self.context = self._load()
        self.context.sni_callback = self._choose

    def _choose(self, connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        """Give a handshake its certificate; it is asked for with or without a server's name."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._look_again()
        connection.context = self._current

    def _look_again(self) -> None:
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._seen = seen
            self._current = self._load()
        except FileBroken as error:
            log.error("%s; the certificate from before stays in force", error)  # noqa: TRY400 (the message says it all)
        else:
            log.warning("%s changed; new connections get the new certificate", self._files[0])

    def _look(self) -> tuple[int, ...]:
        try:
            found = [path.stat() for path in self._files]
        except OSError as error:
            raise FileBroken(f"{error.filename} cannot be read: {error.strerror}") from error
        return tuple(number for seen in found for number in (seen.st_ino, seen.st_size, seen.st_mtime_ns))

    def _load(self) -> ssl.SSLContext:
        certificate, key = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["http/1.1"])
        try:
            for path in self._files:
                path.open("rb").close()  # OpenSSL does not say which of them it could not read
            context.load_cert_chain(certificate, key, lambda: _NO_PASSPHRASE)
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).replace("_", " ").lower()
            raise FileBroken(f"{certificate} and {key} are no certificate and its key: {reason}") from error
        except OSError as error:
            raise FileBroken(f"{error.filename} cannot be read: {error.strerror}") from error
        return context
