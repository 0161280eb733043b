"""A real XRootD server whose tape is a script: what was staged and not evicted as often is online."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from scripts.trio import draw_ports
from tests.support.certificates import Authority

#: Called by the server for each `prepare` and `query prepare`.
_ROBOT = """#!{python}
import fcntl, json, os, sys
_, request, order, *paths = sys.argv[sys.argv.index("--"):]
with open("{home}/pins.json", "a+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.seek(0)
    pins = json.loads(file.read() or "{{}}")
    for path in paths:
        pins[path] = max(pins.get(path, 0) + {{"stage": 1, "evict": -1}}.get(order, 0), 0)
    file.truncate(0)
    file.write(json.dumps(pins))
if order == "query":
    answers = [
        {{"path": path, "path_exists": os.path.exists("{home}/root" + path), "on_tape": True, "online": pins[path] > 0,
          "requested": pins[path] > 0, "has_reqid": True, "req_time": "", "error_text": ""}}
        for path in paths
    ]
    print(json.dumps({{"request_id": request, "responses": answers}}))
"""
_SETTINGS = """
all.export /tape
oss.localroot {home}/root
all.adminpath {home}/admin
all.pidpath {home}/admin
xrd.port {port}
xrd.network nodnr
"""
_ROBOT_SETTINGS = "ofs.preplib libXrdOfsPrepGPI.so -admit stage,query,cancel,evict -run {home}/robot\n"
#: HTTP and HTTPS at the same port. Nobody is asked for a certificate or a token.
_HTTP_SETTINGS = """
all.export /.well-known
xrd.tls {home}/server.pem {home}/server.key
xrd.tlsca noverify
xrd.protocol http:{port} libXrdHttp.so
http.listingdeny no
"""


def is_installed() -> bool:
    """Return whether Debian's xrootd-server and xrootd-server-plugins are there."""
    return Path("/usr/bin/xrootd").exists() and any(Path("/usr/lib").glob("*/libXrdOfsPrepGPI*"))


@dataclass(frozen=True)
class WebDavServer:
    """A server that speaks HTTP and HTTPS at `address`; `root` is its folder.

    `certificate` is a file with its certificate and chain, and one with its key; clients trust those in `trusted`.
    """

    address: str
    root: Path
    certificate: tuple[Path, Path]
    trusted: Path


@contextmanager
def running_xrootd() -> Iterator[str]:
    """Yield `HOST:PORT` of a server that exports /tape."""
    with _home() as home:
        (home / "robot").write_text(
            _ROBOT.format(python=shutil.which("python3", path="/usr/bin") or sys.executable, home=home)
        )
        (home / "robot").chmod(0o755)
        with _running(home, _SETTINGS + _ROBOT_SETTINGS) as address:
            yield address


@contextmanager
def running_webdav() -> Iterator[WebDavServer]:
    """Yield a server that exports /tape and /.well-known over WebDAV, without a tape behind it."""
    with _home() as home:
        authority = Authority(home)
        chain, key = authority.certify("server")
        key.chmod(0o600)
        trusted = home / "trusted.pem"
        trusted.write_bytes(authority.root.read_bytes() + chain.read_bytes())  # the server sends no chain
        (home / "root" / ".well-known").mkdir()
        with _running(home, _SETTINGS + _HTTP_SETTINGS) as address:
            yield WebDavServer(address, home / "root", (chain, key), trusted)


@contextmanager
def _home() -> Iterator[Path]:
    home = Path(mkdtemp(prefix="xrootd-"))
    (home / "root" / "tape").mkdir(parents=True)
    (home / "admin").mkdir()
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _running(home: Path, settings: str) -> Iterator[str]:
    [port] = draw_ports(1)
    (home / "settings").write_text(settings.format(home=home, port=port))
    user = None
    if os.getuid() == 0:  # the server refuses to run as root
        user = "nobody"
        for path in (home, *home.rglob("*")):
            shutil.chown(path, user)
    server = subprocess.Popen(["/usr/bin/xrootd", "-c", home / "settings", "-l", home / "log"], cwd=home, user=user)
    try:
        _wait(server, port, home / "log")
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _wait(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"xrootd did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.02)
        else:
            return
