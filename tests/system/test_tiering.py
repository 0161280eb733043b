"""The policy of tiers through all services: a disk, an object store and a tape that are folders."""

import hashlib
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.files import contents_of
from tests.support.forked import run_forked
from tests.support.segments import JSON, segment_body

BOTH = ("--archive-to", "object,tape")


@dataclass
class Site:
    """A datastore with three tiers, of which `archive` archives a batch after the other."""

    trio: Trio
    tiers: Path
    gateway: httpx2.Client
    stored: int = 0

    def gwclient(self, *words: str, code: int = 0) -> Any:
        """Return the JSON that a command printed."""
        done = run_forked(["gwclient", *words, "--json"], os.environ | {"SRV": self.trio.url})
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if done.stdout else done.stderr

    def archive(self, tiering: dict[str, Any] | None = None) -> str:
        """Archive a batch of four segments by a policy, or that of the settings, and return its id."""
        for number in range(self.stored, self.stored + 4):
            assert self.gateway.post("/streamdata", content=segment_body(number), headers=JSON).status_code == 200
        self.stored += 4
        batch = str(self.gateway.get("/batches").json()["batches"][-1]["id"])
        order = {"msg": "full", "batch": batch} | ({} if tiering is None else {"tiering": tiering})
        assert self.gateway.post("/cleanbuf", json=order).status_code == 200
        return batch

    def folder(self, batch: str) -> Path:
        """Return the folder of an archived batch."""
        return self.trio.home / "datavar" / str(self.gateway.get(f"/batches/{batch}").json()["path"])

    def packs(self, tier: str) -> dict[str, str]:
        """Return the SHA-256 of each pack in a tier, by the name of its batch."""
        found = contents_of(self.tiers / tier).items()
        return {path.stem: hashlib.sha256(content).hexdigest() for path, content in found if path.suffix == ".tar"}

    def steps(self, batch: str) -> dict[str, str]:
        """Return the states of the steps on the record of a batch."""
        steps = self.gateway.get(f"/records/batch/{batch}").json()["steps"]
        return {step["name"]: step["state"] for step in steps}


@pytest.fixture(scope="module")
def site(start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tiers = tmp_path_factory.mktemp("tiers")
    for name in ("object", "tape"):
        (tiers / name).mkdir()
    urls = f"object=file://{tiers}/object tape=folder://{tiers}/tape?mount=0&seek=0"
    settings = {"ARCHIVE_TO": "object", "OBJECT_HIGH_WATER": "0.000001%"}
    trio = start_shared_trio(each={"databuffer": {"TIERS": urls, "OBJECT_HIGH_WATER": "100%"}, "dslogic": settings})
    with httpx2.Client(base_url=trio.url, timeout=30) as gateway:
        yield Site(trio, tiers, gateway)


def within(seconds: float, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_batch_is_copied_as_the_settings_say_and_another_as_its_own_order_says(site: Site) -> None:
    by_settings = site.archive()
    by_order = site.archive({"archive_to": ["tape"]})
    on_disk_only = site.archive({})
    within(60, lambda: (by_settings in site.packs("object")) and (by_order in site.packs("tape")))
    assert by_settings not in site.packs("tape")
    assert by_order not in site.packs("object")
    assert not site.packs("object").keys() & {on_disk_only}
    [plan] = [site.gwclient("tier", "plan", on_disk_only)["plan"]]
    assert [(move["batch"], move["step"]) for move in plan["moves"]] == [(on_disk_only, "copy:object")]


def test_a_plan_changes_nothing_and_its_application_moves_what_it_named(site: Site) -> None:
    first, second = site.archive({}), site.archive({})
    order = (*BOTH, "--keep-on-disk", "0d", first, second)
    found = site.gwclient("tier", "plan", *order, "--rate", "1MB", "--price", "object=2")
    expected = [(batch, step) for batch in (first, second) for step in ("copy:object", "copy:tape", "drop:disk")]
    assert [(move["batch"], move["step"]) for move in found["plan"]["moves"]] == expected
    assert site.steps(first).keys() == {"sealed", "archived"}
    [copy, *_] = found["estimates"]
    size = sum(move["bytes"] for move in found["plan"]["moves"] if move["step"] == "copy:object")
    assert (copy["step"], copy["batches"], copy["bytes"]) == ("copy:object", 2, size)
    assert (copy["seconds"], copy["per_month"]) == (pytest.approx(size / 1e6), pytest.approx(size * 2e-9))

    left = site.gwclient("tier", "apply", *order, "--yes", "--wait", "--poll", "0.1")
    assert left["plan"]["moves"] == left["plan"]["blocked"] == []
    for batch in (first, second):
        assert site.packs("object")[batch] == site.packs("tape")[batch]
        assert not list(site.folder(batch).glob("gwb*.json"))
        assert (site.folder(batch) / "MANIFEST.json").exists()
        [pack] = (site.tiers / "object").rglob(f"{batch}.tar")
        with tarfile.open(pack) as tar:
            assert len(tar.getnames()) == 5
        assert site.steps(batch).items() >= dict.fromkeys(("copy:object", "copy:tape", "drop:disk"), "DONE").items()
    after = site.gwclient("tier", "plan", *BOTH, "--keep-on-disk", "0d")["plan"]
    assert not {move["batch"] for move in after["moves"]} & {first, second}
    assert after["rates"].keys() == {"object", "tape"}
    leaving = {each["batch"] for each in after["evictions"] if each["step"] == "drop:object"}  # it is above its mark
    assert {first, second} <= leaving <= site.packs("object").keys()


def test_the_disk_keeps_a_batch_until_its_time_has_come(site: Site) -> None:
    batch = site.archive({"archive_to": ["object"], "keep_on_disk": 3600})
    left = site.gwclient("tier", "apply", "--archive-to", "tape", "--keep-on-disk", "7d", batch, "--yes", "--wait")
    [drop] = left["plan"]["moves"]
    assert (drop["step"], drop["after"]) == ("drop:disk", [])
    assert drop["due"] == pytest.approx(time.time() + 7 * 86_400, abs=60)
    assert len(list(site.folder(batch).glob("gwb*.json"))) == 4
    leaves = site.gateway.get(f"/batches/{batch}").json()["leaves_disk"]
    assert datetime.fromisoformat(leaves).timestamp() == pytest.approx(drop["due"], abs=0.001)
    order = ("--archive-to", "object", "--keep-on-disk", "forever", batch, "--yes", "--wait")
    for _ in range(2):  # the first one may have a copy to wait for
        done = run_forked(["gwclient", "tier", "apply", *order], os.environ | {"SRV": site.trio.url})
    assert done.stdout == "policy set for 1 batch\nevery move is made\n"
    assert "moves made" not in done.stderr
    assert site.gateway.get(f"/batches/{batch}").json()["leaves_disk"] is None


def test_a_tier_that_there_is_not_is_refused_before_anything_moves(site: Site) -> None:
    batch = site.archive({})
    for command in (("plan",), ("apply", "--yes")):
        refusal = site.gwclient("tier", *command, "--archive-to", "moon", batch, code=1)
        assert "the buffer has no tier 'moon'; its setting TIERS names object, tape" in refusal
    assert "no-such-batch" in site.gwclient("tier", "plan", "no-such-batch", code=1)
    assert site.steps(batch).keys() == {"sealed", "archived"}
    current = site.gateway.get("/batches").json()["batches"][-1]["id"]
    assert "the buffer has no tier 'moon'" in site.gwclient("clean", "--archive-to", "moon", code=1)
    assert site.gateway.get(f"/batches/{current}").json()["state"] == "OPEN"


def test_a_person_sees_the_plan_as_a_table_and_is_asked_before_anything_moves(site: Site) -> None:
    batch = site.archive({})
    words = ["tier", "apply", *BOTH, "--keep-on-disk", "7d", "--price", "disk=0.1", batch]
    done = run_forked(["gwclient", *words], os.environ | {"SRV": site.trio.url})
    policy, *rows, question, refusal = done.stderr.splitlines()
    assert policy == "policy: copies in object, tape; the disk keeps them for 7d"
    steps = ["copy:object", "copy:tape", "drop:disk"]
    assert [row.split()[:2] for row in rows[:3]] == [[batch, step] for step in steps]
    assert rows[2].endswith("after copy:object, copy:tape")
    assert rows[-1].startswith("drop:disk: 1 batch, ")
    assert rows[-1].endswith(" a month")
    assert question == "Apply this policy to 1 batch? [y/N]: "
    assert refusal == "gwclient: nothing was changed; --yes answers for scripts"  # there was no answer
    assert done.returncode == 1
    assert site.steps(batch).keys() == {"sealed", "archived"}


def test_a_batch_whose_bytes_are_lost_is_named_and_stays(site: Site) -> None:
    batch = site.archive({})
    kept = sorted(site.folder(batch).glob("gwb*.json"))
    kept[0].write_bytes(b"{}")
    order = (*BOTH, "--keep-on-disk", "0d", batch, "--yes", "--wait", "--poll", "0.1")
    left = site.gwclient("tier", "apply", *order, code=1)["plan"]
    assert left["moves"] == []
    assert [(each["step"], each["reason"].partition(";")[0]) for each in left["blocked"]] == [
        ("copy:object", "no replica of the batch can be read"),
        ("copy:tape", "no replica of the batch can be read"),
        ("drop:disk", "copy:object comes before it and cannot be made"),
    ]
    assert sorted(site.folder(batch).glob("gwb*.json")) == kept
    assert not {batch} & (site.packs("object") | site.packs("tape")).keys()


def test_a_tier_that_fails_is_named_by_the_doctor_and_the_list_of_tiers(site: Site) -> None:
    [finding] = [each for each in site.gwclient("doctor") if each["check"] == "tiers"]
    assert (finding["verdict"], finding["words"]) == ("ok", "disk, object, tape answer")
    away = (site.tiers / "tape").rename(site.tiers / "away")
    site.archive({"archive_to": ["tape"]})
    within(60, lambda: [each["error"] for each in site.gwclient("tiers")["tiers"]][-1])
    [finding] = [each for each in site.gwclient("doctor") if each["check"] == "tiers"]
    assert finding["verdict"] == "note"
    assert finding["words"].startswith("tape fails, copies to it wait: tier tape: ")
    listed = run_forked(["gwclient", "tiers"], os.environ | {"SRV": site.trio.url}).stdout.splitlines()[-1]
    assert re.search(r", \d queued, \d missing, last error: tier tape: ", listed)
    away.rename(site.tiers / "tape")


def test_an_archive_that_is_left_out_is_named_by_the_doctor(site: Site) -> None:
    batch = site.archive({"archive_to": ["object"], "keep_on_disk": 0})
    folder = site.folder(batch)
    within(60, lambda: not list(folder.glob("gwb*.json")))
    manifest = (folder / "MANIFEST.json").read_bytes()
    for content in (manifest[:100], manifest):
        site.trio.stop()
        shutil.rmtree(site.trio.home / "datavar" / ".ledger", ignore_errors=True)
        for path in (site.trio.home / "appdata" / "adm").glob("catalog*"):
            path.unlink()
        (folder / "MANIFEST.json").write_bytes(content)
        site.trio.start()
        done = run_forked(["gwclient", "doctor"], os.environ | {"SRV": site.trio.url})
        words = "wrong archives: 1 archive or pack of files is left out, because the manifest cannot be read"
        is_left_out = content != manifest
        assert (words in done.stdout) == is_left_out
        assert (batch in {each["id"] for each in site.gateway.get("/batches").json()["batches"]}) != is_left_out
