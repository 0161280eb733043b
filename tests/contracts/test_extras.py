"""Each image installs one extra; none of them drags in what another service is made of."""

import re
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement

FORBIDDEN = {
    "databuffer": {"flask", "gunicorn", "numpy", "aiohttp", "gwpy", "fastapi-cli"},
    "dslogic": {"fastapi", "starlette", "uvicorn", "numpy", "aiohttp", "sqlalchemy", "gwpy"},
    "api": {"flask", "gunicorn", "numpy", "aiohttp", "sqlalchemy", "gwpy"},
    "tracing": {"fastapi", "flask", "grpcio", "numpy", "aiohttp"},
    "client": {"fastapi", "flask", "gunicorn", "uvicorn", "sqlalchemy"},
    "preproc": {"fastapi", "flask", "gunicorn", "uvicorn", "sqlalchemy", "gwpy", "distributed", "torch"},
}


def installed_with(name: str, extra: str, seen: set[tuple[str, str]]) -> set[str]:
    """The names of everything that `name[extra]` installs, as the installed distributions say."""
    key = (re.sub(r"[-_.]+", "-", name).lower(), extra)
    if key in seen:
        return set()
    seen.add(key)
    try:
        requirements = distribution(name).requires or []
    except PackageNotFoundError:  # for another platform
        return {key[0]}
    found = {key[0]}
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for wanted in requirement.extras or {""}:
                found |= installed_with(requirement.name, wanted, seen)
            found |= installed_with(requirement.name, "", seen)
    return found


@pytest.mark.parametrize("extra", FORBIDDEN)
def test_an_image_carries_no_other_services_framework(extra: str) -> None:
    installed = installed_with("glitchflow-datastore", extra, set())
    assert len(installed) > 3
    assert installed & FORBIDDEN[extra] == set()
