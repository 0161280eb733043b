"""A real browser for the page: its text, its plots, and every error that it reports."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Time limit of steps that have no limit of their own; none takes nearly as long.
PATIENCE_MS = 60_000


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the machine's Chromium without a window."""
    executable = next(filter(None, map(shutil.which, _NAMES)), None)
    if executable is None:
        pytest.skip(
            f"THE PAGE IS NOT TESTED: none of {', '.join(_NAMES)} is installed (Debian: apt-get install chromium)"
        )
    arguments = ["--in-process-gpu"]  # no graphics card is used; a process of its own costs messages with each picture
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to run as root in its sandbox
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Complaints:
    """Errors reported by a page's browser: violations of the policy, errors in scripts, missing files.

    Attributes:
        errors: the errors so far, in the browser's words.

    """

    def __init__(self, page: Page) -> None:
        self.errors: list[str] = []
        page.on("console", self._record_console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _record_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)


def open_page(browser: Browser, url: str, **context: Any) -> tuple[Page, Complaints]:
    """Open the page in a new context, and wait until it shows the datastore's state."""
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    complaints = Complaints(page)
    page.goto(url)
    return page, complaints


def wait_for_state(page: Page, word: str) -> None:
    """Wait until the page shows this state."""
    wait_for_text(page, "state-word", word)


def wait_for_text(page: Page, element: str, text: str) -> None:
    """Wait until the element with this id contains this text."""
    page.wait_for_function(
        "([id, text]) => document.getElementById(id).textContent.includes(text)", arg=[element, text]
    )


def resize(page: Page, width: int) -> None:
    """Make the page so wide, and wait until it fits: its plots are drawn anew after that."""
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)


def violations(page: Page, scheme: Literal["light", "dark"], *impacts: str) -> list[tuple[str, list[str]]]:
    """Return the rules of accessibility that the page breaks, those with some impacts only, and where."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    found = [each for each in Axe().run(page).response["violations"] if not impacts or each["impact"] in impacts]
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


def plot_data(page: Page, selector: str) -> list[dict[str, Any]]:
    """Return a plot's data after it was drawn."""
    page.locator(selector).scroll_into_view_if_needed()
    page.wait_for_function("selector => document.querySelector(selector).data?.length", arg=selector)
    data: list[dict[str, Any]] = page.evaluate(
        """selector => document.querySelector(selector).data.map(({x, y, z, name, text}) => ({
          x: Array.from(x), y: Array.from(y), z: z && Array.from(z, row => Array.from(row)), name, text}))""",
        selector,
    )
    return data
