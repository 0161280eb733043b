"""The start of the gateway, and its messages about bad files and open access."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glitchflow_api.app import create_app
from glitchflow_api.settings import GatewaySettings
from gwservice.watched_file import FileBroken
from gwwire.public import AuthMode

ROOT = Path(__file__).parents[2]
BY_ITSELF = [sys.executable, "-m", "glitchflow_api"]
BY_FASTAPI = [str(Path(sys.executable).with_name("fastapi")), "run", "glitchflow_api/main.py", "--port", "0"]
JWT = {"AUTH": "jwt", "JWT_ISSUER": "https://issuer.example.org", "JWT_AUDIENCE": "glitchflow"}


def begin(command: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LISTEN": "127.0.0.1:0", **settings}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("text", [None, "{}"])
def test_keys_that_cannot_be_read_stop_it_with_one_line(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    ended = begin(BY_ITSELF, AUTH="keys", KEYS_FILE=str(path))
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"glitchflow_api: AUTH=keys: {path} ")


def test_under_fastapis_own_command_it_stops_just_so(tmp_path: Path) -> None:
    ended = begin(BY_FASTAPI, AUTH="keys", KEYS_FILE=str(tmp_path / "nothing"))
    assert ended.returncode == 2
    assert f"glitchflow_api: AUTH=keys: {tmp_path / 'nothing'} cannot be read" in ended.stderr


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({"AUTH": "yes"}, "setting AUTH='yes': "),
        ({"AUTH": "jwt", "JWT_ISSUER": "https://x"}, "AUTH=jwt needs JWT_AUDIENCE, JWT_JWKS"),
        ({"JWT_SCOPES": "storage.read"}, "setting JWT_SCOPES='storage.read': 'storage.read' is not"),
        ({"JWT_SCOPES": "a=read b=root"}, "'b=root' is not"),
    ],
)
def test_a_bad_setting_stops_it_with_one_line(
    settings: dict[str, str], seen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        GatewaySettings.load()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("glitchflow_api: ")
    assert seen in line


def test_a_missing_jwks_file_is_reported_at_the_start(tmp_path: Path) -> None:
    settings = GatewaySettings.model_validate({**JWT, "JWT_JWKS": str(tmp_path / "jwks.json")})
    with pytest.raises(FileBroken, match=r"jwks\.json cannot be read"):
        create_app(settings)


def test_an_unknown_command_is_reported() -> None:
    assert begin([*BY_ITSELF, "serve"]).returncode == 2


def test_under_fastapis_own_command_it_logs_the_limits_that_are_not_enforced() -> None:
    begun = begin([sys.executable, "-c", "import glitchflow_api.main"])
    [line] = [line for line in begun.stderr.splitlines() if "HEADER_TIMEOUT" in line]
    assert "MAX_CONNECTIONS" in line
    assert "python -m glitchflow_api" in line


def test_under_fastapis_own_command_it_does_not_serve_http_where_tls_was_asked_for(tmp_path: Path) -> None:
    ended = begin(BY_FASTAPI, TLS_CERT=str(tmp_path / "certificate.pem"), TLS_KEY=str(tmp_path / "key.pem"))
    assert ended.returncode == 2
    [line] = [line for line in ended.stderr.splitlines() if "TLS_CERT" in line]
    assert "python -m glitchflow_api" in line
    assert "Traceback" not in ended.stderr


LOADED = "import sys, glitchflow_api.main; print('jwt' in sys.modules, 'cryptography' in sys.modules)"


@pytest.mark.parametrize(("listen", "level"), [(":8000", "WARNING"), ("127.0.0.1:8000", "INFO")])
def test_open_access_is_logged_at_every_start_as_a_warning_if_other_machines_have_it(listen: str, level: str) -> None:
    begun = begin([sys.executable, "-c", LOADED], LISTEN=listen)
    (line,) = (json.loads(line) for line in begun.stderr.splitlines() if "AUTH=off" in line)
    assert "AUTH=off: EVERY CLIENT OF THIS GATEWAY MAY READ, STORE, FREEZE AND ARCHIVE" in line["message"]
    assert line["level"] == level
    assert begun.stdout.split() == ["False", "False"]
    assert GatewaySettings().AUTH is AuthMode.OFF


def test_keys_that_come_over_http_are_warned_of() -> None:
    begun = begin([sys.executable, "-c", LOADED], **JWT, JWT_JWKS="http://issuer.example.org/jwks")
    assert begun.stdout.split() == ["True", "True"]
    assert "JWT_JWKS=http://issuer.example.org/jwks" in begun.stderr
    assert "AUTH=off" not in begun.stderr
