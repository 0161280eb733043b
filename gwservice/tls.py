"""TLS of a service: a certificate and its key from files, read again when they change."""

import ssl
from functools import partial
from pathlib import Path
from typing import Any

from gwservice.watched_file import FileBroken, Watched, read_watched

#: For an encrypted key: without it, OpenSSL would ask for a passphrase on the terminal.
_NO_PASSPHRASE = ""


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context whose handshakes use the certificate, with its chain, and the key from these files.

    Raise FileBroken if they cannot be read at the start, or do not belong together.
    """
    load = partial(_load, certificate, key)
    watched = Watched((certificate, key), load)

    def choose(connection: Any, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = watched.current()

    context = load()
    context.sni_callback = choose  # called with or without a server name
    return context


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    # Unlike that of `ssl.create_default_context`, it does not write the keys of connections to SSLKEYLOGFILE.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        for path in (certificate, key):
            read_watched(path)  # OpenSSL does not report which of them it could not read
        context.load_cert_chain(certificate, key, lambda: _NO_PASSPHRASE)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise FileBroken(f"{certificate} and {key} are not a certificate and its key: {reason}") from error
    except OSError as error:
        raise FileBroken(f"{error.filename} cannot be read: {error.strerror}") from error
    return context
