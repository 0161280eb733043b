from collections.abc import Iterator
from pathlib import Path

import pytest

from databuffer.storage.catalog import Catalog, Database


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog(Database(tmp_path / "catalog.sqlite"), tmp_path / ".ledger")
    catalog.open()
    yield catalog
    catalog.close()
