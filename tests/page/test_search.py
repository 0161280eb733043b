"""The search page in a real browser, used by a scientist. The tests share one visit, and follow each other."""

import json
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Error, Page, Route, expect

from scripts.trio import Trio
from tests.support.browser import Complaints, open_page, plot_data, resize, violations, wait_for_text
from tests.support.lease import unreadable

T0 = 1_400_000_000
RATE = 256
INJECTED = "X1:<img src=x onerror='window.injected = 1'>"


def segment(channel: str, second: int, **meta: Any) -> str:
    strain = [((7 * second + step) % 13 - 6) * 1e-21 for step in range(RATE)]
    return json.dumps({"h": strain, "t": [T0 + second, 1 / RATE], "meta": {"channel": channel, **meta}})


def segments() -> Iterator[str]:
    """H1 is complete, L1 has a gap of 5 s; their temperature rises, the range of V1 does; K1 has neither."""
    for second in range(40):
        temperature = round(0.01 + second / 1000, 3)
        grade = "noisy" if second % 4 == 0 else "12"
        yield segment("H1:STRAIN", second, temperature=temperature, grade=grade, range_mpc=50 + second)
        if not 10 <= second < 15:
            yield segment("L1:STRAIN", second, temperature=temperature, grade=grade, range_mpc=60 + second)
        yield segment("V1:STRAIN", second, range_mpc=30 + second)
        if second < 3:
            yield segment("K1:STRAIN", second)
    yield segment(INJECTED, 0, **{INJECTED: INJECTED})


def push(trio: Trio, *bodies: str) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    answers = httpx2.post(f"{trio.url}/streamdata", content="\n".join(bodies), headers=headers).text.splitlines()
    assert {json.loads(answer)["resp"] for answer in answers} == {"CREATED"}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    trio = start_shared_trio({"EVENTS_INTERVAL": "0.2"})
    push(trio, *segments())
    return trio


@pytest.fixture(scope="module")
def visit(trio: Trio, browser: Browser) -> tuple[Page, Complaints]:
    return open_page(browser, f"{trio.url}/dspage", viewport={"width": 1440, "height": 900})


def wait_for_count(page: Page, count: int) -> None:
    page.wait_for_function(
        """text => document.getElementById('count').textContent === text
            && !document.getElementById('result').hasAttribute('aria-busy')""",
        arg="1 segment" if count == 1 else f"{count} segments",
    )


def choose(page: Page, value: str, *, chosen: bool = True) -> None:
    page.locator(f'.option input[value="{value}"]').set_checked(chosen)


def hide(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
          document.dispatchEvent(new Event('visibilitychange'));
        }""",
        hidden,
    )


def has_focus(page: Page, selector: str) -> None:
    expect(page.locator(selector)).to_be_focused()


def conditions(page: Page) -> list[str]:
    return page.locator("#conditions legend").all_inner_texts()


def asked(page: Page) -> str:
    return str(page.evaluate("decodeURIComponent(location.search)"))


def test_the_status_page_leads_to_the_search_and_back(page: Page, trio: Trio) -> None:
    page.get_by_role("link", name="Search").click()
    wait_for_count(page, 119)
    assert page.url == f"{trio.url}/search"
    back = page.get_by_role("link", name="Status").evaluate("link => link.href")
    assert back == f"{trio.url}/dspage"


def test_names_are_text_and_nothing_else(page: Page) -> None:
    expect(page.locator("#filter-lists")).to_contain_text(INJECTED)
    plot_data(page, "#coverage-plot")
    assert page.evaluate("[window.injected, document.querySelectorAll('img[src=x]').length]") == [None, 0]


def test_two_facilities_have_the_conditions_that_both_have(page: Page) -> None:
    choose(page, "LIGO")
    wait_for_count(page, 75)
    assert conditions(page) == ["grade", "range_mpc", "temperature"]
    choose(page, "Virgo")
    wait_for_count(page, 115)
    assert conditions(page) == ["range_mpc"]
    assert asked(page) == "?facility=LIGO&facility=Virgo"


def test_a_site_and_an_instrument_are_chosen_from_lists(page: Page) -> None:
    page.get_by_text("Site and instrument").click()
    choose(page, "Hanford")
    wait_for_count(page, 40)
    choose(page, "Livingston")
    wait_for_count(page, 75)
    choose(page, "Advanced LIGO")
    wait_for_count(page, 75)
    assert asked(page) == "?facility=LIGO&facility=Virgo&site=Hanford&site=Livingston&instrument=Advanced+LIGO"
    for value in ("Hanford", "Livingston", "Advanced LIGO"):
        choose(page, value, chosen=False)
    wait_for_count(page, 115)


def test_the_count_follows_while_a_filter_is_typed(page: Page) -> None:
    page.get_by_label("From, GPS or UTC").press_sequentially(str(T0 + 5))
    wait_for_count(page, 100)
    page.get_by_label("range_mpc, to").fill("45")
    wait_for_count(page, 11)
    assert "condition=range_mpc<=45" in asked(page)
    page.get_by_role("button", name="Remove the filter range_mpc ≤ 45").click()
    wait_for_count(page, 100)
    page.get_by_label("To, GPS or UTC").fill("2024-05-17 16:53:22")
    expect(page.locator("#filter-stop-hint")).to_have_text("2024-05-17 16:53:22 UTC")
    wait_for_count(page, 40)
    assert f"stop={T0 + 20}" in asked(page)


def test_a_wrong_time_is_explained_and_not_asked(page: Page) -> None:
    before = asked(page)
    field = page.get_by_label("To, GPS or UTC")
    field.fill("yesterday")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#filter-stop-hint")).to_contain_text("Neither GPS seconds nor a UTC date")
    assert asked(page) == before
    field.fill(str(T0 + 1))
    expect(page.locator("#failure")).to_contain_text("start")
    field.fill(str(T0 + 20))
    wait_for_count(page, 40)


def test_an_answer_that_arrives_after_another_search_is_dropped(page: Page) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route(re.compile(r"/facets\?.*detector=H1"), hold)
    with page.expect_request(re.compile("/facets.*detector=H1")):
        choose(page, "H1")
    choose(page, "H1", chosen=False)
    wait_for_count(page, 40)
    for route in held:
        with suppress(Error):  # the page may have given it up
            route.continue_()
    assert held
    page.unroute_all(behavior="wait")
    page.evaluate("fetch('facets').then((answer) => answer.text())")  # it is answered after those that were held
    assert page.locator("#count").inner_text() == "40 segments"


def test_a_count_that_was_cut_says_so(page: Page) -> None:
    def cut(route: Route) -> None:
        found = route.fetch().json()
        facets = [{**facet, "after": 1} for facet in found["facets"]]
        route.fulfill(json={**found, "facets": facets, "after": 1})

    page.route(re.compile(r"/facets"), cut)
    choose(page, "H1")
    wait_for_text(page, "count", "more than 15 segments")
    expect(page.locator("#segments-note")).to_have_text("1 to 15 of more than 15, the newest first")
    expect(page.locator("#history li").first).to_contain_text("more than 15 segments")
    expect(page.locator(".option", has=page.locator('input[value="H1"]'))).to_contain_text("more than 15 segments")
    page.unroute_all(behavior="wait")
    choose(page, "H1", chosen=False)
    wait_for_count(page, 40)


def test_the_coverage_shows_the_gaps_of_each_channel(page: Page) -> None:
    plots = {plot["name"]: plot["x"] for plot in plot_data(page, "#coverage-plot")}
    assert plots["L1:STRAIN"] == [T0 + 5, T0 + 10, None, T0 + 15, T0 + 20, None]
    assert plots["H1:STRAIN"] == [T0 + 5, T0 + 20, None]
    rows = [text.split("\t") for text in page.locator("#gaps tbody tr").all_inner_texts()]
    assert rows == [
        ["H1:STRAIN", "15 s", "none", "", ""],
        ["L1:STRAIN", "10 s", "1", "5 s", f"GPS {T0 + 10} \u2013 {T0 + 15}"],
        ["V1:STRAIN", "15 s", "none", "", ""],
    ]


def test_a_segment_is_looked_at(page: Page) -> None:
    page.locator("#segments .name").first.click()
    expect(page.locator("#segment-title")).to_contain_text(f"{T0 + 19} \u2013 {T0 + 20}")
    plot_data(page, "#segment-view .strain-plot")
    page.keyboard.press("Escape")
    expect(page.locator("#segment")).to_be_hidden()


def test_pages_lead_to_all_segments_that_were_found(page: Page) -> None:
    note = page.locator("#segments-note")
    expect(note).to_have_text("1 to 25 of 40, the newest first")
    page.get_by_role("button", name="Older", exact=True).click()
    expect(note).to_have_text("26 to 40 of 40, the newest first")
    expect(page.locator("#segments tbody tr")).to_have_count(15)
    page.get_by_role("button", name="Newer", exact=True).press("Enter")
    expect(note).to_have_text("1 to 25 of 40, the newest first")
    has_focus(page, "#page-older")
    page.get_by_role("button", name="Oldest", exact=True).click()
    expect(note).to_have_text("16 to 40 of 40, the newest first")
    page.get_by_role("button", name="Newest", exact=True).click()
    expect(note).to_have_text("1 to 25 of 40, the newest first")


def test_a_selection_is_collected_over_two_searches(page: Page) -> None:
    page.get_by_role("button", name="Add all to the selection").press("Enter")
    wait_for_text(page, "selection-total", "40 segments, ")
    has_focus(page, "#select-all")
    page.get_by_role("button", name="Clear all filters").press("Enter")
    wait_for_count(page, 119)
    has_focus(page, "#count")
    choose(page, "K1:STRAIN")
    wait_for_count(page, 3)
    page.get_by_label("Select gwb").first.check()
    wait_for_text(page, "selection-total", "41 segments, ")
    page.get_by_label("Select this page").check()
    wait_for_text(page, "selection-total", "43 segments, ")
    page.get_by_text("Show what is selected").click()
    page.get_by_role("button", name="Remove V1:STRAIN").press("Enter")
    wait_for_text(page, "selection-total", "28 segments, ")
    has_focus(page, "#selected-channels tbody tr:last-child button")


def test_a_condition_that_is_a_text_is_chosen_by_its_text(page: Page) -> None:
    page.get_by_role("button", name="Clear all filters").click()
    wait_for_count(page, 119)
    page.get_by_label("grade").last.select_option("12 (56)")
    wait_for_count(page, 56)
    assert asked(page) == '?condition=grade="12"'
    plots = {plot["name"]: plot["x"] for plot in plot_data(page, "#coverage-plot")}
    assert len(plots["H1:STRAIN"]) == 3 * 10


def test_the_selection_becomes_one_bundle_with_all_of_its_segments(page: Page) -> None:
    size = page.locator("#selection-total").inner_text().partition(", ")[2]
    page.get_by_role("button", name="Make a bundle").click()
    expect(page.locator("#bundle-title")).to_have_text("Bundle of 28 segments, files as stored")
    with page.expect_download() as download:
        page.locator("#bundle-download").click()
    with tarfile.open(download.value.path()) as archive:
        names = archive.getnames()
        stored = sum(each.size for each in archive if each.name.endswith(".json") and "gwb" in each.name)
    assert sum("gwb" in name for name in names) == 28
    assert f"{stored / 1000:.3g} kB" == size


def test_a_search_becomes_a_bundle_that_is_built(page: Page, trio: Trio) -> None:
    of_one = f"channel=H1:STRAIN&start={T0 + 1}&stop={T0 + 2}"
    [found] = httpx2.get(f"{trio.url}/segments?{of_one}").json()["segments"]
    page.locator("#bundle-format").select_option("hdf5")
    building = unreadable(trio.home / "datavar" / "data" / found["name"])  # it is not finished before there is a socket
    with building, page.expect_websocket() as socket:
        page.get_by_role("button", name="Bundle this search").click()
    assert re.fullmatch(r"ws://[^/]+/bundles/\w+/ready", socket.value.url)
    expect(page.locator("#bundle-title")).to_have_text("Bundle of 56 segments, HDF5 files")
    expect(page.locator("#bundle-download")).to_be_visible()
    with page.expect_download() as download:
        page.locator("#bundle-download").click()
    with tarfile.open(download.value.path()) as archive:
        assert sum(name.endswith(".hdf5") for name in archive.getnames()) == 20
    expect(page.locator("#bundle-left-out")).to_be_hidden()


def test_what_the_files_of_a_bundle_leave_out_is_named_with_the_reason(page: Page) -> None:
    left_out = [{"channel": f"H1:{i}", "start": 1e9, "stop": 1e9 + 0.5, "reason": "no sample"} for i in range(5)]
    asked = re.compile(r"/bundles/\w+$")
    page.route(asked, lambda route: route.fulfill(json=route.fetch().json() | {"left_out": left_out}))
    page.reload()
    first = "Left out: H1:0 GPS 1000000000 to 1000000000.5 (no sample), H1:1 "
    expect(page.locator("#bundle-left-out")).to_contain_text(first)
    expect(page.locator("#bundle-left-out")).to_contain_text(" (no sample), and 2 more spans")
    page.unroute(asked)
    page.reload()
    expect(page.locator("#bundle-left-out")).to_be_hidden()


def test_an_earlier_search_gets_a_name_and_is_there_after_a_reload(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Name K1:STRAIN")).click()
    page.get_by_label("Name of the search").fill("all of KAGRA")
    page.keyboard.press("Enter")
    expect(page.locator("#history form")).to_have_count(0)
    expect(page.get_by_role("button", name="Rename all of KAGRA")).to_be_focused()
    page.reload()
    wait_for_count(page, 56)
    wait_for_text(page, "selection-total", "28 segments, ")
    expect(page.locator("#bundle-title")).to_have_text("Bundle of 56 segments, HDF5 files")
    shown = page.locator("#history a").all_inner_texts()
    assert shown[:2] == ['grade = "12"', "all of KAGRA"]
    assert shown[2].startswith("LIGO, Virgo, from GPS")
    assert len(shown) == 3, "searches that were only tried out are kept"
    page.get_by_role("link", name="all of KAGRA").press("Enter")
    wait_for_count(page, 3)
    expect(page.get_by_role("link", name="all of KAGRA")).to_be_focused()
    assert asked(page) == "?channel=K1:STRAIN"
    page.get_by_role("button", name="Remove all of KAGRA").click()
    expect(page.locator("#history a")).to_have_count(2)


def test_a_search_that_finds_nothing_says_so_until_a_segment_arrives(page: Page, trio: Trio) -> None:
    page.goto(page.url.partition("?")[0] + "?detector=G1")
    wait_for_count(page, 0)
    expect(page.get_by_role("button", name="Search all segments")).to_be_visible()
    expect(page.locator("#link-text")).to_have_text("Live")
    volts: dict[str, Any] = {f"volts_{number}": number for number in range(8)}
    push(trio, segment("G1:STRAIN", 0, **volts, quality=["DATA", "CBC_CAT1"]))
    wait_for_count(page, 1)
    expect(page.locator("#segments tbody tr")).to_have_count(1)
    expect(page.locator("#gaps tbody tr")).to_have_count(1)


def test_the_list_stays_while_it_is_used_and_offers_what_is_new(page: Page, trio: Trio) -> None:
    box = page.locator("#segments tbody input")
    box.focus()
    name = box.input_value()
    push(trio, segment("G1:STRAIN", 1), segment("K1:STRAIN", 9))
    wait_for_count(page, 2)
    expect(page.locator("#segments-note")).to_have_text("2 to 2 of 2, the newest first")
    expect(box).to_be_focused()
    assert box.input_value() == name
    page.get_by_role("button", name="Newest", exact=True).click()
    expect(page.locator("#segments-note")).to_have_text("1 to 2 of 2, the newest first")


def test_a_page_that_nobody_sees_has_no_stream_and_is_renewed_when_it_is_seen(page: Page, trio: Trio) -> None:
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/events")):
        hide(page, hidden=True)
    push(trio, segment("G1:STRAIN", 2))
    with page.expect_response(f"{trio.url}/events"):
        hide(page, hidden=False)
    wait_for_count(page, 3)


def test_many_conditions_are_folded_and_those_of_a_list_are_one(page: Page) -> None:
    expect(page.locator("#conditions > :visible")).to_have_count(6)
    page.get_by_role("button", name="Show all 9 conditions").click()
    page.get_by_label("volts_7, from").fill("7")
    wait_for_count(page, 1)
    page.get_by_role("button", name="Show fewer conditions").click()
    expect(page.locator("#conditions > :visible")).to_have_count(7)
    page.get_by_text("quality.0 … quality.1").click()
    page.get_by_label("quality.1", exact=True).select_option("CBC_CAT1")
    wait_for_count(page, 1)
    assert "condition=quality.1=CBC_CAT1" in asked(page)
    page.get_by_role("button", name="Clear all filters").click()
    wait_for_count(page, 123)


def test_filters_are_used_by_keyboard_alone(page: Page) -> None:
    page.get_by_label("To, GPS or UTC").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator("#chosen")).to_contain_text("LIGO")
    wait_for_count(page, 75)
    assert page.evaluate("document.activeElement.value") == "LIGO"
    page.keyboard.press("Space")
    wait_for_count(page, 123)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hinders_those_who_cannot_see_well(page: Page, scheme: Any) -> None:
    assert violations(page, scheme) == []


@pytest.mark.parametrize("width", [390, 1000, 1920])
def test_the_page_is_as_wide_as_the_screen(page: Page, width: int) -> None:
    resize(page, width)
    right: float = page.locator("#segments tbody .name").first.evaluate("name => name.getBoundingClientRect().right")
    assert right <= width, "the GPS span of a segment is not in view"


def test_the_browser_had_nothing_to_complain_of(visit: tuple[Page, Complaints]) -> None:
    wrong = [text for text in visit[1].errors if "422" not in text]  # the stop before the start
    assert wrong == []


def test_a_parameter_of_the_address_that_is_no_field_is_named(page: Page, trio: Trio) -> None:
    page.goto(f"{trio.url}/search?detectr=L1")
    unknown = page.locator("#unknown")
    expect(unknown).to_have_text("Not searched for, because a query has no field of this name: detectr")
    page.get_by_label("From, GPS or UTC").fill("0")
    expect(unknown).to_be_hidden()
