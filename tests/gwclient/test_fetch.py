"""Segments are fetched from a gateway that fails for a while, for good, or for all of a batch."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from gwclient import recalls
from gwclient.cli import main
from gwclient.client import GlitchflowClient, Retry
from gwclient.commands.recall_progress import RecallProgress
from gwclient.errors import GatewayError
from gwclient.fetch import SegmentFetcher
from gwwire.problems import ProblemCode
from tests.support.gateway import Answering, StandInGateway
from tests.support.segments import segment_body

COUNT = 40
BODIES = [segment_body(number, t0=1e9 + number / 512) for number in range(COUNT)]
QUICK = Retry(tries=4, first=0.001, longest=0.002, absent=2)


@pytest.fixture
def gateway() -> Iterator[StandInGateway]:
    with StandInGateway() as gateway:
        gateway.bodies += BODIES
        yield gateway


def fetched(gateway: StandInGateway, batches: int = 1) -> list[bytes | GatewayError]:
    """Return the bodies of all segments, which are in some batches by turns, or the errors."""
    segments = [(f"gwb{number}.json", f"b{number % batches}") for number in range(COUNT)]

    async def work() -> list[bytes | GatewayError]:
        async with (
            GlitchflowClient(gateway.url, retry=QUICK) as client,
            aclosing(SegmentFetcher(client).bodies(segments)) as bodies,
        ):
            return [body async for _, body in bodies]

    return asyncio.run(work())


@pytest.mark.parametrize("code", [ProblemCode.UPSTREAM_UNREACHABLE, ProblemCode.TIER_FAILED, ProblemCode.QUEUE_FULL])
def test_what_passes_is_tried_again_and_everything_is_fetched(gateway: StandInGateway, code: ProblemCode) -> None:
    gateway.faults.extend([Answering(code)] * 8)
    assert fetched(gateway) == BODIES


@pytest.mark.parametrize(
    ("code", "tries"), [(ProblemCode.UPSTREAM_TIMEOUT, 4), (ProblemCode.TIER_FAILED, 2), (ProblemCode.ON_TAPE, 1)]
)
def test_what_lasts_is_retried_for_one_segment_and_then_given_up(
    gateway: StandInGateway, code: ProblemCode, tries: int
) -> None:
    gateway.faults.extend([Answering(code)] * COUNT * 10)
    found = fetched(gateway)
    assert len(gateway.requests) == 8 + tries - 1
    assert len({str(each) for each in found[8:]}) == 1
    assert str(found[-1]) in {str(each) for each in found[:8]}


def test_a_batch_that_cannot_be_read_does_not_end_the_others(gateway: StandInGateway) -> None:
    gateway.faults.append(Answering(ProblemCode.ON_TAPE))
    found = fetched(gateway, COUNT)
    assert sum(isinstance(each, bytes) for each in found) == COUNT - 1


def test_files_that_the_volume_does_not_return_are_one_by_one(gateway: StandInGateway) -> None:
    gateway.faults.extend([Answering(ProblemCode.VOLUME_FAILED)] * (2 * 8 + QUICK.tries - 1))
    found = fetched(gateway)
    assert sum(isinstance(each, GatewayError) for each in found) == 16
    assert found[16:] == BODIES[16:]


@pytest.mark.parametrize("kind", ["hdf5", "ndjson"])
def test_a_service_that_is_away_is_one_line(
    gateway: StandInGateway, capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    gateway.faults.extend([Answering(ProblemCode.UPSTREAM_UNREACHABLE)] * COUNT * 10)
    words = ["get", "--batch", gateway.batch, "--format", kind, "--out", str(tmp_path / "out"), "--tries", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--srv", gateway.url])
    assert stop.value.code == 1
    out, error = capsys.readouterr()
    *_, last = error.splitlines()
    reason = rf"{COUNT} segments: GET /segments/gwb\d.json answered 502: as the test wants it \(after 1 try\)"
    assert re.fullmatch(f"gwclient: nothing could be fetched: {reason}", last)
    assert (out + error).count("as the test wants it") == 1
    assert out.startswith("left out: ") == (kind == "hdf5")


def test_the_wait_for_a_recall_says_its_reason_once_and_ends_when_it_has_failed(
    gateway: StandInGateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recalls, "_LOOK_SECONDS", 0.01)
    gateway.faults.extend([Answering(ProblemCode.ON_TAPE)] * 3 + [Answering(ProblemCode.TIER_FAILED)] * 3)
    words = ["get", "gwb0.json", "--format", "ndjson", "--wait", "--srv", gateway.url]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "waiting: as the test wants it"
    assert last == "gwclient: GET /segments/gwb0.json answered 503: as the test wants it (after 3 tries)"


def test_of_recalls_that_are_waited_for_together_each_state_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    progress = RecallProgress()
    for state in ("b1 is first", "b2 is second", "b1 is first", "b2 is second", "b2 is first"):
        progress.show(state)
    assert capsys.readouterr().err == "waiting: b1 is first\nwaiting: b2 is second\nwaiting: b2 is first\n"
