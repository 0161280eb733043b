"""The tier in a tape system of the grid: real XRootD over HTTP, and a Tape REST API that gfal2 judges too."""

import itertools
import logging
import os
import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from databuffer.tier_urls import parse_tiers
from databuffer.tiers.backends.open import open_tiers
from databuffer.tiers.backends.tape_endpoint.endpoint import TapeEndpointTier, open_tape_endpoint
from databuffer.tiers.backends.tape_endpoint.http_access import Access
from databuffer.tiers.tier import Locality, NotOnline, StageState, Tier, TierError
from tests.support import gfal
from tests.support.archives import CountingTier, OpenBuffer
from tests.support.faulty_proxy import Trouble, faulty_proxy
from tests.support.patient import Patient
from tests.support.recalls import there_and_back
from tests.support.tape_rest_server import TapeSite, tape_rest_server
from tests.support.tier_conformance import (
    LARGE,
    TierConformance,
    UnreachableConformance,
    bring_online,
    keys_of,
    write,
)
from tests.support.xrootd_server import WebDavServer, is_installed, running_webdav

if not is_installed():
    pytest.skip("SKIPPED: tape endpoints, because Debian's xrootd-server is not installed", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("site")

_FOLDERS = itertools.count()
AT_ONCE = Access(allow_http=True, pauses=(0, 0, 0))
TOKEN = "a.very-secret_token"  # noqa: S105 (a test's)


@pytest.fixture(scope="module")
def webdav() -> Iterator[WebDavServer]:
    with running_webdav() as running:
        yield running


@pytest.fixture(scope="module")
def site(webdav: WebDavServer) -> Iterator[TapeSite]:
    with tape_rest_server(webdav.root) as running:
        yield running


def tier_at(address: str, path: str, access: Access = AT_ONCE, scheme: str = "http") -> TapeEndpointTier:
    (url,) = parse_tiers(f"tape=tape+{scheme}://{address}/{path}")
    return open_tape_endpoint(url, access)


@pytest.fixture
def folder(webdav: WebDavServer, site: TapeSite) -> Iterator[str]:
    """Return the path of a new folder, which is deleted when the test ends, as its stage requests are."""
    path = f"tape/test-{next(_FOLDERS)}"
    (webdav.root / path).mkdir()
    if os.getuid() == 0:
        os.chown(webdav.root / path, webdav.root.stat().st_uid, -1)
    yield path
    shutil.rmtree(webdav.root / path, ignore_errors=True)  # the server may write the end of an upload that was cut
    site.requests.clear()
    site.pins.clear()


@pytest.fixture
def tier(webdav: WebDavServer, folder: str) -> TapeEndpointTier:
    return tier_at(webdav.address, folder)


@pytest.fixture
def object_tier(tmp_path: Path) -> CountingTier:
    return CountingTier(tmp_path / "object")


class TestTapeEndpoint(TierConformance, UnreachableConformance):
    @pytest.fixture(params=["no server", "no folder"])
    def unreachable(self, webdav: WebDavServer, request: pytest.FixtureRequest) -> Tier:
        address = "127.0.0.1:9" if request.param == "no server" else webdav.address
        return tier_at(address, "tape/missing")


class TestTapeEndpointThatFails(TierConformance):
    """Requests are repeated once; what is never repeated by itself, such as a write, fails."""

    @pytest.fixture
    def tier(self, webdav: WebDavServer, site: TapeSite, folder: str) -> Iterator[Tier]:
        access = Access(allow_http=True, pauses=(0,))
        troubles = [each for trouble in Trouble for each in (trouble, *[Trouble.NONE] * 3)]
        others = {"/.well-known/": site.url, "/api/": site.url}
        with faulty_proxy(f"http://{webdav.address}", troubles, others) as proxy:
            yield Patient(tier_at(proxy.url.removeprefix("http://"), folder, access))


# ---- staging


def test_bytes_on_tape_can_be_read_only_while_they_are_staged(tier: TapeEndpointTier, site: TapeSite) -> None:
    write(tier, "one.tar", b"some bytes")
    for _ in range(2):
        assert tier.locality(["one.tar"]) == {"one.tar": Locality.NEARLINE}
        with pytest.raises(NotOnline, match=r"one\.tar is on tape"):
            tier.read("one.tar")
        with pytest.raises(TierError, match=r"access denied \(403\)"):  # the server itself refuses it
            list(tier._files.read(tier._path("one.tar"), 0, 10, 10))  # noqa: SLF001 (without asking where it is)
        bring_online(tier, "one.tar")
        assert tier.locality(["one.tar"]) == {"one.tar": Locality.ONLINE}
        assert b"".join(tier.read("one.tar")) == b"some bytes"
        tier.release(["one.tar"])
        assert site.requests == {}


def test_a_request_that_is_abandoned_is_canceled_at_the_server(
    tier: TapeEndpointTier, site: TapeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("one.tar", "two.tar"):
        write(tier, key)
    monkeypatch.setattr(site, "stuck", True)
    tier.stage(["one.tar", "two.tar"])
    ((request, states),) = site.requests.items()
    tier.release(["one.tar"])
    assert sorted(states.values()) == ["CANCELED", "SUBMITTED"]
    tier.release(["two.tar"])
    assert request not in site.requests
    monkeypatch.setattr(site, "stuck", False)
    assert tier.locality(["one.tar", "two.tar"]) == dict.fromkeys(["one.tar", "two.tar"], Locality.NEARLINE)


def test_a_release_that_fails_is_done_again_later(
    tier: TapeEndpointTier, site: TapeSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(tier, "one.tar")
    bring_online(tier, "one.tar")
    monkeypatch.setattr(site, "token", "another")
    tier.release(["one.tar"])
    assert "access denied (401); it will be released later" in caplog.text
    monkeypatch.setattr(site, "token", "")
    assert len(site.requests) == 1
    tier.release([])
    assert site.requests == {}
    assert tier.locality(["one.tar"]) == {"one.tar": Locality.NEARLINE}


def test_what_was_staged_and_went_offline_by_itself_has_failed(tier: TapeEndpointTier, site: TapeSite) -> None:
    write(tier, "one.tar")
    request = bring_online(tier, "one.tar")
    site.pins.clear()  # its lifetime is over, or somebody else evicted it
    found = tier.staged(request)["one.tar"]
    assert (found.state, found.reason) == ("FAILED", "it was staged, and the server now says that it is NEARLINE")
    tier.release(["one.tar"])
    assert site.requests == {}


def test_a_server_is_asked_for_progress_less_and_less_often(
    tier: TapeEndpointTier, site: TapeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tier, "one.tar")
    monkeypatch.setattr(site, "stuck", True)
    request = tier.stage(["one.tar"])
    now = time.monotonic()
    times = itertools.count(now + 60, 0.5)  # a minute has gone by; it is asked for every half second
    monkeypatch.setattr("databuffer.tiers.backends.tape_endpoint.open_stages.monotonic", lambda: next(times))
    before = site.answered
    for _ in range(60):
        assert tier.staged(request)["one.tar"].state is StageState.SUBMITTED
    assert 3 <= site.answered - before <= 10
    tier.release(["one.tar"])


def test_many_keys_are_staged_in_several_requests(
    tier: TapeEndpointTier, site: TapeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("databuffer.tiers.backends.tape_endpoint.tape_rest.MOST_PATHS", 2)
    keys = ["a.tar", "b.tar", "c.tar"]
    for key in keys:
        write(tier, key)
    request = bring_online(tier, *keys)
    assert len(site.requests) == 2
    assert sorted(tier.staged(request)) == keys
    tier.release(keys)
    assert site.requests == {}


# ---- the server


def test_a_folder_is_no_key_and_is_neither_deleted_nor_replaced(tier: TapeEndpointTier) -> None:
    write(tier, "batches/one.tar")
    assert tier.stat("batches") is None
    tier.delete("batches")
    with pytest.raises(TierError, match="batches is a folder"):
        write(tier, "batches")
    assert tier.stat("batches/one.tar") is not None


def test_what_a_crash_left_unfinished_is_deleted_after_a_day(
    tier: TapeEndpointTier, webdav: WebDavServer, folder: str
) -> None:
    write(tier, "one.tar")
    incoming = webdav.root / folder / ".incoming"
    for name, age in (("old", 90_000), ("new", 3600)):
        (incoming / name).write_bytes(b"part")
        os.utime(incoming / name, times=(time.time() - age,) * 2)
    write(tier, "two.tar")
    assert [path.name for path in incoming.iterdir()] == ["new"]
    assert keys_of(tier) == ["one.tar", "two.tar"]


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(
    webdav: WebDavServer, site: TapeSite, folder: str
) -> None:
    troubles = [Trouble.NONE] * 2 + [Trouble.CUT]
    tier = tier_at(webdav.address, folder)
    write(tier, "one.tar", LARGE)
    bring_online(tier, "one.tar")
    with faulty_proxy(f"http://{webdav.address}", troubles, {"/api/": site.url, "/.well-known/": site.url}) as proxy:
        cut = tier_at(proxy.url.removeprefix("http://"), folder)
        cut._tape._uri()  # noqa: SLF001 (before the requests that are counted)
        proxy.troubles = itertools.cycle([*troubles, *[Trouble.NONE] * 100])
        chunks = cut.read("one.tar")
        assert LARGE.startswith(next(chunks))
        write(tier, "one.tar", LARGE + b"x")
        with pytest.raises(TierError, match=r"one\.tar was replaced while it was read"):
            list(chunks)
    tier.release(["one.tar"])


def test_a_server_without_the_api_is_reported(webdav: WebDavServer, folder: str) -> None:
    document = webdav.root / ".well-known" / "wlcg-tape-rest-api"
    with tape_rest_server(webdav.root):  # which restores what it said before
        for content in ('{"endpoints": [{"uri": "http://host/v0", "version": "v0"}]}', None):
            document.unlink() if content is None else document.write_text(content)
            with pytest.raises(TierError, match="names no Tape REST API of version v1"):
                tier_at(webdav.address, folder).stage(["one.tar"])
        document.touch()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("tape+http://host/tape", "http://host is not encrypted; TAPE_ALLOW_HTTP=true would allow it"),
        ("tape+https://me:secret@host/tape", "expected HOST:PORT without a user"),
        ("tape+https://host:many/tape", "not one of HTTP: Port could not be cast"),
        ("tape+https://host/a%20tape", "the folder '/a tape' has characters other than"),
    ],
)
def test_what_is_wrong_with_a_url_is_reported_at_the_start(
    url: str, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAPE_ALLOW_HTTP", raising=False)
    with pytest.raises(TierError) as raised:
        open_tiers(parse_tiers(f"tape={url}"))
    assert str(raised.value).startswith("tier tape: ")
    assert error in str(raised.value)
    assert "secret" not in str(raised.value)


# ---- everything together


@pytest.mark.anyio
async def test_a_batch_comes_back_from_a_tape_that_wants_https_and_a_token(  # noqa: PLR0913, PLR0917 (fixtures)
    webdav: WebDavServer,
    folder: str,
    object_tier: CountingTier,
    opening: OpenBuffer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("databuffer.tiers.recalls.cache._POLL_SECONDS", 0.02)
    monkeypatch.setattr("databuffer.tiers.moves.staged_reading._POLL_SECONDS", 0.01)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(webdav.trusted))
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / "token"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*webdav.certificate)
    with tape_rest_server(webdav.root, tls) as site:
        site.token = TOKEN
        tape = open_tiers(parse_tiers(f"tape=tape+https://{webdav.address}/{folder}"))["tape"]
        await there_and_back(await opening(object_tier, tape), object_tier)
        assert site.authorizations == {f"Bearer {TOKEN}"}
        assert site.requests == {}
    assert TOKEN not in caplog.text


@pytest.mark.skipif(not gfal.is_there(), reason=f"needs {gfal.NEEDED}")
def test_gfal2_sees_the_same_tape(tier: TapeEndpointTier, webdav: WebDavServer, folder: str) -> None:
    write(tier, "one.tar", b"some bytes")
    url = f"http://{webdav.address}/{folder}/one.tar"
    program = """
url = sys.argv[1]
status = lambda: context.getxattr(url, "user.status")
print(status())
done, token = context.bring_online(url, 3600, 3600, True)
while not done:
    done = context.bring_online_poll(url, token)
print(status(), context.stat(url).st_size, context.open(url, "r").read(20))
print(context.release(url, token), status(), context.archive_poll(url))
"""
    told = gfal.run_gfal2(program, url)
    assert told.stdout.splitlines() == ["NEARLINE", "ONLINE_AND_NEARLINE 10 some bytes", "0 NEARLINE 1"], told.stderr
