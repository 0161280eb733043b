from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gwclient.spool import Spool


@pytest.fixture(autouse=True)
def fresh_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use new folders for cursors, spools and downloads in every test."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    return home


@pytest.fixture
def open_spool() -> Iterator[Callable[[Path, int], Spool]]:
    """Return a function that opens a spool, which is closed when the test ends."""
    with ExitStack() as stack:
        yield lambda folder, most: stack.enter_context(closing(Spool(folder, most)))
