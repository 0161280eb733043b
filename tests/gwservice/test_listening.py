"""A service that cannot listen ends with one line that names the address and the setting."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gwservice.listening import check_can_listen


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("command", "place", "setting"),
    [
        (["databuffer"], "SERVURL", "SERVURL"),
        (["glitchflow_api"], "LISTEN", "LISTEN"),
        (["dslogic", "-b", "ADDRESS"], "", "-b HOST:PORT, also in GUNICORN_CMD_ARGS"),
        (["dslogic"], "GUNICORN_CMD_ARGS", "-b HOST:PORT, also in GUNICORN_CMD_ARGS"),
    ],
)
def test_a_service_whose_port_is_taken_names_the_setting(
    command: list[str], place: str, setting: str, taken: int, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{taken}"
    environment = os.environ | {
        "DTVOLROOT": str(tmp_path / "volume"),
        "DATAROOT": str(tmp_path / "volume" / "data"),
        "ADMROOT": str(tmp_path / "adm"),
        "LOGROOT": str(tmp_path / "log"),
    }
    if place:
        environment[place] = f"-b {address}" if place == "GUNICORN_CMD_ARGS" else address
    words = [word.replace("ADDRESS", address) for word in command]
    ended = subprocess.run(
        [sys.executable, "-m", *words], check=False, env=environment, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1] == (
        f"{command[0]}: cannot listen on {address}: Address already in use; set another address with {setting}"
    )
    assert sum(str(taken) in line for line in ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0"])
def test_a_free_address_passes_and_stays_free(host: str) -> None:
    with socket.socket() as held:  # no other program gets the port meanwhile
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        for _ in range(2):
            check_can_listen(host, held.getsockname()[1], service="dslogic", setting="-b", family=socket.AF_INET)


@pytest.mark.parametrize(
    ("host", "shown"), [("203.0.113.7", "203.0.113.7:8080"), ("2001:db8::1", "[2001:db8::1]:8080")]
)
def test_an_address_that_this_machine_does_not_have_is_named(
    host: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        check_can_listen(host, 8080, service="databuffer", setting="SERVURL")
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"databuffer: cannot listen on {shown}: ")
    assert line.endswith("; set another address with SERVURL")
