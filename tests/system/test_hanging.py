"""A service that hangs is named by those in front of it, soon."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.typed import type_client


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio()


@contextmanager
def hanging(trio: Trio, service: str) -> Iterator[None]:
    """Stop a service and its workers for a while."""
    group = os.getpgid(trio.processes[service].pid)
    assert group != os.getpgid(0), "the services have process groups of their own"
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


@pytest.mark.parametrize(("service", "name"), [("databuffer", "the buffer"), ("dslogic", "dslogic")])
def test_readiness_and_the_doctor_name_the_service_that_hangs(
    trio: Trio, capsys: pytest.CaptureFixture[str], service: str, name: str
) -> None:
    httpx2.get(f"{trio.url}/readyz").raise_for_status()
    with hanging(trio, service):
        assert httpx2.get(f"{trio.url}/healthz").status_code == 200
        answer = httpx2.get(f"{trio.url}/readyz", timeout=60)
        assert answer.status_code == 504
        assert answer.json()["detail"].startswith(f"{name} at ")
        code, told = type_client(f".venv/bin/gwclient doctor --srv {trio.url}", capsys)
        assert code == 1
        assert f"ok    address: a gateway answers at {trio.url}\n" in told
        assert f"wrong readiness: GET /readyz answered 504: {name} at " in told
    httpx2.get(f"{trio.url}/readyz", timeout=60).raise_for_status()


def test_the_pages_say_soon_that_dslogic_hangs(trio: Trio) -> None:
    pages = "/dspage", "/search", "/graphql"
    for page in pages:
        httpx2.get(f"{trio.url}{page}").raise_for_status()
    with hanging(trio, "dslogic"):
        for page in pages:
            answer = httpx2.get(f"{trio.url}{page}", timeout=60)  # shorter than the 75 s of other requests
            assert answer.status_code == 504
            assert answer.json()["detail"].startswith("dslogic at ")
    httpx2.get(f"{trio.url}/dspage", timeout=60).raise_for_status()
