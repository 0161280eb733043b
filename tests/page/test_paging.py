"""A hundred thousand segments on the page: it never holds more of them than it shows."""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from scripts.trio import Trio
from tests.support.browser import open_page, wait_for_state, wait_for_text

SEGMENTS = 100_000
PAGE = 25
T0 = 1_400_000_000
#: So many segments in a row have the same bytes, and share a file; one in ten of these groups is of the other channel.
ALIKE = 1000
GROUPS = SEGMENTS // ALIKE
FIRST_NAME = 1_795_000_000_000_000_000


def channel_of(group: int) -> str:
    return "H1:OFTEN" if group % 10 else "L1:SELDOM"


def name_of(number: int) -> str:
    return f"gwb{FIRST_NAME + number}.json"


def store(data: Path, catalog: sqlite3.Connection) -> None:
    """Put the segments into a buffer's folder and catalog, as it would itself, while it is not running.

    Through its routes this takes minutes: it would sync each group of them to the disk.
    """
    [batch] = catalog.execute("SELECT id FROM batches").fetchone()
    for group in range(GROUPS):
        body = f'{{"h":[1,2,3],"t":[{T0 + group},0.25],"meta":{{"channel":"{channel_of(group)}"}}}}'.encode()
        numbers = range(group * ALIKE, (group + 1) * ALIKE)
        first = data / name_of(numbers[0])
        first.write_bytes(body)
        for number in numbers[1:]:
            os.link(first, data / name_of(number))
        known = (batch, len(body), hashlib.sha256(body).hexdigest(), channel_of(group), T0 + group, 0.25, 3, False)
        catalog.executemany(
            "INSERT INTO segments (name, stored, batch, bytes, sha256, channel, t0, dt, n, recovered)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(name_of(number), FIRST_NAME + number, *known) for number in numbers],
        )
    catalog.execute(
        "INSERT INTO totals SELECT batch, channel, count(*), sum(bytes), min(t0), max(t0 + n * dt), max(n * dt),"
        " min(seq), max(seq) FROM segments GROUP BY batch, channel"
    )
    catalog.execute("UPDATE counter SET seq = (SELECT max(seq) FROM segments)")
    catalog.commit()


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory) -> Trio:
    home = tmp_path_factory.mktemp("full")
    start_shared_trio(home=home, services=1).stop()
    with closing(sqlite3.connect(home / "appdata" / "adm" / "catalog.sqlite")) as catalog:
        store(home / "datavar" / "data", catalog)
    return start_shared_trio(home=home)


@pytest.fixture(scope="module")
def page(trio: Trio, browser: Browser) -> Iterator[Page]:
    page, complaints = open_page(browser, f"{trio.url}/dspage", viewport={"width": 1440, "height": 900})
    wait_for_state(page, "Operational")
    wait_for_text(page, "n-segments", f"{SEGMENTS:,}")
    wait_for_rows(page, SEGMENTS)
    yield page
    assert complaints.errors == []


def wait_for_rows(page: Page, newest: int) -> None:
    """Wait for the page of rows that begins with the segment of this number."""
    wait_for_text(page, "segments-note", f"to {newest:,}")


def shown(page: Page) -> list[str]:
    """The names of the rows shown, from the top."""
    return page.locator("#segments tbody td:last-child").all_inner_texts()


def turn(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def test_pages_follow_each_other_without_a_gap_there_and_back(page: Page) -> None:
    for place in range(15):
        newest = SEGMENTS - place * PAGE
        wait_for_rows(page, newest)
        assert shown(page) == [name_of(newest - row) for row in range(1, PAGE + 1)]
        turn(page, "Older")
    wait_for_rows(page, SEGMENTS - 15 * PAGE)
    for place in range(14, -1, -1):
        turn(page, "Newer")
        wait_for_rows(page, SEGMENTS - place * PAGE)
    assert shown(page)[0] == name_of(SEGMENTS - 1)


def test_the_oldest_page_is_a_click_away_and_the_newest_too(page: Page) -> None:
    turn(page, "Oldest")
    wait_for_rows(page, PAGE)
    assert shown(page)[-1] == name_of(0)
    assert page.get_by_role("button", name="Older", exact=True).is_disabled()
    turn(page, "Newest")
    wait_for_rows(page, SEGMENTS)


def busy_seconds(cdp: CDPSession) -> float:
    """Return the CPU time that the page's thread has taken; other processes have no influence on it."""
    metrics = cdp.send("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def test_turning_pages_stutters_nowhere(page: Page) -> None:
    """Turning keeps the page's thread busy for a few frames at most, and makes the page no larger."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    taken = []
    for turns in range(1, 31):
        before = busy_seconds(cdp)
        turn(page, "Older")
        wait_for_rows(page, SEGMENTS - turns * PAGE)
        taken.append(busy_seconds(cdp) - before)
    assert max(taken) < 0.25, taken
    cdp.detach()
    expect(page.locator("#segments tbody tr")).to_have_count(PAGE)
    turn(page, "Newest")
    wait_for_rows(page, SEGMENTS)


def test_a_channel_and_a_span_are_found_among_all(page: Page) -> None:
    fields = page.locator("#segments-filter")
    fields.locator("[name=channel]").select_option("L1:SELDOM")
    newest = SEGMENTS - 9 * ALIKE  # the last group of ten that is of the other channel
    wait_for_rows(page, newest)
    assert shown(page) == [name_of(newest - row) for row in range(1, PAGE + 1)]
    fields.locator("[name=start]").fill(str(T0 + 30.5))
    fields.locator("[name=stop]").fill(str(T0 + 40))
    turn(page, "Show")
    wait_for_rows(page, 31 * ALIKE)
    fields.locator("[name=start]").fill("yesterday")
    turn(page, "Show")
    wait_for_text(page, "segments-note", "yesterday is not a GPS time")
    turn(page, "Clear")
    wait_for_rows(page, SEGMENTS)
