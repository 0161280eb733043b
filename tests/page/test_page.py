"""The page in a real browser, at the gateway of a real trio. The tests share one visit, and follow each other."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest
from astropy.time import Time
from playwright.sync_api import Browser, Page, Route, expect

from gwwire.spans import stop_of
from scripts.trio import Trio
from tests.support.browser import Complaints, open_page, plot_data, resize, violations, wait_for_state, wait_for_text

RATE = 1024
T0 = 1_400_000_000
INJECTED = "<script>window.injected = 1</script><img src=x onerror='window.injected = 2'>"


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_SIZE": "50kB", "ON_FROZEN": "rotate", "EVENTS_INTERVAL": "0.5"})


def strain_of(second: int) -> list[float]:
    """A second of noise, the same each time, with a sine-Gaussian in the third one."""
    noise = np.random.default_rng(second).normal(scale=1e-21, size=RATE)
    if second == 2:
        times = np.arange(RATE) / RATE - 0.5
        noise += 2e-20 * np.exp(-((times / 0.02) ** 2)) * np.sin(2 * np.pi * 128 * times)
    return [float(sample) for sample in noise]


def push(client: httpx2.Client, second: int, channel: str = "H1:TEST", **meta: Any) -> None:
    body = {"h": strain_of(second), "t": [T0 + second, 1 / RATE], "meta": {"channel": channel, **meta}}
    assert client.post("/streamdata", json=body).json()["resp"] == "CREATED"


def test_an_empty_datastore_shows_the_commands_that_push_to_it(page: Page, trio: Trio) -> None:
    expect(page.locator("#n-segments")).to_have_text("0")
    expect(page.locator("#lag")).to_have_text("—")
    expect(page.locator("#coverage-empty")).to_be_visible()
    expect(page.locator("#strain-empty")).to_be_visible()
    expect(page.locator("#freeze")).to_be_disabled()
    commands = page.locator("#start-commands code").all_inner_texts()
    assert commands == ["make setup", f"export SRV={trio.url}", ".venv/bin/gwclient push --event GW150914"]
    others = page.locator("#start-others code").all_inner_texts()
    assert others == [".venv/bin/gwclient push FILE", ".venv/bin/gwclient simulate"]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name=f"Copy “export SRV={trio.url}”").click()
    assert page.evaluate("navigator.clipboard.readText()") == f"export SRV={trio.url}"


def test_a_volume_that_takes_nothing_is_the_first_thing_to_see(page: Page, trio: Trio) -> None:
    data = trio.home / "datavar" / "data"
    data.rename(data.with_name("moved"))
    try:
        wait_for_state(page, "Cannot store")
        expect(page.locator("#state-note")).to_contain_text(f"cannot be written to: {data} · Operational for")
        expect(page).to_have_title("Cannot store · GlitchFlow Datastore")
        bad = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--bad').trim()")
        shown = page.evaluate("getComputedStyle(document.getElementById('state')).getPropertyValue('--tone').trim()")
        assert shown == bad
        expect(page.locator(".on-failing")).to_be_visible()
    finally:
        data.with_name("moved").rename(data)
    wait_for_state(page, "Operational")


def test_the_first_view_is_light(page: Page) -> None:
    page.wait_for_function("() => window.Plotly")
    sizes: list[int] = page.evaluate(
        "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
        ".map(({transferSize}) => transferSize)"
    )
    assert sum(sizes) < 1_500_000


def test_the_first_view_does_not_wait_for_the_plotting_library(trio: Trio, browser: Browser) -> None:
    page, complaints = open_page(browser, "about:blank")
    held: list[Route] = []
    library = re.compile("/plotly")
    page.route(library, lambda route: held.append(route))  # noqa: PLW0108 (playwright refuses builtins)
    with page.expect_request(library):
        page.goto(f"{trio.url}/dspage", wait_until="commit")
    wait_for_state(page, "Operational")
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")
    assert not page.evaluate("window.Plotly")
    for route in held:
        route.continue_()
    page.wait_for_function("() => window.Plotly")
    assert complaints.errors == []
    page.context.close()


def test_the_page_measures_segments_by_the_rule_of_the_services(page: Page) -> None:
    spacings = [0.00024414, 1 / 4096, 6.1035e-05, 1 / 4096.5, 59.9999999, 0.7, 1e-9, 1e6, 1 / 10_000]
    seconds: list[float] = page.evaluate(
        "async (spacings) => {"
        "  const urls = performance.getEntriesByType('resource').map(({ name }) => name);"
        "  const { secondsOf } = await import(urls.find((url) => url.includes('/format.js')));"
        "  return spacings.map((dt) => secondsOf({ n: 1000000, dt }));"
        "}",
        spacings,
    )
    assert seconds == pytest.approx([stop_of(0.0, 10**6, dt) for dt in spacings], rel=1e-15)


def test_a_push_is_on_the_page_without_a_reload(page: Page, client: httpx2.Client) -> None:
    push(client, 0)
    wait_for_text(page, "n-segments", "1")
    outlook = r"(, in [\d mins]+ at this rate)?"  # it is gone ten seconds after the last segment
    expect(page.locator("#fill-rate")).to_have_text(re.compile(rf"^can be frozen at 50\.0 kB{outlook}$"))
    expect(page.locator("#freeze")).to_be_disabled()
    expect(page.locator("#freeze")).to_have_attribute("title", re.compile(r"can be frozen at 50\.0 kB \(MAX_SIZE\)"))
    expect(page.locator("#start")).to_be_hidden()


def test_the_numbers_are_those_of_the_overview(page: Page, client: httpx2.Client) -> None:
    for second in (1, 2, 3, 6, 7):
        push(client, second, source="L-L1_LOSC.hdf5", quality=["DATA", "CBC_CAT1"])
    push(client, 0, "L1:TEST")
    wait_for_text(page, "n-segments", "7")
    overview = client.get("/overview").json()
    size = overview["buff_size"]
    expect(page.locator("#fill-size")).to_have_text(f"{size / 1000:.3g} kB")
    assert page.locator("#fill").get_attribute("aria-valuenow") == str(min(100, size * 100 // 50_000))
    expect(page.locator("#n-seconds")).to_have_text("7 s")
    expect(page.locator("#n-seconds-hint")).to_have_text("in 2 channels")
    expect(page.locator("#lag")).to_have_text("2024-05-17")
    expect(page.locator("#lag")).not_to_have_class(re.compile("attention"))
    expect(page.locator("#channels tbody td:first-child")).to_have_text(["H1:TEST", "L1:TEST"])
    expect(page.locator("#channels tbody td:nth-child(6)")).to_have_text([str(T0 + 8), str(T0 + 1)])


def test_the_coverage_shows_the_gap(page: Page) -> None:
    first, second = plot_data(page, "#coverage-plot")
    assert first["name"] == "H1:TEST"
    assert first["x"] == [T0, T0 + 4, None, T0 + 6, T0 + 8, None]
    assert second["x"] == [T0, T0 + 1, None]
    assert set(first["y"]) - {None} == {0}


def test_the_coverage_is_zoomed_with_the_keyboard_too(page: Page) -> None:
    shown = "() => document.getElementById('coverage-plot').layout.xaxis.range"
    start, stop = page.evaluate(shown)
    page.get_by_role("button", name="Zoom in").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"before => ({shown})()[0] > before", arg=start)
    closer = page.evaluate(shown)
    assert closer[1] - closer[0] == pytest.approx((stop - start) / 2)
    page.keyboard.press("Enter")
    page.wait_for_function(
        f"([start, stop]) => {{ const [a, b] = ({shown})(); return b - a < stop - start; }}", arg=closer
    )
    ticks = page.locator("#coverage-plot .xtick text").all_text_contents()
    assert len(set(ticks)) == len(ticks) > 1
    page.get_by_role("button", name="Whole span").click()
    page.wait_for_function(f"before => ({shown})()[0] <= before", arg=start)


def test_the_coverage_read_anew_is_the_one_that_grew(page: Page) -> None:
    grown = plot_data(page, "#coverage-plot")
    with page.expect_response(re.compile("/coverage")):
        page.select_option("#coverage-of", "all")
    page.wait_for_timeout(200)
    assert [trace["x"] for trace in plot_data(page, "#coverage-plot")] == [trace["x"] for trace in grown]


def test_a_segment_is_described_beside_its_neighbours_and_can_be_downloaded(page: Page, client: httpx2.Client) -> None:
    listed = client.get("/segments", params={"channel": "H1:TEST", "start": T0 + 2, "stop": T0 + 3}).json()
    [name, digest] = [listed["segments"][0][key] for key in ("name", "sha256")]
    page.locator(f"#segments .name[data-name='{name}']").click()
    dialog = page.locator("#segment")
    expect(dialog.locator("h2")).to_have_text(f"H1:TEST · {T0 + 2} \N{EN DASH} {T0 + 3}")
    dialog.get_by_role("button", name="Next").click()
    expect(dialog.locator("h2")).to_have_text(f"H1:TEST · {T0 + 3} \N{EN DASH} {T0 + 4}")
    dialog.get_by_role("button", name="Previous").click()
    expect(dialog.locator("dl")).to_contain_text("Source fileL-L1_LOSC.hdf5")
    expect(dialog.locator("dl")).to_contain_text("Data qualityDATA, CBC_CAT1")
    for button, copied in (("Copy the GPS start", str(T0 + 2)), ("Copy the digest", digest)):
        dialog.get_by_role("button", name=button).click()
        assert page.evaluate("navigator.clipboard.readText()") == copied
    with page.expect_download() as download:
        dialog.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == name
    assert download.value.path().read_bytes() == client.get(f"/segments/{name}").content
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_the_ingest_rate_adds_up_to_what_was_stored(page: Page, client: httpx2.Client) -> None:
    [bars] = plot_data(page, "#ingest-plot")
    stored = client.get("/stats").json()["buff_size"]
    unit = {"B/s": 1, "kB/s": 1e3, "MB/s": 1e6}
    scale = unit[page.locator("#ingest-plot .ytitle").text_content() or ""]
    assert sum(bars["y"]) * scale * 10 == pytest.approx(stored, rel=1e-6)


def test_a_freeze_is_confirmed_done_and_shown_with_its_holder(page: Page, client: httpx2.Client) -> None:
    page.get_by_role("button", name="Freeze…").click()
    dialog = page.locator("#order")
    assert "7 segments" in dialog.inner_text()
    dialog.get_by_label("Your name").fill("alice <b>")
    dialog.get_by_role("button", name="Freeze").click()
    wait_for_text(page, "outcome", "Frozen: 7 segments")
    wait_for_state(page, "Frozen")
    expect(page.locator("#state-note")).to_contain_text("held by alice <b>")
    token = page.locator("#order-secret-token").inner_text()
    assert re.fullmatch("[0-9a-f]{32}", token)
    dialog.get_by_role("button", name="Copy the token").click()
    assert page.evaluate("navigator.clipboard.readText()") == token
    dialog.get_by_role("button", name="Done").click()
    expect(page.locator("#order-secret-token")).to_have_text("")
    assert token not in page.content()
    assert client.post("/thaw", json={"user": "alice <b>", "token": "guessed"}).status_code == 403


def test_segments_after_a_freeze_are_in_the_next_batch(page: Page, client: httpx2.Client) -> None:
    push(client, 20)
    wait_for_text(page, "notices", "Next batch 1 segment")


def test_the_tab_that_froze_the_batch_thaws_it_without_a_token(page: Page) -> None:
    page.get_by_role("button", name="Thaw…").click()
    dialog = page.locator("#order")
    expect(dialog.get_by_label("Token")).to_be_hidden()
    dialog.get_by_role("button", name="Thaw").click()
    wait_for_text(page, "outcome", "Thawed")
    wait_for_state(page, "Operational")
    wait_for_text(page, "n-segments", "8")


def test_the_batch_of_another_user_is_thawed_and_archived_with_its_holder_in_view(
    page: Page, client: httpx2.Client
) -> None:
    page.get_by_role("button", name="Archive…").click()
    expect(page.locator("#order-title")).to_have_text("Archive the batch?")
    assert client.post("/train", json={"user": "bob", "token": "of bob"}).json()["holder"] == "bob"
    page.evaluate("document.getElementById('order-go').click()")  # the batch shown is no longer the one archived
    expect(page.locator("#outcome")).to_have_text("The question was closed: bob has frozen the batch meanwhile.")
    expect(page.locator("#order")).to_be_hidden()
    wait_for_text(page, "current-holder", "bob")
    page.get_by_role("button", name="Archive…").click()
    expect(page.locator("#order-title")).to_have_text("Archive the batch of bob?")
    expect(page.locator("#order-warning")).to_contain_text("Ask bob first")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Thaw…").click()
    expect(page.locator("#order-hint")).to_contain_text("bob chose the token")
    page.locator("#order").get_by_label("Your name").fill("bob")
    page.locator("#order").get_by_label("Token").fill("of bob")
    page.locator("#order").get_by_role("button", name="Thaw").click()
    wait_for_state(page, "Operational")
    events = ["Thawed", "Frozen", "Thawed", "Frozen", "Cannot store", "Started"]
    expect(page.locator("#log .event")).to_have_text(events)


def test_an_order_is_given_with_the_keyboard_alone_and_taken_back_with_escape(page: Page) -> None:
    page.get_by_role("button", name="Archive…").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#order")).to_be_visible()
    assert "8 segments" in page.locator("#order-effect").inner_text()
    page.keyboard.press("Escape")
    expect(page.locator("#order")).to_be_hidden()
    assert page.evaluate("document.activeElement.id") == "clean"


def test_an_archived_batch_is_listed_with_its_manifest_and_can_be_verified(page: Page, client: httpx2.Client) -> None:
    overview = client.get("/overview").json()
    page.get_by_role("button", name="Archive…").click()
    with page.expect_request("**/cleanbuf") as sent:
        page.locator("#order").get_by_role("button", name="Archive").click()
    order = sent.value.post_data_json or {}
    assert (order["batch"], order["holder"]) == (overview["batch"], overview["holder"] or "")
    wait_for_text(page, "outcome", "Archived 8 segments")
    wait_for_text(page, "n-segments", "0")
    wait_for_text(page, "batches-note", "1 archived")
    page.select_option("#coverage-of", "batch")
    expect(page.locator("#coverage-empty")).to_have_text("The current batch is empty.")
    expect(page.locator("#strain-note")).to_contain_text("in an archived batch")
    expect(page.locator("#fill-rate")).to_have_text("can be frozen at 50.0 kB")
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile("Manifest")).click()
    [archived] = [each for each in client.get("/batches").json()["batches"] if each["state"] == "ARCHIVED"]
    assert json.loads(download.value.path().read_bytes())["digest"] == archived["digest"]
    page.get_by_role("button", name=re.compile("Verify")).click()
    page.wait_for_function("() => document.querySelector('#batches .tag.intact')")
    assert client.get(f"/batches/{archived['id']}").json()["verification"]["state"] == "intact"
    expect(page.locator("#log .event").first).to_have_text("Verified")
    expect(page.locator("#log .event").nth(1)).to_have_text("Archived")
    for width in (1100, 390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        expect(page.locator("#other-batches .id")).to_be_visible()
        expect(page.locator("#other-batches .tag.intact")).to_be_visible()


def test_a_channels_name_is_text_and_nothing_else(page: Page, client: httpx2.Client) -> None:
    push(client, 30, INJECTED, event=INJECTED)
    wait_for_text(page, "n-segments", "1")
    page.select_option("#strain-channel", label=INJECTED)
    plot_data(page, "#strain-view .strain-plot")
    plot_data(page, "#coverage-plot")
    page.locator("#segments tbody .name").first.click()
    page.wait_for_function("text => document.getElementById('segment-facts').textContent.includes(text)", arg=INJECTED)
    page.keyboard.press("Escape")
    assert INJECTED in page.locator("#channels").inner_text()
    assert INJECTED in page.locator("#segments").inner_text()
    assert page.evaluate("document.querySelectorAll('img[src=x], main script').length") == 0
    assert page.evaluate("window.injected") is None


def test_gps_and_utc_are_astropys(page: Page) -> None:
    leaps = [46_828_800, 820_108_813, 1_167_264_017]
    times = [0, 1, T0, 1_479_283_000, *(leap + step for leap in leaps for step in (-2, -1, 1, 2))]
    module = page.locator("script[type=module]").get_attribute("src")
    written: list[str] = page.evaluate(
        """async ([page, times]) => {
          const { utcOfGps } = await import(new URL(page.replace('page.js', 'format.js'), document.baseURI));
          return times.map(gps => utcOfGps(gps));
        }""",
        [module, times],
    )
    assert written == [Time(gps, format="gps", scale="tai").utc.iso[:19] for gps in times]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hinders_those_who_cannot_see_well(page: Page, scheme: Any) -> None:
    assert violations(page, scheme, "serious", "critical") == []


@pytest.mark.parametrize("width", [390, 1000, 1440, 1920])
def test_the_page_is_as_wide_as_the_screen(page: Page, width: int) -> None:
    resize(page, width)
    right: float = page.locator("#segments tbody .name").first.evaluate("name => name.getBoundingClientRect().right")
    assert right <= width, "the GPS span of a segment is not in view"
    right = page.locator("#batches .row-actions").first.evaluate("cell => cell.getBoundingClientRect().right")
    assert right <= width, "the buttons of a batch are not in view"
    tops = [page.locator(panel).evaluate("panel => panel.offsetTop") for panel in ("#state", ".batches", ".cards")]
    assert tops == sorted(tops)
    cut: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('.figure, .state-word, .card h3, button, .panel h2')]
        .filter(each => each.offsetParent && each.scrollWidth > each.clientWidth + 1).map(each => each.outerHTML)"""
    )
    assert cut == []


def test_the_browser_had_nothing_to_complain_of(visit: tuple[Page, Complaints]) -> None:
    assert visit[1].errors == []
