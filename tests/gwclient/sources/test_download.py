import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gwclient.client import Retry
from gwclient.errors import InvalidSource, SourceError, SourceUnreachable
from gwclient.sources.download import Downloads
from gwwire.agent import USER_AGENT
from tests.support.gwosc_server import Answering, Fault, GwoscServer, Overlapping, Pausing, Stalling, Truncating

NAME = "L-L1_LOSC_4_V2-1126259446-32.hdf5"
CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / NAME).write_bytes(CONTENT)
    return folder


def downloads(tmp_path: Path, seen: list[str], tries: int = 4, fault: Fault | None = None) -> Downloads:
    """Return downloads that wait for bytes; not for long, if the server's fault is to send none."""
    timeout = 2 if isinstance(fault, Stalling) else 60
    return Downloads(tmp_path / "cache", Retry(tries, 0.001, 0.002), timeout=timeout, say=seen.append)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Answering(503), "answered 503; trying again in 0.0 s"),
        (Answering(429, "1"), "answered 429; trying again in 1.0 s"),
        (Truncating(300_000), "was cut off, or does not answer: the connection was closed, or"),
        (Stalling(300_000, 30), "was cut off, or does not answer: nothing arrived in time"),
    ],
    ids=["503", "429", "truncated", "slow"],
)
@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without ranges"])
def test_what_may_pass_costs_nothing_but_time(
    tmp_path: Path,
    served: Path,
    fault: Fault,
    words: str,
    ranges: bool,  # noqa: FBT001 (pytest calls it by name)
) -> None:
    seen: list[str] = []
    with GwoscServer(served, [fault], ranges=ranges) as server:
        path = downloads(tmp_path, seen, fault=fault).fetch(f"{server.url}/files/{NAME}")
    assert path.read_bytes() == CONTENT
    assert [line for line in seen if words in line] == seen
    assert len(server.ranges) == (ranges and not isinstance(fault, Answering))


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Answering(404), InvalidSource, "answered 404: Not Found"),
        (Answering(503), SourceUnreachable, r"answered 503 \(after 2 tries\)"),
        (Answering(429, "0"), SourceUnreachable, r"answered 429 \(after 2 tries\)"),
        (Truncating(200_000), SourceUnreachable, r"was cut off, or does not answer: .*\(after 2 tries\)"),
        (Stalling(200_000, 30), SourceUnreachable, r"was cut off, or does not answer: .*\(after 2 tries\)"),
    ],
    ids=["404", "503", "429", "truncated", "slow"],
)
def test_what_does_not_pass_is_one_line_and_the_next_time_goes_on(
    tmp_path: Path, served: Path, fault: Fault, error: type[SourceError], words: str
) -> None:
    with GwoscServer(served, [fault] * 2) as server:
        url = f"{server.url}/files/{NAME}"
        with pytest.raises(error, match=words) as failure:
            downloads(tmp_path, [], 2, fault).fetch(url)
        assert "\n" not in str(failure.value)
        server.faults.clear()
        assert downloads(tmp_path, []).fetch(url).read_bytes() == CONTENT
        expected = 2 if isinstance(fault, Truncating | Stalling) else 0
        assert len(server.ranges) == expected


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Answering(204), "answered 204: No Content"),
        (Answering(302), "answered 302: Found"),
        (Answering(304), "answered 304: Not Modified"),
        (Answering(302, location=f"/files/{NAME}"), "cannot be fetched: it redirects without end"),
    ],
)
def test_an_answer_without_a_file_is_named(tmp_path: Path, served: Path, fault: Fault, reason: str) -> None:
    with GwoscServer(served, [fault] * 40) as server:
        url = f"{server.url}/files/{NAME}"
        with pytest.raises(InvalidSource) as failure:
            downloads(tmp_path, []).fetch(url)
    assert str(failure.value) == f"{url} {reason}"


def test_a_server_that_is_away_is_one_line(tmp_path: Path) -> None:
    with GwoscServer(tmp_path) as server:
        url = f"{server.url}/files/{NAME}"
    with pytest.raises(SourceUnreachable, match=r"does not answer: .*refused.* \(after 2 tries\)"):
        downloads(tmp_path, [], tries=2).fetch(url)


def test_what_is_in_the_cache_is_not_fetched_again_until_it_is_removed(tmp_path: Path, served: Path) -> None:
    with GwoscServer(served) as server:
        cache = downloads(tmp_path, [])
        path = cache.fetch(f"{server.url}/files/{NAME}")
        assert cache.fetch(f"{server.url}/files/{NAME}") == path
        assert len(server.fetched) == 1
        path.unlink()
        cache.fetch(f"{server.url}/files/{NAME}")
        assert len(server.fetched) == 2


def test_what_is_in_the_cache_is_used_while_the_server_is_away_and_it_says_so(tmp_path: Path, served: Path) -> None:
    seen: list[str] = []
    cache = downloads(tmp_path, seen)
    with GwoscServer(served, [Answering(503, target="/nothing")]) as server:
        url = f"{server.url}/files/{NAME}"
        path = cache.fetch(url)
        server.down = True
        assert cache.fetch(url) == path
        server.faults[:] = [Answering(403)]
        assert cache.fetch(url) == path
    assert cache.fetch(url) == path
    assert [line.removeprefix(f"{url} ") for line in seen] == [
        "answered 503: Service Unavailable; using the file in the cache",
        "answered 403: Forbidden; using the file in the cache",
        "does not answer: Connection refused; using the file in the cache",
    ]


@pytest.mark.parametrize("others", ["/files/v4/{}", "/files/v3/{}?version=2", "/files/v3/a/{}"])
def test_two_urls_never_share_a_file_in_the_cache(tmp_path: Path, served: Path, others: str) -> None:
    cache = downloads(tmp_path, [])
    with GwoscServer(served) as server:
        first = cache.fetch(f"{server.url}/files/v3/{NAME}")
        (served / NAME).write_bytes(CONTENT[::-1])
        second = cache.fetch(server.url + others.format(NAME))
    assert (first.read_bytes(), second.read_bytes()) == (CONTENT, CONTENT[::-1])
    assert first.name == second.name == NAME


def test_a_file_that_the_server_replaced_is_fetched_again(tmp_path: Path, served: Path) -> None:
    cache = downloads(tmp_path, [])
    with GwoscServer(served) as server:
        url = f"{server.url}/files/{NAME}"
        cache.fetch(url)
        (served / NAME).write_bytes(CONTENT[::-1])
        assert cache.fetch(url).read_bytes() == CONTENT[::-1]
        server.fetched.clear()
        assert cache.fetch(url).read_bytes() == CONTENT[::-1]
    assert not server.fetched
    assert server.agents == {USER_AGENT}


def test_a_replaced_file_whose_download_is_cut_off_is_fetched_again(tmp_path: Path, served: Path) -> None:
    cache = downloads(tmp_path, [], tries=1)
    with GwoscServer(served) as server:
        url = f"{server.url}/files/{NAME}"
        cache.fetch(url)
        (served / NAME).write_bytes(CONTENT[::-1])
        server.faults[:] = [Truncating(0), Truncating(400_000)]
        with pytest.raises(SourceUnreachable):
            cache.fetch(url)
        path = cache.fetch(url)
        assert path.read_bytes() == CONTENT[::-1]
    assert len(server.ranges) == 1
    assert {each.name for each in path.parent.iterdir()} == {NAME, f"{NAME}.version"}


def test_a_whole_file_that_is_sent_as_the_rest_is_not_joined(tmp_path: Path, served: Path) -> None:
    seen: list[str] = []
    with GwoscServer(served, [Truncating(400_000), Overlapping()]) as server:
        assert downloads(tmp_path, seen).fetch(f"{server.url}/files/{NAME}").read_bytes() == CONTENT
    assert "is not as it was" in seen[1]


@pytest.mark.parametrize("changed", [CONTENT[:1000], CONTENT[::-1]], ids=["shorter", "as long"])
def test_a_file_that_changed_meanwhile_is_begun_anew(tmp_path: Path, served: Path, changed: bytes) -> None:
    with GwoscServer(served, [Truncating(400_000)]) as server:
        url = f"{server.url}/files/{NAME}"
        with pytest.raises(SourceUnreachable):
            downloads(tmp_path, [], tries=1).fetch(url)
        (served / NAME).write_bytes(changed)
        path = downloads(tmp_path, []).fetch(url)
    assert path.read_bytes() == changed
    assert {each.name for each in path.parent.iterdir()} == {NAME, f"{NAME}.version"}


def test_a_file_whose_version_nobody_names_is_begun_anew(tmp_path: Path, served: Path) -> None:
    with GwoscServer(served, [Truncating(400_000)], versions=False) as server:
        assert downloads(tmp_path, []).fetch(f"{server.url}/files/{NAME}").read_bytes() == CONTENT
    assert server.ranges == []


@pytest.mark.parametrize("versions", [True, False])
def test_two_downloads_of_a_url_do_not_mix_their_bytes(tmp_path: Path, served: Path, *, versions: bool) -> None:
    with (
        ThreadPoolExecutor(1) as pool,
        GwoscServer(served, [Pausing(300_000)], versions=versions) as server,
    ):
        url = f"{server.url}/files/{NAME}"
        first = pool.submit(downloads(tmp_path, []).fetch, url)
        while sum(path.stat().st_size for path in tmp_path.glob("cache/*/*.part")) < 200_000:
            time.sleep(0.01)
        second = downloads(tmp_path, []).fetch(url)
        assert second.read_bytes() == CONTENT
        server.go_on.set()
        assert first.result() == second
        assert second.read_bytes() == CONTENT
        assert sorted(path.name for path in second.parent.iterdir()) == [NAME, f"{NAME}.version"]


def test_what_nobody_used_for_a_month_is_taken_out_of_the_cache(tmp_path: Path, served: Path) -> None:
    for name in ("unused.hdf5", "new.hdf5"):
        (served / name).write_bytes(CONTENT)
    with GwoscServer(served) as server:
        cache = downloads(tmp_path, [])
        used, unused = (cache.fetch(f"{server.url}/files/{name}") for name in (NAME, "unused.hdf5"))
        for path in (used, unused):
            os.utime(path, (0, time.time() - 31 * 86400))
        assert cache.fetch(f"{server.url}/files/{NAME}") == used
        new = cache.fetch(f"{server.url}/files/new.hdf5")
    assert {each for each in (tmp_path / "cache").glob("*/*") if each.suffix != ".version"} == {used, new}
    assert not unused.parent.exists()


def test_a_cache_that_cannot_be_written_is_reported(tmp_path: Path, served: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    with GwoscServer(served) as server, pytest.raises(InvalidSource, match="cannot be written"):
        downloads(tmp_path, []).fetch(f"{server.url}/files/{NAME}")
