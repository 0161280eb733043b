"""Files of other types that another program may put in the place of a file."""

import os
import socket
from collections.abc import Callable
from pathlib import Path


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket has at most 107 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def _make_endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


#: Each makes something at a path that does not exist.
NO_FILES: dict[str, Callable[[Path], object]] = {
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a socket": _make_socket,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to a file": lambda path: path.symlink_to(__file__),
}
FOREIGN = NO_FILES | {"an endless file": _make_endless}
NO_FOLDERS = {kind: make for kind, make in FOREIGN.items() if kind != "a folder"}
