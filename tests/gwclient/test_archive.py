"""Queries, downloads and orders of the client against the real trio."""

import asyncio
import hashlib
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pytest
from click.testing import CliRunner, Result

from gwclient import Datastore
from gwclient.cli import gwclient as cli
from gwclient.client import GlitchflowClient
from gwclient.commands.options import Debugging
from gwclient.errors import GatewayRefused, OutputError
from gwclient.freeze import waiting_text
from gwclient.pieces import left_out
from gwclient.sources.file import FileSource
from gwwire.overview import Overview
from gwwire.public import BatchState
from gwwire.records import StepClaim, StepEnd, StepState
from gwwire.segment import decode_segment
from scripts.trio import Trio
from tests.support.asking import ask
from tests.support.segments import segment_body

T = TypeVar("T")
T0 = 1126259446
H1, L1 = "H1:GWOSC-4KHZ_R1_STRAIN", "L1:GWOSC-4KHZ_R1_STRAIN"


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], gw150914_files: dict[str, Path]) -> Trio:
    """The trio with both files of GW150914 in the current batch."""
    trio = start_shared_trio({"MAX_SIZE": "1kB"})
    files = [word for path in gw150914_files.values() for word in ("--file", str(path))]
    pushed = CliRunner().invoke(
        cli, ["push", *files, "--srv", trio.url], obj=Debugging(), env={"XDG_STATE_HOME": str(trio.home / "state")}
    )
    assert pushed.exit_code == 0, pushed.output
    return trio


@pytest.fixture
def gwclient(trio: Trio) -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(cli, [*words, "--srv", trio.url], obj=Debugging())


async def stored(client: Datastore, channel: str) -> list[bytes]:
    return [await client.segment(each.name) async for each in client.segments(channel=channel)]


def current_batch(trio: Trio) -> str:
    return ask(trio, lambda client: client.batches())[-1].id


def strain_of(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["strain/Strain"][()]


async def all_of(client: GlitchflowClient, **wanted: Any) -> list[Any]:
    return [each async for each in client.segments(**wanted)]


def test_segments_come_page_by_page_and_each_once(trio: Trio) -> None:
    whole = ask(trio, all_of)
    paged = ask(trio, lambda client: all_of(client, page=7))
    assert [each.seq for each in paged] == [each.seq for each in whole]
    assert len({each.name for each in paged}) == len(paged) >= 64
    window = ask(trio, lambda client: all_of(client, channel=L1, start=T0 + 4.0, stop=T0 + 6.5))
    assert sorted(each.t0 for each in window) == [T0 + 4, T0 + 5, T0 + 6]


def test_a_segment_comes_byte_for_byte(trio: Trio) -> None:
    record = ask(trio, all_of)[5]
    body = ask(trio, lambda client: client.segment(record.name))
    assert body == (trio.home / "datavar" / "data" / record.name).read_bytes()
    assert hashlib.sha256(body).hexdigest() == record.sha256
    with pytest.raises(GatewayRefused) as refusal:
        ask(trio, lambda client: client.segment("gwb0.json"))
    assert refusal.value.status == 404


def test_a_batch_comes_back_as_gwosc_files_bit_for_bit(
    trio: Trio, gwclient: Callable[..., Result], tmp_path: Path, gw150914_files: dict[str, Path]
) -> None:
    done = gwclient("get", "--batch", current_batch(trio), "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    for detector, path in gw150914_files.items():
        back = tmp_path / f"{detector[0]}-{detector}_GWOSC_4KHZ_R1_STRAIN-{T0}-32.hdf5"
        assert strain_of(back).tobytes() == strain_of(path).tobytes()
        (run,) = FileSource((back,)).runs()
        assert (run.channel, run.t0, run.dt) == (f"{detector}:GWOSC-4KHZ_R1_STRAIN", T0, 1 / 4096)
        with h5py.File(back) as file:
            assert file["meta/UTCstart"][()] == b"2015-09-14T09:50:29"
            assert list(file["quality/simple/DQmask"][()]) == [127] * 32
            assert list(file["quality/simple/DQShortnames"][()]) == [
                b"DATA", b"CBC_CAT1", b"CBC_CAT2", b"CBC_CAT3", b"BURST_CAT1", b"BURST_CAT2", b"BURST_CAT3",
            ]  # fmt: skip
            assert (file["meta/GPSstart"][()], file["meta/Duration"][()]) == (T0, 32)


def test_gwpy_reads_what_came_back(gwclient: Callable[..., Result], tmp_path: Path) -> None:
    window = ("--channel", L1, "--start", str(T0 + 2), "--stop", str(T0 + 4))
    assert gwclient("get", *window, "--out", str(tmp_path)).exit_code == 0
    (path,) = tmp_path.glob("*.hdf5")
    with warnings.catch_warnings(action="ignore"):
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (takes seconds)

        series = TimeSeries.read(str(path), format="hdf5.gwosc")
    assert (float(series.t0.value), float(series.dt.value), len(series)) == (T0 + 2, 1 / 4096, 8192)


def test_a_span_is_exact_to_the_sample(
    gwclient: Callable[..., Result], tmp_path: Path, gw150914_files: dict[str, Path]
) -> None:
    window = ("--channel", L1, "--start", str(T0 + 4.25), "--stop", str(T0 + 5.5))
    done = gwclient("get", *window, "--out", str(tmp_path), "--json")
    (path,) = map(Path, json.loads(done.output)["files"])
    expected = strain_of(gw150914_files["L1"])[4 * 4096 + 1024 : 5 * 4096 + 2048]
    assert strain_of(path).tobytes() == expected.tobytes()
    (run,) = FileSource((path,), bits=("CBC_CAT3",)).runs()
    assert run.t0 == T0 + 4.25
    assert not left_out(run)


def test_segments_come_back_as_ndjson(trio: Trio, gwclient: Callable[..., Result], tmp_path: Path) -> None:
    out = tmp_path / "segments.ndjson"
    window = ("--start", str(T0), "--stop", str(T0 + 2))
    assert gwclient("get", *window, "--format", "ndjson", "--out", str(out)).exit_code == 0
    segments = [decode_segment(line) for line in out.read_bytes().splitlines()]
    assert sorted((s.channel, s.t0) for s in segments) == [(H1, T0), (H1, T0 + 1), (L1, T0), (L1, T0 + 1)]
    name = ask(trio, all_of)[0].name
    one = gwclient("get", name, "--format", "ndjson")
    assert one.stdout_bytes == (trio.home / "datavar" / "data" / name).read_bytes() + b"\n"
    assert gwclient("get", name, "--out", str(tmp_path)).exit_code == 0
    assert len(list(tmp_path.glob("*-1.hdf5"))) == 1


def test_what_is_not_there_is_reported(gwclient: Callable[..., Result]) -> None:
    done = gwclient("get", "--channel", "L1:NOTHING")
    assert str(done.exception) == "the datastore has no such segment"


def test_a_gap_makes_another_file_and_what_overlaps_is_reported(trio: Trio, tmp_path: Path) -> None:
    spans = [(100.0, 4), (101.0, 4), (103.0, 4), (103.5, 4), (100.0, 4)]
    lines = [
        json.dumps({"h": [1e-21 * (k + n) for k in range(count)], "t": [t0, 0.25], "meta": {"channel": "V1:Hrec"}})
        for n, (t0, count) in enumerate(spans)
    ]

    async def store(client: GlitchflowClient) -> None:
        for line in lines:
            await client.stream(line.encode())

    ask(trio, store)
    done = CliRunner().invoke(cli, ["get", "--channel", "V1:Hrec", "--out", str(tmp_path), "--srv", trio.url, "--json"])
    told = json.loads(done.output)
    assert [Path(path).name for path in told["files"]] == ["V-V1_Hrec-100-2.hdf5", "V-V1_Hrec-103-2.hdf5"]
    assert [(each["start"], each["reason"]) for each in told["left_out"]] == [
        (100.0, "overlaps another segment"), (103.5, "overlaps another segment"),
    ]  # fmt: skip
    assert np.allclose(strain_of(tmp_path / "V-V1_Hrec-100-2.hdf5") / 1e-21, [0, 1, 2, 3, 1, 2, 3, 4])


def test_a_batch_that_waits_has_what_was_acknowledged_just_before(start_trio: Callable[..., Trio]) -> None:
    async def work(client: Datastore) -> str:
        await client.overview()  # dslogic keeps it for half a second
        await client.stream(segment_body(1, samples=30_000))
        return await waiting_text(client)

    text = ask(start_trio({"MAX_SIZE": "1MB"}), work)
    assert re.fullmatch(r"the batch has 0\.[1-9] of 1\.0 MB \(MAX_SIZE\)", text)


async def fail(url: str, batch: str, step: str) -> None:
    async with GlitchflowClient(url) as client:
        await client.records.claim(step, StepClaim("w", after=["sealed"], kind="batch"))
        await client.records.end(f"batch/{batch}", step, StepEnd(1, StepState.FAILED, reason="no disk", retry=False))


def test_the_way_of_a_batch_by_the_commands(
    start_trio: Callable[..., Trio],
    gw150914_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    trio = start_trio({"MAX_SIZE": "1kB"})

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, [*words, "--srv", trio.url], obj=Debugging())

    def answer(*words: str) -> Any:
        done = run(*words, "--json")
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.output)

    shutil.copy(gw150914_files["L1"], tmp_path)
    waited = run("train", "--user", "ada", "--token", "t", "--wait", "--poll", "0.05", "--deadline", "0.2")
    assert "the batch has 0.0 of 1.0 kB (MAX_SIZE), and the deadline of 0.2 s is over" in str(waited.exception)
    assert answer("push", "--folder", str(tmp_path), "--stop", str(T0 + 4))["acknowledged"] == 4
    frozen = answer("train", "--user", "ada", "--token", "t", "--wait")
    assert (frozen["resp"], frozen["holder"], frozen["n_f"]) == ("FROZEN", "ada", 4)
    batch = frozen["batch"]
    other = run("train", "--user", "eve", "--token", "t", "--wait", "--poll", "0.05", "--deadline", "0.2")
    assert "ada holds the batch" in str(other.exception)
    assert answer("batch", batch)["state"] == BatchState.FROZEN
    assert answer("manifest", batch)["digest"] == frozen["digest"]
    asyncio.run(fail(trio.url, batch, "copy"))
    failed = run("clean", "--batch", batch, "--after", "copy")
    assert str(failed.exception) == f"step copy of batch/{batch} failed: no disk"
    assert run("clean", "--after", "copy").exit_code == 2
    assert answer("batch", batch)["state"] == BatchState.FROZEN
    assert answer("thaw", "--user", "ada", "--token", "t")["resp"] == "OPERATIONAL"
    assert answer("train", "--user", "ada", "--token", "t")["resp"] == "FROZEN"
    unwritten = run("train", "--user", "ada", "--token", "t", "--batch-file", "/dev/full").exception
    assert isinstance(unwritten, OutputError)
    assert str(unwritten) == f"the batch {batch} is frozen, but /dev/full cannot be written: No space left on device"
    handed_on = tmp_path / "batch"
    assert answer("train", "--user", "ada", "--token", "t", "--batch-file", str(handed_on))["batch"] == batch
    assert run("clean", "--batch-file", str(handed_on), "--batch", batch).exit_code == 2
    assert answer("clean", "--batch-file", str(handed_on))["resp"] == "CLEANED"
    archived_since = run("clean", "--batch-file", str(handed_on)).exception
    assert isinstance(archived_since, GatewayRefused)
    assert archived_since.code == "batch-changed"
    assert [each["state"] for each in answer("batches")["batches"]] == ["ARCHIVED", "OPEN"]
    assert run("segments", "--batch", batch).output.count(L1) == 4
    assert run("verify", batch, "--poll", "0.05").output.endswith(f"{batch} is intact: 4 of 4 files read in disk\n")
    first, *_ = sorted((trio.home / "datavar" / answer("batch", batch)["path"]).glob("gwb*.json"))
    first.unlink()
    damaged = run("verify", batch, "--poll", "0.05", "--json")
    assert damaged.exit_code == 1
    assert json.loads(damaged.stdout)["problems"] == [f"{first.name} is missing"]
    assert f"frozen by ada, DAMAGED: {first.name} is missing" in run("batches").output
    refused = run("verify", answer("batches")["batches"][-1]["id"]).exception
    assert isinstance(refused, GatewayRefused)
    assert refused.code == "batch-not-archived"
    assert "only an archived batch can be verified" in str(refused)
    looks = [json.loads(line) for line in run("watch", "--count", "2", "--every", "0.05", "--json").output.splitlines()]
    assert [(look["n_itm"], look["resp"]) for look in looks] == [(0, "OPERATIONAL")] * 2
    assert "[........................] 0%" in run("watch", "--count", "1", "--full", "1MB").output


def test_clean_archives_no_batch_that_somebody_freezes_meanwhile(
    trio: Trio, gwclient: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    overview = GlitchflowClient.overview

    async def and_freeze(client: GlitchflowClient) -> Overview:
        seen = await overview(client)
        await client.train("eve", "t")
        return seen

    monkeypatch.setattr(GlitchflowClient, "overview", and_freeze)
    refused = gwclient("clean").exception
    monkeypatch.undo()
    ask(trio, lambda client: client.thaw("eve", "t"))
    assert isinstance(refused, GatewayRefused)
    assert refused.code == "batch-changed"
    assert "frozen by eve, not open" in str(refused)


def test_strain_of_an_archived_batch_is_acknowledged_and_said_to_be_there(
    start_trio: Callable[..., Trio], gw150914_files: dict[str, Path], tmp_path: Path
) -> None:
    trio = start_trio({"MAX_SIZE": "1kB"})
    shutil.copy(gw150914_files["L1"], tmp_path)

    def push(*words: str, stop: int = 4) -> Result:
        return CliRunner().invoke(cli, ["push", *words, "--stop", str(T0 + stop), "--srv", trio.url], obj=Debugging())

    assert "archived" not in push(str(tmp_path)).output
    ask(trio, lambda client: client.clean("done"))
    for source in (tmp_path, tmp_path / gw150914_files["L1"].name):  # by its cursor, and by its keys
        again = push(str(source))
        assert again.exit_code == 0
        assert "4 of these segments were stored before, and are in an archived batch, not in the cur" in again.output
    assert json.loads(push(str(source), "--json", stop=5).output)["archived"] == 4
    assert json.loads(push(str(source), "--json", "--restart").output)["archived"] == 0
    assert ask(trio, lambda client: client.stats()).n_itm == 1 + 4
    ask(trio, lambda client: client.clean("done"))
    assert ask(trio, lambda client: client.push(np.ones(4), 1e9, 0.25, "L1:A")).archived == 0
    ask(trio, lambda client: client.clean("done"))
    assert ask(trio, lambda client: client.push(np.ones(4), 1e9, 0.25, "L1:A")).archived == 1
    [segment] = ask(trio, lambda client: stored(client, "L1:A"))
    line = subprocess.run(
        [sys.executable, "-m", "gwclient", "push", "--stdin", "--json", "--srv", trio.url],
        input=segment, capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(line.stdout)["archived"] == 1
    out = CliRunner().invoke(cli, ["get", "--channel", L1, "--out", str(tmp_path), "--srv", trio.url], obj=Debugging())
    assert f"left out, stored twice: {L1} [{T0}, {T0 + 4})" in out.output
