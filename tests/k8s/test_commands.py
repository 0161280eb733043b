"""Containers run commands that the programs accept, and probes request routes that the services have."""

import contextlib
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from dslogic.app import create_app as create_logic
from dslogic.asgi import asgi_application
from dslogic.settings import LogicSettings
from glitchflow_api.app import create_app as create_gateway
from glitchflow_api.settings import GatewaySettings
from gwclient.cli import gwclient
from preproc.cli import main as preproc
from tests.support.manifests import OVERLAYS, manifests, why_not_rendered

if reason := why_not_rendered():
    pytest.skip(reason, allow_module_level=True)

#: No service listens there.
NOWHERE = "http://127.0.0.1:9"


def commands() -> Iterator[tuple[str, list[str]]]:
    for folder in (*OVERLAYS, "base/gwclient"):
        for work in manifests(folder).workloads():
            for container in work.containers:
                where = f"{folder} {work.owner['metadata']['name']} {container['name']}"
                if "command" in container:
                    yield where, container["command"]


@pytest.mark.parametrize(("where", "command"), list(commands()), ids=[where for where, _ in commands()])
def test_every_command_is_one_its_program_takes(
    where: str, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    match command:
        case ["gwclient", name, *arguments]:
            monkeypatch.setenv("GLITCHFLOW_TOKEN", "from the Secret")
            with gwclient.commands[name].make_context(name, list(arguments)) as context:
                assert not context.args
        case ["python", "-m", "preproc", "watch", *arguments]:
            with pytest.raises(SystemExit):  # of --help, which comes after the check of what is before it
                preproc(["watch", *arguments, "--help"])
            assert capsys.readouterr().out.startswith("usage:")
        case ["python", "-m", "preproc", *arguments]:
            # It reports a missing batch (1), not an invalid command (2).
            with contextlib.suppress(SystemExit):
                assert preproc([*arguments, "--data", "/nowhere"]) == 1
            assert "usage:" not in capsys.readouterr().err
        case ["sleep", "infinity"]:
            pass
        case _:
            pytest.fail(f"{where}: nobody knows the program of {command}")


def test_the_gateway_is_alive_and_not_ready_without_the_tier_below() -> None:
    with TestClient(create_gateway(GatewaySettings(DS_BURL=NOWHERE))) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code >= 500


def test_dslogic_is_alive_and_not_ready_without_the_tier_below() -> None:
    with TestClient(asgi_application(create_logic(settings=LogicSettings(DB_BURL=NOWHERE)))) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code >= 500
