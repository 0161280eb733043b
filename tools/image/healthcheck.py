"""Ask a service on this machine for a route; exit status 0 where it answers 200, 1 where not.

    python -IS healthcheck.py 0.0.0.0:8080 /healthz

It is started every few seconds, beside the service and out of its share of the processor, and so imports next to
nothing: no HTTP library is needed for one line.
"""

import os
import socket
import sys

_SECONDS = 5.0
_EVERY_INTERFACE = {"", "0.0.0.0", "::"}  # noqa: S104 (what a service may be told to listen on, not what this does)


def status(address: str, route: str) -> int:
    """Ask `HOST:PORT`, as a service was told to listen there, for a route; give the status of its answer.

    Raises:
        OSError: nobody listens there, or does not answer in time.
        ValueError: what answers does not speak HTTP.

    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.create_connection(("127.0.0.1" if host in _EVERY_INTERFACE else host, int(port)), _SECONDS) as service:
        service.settimeout(_SECONDS)
        if "TLS_CERT" in os.environ:
            import ssl  # noqa: PLC0415 (only where it is needed)

            # Who answers on this machine is known; what is asked for is whether it does.
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
