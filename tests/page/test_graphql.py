"""The GraphQL explorer in a real browser. The tests share one visit, and follow each other."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.trio import Trio
from tests.support.browser import Complaints, open_page, resize, violations, wait_for_text
from tests.support.segments import JSON

SEGMENT = {"h": [1, 2, 3, 4], "t": [100, 0.5], "meta": {"channel": "L1:STRAIN"}}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    trio = start_shared_trio()
    assert httpx2.post(f"{trio.url}/streamdata", json=SEGMENT, headers=JSON).json()["resp"] == "CREATED"
    return trio


@pytest.fixture(scope="module")
def visit(trio: Trio, browser: Browser) -> Iterator[tuple[Page, Complaints]]:
    page, complaints = open_page(browser, f"{trio.url}/search", viewport={"width": 1440, "height": 900})
    page.get_by_role("link", name="GraphQL").click()
    expect(field(page, "batches")).to_be_visible()  # the script runs, and its own request is answered
    yield page, complaints
    assert [text for text in complaints.errors if "422" not in text] == []  # the query that is too long


def run(page: Page, query: str | None = None, variables: str = "") -> dict[str, Any]:
    """Run a query by the keyboard, or that of the page, and return the answer."""
    if query is not None:
        page.get_by_label("Query", exact=True).fill(query)
        page.get_by_label("Variables, as JSON").fill(variables)
    with page.expect_response("**/graphql"):
        page.get_by_label("Query", exact=True).press("Control+Enter")
    expect(page.locator("#outcome")).not_to_have_text("Running")
    answer: dict[str, Any] = json.loads(page.locator("#answer").inner_text())
    return answer


def field(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=f"Insert {name}", exact=True)


def written(page: Page) -> str:
    return " ".join(page.get_by_label("Query", exact=True).input_value().split())


def test_the_first_example_is_answered(page: Page, trio: Trio) -> None:
    assert page.url == f"{trio.url}/graphql"
    [found] = run(page)["data"]["segments"]["segments"]
    assert found["channel"] == "L1:STRAIN"
    assert found["stop"] == 102


def test_every_example_is_valid(page: Page) -> None:
    options = page.get_by_label("Examples").locator("option").all_inner_texts()[1:]
    assert len(options) >= 5
    for option in options:
        page.get_by_label("Examples").select_option(option)
        assert "errors" not in run(page), option


def test_variables_are_sent_and_explained_if_they_are_wrong(page: Page) -> None:
    query = "query($where: Where) { segments(where: $where) { segments { channel } } }"
    assert run(page, query, '{"where": {"detector": ["L1"]}}')["data"]["segments"]["segments"] == [
        {"channel": "L1:STRAIN"}
    ]
    assert run(page, query, '{"where": {"detector": ["V1"]}}')["data"]["segments"]["segments"] == []
    page.get_by_label("Variables, as JSON").fill("{where")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#variables-failure")).to_contain_text("not JSON")


def test_an_error_is_shown_and_leads_to_its_line(page: Page) -> None:
    run(page, "{\n  segments {\n    nothing\n  }\n}")
    expect(page.locator("#errors")).to_contain_text("Cannot query field 'nothing'")
    page.get_by_role("button", name="Line 3").press("Enter")
    expect(page.locator("#query")).to_be_focused()
    assert page.locator("#query").evaluate("field => field.selectionStart") == len("{\n  segments {\n    ")
    page.get_by_label("Query", exact=True).fill("{ " + "a " * 6000 + "}")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#errors")).to_contain_text("the limit is 10000")


def test_fields_are_inserted_at_their_places_by_keyboard(page: Page) -> None:
    page.get_by_label("Query", exact=True).fill("")
    page.get_by_role("button", name="Fields of segments").first.press("Enter")
    expect(field(page, "segments")).to_have_count(2)
    field(page, "segments").first.press("Enter")
    assert written(page) == "query { segments { after more } }"
    page.get_by_role("button", name="Fields of segments").nth(1).press("Enter")
    expect(field(page, "seq").first).to_be_visible()
    for name in ("channel", "t0", "channel"):
        field(page, name).first.press("Enter")
        expect(field(page, name).first).to_be_focused()
    assert written(page) == "query { segments { after more segments { channel t0 } } }"
    wait_for_text(page, "inserted", "segments.segments.channel")
    field(page, "batch").last.press("Enter")
    fields = "id state opened frozen archived holder n_itm buff_size digest locality"
    assert written(page).endswith(f'batch(id: "") {{ {fields} }} }}')
    data = run(page)["data"]
    assert data["segments"]["segments"] == [{"channel": "L1:STRAIN", "t0": 100}]
    assert data["batch"] is None


def test_a_field_is_inserted_into_a_query_that_was_written_by_hand(page: Page) -> None:
    query = """# a comment {
    query named($n: Int = 1) @include(if: true) { # }
      other: segments(where: {conditions: ["a}"]}) { segments { t0 } }
      segments(first: $n) { more ... on SegmentPage { segments { dt } } } }
    fragment rest on Segment { n }"""
    page.get_by_label("Query", exact=True).fill(query)
    field(page, "t0").first.press("Enter")
    assert "segments(first: $n) { more ... on SegmentPage { segments { dt } } segments { t0 } } }" in written(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hinders_those_who_cannot_see_well(page: Page, scheme: Any) -> None:
    assert violations(page, scheme) == []


@pytest.mark.parametrize("width", [390, 1000, 1920])
def test_the_page_is_as_wide_as_the_screen(page: Page, width: int) -> None:
    resize(page, width)
