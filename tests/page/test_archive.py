"""The archive on the page, at a real trio with a tier. The tests share one visit, and follow each other."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from scripts.trio import Trio
from tests.support.browser import Complaints, resize, violations
from tests.support.segments import JSON, segment_body

WHOLE = re.compile(r"^✓ verified 20\d\d-\d\d-\d\d \d\d:\d\d$")

COPY = {"archive_to": ["copy"]}
TAPE_ONLY = {"archive_to": ["tape"], "keep_on_disk": 0}


@pytest.fixture(scope="module")
def tier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tier = tmp_path_factory.mktemp("tiers") / "copy"
    tier.mkdir()
    return tier


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], tier: Path) -> Trio:
    (tier.parent / "tape").mkdir()
    tape = f"folder://{tier.parent}/tape?mount=0&seek=0"
    settings = {
        "TIERS": f"copy=file://{tier} tape={tape}",
        "OBJECT_HIGH_WATER": "100%",
        "HOLDING_ARCHIVE_TO": "copy",
    }
    return start_shared_trio({"EVENTS_INTERVAL": "0.2", "MAX_SIZE": "1"}, each={"databuffer": settings})


def archive(client: httpx2.Client, segments: int, *, samples: int = 8, tiering: Any = COPY) -> str:
    """Archive a batch that has to be copied, and return its id."""
    for number in range(segments):
        client.post("/streamdata", content=segment_body(number, samples=samples), headers=JSON).raise_for_status()
    client.post("/cleanbuf", json={"msg": "done", "tiering": tiering}).raise_for_status()
    batches = client.get("/batches").json()["batches"]
    return str([each["id"] for each in batches if each["state"] == "ARCHIVED"][-1])


@pytest.fixture
def show(page: Page, client: httpx2.Client) -> Iterator[Callable[..., None]]:
    """Return a function that shows an overview with other fields than the datastore's: moves end when they want."""
    events = re.compile("/events$")

    def show(**fields: Any) -> None:
        overview = json.dumps(client.get("/overview").json() | fields)
        body = f"event: overview\ndata: {overview}\n\n"
        page.route(events, lambda route: route.fulfill(content_type="text/event-stream", body=body))
        page.reload()

    yield show
    page.unroute(events)
    page.reload()


def tier_cells(page: Page, tier: str) -> Any:
    return page.locator("#tiers tbody tr", has_text=re.compile(rf"^{tier}")).locator("td")


def test_before_the_first_batch_the_tiers_are_shown(page: Page) -> None:
    expect(page.locator("#archive")).to_be_visible()
    expect(page.locator("#archive-empty")).to_be_visible()
    expect(page.locator("#replicas-part")).to_be_hidden()
    expect(page.locator("#archive-note")).to_have_text("every copy that the policies want is verified")
    expect(tier_cells(page, "disk").nth(5)).to_have_text(re.compile(r"^[\d.]+ .B of [\d.]+ .B$"))
    expect(tier_cells(page, "copy").nth(2)).to_have_text("✓ answers")


def test_a_copy_is_counted_when_it_is_verified(page: Page, client: httpx2.Client) -> None:
    batch = archive(client, 20, samples=5000)
    cells = page.locator("#replicas tbody tr td")
    expect(page.locator("#replicas th")).to_have_text(["Batch", "Archived, UTC", "Bytes", "disk", "copy", "tape"])
    expect(cells).to_have_text([batch, re.compile("^20"), re.compile("B$"), WHOLE, WHOLE, "—"])
    expect(tier_cells(page, "copy").nth(3)).to_have_text("1")
    of_batch = page.locator("#batches tbody tr", has_text=batch).locator("td")
    expect(of_batch.nth(6)).to_have_text("verified in tiers")
    expect(of_batch.nth(4)).to_have_text(cells.nth(2).inner_text())
    expect(page.locator("#archive-note")).to_have_text("every copy that the policies want is verified")
    expect(page.locator("#log")).to_contain_text(f"batch {batch} is verified in tier copy")
    expect(page.locator("#moving")).to_be_hidden()


def test_moves_are_shown_while_they_run_and_recalls_while_they_wait(
    page: Page, client: httpx2.Client, show: Callable[..., None]
) -> None:
    overview = client.get("/overview").json()
    now, tiers = overview["time"], overview["tiers"]
    copying = {"batch": "b1", "step": "copy:copy", "began": now, "done": 621_000, "of": 1_242_000, "rate": 120_000.0}
    recalling = {"batch": "b2", "step": "recall", "began": now, "done": 0, "of": None, "rate": None}
    gone = tiers[-1] | {"name": "gone", "kind": "", "in_tiers": False, "replicas": 3, "unreadable": 2}
    show(
        left_out=2,
        tiers=[*(tier | {"missing": int(tier["name"] == "copy")} for tier in tiers), gone],
        moves=[each | {"reason": None} for each in (copying, recalling)],
        recalls=[{"batch": "b3", "since": now, "reason": None}],
    )
    expect(page.locator("#moving-table tbody tr")).to_have_text(
        [re.compile("^b1copy to copy 50 %621 kB of 1.24 MB120 kB/s"), re.compile("^b2recall from tape——")]
    )
    expect(page.locator("#recalls tbody tr")).to_have_text(re.compile(r"^1b3.+s—$"))
    expect(page.locator("#archive-note")).to_have_text("1 copy is missing")
    expect(tier_cells(page, "copy").nth(7)).to_have_text("1")
    expect(tier_cells(page, "gone")).to_contain_text(["gone", "—", "not in TIERS", "3"])
    expect(page.locator("#notices .notice", has_text="TIERS lacks a tier")).to_contain_text("only gone has them")
    left_out = page.locator("#notices .notice", has_text="Left out")
    expect(left_out).to_contain_text("2 archives or packs of files are left out, because the manifest cannot be read")


def test_the_view_of_a_batch_has_its_replicas_and_its_policy(page: Page, client: httpx2.Client) -> None:
    name = page.locator("#replicas .name").first
    name.focus()
    page.keyboard.press("Enter")
    rows = page.locator("#record-replicas-table tbody tr")
    expect(rows.locator("td:first-child")).to_have_text(["copy", "disk"])
    batch = name.inner_text()
    replica = client.get(f"/batches/{batch}/replicas").json()["replicas"][0]
    expect(rows.first).to_contain_text(f"batches/{batch}.tar")
    expect(rows.first.locator("td").nth(4)).to_have_attribute("title", replica["sha256"])
    expect(page.locator("#record-policy")).to_have_text("policy: a copy in copy; the disk keeps it")
    page.keyboard.press("Escape")
    page.locator("#current-steps").click()
    expect(page.locator("#record-replicas")).to_be_hidden()
    page.keyboard.press("Escape")


def test_a_copy_that_waits_for_its_next_attempt_says_so_with_the_reason(page: Page, client: httpx2.Client) -> None:
    batches = client.get("/batches").json()["batches"]
    batch = next(each for each in batches if each["replicas"])
    waiting = {"state": "WRITING", "verified": None, "error": "the drive is broken", "again": time.time() + 3600}
    for replica in batch["replicas"]:
        replica.update(waiting if replica["tier"] == "copy" else {})
    known = client.get(f"/batches/{batch['id']}/replicas").json() | {"replicas": batch["replicas"]}
    routes = re.compile("/batches$"), re.compile("/replicas$")
    page.route(routes[0], lambda route: route.fulfill(json={"batches": batches}))
    page.route(routes[1], lambda route: route.fulfill(json=known))
    page.reload()
    waits = re.compile(r"^waits, next attempt at \d\d:\d\d:\d\d UTC$")
    copy = page.locator("#replicas tbody tr", has_text=batch["id"]).locator("td").nth(4)
    expect(copy).to_have_text(waits)
    expect(copy.locator(".tag")).to_have_attribute("title", "the drive is broken")
    page.locator("#replicas .name", has_text=batch["id"]).click()
    row = page.locator("#record-replicas-table tbody tr", has_text="copy")
    expect(row.locator(".tag")).to_have_text(waits)
    expect(row).to_contain_text("the drive is broken")
    waiting["again"] = time.time() - 1
    for replica in batch["replicas"]:
        replica.update(waiting if replica["tier"] == "copy" else {})
    page.reload()
    expect(copy).to_have_text("waits for its turn")
    for route in routes:
        page.unroute(route)
    page.reload()
    expect(copy).to_have_text(WHOLE)


def test_a_tier_that_fails_is_the_first_thing_to_see(page: Page, client: httpx2.Client, tier: Path) -> None:
    away = tier.rename(tier.with_name("away"))
    batch = archive(client, 1)
    expect(tier_cells(page, "copy").nth(2)).to_have_text("✗ fails")
    notice = page.locator("#notices .notice", has_text="Tier copy fails")
    expect(notice).to_contain_text(f"there is no folder {tier}")
    expect(page.locator("#archive-note")).to_have_text("1 tier fails, 1 copy is missing")
    row = page.locator("#replicas tbody tr", has_text=batch).locator("td")
    expect(row.nth(3)).to_have_text("not verified")
    expect(row.nth(4)).to_have_text("—")
    away.rename(tier)
    expect(row.nth(4)).to_have_text(WHOLE)
    expect(tier_cells(page, "copy").nth(2)).to_have_text("✓ answers")
    expect(notice).to_have_count(0)


def test_a_batch_on_tape_is_named_until_it_is_recalled(page: Page, client: httpx2.Client) -> None:
    address = page.url
    page.goto("about:blank")  # the page draws new strain: if it is on tape by then, that recalls it
    first, second = [archive(client, 1, tiering=TAPE_ONLY) for _ in range(2)]
    for batch in (first, second):
        while client.get(f"/batches/{batch}").json()["locality"] != "TAPE":
            time.sleep(0.05)
    page.goto(address)
    for batch in (first, second):
        row = page.locator("#replicas tbody tr", has_text=batch).locator("td")
        expect(row.nth(5)).to_have_text(WHOLE)
        expect(row.nth(3)).to_have_text("—")
    expect(page.locator("#strain-empty")).to_contain_text("The latest strain is on tape.")
    expect(page.locator("#segments tbody tr").first).to_contain_text("on tape")
    expect(page.locator("#strain-view")).to_be_hidden()
    for table, cell in (("#replicas tbody", 0), ("#other-batches", 6)):
        expect(page.locator(f"{table} tr", has_text=second).locator("td").nth(cell)).to_contain_text("on tape")
    assert client.get(f"/batches/{second}/recall").json()["state"] == "NEARLINE", "to look at the page recalls nothing"
    for batch in (first, second):
        client.post(f"/batches/{batch}/recall").raise_for_status()
    expect(page.locator("#replicas tbody tr", has_text=second).locator("td").nth(4)).to_have_text(WHOLE)
    expect(page.locator("#recalls-part")).to_be_hidden()
    expect(page.locator("#other-batches tr", has_text=second)).not_to_contain_text("on tape")


def test_a_move_of_files_opens_their_record_which_does_not_have_the_label(
    page: Page, client: httpx2.Client, show: Callable[..., None]
) -> None:
    label = '<img src=x onerror="document.title=1">'
    order = {"label": label, "files": [{"path": "/a", "size": 3}]}
    made = client.post("/transactions", json=order).json()["transaction"]["id"]
    client.put(f"/transactions/{made}/files/a", content=b"abc").raise_for_status()
    show(moves=[{"batch": f"files/{made}", "step": "copy:copy", "began": 0.0, "done": 0, "of": None, "rate": None}])
    page.locator("#moving-table button", has_text=f"files/{made}").click()
    expect(page.locator("#record-title")).to_have_text(f"files {made}")
    expect(page.locator("#record-facts")).to_contain_text('"holding"')
    expect(page.locator("#record-facts")).not_to_contain_text("onerror")
    page.keyboard.press("Escape")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hinders_those_who_cannot_see_well(page: Page, scheme: Any) -> None:
    for opened in (False, True):
        if opened:
            page.locator("#replicas .name").first.click()
            expect(page.locator("#record-replicas")).to_be_visible()
        assert violations(page, scheme, "serious", "critical") == []
    page.keyboard.press("Escape")


@pytest.mark.parametrize("width", [390, 768, 1000, 1920])
def test_the_state_of_each_tier_is_in_view_at_any_width(page: Page, width: int) -> None:
    resize(page, width)
    for part in ("#tiers td:nth-child(1)", "#tiers td:nth-child(3)", "#replicas .name", "#replicas td:nth-child(4)"):
        box = page.locator(part).first.bounding_box()
        assert box, part
        assert box["x"] + box["width"] <= width, part
    if width >= 1000:
        hidden = page.locator("#tiers").evaluate("(table) => table.scrollWidth - table.parentElement.clientWidth")
        assert hidden <= -40, "the whole table is in view, with the padding of its panel"


def test_the_browser_had_nothing_to_complain_of(visit: tuple[Page, Complaints]) -> None:
    assert visit[1].errors == []
