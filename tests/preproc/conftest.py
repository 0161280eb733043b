from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def narrow_sheets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Draw contact sheets with one column: drawing is most of a small run; test_plots looks at whole sheets."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.name.endswith("test_plots.py"):
            patch.setattr("preproc.plots._COLUMNS", 1)
        yield
