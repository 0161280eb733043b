from collections.abc import Iterator
from typing import Any

import pytest

from gwclient.cli import main
from tests.support.command import Outcome
from tests.support.gateway import StandInGateway


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGateway]:
    for name in ("GWID", "DTCID", "INF", "SUP"):
        monkeypatch.delenv(name, raising=False)
    with StandInGateway() as gateway:
        monkeypatch.setenv("SRV", gateway.url)
        yield gateway


@pytest.fixture
def gwclient(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, captured.out, captured.err)

    return run
