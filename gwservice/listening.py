"""Checks before a service listens."""

import socket
import sys
from contextlib import ExitStack


def check_can_listen(
    host: str, port: int, *, service: str, setting: str, family: int = socket.AddressFamily.AF_UNSPEC
) -> None:
    """Exit with status 2, and one line that names the setting, if the service cannot listen on an address.

    `family` is that of the addresses to which the server resolves a host name. The servers' own errors name no setting.
    """
    try:
        with ExitStack() as held:
            for each, kind, protocol, _, place in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM):
                try:
                    bound = held.enter_context(socket.socket(each, kind, protocol))
                except OSError:  # a machine without IPv6: the servers leave such addresses out
                    continue
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if each == socket.AF_INET6:
                    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                bound.bind(place)
    except OSError as error:
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        sys.stderr.write(f"{service}: cannot listen on {where}: {error.strerror}; set another address with {setting}\n")
        sys.exit(2)
