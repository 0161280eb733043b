"""Archived batches are verified in the background, while segments are stored."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from databuffer.buffer import Buffer
from databuffer.errors import BatchNotArchived, NotFound
from databuffer.records.scan import Scan
from databuffer.settings import BufferSettings
from gwwire.datastore import FreezeOrder
from gwwire.public import Verification
from tests.support.lease import leased
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]


async def archive(buffer: Buffer, count: int = 4) -> tuple[str, Path]:
    """Archive a batch; return its id and folder."""
    for number in range(count):
        stored = buffer.ingest.submit(segment_body(number))
    await stored.answered
    batch = (await buffer.queries.overview()).batch
    folder = (await buffer.batches.flush()).folder
    assert folder
    return batch, folder


def verified_batches(state: str) -> float:
    return REGISTRY.get_sample_value("glitchflow_verified_batches_total", {"state": state}) or 0


async def verification(buffer: Buffer, batch: str) -> Verification | None:
    """Return what `GET /batches/{batch}` has as `verification`."""
    return (await buffer.verifier.verifications([await buffer.queries.batch(batch)])).get(batch)


async def result(buffer: Buffer, batch: str) -> Verification:
    while (found := await verification(buffer, batch)) and found.state == "running":
        await asyncio.wait([buffer.records.next_change(Scan(()))], timeout=1)
    assert found
    return found


async def verified(buffer: Buffer, batch: str) -> Verification:
    assert (await buffer.verifier.request(batch)).state == "running"
    return await result(buffer, batch)


async def test_a_batch_that_is_as_it_was_sealed_is_intact_and_that_is_kept(open_buffer: OpenBuffer) -> None:
    buffer = await open_buffer()
    batch, _ = await archive(buffer)
    assert await verification(buffer, batch) is None
    begun = (await buffer.queries.overview()).time
    found = await verified(buffer, batch)
    assert (found.state, found.checked, found.segments, found.problems) == ("intact", 4, 4, [])
    assert begun < found.at
    await buffer.close()
    assert await verification(await open_buffer(), batch) == found


async def test_the_result_of_a_verification_is_logged_and_counted(
    buffer: Buffer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    batch, folder = await archive(buffer)
    before = {state: verified_batches(state) for state in ("intact", "damaged")}
    await verified(buffer, batch)
    next(folder.glob("gwb*.json")).unlink()
    await verified(buffer, batch)
    assert {state: verified_batches(state) - before[state] for state in before} == {"intact": 1, "damaged": 1}
    told = [
        (record.levelname, getattr(record, "event", "")) for record in caplog.records if batch in record.getMessage()
    ]
    assert [line for line in told if line[1] not in {"open", "flush", "freeze"}] == [
        ("INFO", "verify"),
        ("INFO", "verified"),
        ("INFO", "verify"),
        ("ERROR", "verified"),
    ]


async def test_the_differing_files_of_a_damaged_batch_are_listed(buffer: Buffer) -> None:
    batch, folder = await archive(buffer)
    first, second, third, _ = sorted(folder.glob("gwb*.json"))
    as_it_was = first.read_bytes()
    first.write_bytes(as_it_was.replace(b"[0.0,", b"[1.0,"))
    second.unlink()
    third.write_bytes(b"{")
    found = await verified(buffer, batch)
    assert (found.state, found.checked) == ("damaged", 3)
    assert found.problems[0] == f"{second.name} is missing"
    assert found.problems[1] == f"{first.name} differs in sha256"
    assert found.problems[2].startswith(f"{third.name} cannot be read")
    first.write_bytes(as_it_was)
    assert (await verified(buffer, batch)).problems[1].startswith(third.name)


async def test_of_very_many_differences_the_first_are_listed(buffer: Buffer) -> None:
    batch, folder = await archive(buffer, 25)
    for path in folder.glob("gwb*.json"):
        path.unlink()
    problems = (await verified(buffer, batch)).problems
    assert len(problems) == 21
    assert problems[-1] == "and 5 more"


async def test_a_manifest_that_is_gone_or_another_is_damage(buffer: Buffer) -> None:
    batch, folder = await archive(buffer)
    _, other = await archive(buffer, 3)
    manifest = folder / "MANIFEST.json"
    manifest.write_bytes((other / "MANIFEST.json").read_bytes())
    for path in [*folder.glob("gwb*.json")]:
        path.unlink()
    for path in other.glob("gwb*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    [problem] = (await verified(buffer, batch)).problems
    assert json.loads(manifest.read_bytes())["digest"] in problem
    manifest.unlink()
    [problem] = (await verified(buffer, batch)).problems
    assert "MANIFEST.json" in problem


async def test_the_verification_of_an_archive_without_its_folder_fails_until_it_is_back(
    buffer: Buffer, caplog: pytest.LogCaptureFixture
) -> None:
    batch, folder = await archive(buffer)
    before = verified_batches("missing")
    elsewhere = folder.rename(folder.with_name("moved"))
    found = await verified(buffer, batch)
    assert (found.state, found.checked, found.segments) == ("failed", 0, 4)
    assert found.problems == [f"the folder {folder.name!r} of batch {batch} is missing, and 4 segments with it"]
    [step] = [step for step in (await buffer.records.get(f"batch/{batch}")).steps if step.name == "verify"]
    assert (step.state, step.reason) == ("FAILED", found.problems[0]), "a second attempt would find the same"
    assert verified_batches("missing") - before == 1
    assert found.problems[0] in [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    elsewhere.rename(folder)
    assert (await verified(buffer, batch)).state == "intact"


async def test_only_an_archived_batch_is_verified(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    batch = (await buffer.queries.overview()).batch
    with pytest.raises(BatchNotArchived):
        await buffer.verifier.request(batch)
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    with pytest.raises(BatchNotArchived):
        await buffer.verifier.request(batch)
    with pytest.raises(NotFound):
        await buffer.verifier.request("nothing")


async def test_a_stop_does_not_wait_for_the_end_of_a_verification_which_the_next_start_repeats(
    open_buffer: OpenBuffer,
) -> None:
    buffer = await open_buffer()
    batch, folder = await archive(buffer)
    lease = leased(sorted(folder.glob("gwb*.json"))[1])
    await buffer.verifier.request(batch)
    while (found := await verification(buffer, batch)) and found.checked < 2:  # noqa: ASYNC110 (what a client does)
        await asyncio.sleep(0.01)
    assert found
    assert (found.state, found.segments) == ("running", 4)
    assert await buffer.verifier.request(batch) == found, "it goes on"
    assert await buffer.ingest.append(segment_body(9))
    closing = asyncio.create_task(buffer.close())
    while not buffer.records.stopping:  # noqa: ASYNC110 (no event of the test's own)
        await asyncio.sleep(0)
    os.close(lease)
    await closing
    buffer = await open_buffer()
    assert (await result(buffer, batch)).state == "intact"
    [step] = [step for step in (await buffer.records.get(f"batch/{batch}")).steps if step.name == "verify"]
    assert (step.attempt, step.reason) == (2, None), "a stop is no failure"


async def test_a_verification_of_a_killed_buffer_is_done_after_the_next_start_without_waiting(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    script = textwrap.dedent(f"""
        import asyncio, os, signal
        from pathlib import Path
        from databuffer.app import create_buffer
        from databuffer.settings import BufferSettings
        from tests.databuffer.test_verifier import archive, verification
        from tests.support.lease import leased

        async def main():
            buffer = create_buffer(BufferSettings(
                DTVOLROOT=Path({str(settings.DTVOLROOT)!r}), DATAROOT=Path({str(settings.DATAROOT)!r}),
                ADMROOT=Path({str(settings.ADMROOT)!r}), LOGROOT=Path({str(settings.LOGROOT)!r}),
            ))
            await buffer.open()
            batch, folder = await archive(buffer)
            leased(sorted(folder.glob("gwb*.json"))[0])
            await buffer.verifier.request(batch)
            while not (await verification(buffer, batch)).checked:
                await asyncio.sleep(0.01)
            print(batch, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """)
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    batch = killed.stdout.strip()
    buffer = await open_buffer()
    assert (await result(buffer, batch)).state == "intact"
    [step] = [step for step in (await buffer.records.get(f"batch/{batch}")).steps if step.name == "verify"]
    assert (step.state, step.attempt) == ("DONE", 2)
    lease = leased(next(settings.DTVOLROOT.glob("2*/gwb*.json")))
    await buffer.records.redo(f"batch/{batch}", "verify")
    assert (await verification(buffer, batch)).state == "running"  # type: ignore[union-attr]
    os.close(lease)
    assert (await result(buffer, batch)).state == "intact"


async def test_a_lost_catalog_loses_verifications(open_buffer: OpenBuffer, settings: BufferSettings) -> None:
    buffer = await open_buffer()
    batch, _ = await archive(buffer)
    await verified(buffer, batch)
    await buffer.close()
    for path in settings.ADMROOT.glob("catalog.sqlite*"):
        path.unlink()
    buffer = await open_buffer()
    assert await verification(buffer, batch) is None
    assert (await verified(buffer, batch)).state == "intact"
