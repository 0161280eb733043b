"""The HTTP client of storage systems: tokens, redirects, interruptions, and what servers do wrong."""

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from databuffer.tiers.backends.tape_endpoint import http_exchange
from databuffer.tiers.backends.tape_endpoint.http_access import Access
from databuffer.tiers.backends.tape_endpoint.http_client import HttpClient
from databuffer.tiers.backends.tape_endpoint.webdav import WebDav
from databuffer.tiers.tier import TierError
from tests.support.certificates import Authority
from tests.support.raw_server import BROKEN, FRAMINGS, Script, ServerConnection, answers_once, never_answers, raw_server

TOKEN = "a.very-secret_token"  # noqa: S105 (a test's)
AT_ONCE = Access(allow_http=True, pauses=(0, 0))
ONCE = Access(allow_http=True, pauses=())


def client(url: str, access: Access = AT_ONCE) -> HttpClient:
    return HttpClient("tape", url, access)


def answers(head: bytes, heads: list[bytes], *headers: bytes, body: bytes = b"") -> Script:
    """Return a script that keeps the head of a request and answers it."""

    def script(talk: ServerConnection) -> None:
        heads.append(talk.head())
        lines = b"".join(b"%b\r\n" % line for line in (*headers, b"Content-Length: %d" % len(body)))
        talk.say(b"HTTP/1.1 " + head + b"\r\n" + lines + b"\r\n" + body)

    return script


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(TierError) as raised:
        call()
    return str(raised.value)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return the context of servers that clients trust by SSL_CERT_FILE."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.certify("server"))
    return context


# ---- answers


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_is_read_in_every_framing(framing: str) -> None:
    def script(talk: ServerConnection) -> None:
        talk.request()
        talk.say(*FRAMINGS[framing])

    with raw_server(script) as server:
        assert client(server.url).call("GET", server.url).body == b"strain"


@pytest.mark.parametrize("answer", BROKEN)
def test_an_incomplete_answer_is_an_error_and_the_request_is_repeated(answer: str) -> None:
    def script(talk: ServerConnection) -> None:
        talk.request()
        talk.say(BROKEN[answer])

    with raw_server(script, script, answers_once) as server:
        assert client(server.url).call("GET", server.url).body == b"ok"
    with raw_server(script) as server:
        assert "ended early, or is not HTTP" in error_of(lambda: client(server.url, ONCE).call("GET", server.url))


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_exchange, "_SILENT_SECONDS", 0.05)
    with raw_server(never_answers) as server:
        assert "did not answer in time" in error_of(lambda: client(server.url, ONCE).call("GET", server.url))


def test_pauses_grow_to_what_a_server_asks_for_and_one_that_is_too_long_ends_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    heads: list[bytes] = []
    busy, busier = (answers(b"503 Busy", heads, b"Retry-After: %d" % seconds) for seconds in (0, 20))
    with raw_server(busy, busy, busier, busy, answers_once) as server:
        client(server.url, Access(allow_http=True)).call("GET", server.url)
    assert slept == [0.5, 1, 20, 4]
    heads.clear()
    closed = answers(b"503 Closed", heads, b"Retry-After: 3600", body=b"a downtime\nuntil noon")
    with raw_server(closed, answers_once) as server:
        told = error_of(lambda: client(server.url).call("GET", f"{server.url}/a"))
    assert told == f"tier tape: GET {server.url}/a: the server is not available (503): a downtime until noon"
    assert len(heads) == 1


# ---- files


def test_a_file_is_not_sent_to_a_server_that_refuses_it_and_the_reason_is_reported() -> None:
    heads: list[bytes] = []
    taken: list[bytes] = []

    def chunks() -> Iterator[bytes]:
        taken.append(b"x" * 1000)
        yield taken[0]

    with raw_server(answers(b"507 Full", heads, body=b"No space left on device")) as server:
        told = error_of(lambda: client(server.url).put(f"{server.url}/a", 1000, chunks()))
    assert told.endswith("/a: the server has no space left (507): No space left on device")
    assert b"Expect: 100-continue" in heads[0]
    assert taken == []


def test_a_file_goes_to_the_server_that_a_redirect_names_and_the_token_does_not(tls: ssl.SSLContext) -> None:
    heads: list[bytes] = []

    def stores(talk: ServerConnection) -> None:
        heads.append(talk.head())
        talk.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        heads.append(talk.exactly(6))
        talk.say(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    access = Access(lambda: TOKEN)
    with raw_server(stores, tls=tls) as disk:
        target = disk.url.replace("localhost", "127.0.0.1") + "/pool?authz=one-time-secret"
        with raw_server(answers(b"307 Elsewhere", heads, b"Location: " + target.encode()), tls=tls) as webdav:
            url = webdav.url.replace("localhost", "127.0.0.1")
            client(url, access).put(f"{url}/tape/a", 6, [b"str", b"ain"])
    assert f"Authorization: Bearer {TOKEN}".encode() in heads[0]
    assert heads[1].startswith(b"PUT /pool?authz=one-time-secret HTTP/1.1\r\n")
    assert b"Authorization" not in heads[1]
    assert heads[2] == b"strain"


def test_a_redirect_from_https_to_http_is_refused_without_its_secrets(tls: ssl.SSLContext) -> None:
    location = b"Location: http://127.0.0.1:9/pool?authz=one-time-secret"
    with raw_server(answers(b"302 Elsewhere", [], location), tls=tls) as webdav:
        url = webdav.url.replace("localhost", "127.0.0.1")
        told = error_of(lambda: client(url, Access()).call("GET", f"{url}/a"))
    assert told.endswith("/a: http://127.0.0.1:9 is not encrypted; TAPE_ALLOW_HTTP=true would allow it")


def test_redirects_without_end_are_an_error() -> None:
    again = answers(b"302 Again", [], b"Location: /a")
    with raw_server(*[again] * 4) as server:
        assert "too many redirects" in error_of(lambda: client(server.url).call("GET", f"{server.url}/a"))


def test_a_file_whose_connection_breaks_is_continued_where_it_broke() -> None:
    heads: list[bytes] = []

    def cut(talk: ServerConnection) -> None:
        heads.append(talk.head())
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstr")

    rest = answers(b"206 Part", heads, b"Content-Range: bytes 3-5/6", body=b"ain")
    with raw_server(cut, rest) as server:
        assert b"".join(WebDav(client(server.url)).read("/a", 0, 6, 6)) == b"strain"
    assert b"Range" not in heads[0]
    assert b"Range: bytes=3-5\r\n" in heads[1]


@pytest.mark.parametrize(
    ("head", "headers", "body"),
    [
        (b"200 OK", b"Content-Range: bytes 0-2/6", b"strain"),
        (b"206 Part", b"Content-Range: bytes 3-5/7", b"ain"),
        (b"206 Part", b"Content-Range: bytes 2-5/6", b"rain"),
        (b"206 Part", b"Content-Type: multipart/byteranges", b"ain"),
    ],
    ids=["everything", "of another file", "another range", "several ranges"],
)
def test_a_range_that_was_not_asked_for_is_refused(head: bytes, headers: bytes, body: bytes) -> None:
    with raw_server(answers(head, [], headers, body=body)) as server, pytest.raises(TierError):
        list(WebDav(client(server.url)).read("/a", 3, 6, 6))


def test_a_rename_whose_answer_is_lost_is_done_if_the_file_has_gone() -> None:
    heads: list[bytes] = []

    def lost(talk: ServerConnection) -> None:
        heads.append(talk.head())

    with raw_server(lost, answers(b"404 Gone", heads)) as server:
        WebDav(client(server.url)).move("/.incoming/a", "/a")
    with raw_server(answers(b"404 Gone", heads)) as server, pytest.raises(TierError, match="there is no such path"):
        WebDav(client(server.url)).move("/.incoming/a", "/a")
    assert [head.split()[0] for head in heads] == [b"MOVE"] * 3


def test_a_server_that_does_not_replace_files_is_asked_to_delete_the_old_one_first() -> None:
    heads: list[bytes] = []
    scripts = [answers(head, heads) for head in (b"412 Exists", b"204 Deleted", b"201 Created")]
    with raw_server(*scripts) as server:
        WebDav(client(server.url)).move("/.incoming/a", "/a")
    assert [head.split()[:2] for head in heads] == [
        [b"MOVE", b"/.incoming/a"],
        [b"DELETE", b"/a"],
        [b"MOVE", b"/.incoming/a"],
    ]


@pytest.mark.parametrize("location", ["https://exa..mple/a", "http://a:b/c", "ftp://host/a", "//"])
def test_a_redirect_that_leads_nowhere_is_an_error(location: str) -> None:
    with raw_server(answers(b"307 Elsewhere", [], b"Location: " + location.encode())) as server:
        told = error_of(lambda: client(server.url).call("GET", f"{server.url}/a"))
    assert told.startswith(f"tier tape: GET {server.url}/a: ")


def test_folders_are_created_from_the_top_if_a_server_wants_that() -> None:
    heads: list[bytes] = []
    scripts = [answers(head, heads) for head in (b"409 Conflict", b"405 Exists", b"201 Created")]
    with raw_server(*scripts) as server:
        WebDav(client(server.url)).make_folder("/a/b")
    assert [head.split()[1] for head in heads] == [b"/a/b", b"/a", b"/a/b"]


def test_a_listing_with_quoted_addresses_of_another_server_is_understood() -> None:
    listing = b"""<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">
<d:response><d:href>https://pool.example:2880//tape/batches/</d:href><d:propstat><d:prop>
<d:resourcetype><d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>
<d:response><d:href>/tape/batches/b%2Dtar</d:href><d:propstat><d:prop><d:resourcetype/>
<d:getcontentlength>12</d:getcontentlength><d:getlastmodified>Mon, 30 Nov 2026 02:35:11 GMT</d:getlastmodified>
</d:prop></d:propstat></d:response></d:multistatus>"""
    with raw_server(answers(b"207 Multi", [], body=listing)) as server:
        entries = WebDav(client(server.url)).entries("/tape/batches")
    assert entries is not None
    (found,) = entries
    assert (found.path, found.is_folder, found.size, found.modified) == ("/tape/batches/b-tar", False, 12, 1796006111)


@pytest.mark.parametrize("body", [b"<html>login", b"", b"<html/>", b'<multistatus xmlns="DAV:"/>'])
def test_a_listing_that_is_none_is_an_error(body: bytes) -> None:
    with raw_server(answers(b"207 Multi", [], body=body)) as server:
        told = error_of(lambda: WebDav(client(server.url)).entries("/tape"))
    assert told.startswith("tier tape: the listing of /tape cannot be read: ")


@pytest.mark.parametrize("path", ["/other/a.tar", "/tape/batches/a.tar", "/tap", "/tape/..%2F..%2Fa", ""])
def test_a_listing_that_names_what_is_elsewhere_is_an_error(path: str) -> None:
    listing = f'<multistatus xmlns="DAV:"><response><href>{path}</href></response></multistatus>'
    with raw_server(answers(b"207 Multi", [], body=listing.encode())) as server:
        told = error_of(lambda: WebDav(client(server.url)).entries("/tape"))
    assert told.startswith("tier tape: the listing of /tape names ")


def test_the_space_of_a_folder_is_reported_if_the_server_reports_it() -> None:
    told = b"""<multistatus xmlns="DAV:"><response><href>/tape</href><propstat><prop>
<quota-used-bytes>30</quota-used-bytes><quota-available-bytes>70</quota-available-bytes></prop></propstat></response></multistatus>"""
    with raw_server(answers(b"207 Multi", [], body=told)) as server:
        capacity = WebDav(client(server.url)).space("/tape")
    assert (capacity.total, capacity.used) == (100, 30)


# ---- tokens


def test_a_token_is_sent_by_https_only_and_read_for_each_request(tls: ssl.SSLContext, tmp_path: Path) -> None:
    file, heads = tmp_path / "token", list[bytes]()
    access = Access.of_environment("tape", {"BEARER_TOKEN_FILE": str(file), "TAPE_ALLOW_HTTP": "true"})
    script = answers(b"200 OK", heads)
    with raw_server(script, script, tls=tls) as server:
        url = server.url.replace("localhost", "127.0.0.1")
        https = client(url, access)
        for token in ("one", "two"):
            file.write_text(f"{token}\n")
            https.call("GET", url)
    with raw_server(script) as server:
        client(server.url, access).call("GET", server.url)
    assert [b"Authorization: Bearer one\r\n" in heads[0], b"Authorization: Bearer two\r\n" in heads[1]] == [True, True]
    assert b"Authorization" not in heads[2]


@pytest.mark.parametrize("content", [None, "", "two words", "a\nb", "é"])
def test_a_token_that_is_none_is_named_by_its_file_and_not_shown(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    token = Access.of_environment("tape", {"BEARER_TOKEN_FILE": str(file)}).token
    told = error_of(token)
    assert told.startswith(f"tier tape: BEARER_TOKEN_FILE {file} ")
    assert not content or content not in told.replace(str(file), "")


def test_a_refusal_that_repeats_the_token_is_reported_without_it(tls: ssl.SSLContext) -> None:
    body = f"no such token: {TOKEN}".encode()
    with raw_server(answers(b"403 Forbidden", [], body=body), tls=tls) as server:
        url = server.url.replace("localhost", "127.0.0.1")
        told = error_of(lambda: client(url, Access(lambda: TOKEN)).call("GET", url))
    assert told.endswith("access denied (403): no such token: …")


def test_a_server_whose_certificate_is_not_trusted_gets_nothing(
    tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    heads: list[bytes] = []
    with raw_server(answers(b"200 OK", heads), tls=tls) as server:
        url = server.url.replace("localhost", "127.0.0.1")
        told = error_of(lambda: client(url, Access(lambda: TOKEN)).call("GET", url))
    assert "the server's certificate is not trusted (SSL_CERT_FILE)" in told
    assert heads == []
