"""`gwclient search` and `gwclient bundle` against the real trio: counts, coverage, and archives that are resumed."""

import asyncio
import json
import tarfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gwclient import Datastore
from gwclient.cli import gwclient as cli
from gwclient.commands.options import Debugging
from gwclient.conditions import conditions_text
from gwclient.errors import FolderError, GatewayRefused, GwclientError, Incomplete
from gwservice.atomic import locked
from gwwire.bundles import Bundle, BundleFormat, BundleOrder, BundleState
from gwwire.facets import Facet
from gwwire.gps import utc_of_gps
from gwwire.query import Query
from scripts.trio import Trio
from tests.support.asking import ask
from tests.support.scrape import scrape
from tests.support.slow_bundle import SlowBundle

T = TypeVar("T")
T0, RATE = 1126259446, 1024
L1, H1 = "L1:MY-STRAIN", "H1:MY-STRAIN"
STRAIN = np.random.default_rng(1).standard_normal(8 * RATE)
#: Bytes of an archive: more than the chunk in which it is downloaded.
LARGE = BundleOrder(BundleFormat.TAR, Query(channel=(L1,)))


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    """The trio with 8 s of L1 at different temperatures, with a gap after 4 s, and 2 s of H1."""
    trio = start_shared_trio()

    async def fill(client: Datastore) -> None:
        for begin, stop, temperature in ((0, 2, 0.01), (2, 4, 0.02), (4, 8, 0.03)):
            t0 = T0 + begin + 10 * (begin == 4)
            samples = STRAIN[begin * RATE : stop * RATE]
            await client.push(samples, t0, 1 / RATE, L1, meta={"temperature": temperature})
        await client.push(STRAIN[: 2 * RATE], T0, 1 / RATE, H1)

    ask(trio, fill)
    return trio


@pytest.fixture
def gwclient(trio: Trio) -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(cli, [*words, "--srv", trio.url], obj=Debugging())


def made(trio: Trio, order: BundleOrder) -> Bundle:
    return ask(trio, lambda client: client.bundles.make(order))


def downloaded(trio: Trio, bundle: Bundle, folder: Path) -> tuple[Path, list[int]]:
    """Download an archive; return its file, and how many bytes were there at each report."""
    seen: list[int] = []
    path = ask(trio, lambda client: client.bundles.download(bundle, folder, lambda there, _: seen.append(there)))
    return path, seen


class Cut(Exception):
    """Ends a download."""


def cut_off(there: int, _size: int) -> None:
    if there:
        raise Cut


def begin_download(trio: Trio, bundle: Bundle, folder: Path) -> Path:
    """Download the first bytes of an archive, and return the file that has them."""
    with pytest.raises(Cut):
        ask(trio, lambda client: client.bundles.download(bundle, folder, cut_off))
    [partial] = folder.iterdir()
    return partial


# ---- search


def test_a_search_shows_count_and_coverage_before_the_segments(gwclient: Callable[..., Result]) -> None:
    stop = f"{utc_of_gps(T0 + 20):%Y-%m-%dT%H:%M:%SZ}"
    lines = gwclient("search", "detector=L1", f"stop={stop}", "--limit", "3").output.splitlines()
    assert lines[:5] == [
        "8 segments",
        f"{L1}, {RATE} Hz: 8 s within [{T0}.0, {T0 + 18}.0)",
        f"  gap [{T0 + 4}.0, {T0 + 14}.0)",
        f"  gap [{T0 + 18}.0, {T0 + 20}.0)",
        "conditions: temperature 0.01 to 0.03",
    ]
    assert [line.partition("  ")[2] for line in lines[5:8]] == [
        f"{L1}  [{T0 + second}.0, {T0 + second + 1}.0)  {RATE:,} samples" for second in range(3)
    ]
    assert lines[8].startswith("more: --after ")
    assert len(lines) == 9


def test_a_condition_has_its_range_and_a_list_is_named_once() -> None:
    names = ["channel", "level", "quality.0", "quality.1", "quality.10", "quality.2", "snr"]
    facets = [Facet(f"conditions.{name}", 1) for name in names[:-1]]
    facets += [Facet("conditions.snr", 1, low=1e-21, high=1126259462.5), Facet("time", 1, low=0, high=1)]
    assert conditions_text(facets) == "level, quality.0 … quality.10, snr 1e-21 to 1126259462"
    assert conditions_text(facets[:1]) == ""


def test_pages_of_a_search_have_each_segment_once(gwclient: Callable[..., Result]) -> None:
    names: list[str] = []
    after, more = 0, True
    while more:
        page = json.loads(gwclient("search", "--limit", "4", "--after", str(after), "--json").output)
        assert page["segments"] == 10
        names += [record["name"] for record in page["records"]]
        after, more = page["after"], page["more"]
    assert len(set(names)) == len(names) == 10


def test_a_search_covers_only_what_its_conditions_select(gwclient: Callable[..., Result]) -> None:
    found = json.loads(gwclient("search", "conditions.temperature<0.02", "--json").output)
    assert (found["segments"], found["gaps"]) == (2, [])
    assert [(each["channel"], each["spans"]) for each in found["covered"]] == [(L1, [[T0, T0 + 2, 2]])]
    assert gwclient("search", "temperature>1").output == "0 segments\n"


def test_a_search_with_a_wrong_word_is_an_error_of_the_command(gwclient: Callable[..., Result]) -> None:
    assert gwclient("search", "detector<L1").exit_code == 2
    assert gwclient("bundle", "start=monday").exit_code == 2


def test_a_search_covers_all_segments_but_lists_a_page(trio: Trio) -> None:
    found = ask(trio, lambda client: client.search(Query(detector=("L1",)), limit=3))
    assert (found.segments, len(found.records), found.more, found.more_channels) == (8, 3, True, 0)
    assert sum(count for each in found.covered for _, _, count in each.spans) == 8


# ---- bundles


def test_a_bundle_of_hdf5_has_exactly_the_samples_of_the_span(gwclient: Callable[..., Result], tmp_path: Path) -> None:
    words = (f"channel={L1}", f"start={T0 + 0.5}", f"stop={T0 + 15}", "--format", "hdf5", "--extract")
    done = gwclient("bundle", *words, "--out", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert [gap["spans"] for gap in answer["bundle"]["gaps"]] == [[[T0 + 4, T0 + 14]]]
    assert sorted(map(str, tmp_path.iterdir())) == sorted(answer["files"])
    *files, info = answer["files"]
    assert json.loads(Path(info).read_bytes())["query"] == {"channel": [L1], "start": T0 + 0.5, "stop": T0 + 15}
    found = {}
    for name in files:
        with h5py.File(name) as file:
            found[float(file["strain/Strain"].attrs["Xstart"])] = file["strain/Strain"][()]
    assert found[T0 + 0.5].tolist() == STRAIN[RATE // 2 : 4 * RATE].tolist()
    assert found[T0 + 14].tolist() == STRAIN[4 * RATE : 5 * RATE].tolist()


def test_links_in_the_place_of_extracted_files_are_replaced(gwclient: Callable[..., Result], tmp_path: Path) -> None:
    words = ("bundle", f"channel={L1}", "--format", "hdf5", "--extract", "--json", "--out")
    first = json.loads(gwclient(*words, str(tmp_path / "first")).output)["files"]
    inside, outside, folder = tmp_path / "second" / "inside", tmp_path / "outside", tmp_path / "second"
    folder.mkdir()
    for kept in (inside, outside):
        kept.write_text("kept")
    for name, target in zip(first, (outside, inside, outside), strict=True):
        (folder / Path(name).name).symlink_to(target)
    done = gwclient(*words, str(folder))
    assert done.exit_code == 0, done.output
    assert (inside.read_text(), outside.read_text()) == ("kept", "kept")
    inside.unlink()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        Path(name).name: Path(name).read_bytes() for name in first
    }


def test_a_folder_in_the_place_of_an_extracted_file_is_named_and_the_others_are_extracted(
    gwclient: Callable[..., Result], tmp_path: Path
) -> None:
    words = ("bundle", f"channel={L1}", "--format", "hdf5", "--extract", "--json", "--out", str(tmp_path))
    first, *others = json.loads(gwclient(*words).output)["files"]
    for name in (first, *others):
        Path(name).unlink()
    Path(first).mkdir()
    done = gwclient(*words)
    assert isinstance(done.exception, Incomplete)
    assert str(done.exception).endswith(f".tar is kept: {first} cannot be written: Is a directory")
    Path(first).rmdir()
    assert all(Path(name).is_file() for name in others)
    assert json.loads(gwclient(*words).output)["files"] == [first, *others]
    assert sorted(map(str, tmp_path.iterdir())) == sorted([first, *others])


@pytest.mark.parametrize("tier", [2, 1], ids=["gateway", "without a WebSocket"])
def test_the_client_follows_the_building(trio: Trio, tier: int) -> None:
    seen: list[int] = []
    with SlowBundle(trio, f"X1:SLOW-{tier}") as slow:

        async def wait() -> Bundle:
            async with Datastore(trio.services[tier].url) as client:
                return await client.bundles.wait(await client.bundles.get(slow.id), follow)

        def follow(percent: int) -> None:
            if percent not in seen:
                seen.append(percent)
                releases.append(releasing.submit(slow.release)) if percent < 80 else None

        releases: list[Future[None]] = []
        before = questions(trio)
        with ThreadPoolExecutor(1) as releasing:
            assert asyncio.run(wait()).state is BundleState.READY
        assert (seen[:4], seen[-1]) == ([0, 20, 40, 60], 100)
        if tier == 2:
            assert questions(trio) - before == 2  # before, and at the end


def questions(trio: Trio) -> int:
    """Return how many questions for a bundle the gateway has answered."""
    samples = scrape(trio.url).of("glitchflow_http_requests_total", method="GET", route="/bundles/{bundle}")
    return int(sum(each.value for each in samples))


def test_a_bundle_of_segments_has_them_byte_for_byte(
    trio: Trio, gwclient: Callable[..., Result], tmp_path: Path
) -> None:
    done = gwclient("bundle", "detector=H1", "--out", str(tmp_path))
    path = Path(done.output.splitlines()[-1])
    with tarfile.open(path) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert next(iter(contents)) == "Info.json"
    del contents["Info.json"]
    assert len(contents) == 2
    assert contents == {name: ask(trio, partial(Datastore.segment, name=name)) for name in contents}


def test_a_bundle_of_a_span_between_two_samples_says_so(gwclient: Callable[..., Result], tmp_path: Path) -> None:
    start, stop = T0 + 0.25 / RATE, T0 + 0.75 / RATE
    words = (f"channel={L1}", f"start={start!r}", f"stop={stop!r}", "--format", "hdf5", "--extract")
    lines = gwclient("bundle", *words, "--out", str(tmp_path)).output.splitlines()
    assert f"left out, no sample is in this span: {L1} [{start!r}, {stop!r})" in lines
    assert [path.name.endswith(".Info.json") for path in tmp_path.iterdir()] == [True]


def test_a_download_that_was_cut_off_is_continued(trio: Trio, tmp_path: Path) -> None:
    bundle = made(trio, LARGE)
    partial = begin_download(trio, bundle, tmp_path)
    there = partial.stat().st_size
    assert bundle.size is not None
    assert 0 < there < bundle.size
    path, seen = downloaded(trio, bundle, tmp_path)
    assert (seen[0], seen[-1]) == (there, bundle.size)
    assert path.stat().st_size == bundle.size
    assert list(tmp_path.iterdir()) == [path]


def test_a_download_that_is_complete_is_not_repeated(trio: Trio, tmp_path: Path) -> None:
    bundle = made(trio, LARGE)
    path, _ = downloaded(trio, bundle, tmp_path)
    assert downloaded(trio, bundle, tmp_path) == (path, [])


def test_wrong_bytes_of_a_download_are_found_and_replaced(trio: Trio, tmp_path: Path) -> None:
    bundle = made(trio, LARGE)
    partial = begin_download(trio, bundle, tmp_path)
    damaged = bytearray(partial.read_bytes())
    damaged[-100] ^= 1
    partial.write_bytes(damaged)
    path, seen = downloaded(trio, bundle, tmp_path)
    assert 0 in seen  # it was downloaded again from the start
    fresh, _ = downloaded(trio, bundle, tmp_path / "fresh")
    assert path.read_bytes() == fresh.read_bytes()


def test_the_rest_of_another_version_is_not_used(trio: Trio, tmp_path: Path) -> None:
    bundle = made(trio, LARGE)
    begin_download(trio, bundle, tmp_path).rename(tmp_path / f"bundle-{bundle.id}.tar.{'0' * 64}.part")
    path, seen = downloaded(trio, bundle, tmp_path)
    assert seen[0] == 0
    assert list(tmp_path.iterdir()) == [path]


def test_two_downloads_do_not_write_the_same_file(trio: Trio, tmp_path: Path) -> None:
    bundle = made(trio, LARGE)
    partial = begin_download(trio, bundle, tmp_path)
    there = partial.stat().st_size
    with locked(partial), pytest.raises(FolderError, match="another gwclient"):
        downloaded(trio, bundle, tmp_path)
    assert partial.stat().st_size == there
    assert downloaded(trio, bundle, tmp_path)[1][0] == there


def test_a_manifest_is_downloaded_and_checked(gwclient: Callable[..., Result], tmp_path: Path) -> None:
    done = gwclient("bundle", "detector=H1", "--format", "manifest", "--out", str(tmp_path))
    manifest = json.loads(Path(done.output.splitlines()[-1]).read_bytes())
    assert [each["channel"] for each in manifest["segments"]] == [H1, H1]
    again = gwclient("bundle", "detector=H1", "--format", "manifest", "--out", str(tmp_path), "--extract")
    assert again.exit_code == 2


def test_a_bundle_can_be_cancelled_and_made_again(trio: Trio, tmp_path: Path) -> None:
    async def work(client: Datastore) -> tuple[Any, Path]:
        bundle = await client.bundles.make(LARGE)
        cancelled = await client.bundles.cancel(bundle.id)
        with pytest.raises(GwclientError, match="is CANCELLED"):
            await client.bundles.download(cancelled, tmp_path)
        return cancelled.state, await client.bundles.download(await client.bundles.make(LARGE), tmp_path)

    state, path = ask(trio, work)
    assert (state, path.exists()) == (BundleState.CANCELLED, True)
    with pytest.raises(GatewayRefused, match="404"):
        ask(trio, lambda client: client.bundles.get("0" * 32))


def test_a_bundle_of_nothing_is_an_error(gwclient: Callable[..., Result], tmp_path: Path) -> None:
    done = gwclient("bundle", "detector=Z9", "--out", str(tmp_path))
    assert done.exit_code != 0
    assert str(done.exception).startswith("nothing is downloaded: no segment has detector=Z9; stored: L1, ")
    done = gwclient("bundle", "detector=H1", "temperature>0", "--out", str(tmp_path))
    assert str(done.exception) == "nothing is downloaded: no segment matches detector=H1 temperature>0"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(gwclient: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = gwclient("bundle", "detector=H1", "--out", str(tmp_path / "file" / "below"))
    assert str(tmp_path / "file") in str(done.exception)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("detector=V1", "no segment has detector=V1; stored: L1, "),
        ("detector=H1,L1", "several are written detector=H1 detector=L1"),
        ("channel=L1:*DARM*", "no segment has channel=L1:*DARM*; stored: "),
        ("start=1400000000", f", {T0 + 18.0!r})"),
        ("ifo=L1", "no segment has 'ifo' in its metadata; stored: "),
    ],
)
def test_a_query_that_selects_nothing_is_explained(gwclient: Callable[..., Result], word: str, reason: str) -> None:
    found = gwclient("search", word)
    assert (found.exit_code, found.stdout) == (0, "0 segments\n")
    assert reason in found.stderr
    assert reason in str(gwclient("bundle", word).exception)


def test_the_time_that_is_shown_is_that_of_the_query(gwclient: Callable[..., Result], tmp_path: Path) -> None:
    words = (f"channel={L1}", f"start={T0 + 0.25}", f"stop={T0 + 2.5}")
    shown = f"2.25 s within [{T0 + 0.25!r}, {T0 + 2.5!r})"
    assert shown in gwclient("search", *words).stdout
    assert shown in gwclient("bundle", *words, "--format", "hdf5", "--out", str(tmp_path)).stdout
    assert f"3 s within [{float(T0)!r}, {T0 + 3.0!r})" in gwclient("bundle", *words, "--out", str(tmp_path)).stdout
