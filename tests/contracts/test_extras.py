"""Each image installs one extra, and no extra installs the framework of another service."""

import pytest

from tools.audit import installed_with

FORBIDDEN = {
    "databuffer": {"flask", "gunicorn", "scipy", "aiohttp", "gwpy", "fastapi-cli"},
    "dslogic": {"fastapi", "starlette", "numpy", "aiohttp", "sqlalchemy", "gwpy"},
    "api": {"flask", "gunicorn", "numpy", "aiohttp", "sqlalchemy", "gwpy"},
    "tracing": {"fastapi", "flask", "grpcio", "numpy", "aiohttp"},
    "client": {"fastapi", "flask", "gunicorn", "uvicorn", "sqlalchemy"},
    "preproc": {"fastapi", "flask", "gunicorn", "uvicorn", "sqlalchemy", "gwpy", "distributed", "torch"},
}


@pytest.mark.parametrize("extra", FORBIDDEN)
def test_an_image_carries_no_other_services_framework(extra: str) -> None:
    installed = {name for name, _ in installed_with("glitchflow-datastore", extra, {})}
    assert len(installed) > 3
    assert installed & FORBIDDEN[extra] == set()
