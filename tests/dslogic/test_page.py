"""The page and its files without a buffer: they need none."""

import json
import re
from html import unescape

import pytest
from fastapi.testclient import TestClient

from dslogic.app import create_app
from dslogic.asgi import asgi_application
from dslogic.assets import Assets
from dslogic.settings import LogicSettings

GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(
        asgi_application(create_app(settings=LogicSettings.load())), headers={"Accept-Encoding": "identity"}
    )


def files_of(page: str) -> list[str]:
    return re.findall('(?:src|href|data-plotly)="(static/[^"]+)"', page)


@pytest.mark.parametrize("path", ["/", "/search", "/graphql?at=gateway"])
def test_the_shell_lets_nothing_in_from_elsewhere_and_nothing_inline(client: TestClient, path: str) -> None:
    page = client.get(path)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert not re.search(r"<style|style=|<script(?! type=\"module\" src=)|\son\w+=|https?://", page.text)


def test_the_shell_asks_the_routes_of_the_gateway_it_came_through(client: TestClient) -> None:
    def routes(path: str) -> dict[str, str]:
        seen: dict[str, str] = json.loads(unescape(re.findall('data-routes="([^"]+)"', client.get(path).text)[0]))
        return seen

    assert routes("/")["freeze"] == "freezeds"
    assert "events" not in routes("/")
    assert routes("/?at=gateway")["freeze"] == "train"
    assert not any(route.startswith("/") for route in routes("/?at=gateway").values())
    assert routes("/search?at=gateway") == routes("/?at=gateway")
    assert 'href="dspage"' in client.get("/search?at=gateway").text
    assert 'href="./"' in client.get("/search").text


def test_graphql_is_offered_at_the_gateway_only(client: TestClient) -> None:
    assert client.get("/graphql").status_code == 404
    assert 'href="graphql"' not in client.get("/search").text
    assert 'href="graphql"' in client.get("/search?at=gateway").text
    assert client.get("/graphql?at=gateway").status_code == 200


def test_a_file_is_kept_for_good_under_an_address_that_changes_with_it(client: TestClient) -> None:
    files = files_of(client.get("/").text) + files_of(client.get("/search").text)
    files += files_of(client.get("/graphql?at=gateway").text)
    assert len(files) >= 5
    for file in files:
        answer = client.get(f"/{file}", headers=GZIP)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["Vary"] == "Accept-Encoding"
        assert answer.headers["Content-Encoding"] == "gzip"
        plain = client.get(f"/{file}")
        assert "Content-Encoding" not in plain.headers
        assert answer.content == plain.content


def test_a_page_of_another_version_gets_current_files_that_are_not_cached(client: TestClient) -> None:
    answer = client.get("/static/0123456789abcdef/page.js")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.get("/static/0123456789abcdef/nothing.js").status_code == 404


def test_the_plotting_library_is_served_without_maps() -> None:
    library = Assets().find("plotly.min.js")
    assert library is not None
    assert b".exports=''" in library.content
    assert len(library.compressed) < 1_400_000


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
@pytest.mark.parametrize("path", ["/freezeds", "/thawds", "/flushbuf"])
def test_another_sites_page_gives_no_order(client: TestClient, path: str, headers: dict[str, str]) -> None:
    answer = client.post(path, json={"user": "alice", "token": "x"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")
