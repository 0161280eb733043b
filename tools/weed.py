"""A real S3 server, SeaweedFS, for tests and benchmarks: one process for all that give the same home."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from gwservice.atomic import locked, replace_file
from scripts.trio import draw_ports

#: Of every test; the tests use prefixes of their own.
BUCKET = "tests"
_WEED = Path(sys.executable).with_name("weed")
_SECONDS = 60
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port")


@contextmanager
def running_weed(home: Path) -> Iterator[str]:
    """Yield the URL of a server with an empty bucket `tests`, which any access key may use.

    The processes of a test run that give the same `home` share it; the last of them stops it.
    """
    with _counted(home, +1):
        state = home / "weed.json"
        if not state.exists():
            replace_file(state, json.dumps(_start(home)).encode())
        server = json.loads(state.read_bytes())
    try:
        yield server["url"]
    finally:
        with _counted(home, -1) as users:
            if not users:
                _stop(server)
                state.unlink()


@contextmanager
def _counted(home: Path, change: int) -> Iterator[int]:
    """Count the processes that use the server; no other one does this at the same time."""
    with locked(home / "weed.lock", wait=True):
        count = home / "weed.users"
        users = (int(count.read_text()) if count.exists() else 0) + change
        count.write_text(str(users))
        yield users


def _start(home: Path) -> dict[str, Any]:
    folder = mkdtemp(prefix="weed-")
    free = draw_ports(2 * len(_PORTS))
    ports = dict(zip((*_PORTS, *(f"{name}.grpc" for name in _PORTS)), free, strict=True))
    url = f"http://127.0.0.1:{ports['s3.port']}"
    with (home / "weed.log").open("wb") as output:
        process = subprocess.Popen(
            [
                *(_WEED, "server", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *(f"-{name}={port}" for name, port in ports.items()),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=400", "-master.volumeSizeLimitMB=64"),
                *("-master.telemetry=false", "-master.electionTimeout=100ms"),
            ],
            stdout=output,
            stderr=output,
            env={**os.environ, "HOME": folder, "TMPDIR": folder},  # where it writes its logs
            start_new_session=True,
        )
    deadline = time.monotonic() + _SECONDS
    while not _has_bucket(url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"SeaweedFS did not start:\n{(home / 'weed.log').read_text()[-2000:]}")
        time.sleep(0.05)
    process.returncode = 0  # another process may stop it
    return {"url": url, "pid": process.pid, "folder": folder, "ports": free}


def _has_bucket(url: str) -> bool:
    request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")  # noqa: S310 (a loopback address)
    try:
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310 (the same)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == HTTPStatus.CONFLICT  # it exists
    except OSError:
        return False
    return True


def _stop(server: dict[str, Any]) -> None:
    with suppress(ProcessLookupError):
        os.kill(server["pid"], signal.SIGKILL)
    rmtree(server["folder"], ignore_errors=True)
    for port in server["ports"]:
        for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 (not of our choice)
            left.unlink(missing_ok=True)
