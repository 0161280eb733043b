"""Send a GET to a service on this machine; exit status 0 if it answers 200, else 1.

    python -IS healthcheck.py 0.0.0.0:8080 /healthz

It is started every few seconds and shares the processor with the service, so it imports almost nothing.
"""

import os
import socket
import sys

_SECONDS = 5.0
_EVERY_INTERFACE = {"", "0.0.0.0", "::"}  # noqa: S104 (compared with, not listened on)


def status(address: str, route: str) -> int:
    """Send a GET to the service that listens on `HOST:PORT`; return the status of the answer.

    Raises:
        OSError: there is no connection, or no answer in time.
        ValueError: the answer is not HTTP.

    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.create_connection(("127.0.0.1" if host in _EVERY_INTERFACE else host, int(port)), _SECONDS) as service:
        service.settimeout(_SECONDS)
        if "TLS_CERT" in os.environ:
            import ssl  # noqa: PLC0415 (only where it is needed)

            # On this machine the certificate need not be checked.
            service = ssl._create_unverified_context().wrap_socket(service)  # noqa: PLW2901, S323, SLF001 (see above)
        service.sendall(f"GET {route} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        line = service.makefile("rb").readline()
    protocol, number, *_ = line.split(b" ")
    if not protocol.startswith(b"HTTP/"):
        raise ValueError(f"{address} does not speak HTTP")
    return int(number)


if __name__ == "__main__":
    try:
        answer = status(*sys.argv[1:])
    except (OSError, ValueError) as error:
        sys.exit(f"unhealthy: {error}")
    sys.exit(None if answer == 200 else f"unhealthy: {answer}")  # noqa: PLR2004 (HTTP's own number)
