"""The tier behind XRootD, with a real server; needs the extra `tape` and Debian's xrootd-server."""

import time
from collections.abc import Iterator
from itertools import count

import pytest

from databuffer.tier_urls import parse_tiers
from databuffer.tiers.backends.open import open_tiers
from databuffer.tiers.tier import Locality, NotOnline, Tier, TierError
from scripts.trio import draw_ports
from tests.support.faulty_xrootd import Trouble, failing_calls, faulty_xrootd_proxy
from tests.support.patient import Patient
from tests.support.tier_conformance import TierConformance, UnreachableConformance, bring_online, keys_of, write
from tests.support.xrootd_server import is_installed, running_xrootd

client = pytest.importorskip("XRootD.client", reason="SKIPPED: XRootD, because the extra `tape` is not installed")
if not is_installed():
    pytest.skip("SKIPPED: XRootD, because Debian's xrootd-server is not installed", allow_module_level=True)

_FOLDERS = count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_xrootd() as address:
        yield address


def tier_at(address: str, path: str) -> Tier:
    return open_tiers(parse_tiers(f"tape=root://{address}//{path}"))["tape"]


def new_folder(server: str) -> str:
    path = f"tape/test-{next(_FOLDERS)}"
    status, _ = client.FileSystem(f"root://{server}").mkdir(f"/{path}")
    assert status.ok
    return path


@pytest.fixture
def tier(server: str) -> Tier:
    return tier_at(server, new_folder(server))


class TestXRootD(TierConformance, UnreachableConformance):
    @pytest.fixture(params=["no server", "no folder"])
    def unreachable(self, server: str, request: pytest.FixtureRequest) -> Tier:
        return tier_at("127.0.0.1:9", "tape") if request.param == "no server" else tier_at(server, "tape/missing")


class TestXRootDWhoseCallsFail(TierConformance):
    @pytest.fixture(params=[False, True], ids=["without-effect", "late"])
    def tier(self, server: str, request: pytest.FixtureRequest) -> Iterator[Tier]:
        with failing_calls(late=request.param) as faults:
            yield Patient(tier_at(server, new_folder(server)), faults.begin)


#: Each trouble with requests between them that get through: a client that reads on after a cut needs two.
_TROUBLES = [
    each
    for trouble in (Trouble.NONE, Trouble.REQUEST_CUT, Trouble.ANSWER_CUT, Trouble.SLOW)
    for each in (trouble, *[Trouble.NONE] * 4)
]


class TestXRootDThatIsSlowOrCutInTheMiddle(TierConformance):
    @pytest.fixture
    def tier(self, server: str) -> Iterator[Tier]:
        with faulty_xrootd_proxy(server, _TROUBLES) as proxy:
            yield Patient(tier_at(proxy.address, new_folder(server)), proxy.begin)


def test_a_list_that_lacks_a_folder_is_an_error(server: str) -> None:
    folder = new_folder(server)
    tier = tier_at(server, folder)
    write(tier, "a/one.tar")
    write(tier, "b/two.tar")
    status, _ = client.FileSystem(f"root://{server}").chmod(f"/{folder}/b", 0)
    assert status.ok
    with pytest.raises(TierError, match=r"some folders below .* cannot be listed"):
        list(tier.list())


def test_a_file_that_a_crash_left_behind_is_deleted_after_a_day_and_one_that_is_written_is_kept(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, calls = new_folder(server), client.FileSystem(f"root://{server}")
    tier, left = tier_at(server, folder), f"/{folder}/.incoming/left"
    write(tier, "one.tar")
    status, _ = calls.copy(f"root://{server}//{folder}/one.tar", f"root://{server}/{left}")
    assert status.ok
    write(tier, "two.tar")
    assert calls.stat(left)[0].ok
    monkeypatch.setattr("databuffer.tiers.backends.incoming._ABANDONED", -5.0)  # every file is that old
    write(tier, "three.tar")
    assert not calls.stat(left)[0].ok
    assert keys_of(tier) == ["one.tar", "three.tar", "two.tar"]


def test_a_call_without_an_answer_fails_in_time(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("databuffer.tiers.backends.xrootd._SECONDS", 1)
    with faulty_xrootd_proxy(server, [Trouble.SILENT]) as proxy:
        tier = tier_at(proxy.address, new_folder(server))
        with pytest.raises(TierError, match="Operation expired"):
            tier.stat("one.tar")


def test_a_server_that_comes_back_is_used_again(server: str) -> None:
    [port] = draw_ports(1)
    tier = tier_at(f"127.0.0.1:{port}", new_folder(server))
    with pytest.raises(TierError):
        tier.stat("one.tar")
    with faulty_xrootd_proxy(server, [Trouble.NONE], port):
        deadline = time.monotonic() + 60
        while tier.locality(["one.tar"]) != {"one.tar": Locality.NONE}:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def until_evicted(tier: Tier, key: str) -> None:
    """Wait until a key is on tape only: the server answers before its robot has done the work."""
    deadline = time.monotonic() + 60
    while tier.locality([key]) != {key: Locality.NEARLINE}:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_bytes_on_tape_can_be_read_only_while_they_are_staged(tier: Tier) -> None:
    write(tier, "one.tar", b"some bytes")
    for _ in range(2):
        until_evicted(tier, "one.tar")
        with pytest.raises(NotOnline, match=r"one\.tar is on tape"):
            tier.read("one.tar")
        bring_online(tier, "one.tar")
        assert tier.locality(["one.tar"]) == {"one.tar": Locality.ONLINE}
        assert b"".join(tier.read("one.tar")) == b"some bytes"
        tier.release(["one.tar"])


def test_the_space_of_the_server_is_reported(tier: Tier) -> None:
    capacity = tier.capacity()
    assert capacity.total is not None
    assert capacity.used is not None
