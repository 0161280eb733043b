from collections.abc import Callable

import pytest

from scripts.trio import Trio
from tools.benchmark import client as benchmark


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_SAMPLES", (300,))


def test_both_servers_are_measured_at_every_concurrency(start_trio: Callable[..., Trio]) -> None:
    trio = start_trio({"MAX_SIZE": "1000TB"})
    cells = list(benchmark.measure_servers(trio, 0.1))
    assert [(cell.server, cell.concurrency) for cell in cells] == [
        ("nothing", 16), ("nothing", 64), ("the trio", 16), ("the trio", 64),
    ]  # fmt: skip
    assert all(cell.rate > 0 and cell.megabytes > 0 and cell.cpu > 0 for cell in cells)
    stored = len(list((trio.home / "datavar" / "data").glob("gwb*.json")))
    assert stored >= 128  # a whole run of strain for each
