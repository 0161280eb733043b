"""A user gets strain back from tape: through all services, with an S3 server as the cache of the tape."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from databuffer.tier_urls import TierUrl
from databuffer.tiers.backends.object_store import ObjectStoreTier, open_object_store
from databuffer.tiers.packs.pack import key_of
from scripts.trio import Trio
from tests.support.files import contents_of
from tests.support.forked import run_forked
from tests.support.segments import JSON, segment_body
from tools.weed import BUCKET

SEGMENTS = 3
#: Of two packs with three segments each, some 5600 bytes, and not of three.
CAPACITY = 13_000
KEPT = {"archive_to": ["object", "tape"], "keep_on_disk": 0}


@dataclass
class Site:
    """A datastore with an object store and a tape, and the bytes that were stored by name."""

    trio: Trio
    gateway: httpx2.Client
    store: ObjectStoreTier
    tape: Path
    bodies: dict[str, dict[str, bytes]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def gwclient(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Return what a command printed on both outputs."""
        done = run_forked(["gwclient", *words], os.environ | {"SRV": self.trio.url})
        assert done.returncode == code, done.stderr
        return done.stdout, done.stderr

    def archive(self) -> str:
        """Archive a batch, and return its id."""
        first = SEGMENTS * len(self.bodies)
        bodies = [segment_body(number) for number in range(first, first + SEGMENTS)]
        for body in bodies:
            assert self.gateway.post("/streamdata", content=body, headers=JSON).status_code == 200
        names = self.gateway.get("/dumpbuf").json()["nmlist"]
        batch = str(self.gateway.get("/batches").json()["batches"][-1]["id"])
        stored = {name: self.gateway.get(f"/segments/{name}").content for name in names}
        order = {"msg": "full", "batch": batch, "tiering": KEPT}
        assert self.gateway.post("/cleanbuf", json=order).status_code == 200
        self.bodies[batch] = stored
        return batch

    def states(self, batch: str) -> dict[str, str]:
        """Return the states of the replicas of a batch."""
        found = self.gateway.get(f"/batches/{batch}").json()["replicas"]
        return {each["tier"]: each["state"] for each in found}

    def locality(self, batch: str) -> str:
        return str(self.gateway.get(f"/batches/{batch}").json()["locality"])

    def attempts(self, batch: str) -> int:
        """Return how often the recall of a batch was begun."""
        steps = self.gateway.get(f"/records/batch/{batch}").json()["steps"]
        return sum(step["attempt"] for step in steps if step["name"] == "recall")

    def on_tape(self) -> str:
        """Return the id of a new batch that is on tape only, because the object store has no space left for it."""
        for _ in range(1 if self.bodies else 3):
            self.archive()
        on_tape = {"object": "EVICTED", "tape": "VERIFIED"}
        new = self.bodies.keys() - self.used
        within(60, lambda: any(self.states(each) == on_tape for each in new))
        self.used.add(found := next(each for each in new if self.states(each) == on_tape))
        return found


def within(seconds: float, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def site(
    start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory, s3_url: str
) -> Iterator[Site]:
    tape = tmp_path_factory.mktemp("tape")
    prefix = f"/recall-{os.getpid()}"
    keys = {
        "AWS_ENDPOINT_URL": s3_url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    tiers = f"object=s3://{BUCKET}{prefix}?capacity={CAPACITY} tape=folder://{tape}?mount=0.2&seek=0"
    settings = {"TIERS": tiers, "OBJECT_HIGH_WATER": "100%", "RECALL_PIN": "4s", **keys}
    settings |= {"HOLDING_ARCHIVE_TO": "tape", "HOLDING_KEEP_ON_DISK": "0s"}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        store = open_object_store(TierUrl("object", "s3", BUCKET, prefix))
        # Its own processes: the library of the object store has threads, which a fork loses.
        trio = start_shared_trio(each={"databuffer": settings}, fresh=True)
        with httpx2.Client(base_url=trio.url, timeout=60) as gateway:
            yield Site(trio, gateway, store, tape)


def test_a_user_finds_a_segment_waits_for_its_recall_and_has_every_bit(site: Site, tmp_path: Path) -> None:
    batch = site.on_tape()
    name, body = sorted(site.bodies[batch].items())[1]
    listed, _ = site.gwclient("segments", f"batch={batch}", "--json")
    records = [json.loads(line) for line in listed.splitlines()]
    assert {record["name"]: record["locality"] for record in records} == dict.fromkeys(site.bodies[batch], "TAPE")
    assert site.gwclient("batch", batch)[0].strip().endswith("verified copies in tape, on tape only")

    _, words = site.gwclient("get", name, "--format", "ndjson", code=1)
    assert re.search(rf"batch {batch} is on tape; its recall is (number |\d+ % done)", words)
    assert "`gwclient get --wait`" in words
    lines, words = site.gwclient("get", name, "--format", "ndjson", "--wait")
    assert lines.encode() == body + b"\n"
    site.gwclient("get", "--batch", batch, "--format", "ndjson", "--wait", "--out", str(tmp_path / "lines"))
    assert (tmp_path / "lines").read_bytes() == b"".join(each + b"\n" for each in site.bodies[batch].values())
    site.gwclient("get", "--batch", batch, "--out", str(tmp_path / "strain"), "--wait")
    assert list((tmp_path / "strain").glob("*.hdf5"))
    assert site.attempts(batch) == 1
    within(60, lambda: site.locality(batch) == "DISK_AND_TAPE")
    packs = [b"".join(site.store.read(key_of(batch))), (site.tape / "library" / key_of(batch)).read_bytes()]
    [first, second] = [hashlib.sha256(pack).hexdigest() for pack in packs]
    assert first == second


def test_many_readers_over_http_are_answered_after_one_recall(site: Site) -> None:
    batch = site.on_tape()
    names = sorted(site.bodies[batch]) * 34

    def read(name: str) -> bytes:
        while True:
            answer = site.gateway.get(f"/segments/{name}")
            if answer.status_code == 200:
                return bytes(answer.content)
            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (503, "on-tape"), problem
            assert int(answer.headers["Retry-After"]) >= 1
            time.sleep(0.3)

    with ThreadPoolExecutor(20) as readers:
        found = list(readers.map(read, names[:100]))
    assert found == [site.bodies[batch][name] for name in names[:100]]
    assert site.attempts(batch) == 1


def test_a_recall_is_ordered_shown_and_released(site: Site) -> None:
    batch = site.on_tape()
    order = f"/batches/{batch}/recall?asker=alice"
    assert site.gateway.get(order).json()["state"] == "NEARLINE"
    answer = site.gateway.post(order)
    assert (answer.status_code, answer.json()["tier"], answer.json()["position"]) == (202, "object", 1)
    assert answer.json()["pinned"] > time.time()
    _, words = site.gwclient("recall", batch, "--wait", "--poll", "0.1")
    assert f"{batch}  ONLINE: can be read" in words
    answer = site.gateway.get(order)
    assert (answer.status_code, answer.json()["state"], answer.json()["percent"]) == (200, "ONLINE", 100)
    assert site.gateway.delete(order).json()["pinned"] is None
    for end in ("; released\n", "; nothing to release: it was not kept for you\n"):
        words, _ = site.gwclient("recall", batch, "--release")
        assert words.endswith(end)
    assert site.gateway.post("/batches/none/recall").status_code == 404
    assert site.gateway.get(f"/batches/{batch}/recall?asker=a/b").status_code == 422


def test_batches_that_do_not_fit_together_are_refused_in_one_line_and_none_is_kept(site: Site) -> None:
    last = site.on_tape()
    before, pinned = [batch for batch in site.bodies if batch != last][:3], "/batches/{}/recall"
    kept = {batch for batch in before if site.gateway.get(pinned.format(batch)).json()["pinned"]}
    _, words = site.gwclient("recall", *before, last, "--wait", code=1)
    assert re.fullmatch(r"gwclient: .*a recall of [\d,]+ bytes besides [\d,]+ that are kept .*\n", words), words
    assert {batch for batch in [*before, last] if site.gateway.get(pinned.format(batch)).json()["pinned"]} <= kept


def test_a_recall_that_waits_is_named_with_its_reason_by_the_list_of_tiers_and_the_doctor(site: Site) -> None:
    batch = site.on_tape()
    away = site.tape.rename(site.tape.with_name("away"))
    site.gateway.post(f"/batches/{batch}/recall?asker=alice")
    waits = re.compile(rf"^recall of {batch} waits since 20\S+ \S+ UTC, tier tape: ", re.MULTILINE)
    within(60, lambda: bool(waits.search(site.gwclient("tiers")[0])))
    notes = site.gwclient("doctor")[0]
    assert f"the recall of {batch} waits: tier tape: " in notes
    away.rename(site.tape)
    site.gwclient("redo", f"batch/{batch}", "recall")
    site.gwclient("recall", batch, "--wait", "--poll", "0.1")
    assert not waits.search(site.gwclient("tiers")[0])  # those of other tests may wait


def test_wrong_bytes_in_the_bucket_are_never_served(site: Site) -> None:
    batch = site.on_tape()
    name, body = min(site.bodies[batch].items())
    site.gwclient("recall", batch, "--wait", "--poll", "0.1")
    whole = b"".join(site.store.read(key_of(batch)))
    start = whole.index(body)
    wrong = whole[: start + 5] + bytes([whole[start + 5] ^ 1]) + whole[start + 6 :]
    site.store.write(key_of(batch), len(wrong), [wrong])
    within(60, lambda: not contents_of(site.tape / "online"))  # or it would be read from the tape
    answer = site.gateway.get(f"/segments/{name}")
    assert (answer.status_code, answer.json()["code"]) == (503, "on-tape")
    lines, _ = site.gwclient("get", name, "--format", "ndjson", "--wait")
    assert lines.encode() == body + b"\n"
    within(60, lambda: site.states(batch) == {"object": "VERIFIED", "tape": "VERIFIED"})
    assert b"".join(site.store.read(key_of(batch))) == whole


def test_a_bundle_with_strain_on_tape_waits_for_it(site: Site) -> None:
    batch = site.on_tape()
    made: dict[str, Any] = site.gateway.post("/bundles", json={"query": {"batch": batch}, "format": "tar"}).json()
    assert (made["state"], made["reason"]) == ("BUILDING", "its batches are recalled from tape")
    within(60, lambda: site.gateway.get(f"/bundles/{made['id']}").json()["state"] == "READY")
    content = site.gateway.get(f"/bundles/{made['id']}/archive").content
    assert all(body in content for body in site.bodies[batch].values())
    assert len(content) == site.gateway.get(f"/bundles/{made['id']}").json()["size"]


def test_files_of_a_holding_come_back_from_tape_too(site: Site, tmp_path: Path) -> None:
    source = tmp_path / "notes.md"
    source.write_text("notes")
    site.gwclient("put", str(source), "-l", "notes")

    def locality() -> str:
        [file] = json.loads(site.gwclient("find", "-l", "notes", "--json")[0])["files"]
        return str(file["locality"])

    within(60, lambda: locality() == "TAPE")
    assert site.gwclient("find", "-p", str(source))[0].strip().endswith(f"{source}, on tape only")
    fetch = "getfile", str(source), "-r", str(tmp_path / "back")
    _, error = site.gwclient(*fetch, code=1)
    assert "is on tape" in error
    assert "or wait with `gwclient getfile --wait`" in error
    out, error = site.gwclient(*fetch, "--wait")
    assert out.split() == [str(tmp_path / "back" / str(source)[1:])]
    assert Path(out.strip()).read_text() == "notes"
