"""Every backend does the same, also while what is below it fails."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.backends.tape_library.robot import TapeManners
from databuffer.tiers.tier import Tier
from tests.support.faulty_proxy import Trouble, faulty_proxy
from tests.support.faulty_volume import Fault, FaultyVolume
from tests.support.object_stores import s3_tier
from tests.support.patient import Patient
from tests.support.tier_conformance import TierConformance, UnreachableConformance

#: A library without waiting.
AT_ONCE = TapeManners(drives=2, mount=0, seek=0, rate=10**12)


class TestFolder(TierConformance, UnreachableConformance):
    @pytest.fixture
    def tier(self, tmp_path: Path) -> Tier:
        return FolderTier("copy", tmp_path)

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> Tier:
        return FolderTier("copy", tmp_path / "not" / "mounted")


class TestTape(TierConformance, UnreachableConformance):
    @pytest.fixture
    def tier(self, tmp_path: Path) -> Tier:
        return TapeTier("tape", tmp_path, AT_ONCE)

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> Tier:
        return TapeTier("tape", tmp_path / "not" / "mounted", AT_ONCE)


class TestObjectStore(TierConformance, UnreachableConformance):
    @pytest.fixture
    def tier(self, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Tier:
        return s3_tier(monkeypatch, s3_url)

    @pytest.fixture(params=["no server", "no bucket"])
    def unreachable(self, s3_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Tier:
        if request.param == "no server":
            return s3_tier(monkeypatch, "http://127.0.0.1:9")
        return s3_tier(monkeypatch, s3_url, bucket="missing")


class TestFolderWhileEachSystemCallFails(TierConformance):
    @pytest.fixture(params=[False, True], ids=["without-effect", "late"])
    def tier(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tier]:
        with FaultyVolume() as faults:
            yield Patient(
                FolderTier("copy", tmp_path),
                lambda attempt: faults.arm(Fault(attempt, late=request.param)),
                faults.heal,
            )


class TestTapeWhileEachSystemCallFails(TierConformance):
    @pytest.fixture(params=[False, True], ids=["without-effect", "late"])
    def tier(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tier]:
        with FaultyVolume() as faults:
            yield Patient(
                TapeTier("tape", tmp_path, AT_ONCE),
                lambda attempt: faults.arm(Fault(attempt, late=request.param)),
                faults.heal,
            )


#: Requests without trouble after each one with trouble: enough for an upload that is not repeated, and for none.
_OFTEN, _SELDOM = 1, 6


class TestObjectStoreThatFails(TierConformance):
    @pytest.fixture(params=[(0, _SELDOM), (9, _OFTEN)], ids=["not-repeated", "repeated"])
    def tier(self, s3_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Tier]:
        retries, fine = request.param
        troubles = [each for trouble in Trouble for each in (trouble, *[Trouble.NONE] * fine)]
        with faulty_proxy(s3_url, troubles) as proxy:
            yield Patient(s3_tier(monkeypatch, proxy.url, retries=retries))
