"""The page when the datastore goes away, when it asks who one is, and behind a proxy that gives it a path prefix."""

import signal
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, Page, Request, expect

from glitchflow_api.key_file import change_keys, make_key
from gwwire.public import Scope
from scripts.trio import Trio
from tests.support.browser import open_page, wait_for_state, wait_for_text
from tests.support.lease import unreadable
from tests.support.segments import JSON, segment_body

PREFIX = "/glitchflow"
#: Told of a connection, and not passed on (RFC 9110).
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key file, and the keys in it: a reader's, and alice's, who may train and work too."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"

    def make(name: str, *scopes: Scope) -> str:
        key, record = make_key(name, list(scopes))
        change_keys(file, lambda keys: keys.update({record.id: record}))
        return key

    return {
        "file": str(file),
        "reader": make("reader", Scope.READ),
        "alice": make("alice", Scope.READ, Scope.TRAIN, Scope.STREAM, Scope.WORK),
    }


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], keys: dict[str, str]) -> Trio:
    settings = {"AUTH": "keys", "KEYS_FILE": keys["file"], "MAX_SIZE": "10", "EVENTS_INTERVAL": "0.5"}
    return start_shared_trio(settings)


class _Proxy(BaseHTTPRequestHandler):
    """An ingress: takes the prefix away, tells of it, and streams what comes."""

    upstream = ""

    def _pass_on(self) -> None:
        if not self.path.startswith(f"{PREFIX}/"):
            self.send_error(404)
            return
        connection = HTTPConnection(self.upstream, timeout=60)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        told = {"X-Forwarded-Prefix": PREFIX, "X-Forwarded-Host": self.headers["Host"], "Host": self.upstream}
        try:
            connection.request(self.command, self.path.removeprefix(PREFIX), body or None, {**headers, **told})
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while part := answer.read1():
                self.wfile.write(part)
                self.wfile.flush()
        except (OSError, HTTPException):  # either side went away
            pass
        finally:
            self.close_connection = True
            connection.close()

    do_GET = do_POST = do_DELETE = _pass_on  # noqa: N815 (the library's names)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def proxied(trio: Trio) -> Iterator[str]:
    """The gateway's address behind a proxy at /glitchflow/."""
    handler = type("Proxy", (_Proxy,), {"upstream": urlsplit(trio.url).netloc})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
        server.shutdown()
        thread.join(10)


@pytest.fixture(scope="module")
def page(proxied: str, browser: Browser) -> Page:
    page, _ = open_page(browser, f"{proxied}/", viewport={"width": 1200, "height": 900})
    assert page.url == f"{proxied}/dspage"
    return page


def push(trio: Trio, keys: dict[str, str], number: int) -> None:
    headers = {**JSON, "Authorization": f"Bearer {keys['alice']}"}
    answer = httpx2.post(f"{trio.url}/streamdata", content=segment_body(number), headers=headers)
    assert answer.json()["resp"] == "CREATED"


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.locator("#sign").get_by_role("button", name="Sign in").click()


def test_without_a_credential_there_is_a_card_to_sign_in_and_nothing_else(page: Page) -> None:
    expect(page.locator("#sign")).to_be_visible()
    expect(page.locator("main > :visible")).to_have_count(1)
    expect(page.locator("#banner")).to_be_hidden()
    sign_in(page, "gf_000000000000_wrong")
    wait_for_text(page, "sign-failure", "not known")


def test_a_reader_sees_everything_and_is_offered_no_order(page: Page, keys: dict[str, str]) -> None:
    sign_in(page, keys["reader"])
    wait_for_state(page, "Operational")
    wait_for_text(page, "who-name", "reader")
    expect(page.locator("#current-state")).to_have_text("OPEN")
    expect(page.locator("#batches button:visible")).to_have_text(["Steps of the current batch"])
    expect(page.locator("#banner")).to_be_hidden()


def test_a_reader_sees_what_failed_and_is_not_offered_to_retry_it(page: Page, keys: dict[str, str], trio: Trio) -> None:
    with httpx2.Client(base_url=trio.url, headers={"Authorization": f"Bearer {keys['alice']}"}) as alice:
        alice.put("/records/file/a", json={})
        alice.post("/steps/copy/claim", json={"worker": "w", "kind": "file", "attempts": 1})
        alice.put("/records/file/a/steps/copy", json={"attempt": 1, "state": "FAILED", "reason": "no disk"})
    expect(page.locator("#failures tbody tr")).to_contain_text("no disk")
    expect(page.locator("#failures button[data-retry]")).to_have_count(0)


def test_the_key_is_nowhere_in_the_page(page: Page, keys: dict[str, str]) -> None:
    kept = page.evaluate("() => JSON.stringify([document.cookie, {...sessionStorage}, {...localStorage}])")
    assert keys["reader"] not in page.content() + kept
    [cookie] = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_signed_out_nothing_is_seen_any_more(page: Page) -> None:
    with page.expect_event("load"):
        page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#sign")).to_be_visible()
    expect(page.locator("#n-segments")).to_have_text("—")
    expect(page.locator("main > :visible")).to_have_count(1)


def test_an_order_is_given_in_ones_own_name_only(page: Page, keys: dict[str, str], trio: Trio) -> None:
    sign_in(page, keys["alice"])
    page.get_by_role("button", name="Retry copy of file/a").click()
    expect(page.locator("#failed")).to_be_hidden()
    push(trio, keys, 1)
    wait_for_text(page, "n-segments", "1")
    expect(page.get_by_role("button", name="Archive…")).to_be_hidden()
    page.get_by_role("button", name="Freeze…").click()
    name = page.get_by_label("Your name")
    expect(name).to_have_value("alice")
    assert not name.is_editable()
    page.locator("#order").get_by_label("Token").fill("of alice")
    page.locator("#order").get_by_role("button", name="Freeze").click()
    wait_for_state(page, "Frozen")
    wait_for_text(page, "state-note", "held by alice")
    expect(page.locator("#order")).to_be_hidden()
    refused = httpx2.post(
        f"{trio.url}/streamdata",
        content=segment_body(9),
        headers={**JSON, "Authorization": f"Bearer {keys['alice']}"},
    )
    assert refused.json()["resp"] == "FROZEN"
    wait_for_text(page, "rate-title", "Refused since the freeze")
    expect(page.locator("#rate")).to_have_text("1")
    page.get_by_role("button", name="Thaw…").click()
    page.locator("#order").get_by_role("button", name="Thaw").click()
    wait_for_state(page, "Operational")


def test_everything_is_asked_behind_the_prefix(page: Page, proxied: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(_address(request)))
    page.reload()
    wait_for_state(page, "Operational")
    page.wait_for_function("() => window.Plotly")
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((proxied, "data:", "blob:"))] == []


def test_the_search_asks_for_the_credential_and_behind_the_prefix(
    proxied: str, browser: Browser, trio: Trio, keys: dict[str, str]
) -> None:
    page, _ = open_page(browser, "about:blank", viewport={"width": 1200, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(_address(request)))
    page.goto(f"{proxied}/search?start=0")
    expect(page.locator("main > :visible")).to_have_count(1)
    sign_in(page, keys["reader"])
    expect(page.locator("#count")).to_have_text("1 segment")
    page.locator("#bundle-format").select_option("hdf5")
    [segment] = (trio.home / "datavar" / "data").glob("gwb*.json")
    with unreadable(segment), page.expect_websocket() as socket:  # the bundle is not finished before
        page.get_by_role("button", name="Bundle this search").click()
    assert socket.value.url.startswith(f"ws{proxied.removeprefix('http')}/bundles/")
    expect(page.locator("#bundle-download")).to_be_visible()  # this proxy refuses the WebSocket
    page.get_by_role("link", name="Status").click()
    wait_for_state(page, "Operational")
    assert [url for url in asked if not url.startswith((proxied, "data:", "blob:"))] == []
    page.context.close()


def test_graphql_is_tried_with_the_credential_and_behind_the_prefix(
    proxied: str, browser: Browser, keys: dict[str, str]
) -> None:
    page, _ = open_page(browser, "about:blank", viewport={"width": 1200, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(_address(request)))
    page.goto(f"{proxied}/graphql")
    expect(page.locator("main > :visible")).to_have_count(1)
    sign_in(page, keys["reader"])
    expect(page.get_by_role("button", name="Insert batches")).to_be_visible()
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#answer")).to_contain_text('"more": false')
    assert f"{proxied}/graphql" in asked
    assert [url for url in asked if not url.startswith((proxied, "data:", "blob:"))] == []
    page.context.close()


def test_the_documentation_needs_no_other_server_and_sends_requests_behind_the_prefix(
    proxied: str, browser: Browser
) -> None:
    page, complaints = open_page(browser, "about:blank", viewport={"width": 1200, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(_address(request)))
    page.goto(f"{proxied}/docs/")
    expect(page.locator(".opblock-summary-path").first).to_be_visible()
    assert page.url == f"{proxied}/docs"
    page.locator("#operations-probes-healthz_healthz_get .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table td.response-col_status").last).to_contain_text("200")
    assert f"{proxied}/healthz" in asked
    assert [url for url in asked if not url.startswith((proxied, "data:", "blob:"))] == []
    assert complaints.errors == []


def _address(request: Request) -> str:
    return request.url


def test_another_sites_page_gives_no_order(trio: Trio, keys: dict[str, str]) -> None:
    answer = httpx2.post(
        f"{trio.url}/train",
        json={"user": "alice", "token": "x"},
        headers={"Cookie": f"glitchflow={keys['alice']}", "Origin": "https://evil.example"},
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")


def test_a_lost_connection_is_reported_and_its_return_too(page: Page, trio: Trio, keys: dict[str, str]) -> None:
    process = trio.processes["glitchflow_api"]
    page.evaluate(
        """() => { window.titles = new Set();
        new MutationObserver(() => window.titles.add(document.getElementById('banner-title').textContent))
        .observe(document.getElementById('banner-title'), {childList: true, subtree: true, characterData: true}); }"""
    )
    process.send_signal(signal.SIGTERM)
    process.wait()
    page.wait_for_function("() => !document.getElementById('banner').hidden")
    wait_for_text(page, "link-text", "Not connected")
    page.wait_for_timeout(1500)  # a second attempt to connect
    titles = page.evaluate("() => [...window.titles]")
    assert titles
    assert not [title for title in titles if "Too many" in title]
    trio.launch("glitchflow_api")
    trio.wait_until_ready()
    push(trio, keys, 2)
    page.wait_for_function("() => document.getElementById('banner').hidden")
    wait_for_text(page, "link-text", "Live")
    wait_for_text(page, "n-segments", "2")
    page.wait_for_function("() => document.querySelectorAll('#segments tbody tr').length === 2")


def test_a_buffer_that_hangs_is_shown_before_a_request_is_given_up(page: Page, trio: Trio) -> None:
    process = trio.processes["databuffer"]
    process.send_signal(signal.SIGSTOP)
    try:
        expect(page.locator("#link")).to_have_attribute("data-link", "silent", timeout=25_000)  # not yet 30 s
        expect(page.locator("#freeze")).to_be_disabled()
        amber = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--warn').trim()")
        colour = page.locator("#link").evaluate(
            """(link, wanted) => { const probe = document.createElement('i'); probe.style.color = wanted;
            document.body.append(probe); const same = getComputedStyle(probe).color === getComputedStyle(link).color;
            probe.remove(); return same; }""",
            amber,
        )
        assert colour
        wait_for_text(page, "banner-title", "does not answer")
    finally:
        process.send_signal(signal.SIGCONT)
    page.wait_for_function("() => document.getElementById('banner').hidden")
    wait_for_text(page, "link-text", "Live")


def test_dslogics_own_page_lives_without_a_gateway(trio: Trio, browser: Browser) -> None:
    logic = next(service for service in trio.services if service.name == "dslogic")
    page, complaints = open_page(browser, logic.url, viewport={"width": 1200, "height": 900})
    wait_for_state(page, "Operational")
    wait_for_text(page, "n-segments", "2")
    page.get_by_role("button", name="Archive…").click()
    page.locator("#order").get_by_role("button", name="Archive").click()
    wait_for_text(page, "outcome", "Archived 2 segments")
    expect(page.locator("#start")).to_be_hidden()
    wait_for_text(page, "n-segments", "0")
    assert complaints.errors == []
    page.context.close()
