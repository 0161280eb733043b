"""Messages and exit codes if strain cannot be read: the folder of a tier is missing, or a tape is torn."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from gwwire.segment import NDJSON
from scripts.trio import Trio
from tests.support.command import Outcome, in_a_process
from tests.support.files import contents_of
from tests.support.forked import Forked
from tests.support.segments import JSON, segment_body

SEGMENTS = 40
TIMES = [1e9 + number * 8 / 4096 for number in range(SEGMENTS + 3)]


@dataclass
class Site:
    """A datastore with one batch in a folder, `stored`, and one on tape, `taped`."""

    trio: Trio
    object: Path
    tape: Path
    stored: str = ""
    taped: str = ""

    def gwclient(self, *words: str) -> Outcome:
        return in_a_process(*words, SRV=self.trio.url)

    def archive(self, tier: str, first: int, count: int) -> str:
        """Archive a batch to one tier only; return its id."""
        with httpx2.Client(base_url=self.trio.url, timeout=30) as gateway:
            times = TIMES[first : first + count]
            lines = b"".join(segment_body(number, t0=t0) + b"\n" for number, t0 in enumerate(times))
            assert gateway.post("/streamdata", content=lines, headers={"Content-Type": NDJSON}).status_code == 200
            batch = str(gateway.get("/batches").json()["batches"][-1]["id"])
            order = {"msg": "", "batch": batch, "tiering": {"archive_to": [tier], "keep_on_disk": 0}}
            assert gateway.post("/cleanbuf", json=order).status_code == 200
            end = time.monotonic() + 60
            while [each["tier"] for each in gateway.get(f"/batches/{batch}").json()["replicas"]] != [tier]:
                assert time.monotonic() < end
                time.sleep(0.05)
        return batch

    @contextmanager
    def without_object(self) -> Iterator[None]:
        away = self.object.with_name("away")
        self.object.rename(away)
        try:
            yield
        finally:
            away.rename(self.object)


@pytest.fixture(scope="module")
def site(start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("tiers")
    for name in ("object", "tape"):
        (folder / name).mkdir()
    tiers = f"object=file://{folder}/object tape=folder://{folder}/tape?mount=0&seek=0"
    settings = {"TIERS": tiers, "HOLDING_ARCHIVE_TO": "object", "HOLDING_KEEP_ON_DISK": "0s"}
    trio = start_shared_trio(each={"databuffer": settings})
    site = Site(trio, folder / "object", folder / "tape")
    site.stored = site.archive("object", 0, SEGMENTS)
    site.taped = site.archive("tape", SEGMENTS, 3)
    return site


@pytest.mark.parametrize("kind", ["hdf5", "ndjson"])
def test_a_tier_that_is_missing_is_one_message_for_a_batch_and_soon_the_end(
    site: Site, tmp_path: Path, kind: str
) -> None:
    with site.without_object():
        began = time.monotonic()
        done = site.gwclient("get", "--batch", site.stored, "--format", kind, "--out", str(tmp_path / "out"))
        assert time.monotonic() - began < 60
    assert done.code == 1
    lines = done.err.splitlines()
    others = [line for line in lines if "trying again" not in line]
    assert len(lines) - len(others) == 2, "the first failure is retried, the others are not"
    reason = f"batch {site.stored}, {SEGMENTS} segments: GET /segments/"
    assert others[-1].startswith(f"gwclient: nothing could be fetched: {reason}")
    assert "cannot be read: tier object: there is no folder" in others[-1]
    assert others[-1].endswith("(after 3 tries)")
    assert len(others) == 1
    if kind == "hdf5":
        assert len(done.out.splitlines()) == 1, done.out


def test_what_is_in_other_tiers_is_fetched_and_the_exit_code_says_that_a_part_is_missing(
    site: Site, tmp_path: Path
) -> None:
    body = segment_body(1000, t0=5e8)
    httpx2.post(f"{site.trio.url}/streamdata", content=body, headers=JSON)
    out = tmp_path / "out"
    with site.without_object():
        done = site.gwclient("get", "--stop", str(TIMES[SEGMENTS]), "--format", "ndjson", "--out", str(out))
    assert done.code == 4, done.err
    assert json.loads(out.read_bytes()) == json.loads(body)
    written, line = [line for line in done.err.splitlines() if "trying again" not in line]
    assert written == f"{out}: 1 segment"
    assert line.startswith(f"gwclient: not everything could be fetched: batch {site.stored}, {SEGMENTS} segments: ")


def test_files_in_a_tier_that_is_missing_fail_and_the_others_are_fetched(site: Site, tmp_path: Path) -> None:
    source, other = tmp_path / "files", tmp_path / "other"
    source.mkdir()
    for number in range(12):
        (source / str(number)).write_text(str(number))
    assert site.gwclient("put", str(source)).code == 0
    end = time.monotonic() + 60
    while contents_of(site.trio.home / "datavar" / ".holdings" / "objects"):
        assert time.monotonic() < end
        time.sleep(0.05)
    with site.without_object():
        done = site.gwclient("getfile", str(source), "-r", str(tmp_path / "none"))
    # The directory itself is restored.
    assert (done.code, done.err.splitlines()[-1]) == (4, "gwclient: 12 files failed")
    assert "cannot be read: tier object: there is no folder" in done.err
    assert sum("trying again" in line for line in done.err.splitlines()) == 2
    assert site.gwclient("getfile", str(source), "-r", str(other)).code == 0
    assert len([path for path in other.rglob("*") if path.is_file()]) == 12


def test_a_file_that_is_missing_among_others_has_the_exit_code_of_a_part(site: Site, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("notes")
    assert site.gwclient("put", str(tmp_path / "notes")).code == 0
    done = site.gwclient("getfile", str(tmp_path / "notes"), "/no/such", "-r", str(tmp_path / "back"))
    assert (done.code, len(done.out.splitlines())) == (4, 1)
    assert site.gwclient("getfile", "/no/such", "-r", str(tmp_path / "back")).code == 1


def test_the_reason_of_a_recall_that_fails_is_shown_while_it_is_waited_for(site: Site, tmp_path: Path) -> None:
    faults = site.tape / "faults"
    faults.write_text("stage batches/* the tape is torn\n")
    done = site.gwclient("get", "--batch", site.taped, "--out", str(tmp_path))
    assert done.code == 1, "nothing was fetched"
    assert f"nothing could be fetched: 3 segments: batch {site.taped} is on tape; " in done.err
    assert done.out.startswith("left out: ")
    assert (done.out + done.err).count("try again then, or wait with") == 1
    words = ["get", "--batch", site.taped, "--format", "ndjson", "--out", str(tmp_path / "out"), "--wait"]
    with Forked(["gwclient", *words], os.environ | {"SRV": site.trio.url}) as process:
        try:
            seen = next(line for line in process.stderr or () if "torn" in line)
        finally:
            faults.unlink()
            process.kill()
    assert seen.startswith(f"waiting: batch {site.taped} is on tape; its recall waits: tier tape: ")
    # The id of a batch alone is that of its record.
    done = site.gwclient("redo", site.taped, "recall")
    assert (done.code, done.err) == (0, "")
    done = site.gwclient("record", site.taped, "--json")
    assert json.loads(done.out)["id"] == f"batch/{site.taped}"
