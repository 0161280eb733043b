"""Fixtures of the tests in a browser; those that use a trio get the `trio` of the module."""

from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import Browser, Page

from scripts.trio import Trio
from tests.support.browser import Complaints, chromium, open_page, wait_for_state


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def client(trio: Trio) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=trio.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def visit(trio: Trio, browser: Browser) -> tuple[Page, Complaints]:
    page, complaints = open_page(browser, f"{trio.url}/dspage", viewport={"width": 1440, "height": 900})
    wait_for_state(page, "Operational")
    return page, complaints


@pytest.fixture
def page(visit: tuple[Page, Complaints]) -> Page:
    return visit[0]
