"""Records and steps on the page, at the gateway of a real trio. The tests share one visit, and follow each other."""

import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from scripts.trio import Trio
from tests.support.browser import Complaints, resize, violations
from tests.support.segments import JSON, segment_body

MARKUP = "<img src=x onerror='window.injected = 1'>"


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"EVENTS_INTERVAL": "0.2", "MAX_SIZE": "1"})


def claim(client: httpx2.Client, step: str, *after: str, kind: str = "file", limit: int = 1) -> list[tuple[str, int]]:
    """Return the records that a worker got, with the numbers of the attempts."""
    order = {"worker": f"{step}-1", "after": after, "kind": kind, "limit": limit, "attempts": 1}
    records = client.post(f"/steps/{step}/claim", json=order).json()["records"]
    return [(each["id"], next(one["attempt"] for one in each["steps"] if one["name"] == step)) for each in records]


def end(client: httpx2.Client, step: str, record: str, attempt: int, **outcome: Any) -> None:
    answer = client.put(f"/records/{record}/steps/{step}", json={"attempt": attempt, "state": "DONE"} | outcome)
    assert answer.status_code == 200, answer.text


def cells(page: Page, step: str) -> Any:
    return page.locator("#steps tbody tr", has_text=re.compile(rf"^{step}")).locator("td")


def test_without_steps_one_line_says_how_they_come_to_be(page: Page) -> None:
    expect(page.locator("#processing-empty")).to_contain_text("gwclient listen STEP")
    expect(page.locator("#processing-content")).to_be_hidden()


def test_the_numbers_follow_the_records_without_a_reload(page: Page, client: httpx2.Client) -> None:
    for number in range(4):
        client.put(f"/records/file/run 7/{number}", json={"run": "7"})
    [(record, attempt)] = claim(client, "copy")
    expect(cells(page, "copy")).to_have_text(["copy", "—", "file", "3", "1", "0", "0", "0", re.compile("s$"), "copy-1"])
    end(client, "copy", record, attempt)
    for record, attempt in claim(client, "copy", limit=2):
        end(client, "copy", record, attempt, state="FAILED", reason=f"Traceback\nOSError: {MARKUP}\n")
    claim(client, "noise", "copy")
    claim(client, "fit", "noise", "copy")
    expect(cells(page, "copy")).to_have_text(["copy", "—", "file", "1", "0", "2", "1", "1", re.compile("s$"), "—"])
    expect(page.locator("#processing-note")).to_have_text("1 running, 1 waiting, 2 failed, 1 done in the last hour")


def test_the_chain_is_drawn_from_left_to_right_and_described_in_words(page: Page) -> None:
    nodes = page.locator("#chain .node")
    expect(nodes.locator(".step-name")).to_have_text(["copy", "fit", "noise"])
    left: dict[str, float] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('#chain .node')].map(
        (node) => [node.querySelector('title').textContent, node.getBoundingClientRect().left]))"""
    )
    assert left["copy"] < left["noise"] < left["fit"]
    expect(page.locator("#chain .edge")).to_have_count(2)  # copy leads to fit through noise
    expect(page.locator("#chain .node.failed")).to_contain_text("2 failed")
    described = page.locator("#chain > desc").text_content() or ""
    assert "copy: 1 waiting, 0 running, 1 done, 2 failed." in described
    assert "fit after noise and copy: 0 waiting" in described


def test_a_failed_record_is_shown_with_its_reason_and_done_again(page: Page, client: httpx2.Client) -> None:
    failed = page.locator("#failures tbody tr")
    expect(failed).to_have_count(2)
    expect(failed.first).to_contain_text(f"OSError: {MARKUP}")
    record = failed.first.locator(".name").inner_text()
    failed.first.get_by_role("button", name=f"Retry copy of {record}").click()
    expect(failed).to_have_count(1)
    expect(page.locator("#retry-outcome")).to_have_text(f"{record} waits for copy again.")
    assert client.get(f"/records/{record}").json()["steps"][0]["state"] == "WAITING"
    expect(page.locator("#processing-title")).to_be_focused()
    assert page.evaluate("window.injected") is None


def test_the_steps_of_a_batch_are_a_timeline_that_is_live(page: Page, client: httpx2.Client) -> None:
    client.post("/streamdata", content=segment_body(1), headers=JSON)
    client.post("/cleanbuf", json={"msg": "done"})
    page.locator("#other-batches").get_by_role("button", name=re.compile("^Steps of")).click()
    timeline = page.locator("#record-steps li")
    expect(timeline.locator("strong")).to_have_text(["sealed", "archived"])
    expect(timeline.first).to_contain_text("by the datastore")
    [(record, attempt)] = claim(client, "spectrograms", "archived", kind="batch")
    expect(page.locator("#record-title")).to_have_text(record.replace("/", " "))
    expect(timeline.last).to_contain_text("RUNNING")
    expect(timeline.last).to_contain_text("attempt 1 by spectrograms-1 · started 20")
    end(client, "spectrograms", record, attempt, state="FAILED", reason="no space left")
    expect(timeline.last.locator(".reason")).to_have_text("no space left")
    timeline.last.get_by_role("button", name="Retry spectrograms").click()
    expect(timeline.last).to_contain_text("WAITING")
    page.keyboard.press("Escape")
    expect(page.locator("#record")).to_be_hidden()


def test_the_questions_of_a_thaw_and_of_an_archive_name_the_worker_that_has_the_batch(
    page: Page, client: httpx2.Client
) -> None:
    client.post("/streamdata", content=segment_body(2), headers=JSON)
    assert client.post("/train", json={"user": "alice", "token": "secret"}).json()["resp"] == "FROZEN"
    claimed = claim(client, "images", "sealed", kind="batch", limit=9)
    warning = page.locator("#order-warning")
    for order, effect in (("Thaw…", "discarded"), ("Archive…", "may still read")):
        page.get_by_role("button", name=order).click()
        expect(warning).to_contain_text("images-1 performs the step images on it.")
        expect(warning).to_contain_text(effect)
        page.keyboard.press("Escape")
    for record, attempt in claimed:
        end(client, "images", record, attempt)
    page.get_by_role("button", name="Thaw…").click()
    expect(warning).to_be_hidden()
    page.keyboard.press("Escape")
    client.post("/thaw", json={"user": "alice", "token": "secret"})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hinders_those_who_cannot_see_well(page: Page, scheme: Any) -> None:
    for opened in (False, True):
        if opened:
            page.locator("#failures .name").first.click()
            expect(page.locator("#record-steps li")).to_have_count(1)
        assert violations(page, scheme, "serious", "critical") == []
    page.keyboard.press("Escape")


@pytest.mark.parametrize("width", [390, 768, 1000, 1920])
def test_failures_and_their_buttons_are_in_view_at_any_width(page: Page, width: int) -> None:
    resize(page, width)
    for part in ("#failures .name", "#failures button[data-retry]", "#other-batches button[data-steps]"):
        box = page.locator(part).first.bounding_box()
        assert box, part
        assert box["x"] + box["width"] <= width, part


def test_the_browser_had_nothing_to_complain_of(visit: tuple[Page, Complaints]) -> None:
    assert visit[1].errors == []
