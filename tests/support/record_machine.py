"""A buffer with records and steps, and their model: both must say the same after each request, and after each crash."""

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import httpx2
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from databuffer.app import create_app, create_buffer
from databuffer.routes.segments import SegmentRoute
from tests.support.buffer_machine import end_threads, make_home
from tests.support.record_model import Declaration, RecordModel, RecordsModel
from tests.support.segments import JSON, segment_body

ALICE = {"user": "alice", "token": "secret"}
FILES = ["file/a", "file/b b/ä", "file/c", "run/a"]
#: Each step with how it is mostly declared; now and then it is declared in another way.
USUAL = {
    "copy": Declaration(),
    "filter": Declaration(("copy",)),
    "merge": Declaration(("copy", "filter")),
    "images": Declaration(("sealed",), "batch"),
    "store": Declaration(("archived", "images")),
    "check": Declaration(before=("copy",)),
}
_MOST_SEGMENTS = 4
_MAX_BODY = 10**6

steps = st.sampled_from(["copy", "copy", "copy", "filter", "filter", "merge", "images", "images", "store", "check"])
workers = st.sampled_from(["one", "two"])
statuses = st.sampled_from(["good", "good", "good", "good", "noisy"])
temperatures = st.sampled_from([0.01, 0.5, None])
others = st.builds(
    Declaration,
    after=st.sampled_from([(), ("copy",), ("filter",), ("sealed",), ("merge", "copy")]),
    before=st.sampled_from([(), (), ("copy",), ("filter",), ("sealed", "images"), ("archived",)]),
    kind=st.sampled_from([None, "file", "batch", "segment"]),
    run=st.sampled_from([None, None, "O4"]),
    colder=st.sampled_from([None, None, 0.1]),
    attempts=st.integers(1, 3),
)
ends = st.one_of(
    st.builds(lambda result: {"state": "DONE", "result": result}, st.sampled_from([None, {"n": [1]}])),
    st.builds(lambda reason: {"state": "FAILED", "reason": reason}, st.sampled_from(["", "disk full"])),
    st.builds(lambda lease: {"state": "RUNNING", "lease": lease}, st.sampled_from([10, 1000])),
    st.just({"state": "FAILED", "reason": "no strain", "retry": False}),
    st.just({"state": "WAITING"}),
)


class RecordMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home, self.settings = make_home()
        self.app: Any = None
        self.model = RecordsModel()
        self.replica: dict[str, dict[str, Any]] = {}
        self.cursor = 0
        self.segments = 0
        self.batch = ""
        #: Never empty: a precondition on it would depend on how far a crash let a claim come.
        self.attempts: list[tuple[str, str, int]] = [(FILES[0], "copy", 1)]
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("databuffer.records.records._COUNT_AGAIN", 0)  # GET /steps may repeat an earlier answer
        self._stop_clock()
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(lambda *_: None)  # unfinished tasks after a crash are expected

    def teardown(self) -> None:
        self._run(self.buffer.close())
        self.runner.close()
        self.patch.undo()
        shutil.rmtree(self.home)

    # ---- orders

    @initialize()
    def start(self) -> None:
        self._open()
        self._find_batch()
        for name in FILES[:2]:
            assert self._ask("PUT", f"/records/{name}", {}) == 200
            self.model.write(name)
        self._check()

    @rule(name=st.sampled_from(FILES), status=statuses, run=st.sampled_from([None, "O4"]), temperature=temperatures)
    def put(self, name: str, status: str, run: str | None, temperature: float | None) -> None:
        conditions = {} if temperature is None else {"temperature": temperature}
        content = {"status": status, "run": run, "conditions": conditions}
        assert self._ask("PUT", f"/records/{name}", content) == 200
        self.model.write(name, **content)
        self._check()

    @rule(which=st.integers(0, 20), status=statuses, temperature=temperatures)
    def patch_any(self, which: int, status: str, temperature: float | None) -> None:
        name = sorted(self.model.records)[which % len(self.model.records)]
        content = {"status": status, "conditions": {"temperature": temperature}}
        assert self._ask("PATCH", f"/records/{name}", content) == 200
        conditions = dict(self.model.records[name].conditions or {})
        conditions["temperature"] = temperature
        kept = {key: each for key, each in conditions.items() if each is not None}
        self.model.write(name, status=status, conditions=kept)
        self._check()

    @precondition(lambda self: not self._frozen and self.segments < _MOST_SEGMENTS)
    @rule()
    def push(self) -> None:
        self.segments += 1
        assert self._ask("POST", "/sendF", json.loads(segment_body(self.segments))) == 201
        [name] = [name for name in self._get("/dumpF")["nmlist"] if f"segment/{name}" not in self.model.records]
        self.model.add(f"segment/{name}")
        self._check()

    @precondition(lambda self: not self._frozen)
    @rule()
    def freeze(self) -> None:
        assert self._ask("POST", "/upddsc", ALICE) == 201
        self.model.seal(self.batch)
        self._check()

    @precondition(lambda self: self._frozen)
    @rule()
    def thaw(self) -> None:
        assert self._ask("POST", "/thaw", ALICE) == 201
        self.model.thaw(self.batch)
        self._check()

    @precondition(lambda self: self._get("/stat")["n_itm"])
    @rule()
    def archive(self) -> None:
        assert self._ask("POST", "/cleanall", {}) == 201
        self.model.archive(self.batch)
        self._find_batch()
        self._check()

    @rule(step=steps, worker=workers, limit=st.integers(1, 3), lease=st.sampled_from([10, 100]))
    def claim(self, step: str, worker: str, limit: int, lease: int) -> None:
        self._claim(step, USUAL[step], worker, limit, lease)

    @rule(step=steps, declaration=others, late=st.sampled_from([False, False, True]))
    def claim_in_another_way(self, step: str, declaration: Declaration, *, late: bool) -> None:
        since = {"since": self.cursor} if late else {}
        self._claim(step, Declaration(**{**vars(declaration), **since}), "three", 1, 10)

    @rule(step=steps)
    def claim_everything(self, step: str) -> None:
        """Claim until nothing is offered: all that the model offers was."""
        declaration = self.model.declared.get(step, USUAL[step])
        while self._claim(step, declaration, "four", 3, 100):
            pass
        assert self.model.would_wait_for_itself(step, declaration) or not self.model.offered(step)

    @rule(step=steps, limit=st.integers(1, 3), order=ends)
    def perform(self, step: str, limit: int, order: dict[str, Any]) -> None:
        """Claim, and end each attempt in the same way."""
        count = len(self.attempts)
        self._claim(step, USUAL[step], "five", limit, 10)
        for attempt in self.attempts[count:]:
            self._end(attempt, order)

    @rule(order=ends)
    def end_last(self, order: dict[str, Any]) -> None:
        self._end(self.attempts[-1], order)

    @rule(which=st.integers(0, 50), order=ends)
    def end_any(self, which: int, order: dict[str, Any]) -> None:
        """End or renew an attempt that may be over for long."""
        self._end(self.attempts[which % len(self.attempts)], order)

    @rule(which=st.integers(0, 50))
    def redo(self, which: int) -> None:
        record, step, _ = self.attempts[which % len(self.attempts)]
        self._redo(record, step)

    @rule(step=steps)
    def redo_what_may_never_have_been_claimed(self, step: str) -> None:
        self._redo(FILES[0], step)

    @rule(step=steps)
    def forget(self, step: str) -> None:
        assert self._ask("DELETE", f"/steps/{step}") == self.model.forget(step)
        self._check()

    @rule(seconds=st.sampled_from([4, 11, 101, 4000]))
    def wait(self, seconds: int) -> None:
        self.model.now += seconds
        self._check()

    @rule()
    def stop_and_start(self) -> None:
        self._run(self.buffer.close())
        self._open()
        self._check()

    @rule()
    def crash_and_start(self) -> None:
        self._crash()
        self._open()
        self._check()

    @rule(step=steps, turns=st.integers(0, 30))
    def crash_during_a_claim(self, step: str, turns: int) -> None:
        declaration = self.model.declared.get(step, USUAL[step])

        async def begin() -> None:
            claim = asyncio.create_task(self._send("POST", f"/steps/{step}/claim", _order(declaration, "lost", 2, 10)))
            for _ in range(turns):
                await asyncio.sleep(0)
            claim.cancel()
            await asyncio.wait([claim])

        self._run(begin())
        self._crash()
        self._open()
        if not self.model.would_wait_for_itself(step, declaration):
            if step in {each["name"] for each in self._get("/steps")["steps"]}:
                self.model.declared[step] = declaration
            if step in self.model.declared:
                self._settle(step, "lost", 10)
        self._check()

    # ---- execution

    @property
    def _frozen(self) -> bool:
        return self.model.state(self.batch, "sealed") is not None

    def _claim(self, step: str, declaration: Declaration, worker: str, limit: int, lease: int) -> Sequence[str]:
        order = _order(declaration, worker, limit, lease)
        if self.model.would_wait_for_itself(step, declaration):
            assert self._ask("POST", f"/steps/{step}/claim", order) == 422
            self._check()
            return []
        self.model.declared[step] = declaration
        offered = self.model.offered(step)
        found = [record["id"] for record in self._json("POST", f"/steps/{step}/claim", order)["records"]]
        assert len(found) == len(set(found)) <= limit
        assert bool(found) == bool(offered), f"{step}: got {found}, offered are {offered}"
        assert self._settle(step, worker, lease) == set(found)
        self._check()
        return found

    def _end(self, attempt: tuple[str, str, int], order: dict[str, Any]) -> None:
        record, step, number = attempt
        order = {**order, "attempt": number}
        expected = self.model.end(record, step, order)
        assert self._ask("PUT", f"/records/{record}/steps/{step}", order) == expected
        self._check()

    def _redo(self, record: str, step: str) -> None:
        assert self._ask("DELETE", f"/records/{record}/steps/{step}") == self.model.redo(record, step)
        self._check()

    def _settle(self, step: str, worker: str, lease: int) -> set[str]:
        """Update the model by what a claim did: it may get some of what is offered, and end some expired leases."""
        claimed = set()
        for record in self._records():
            row = next((each for each in record["steps"] if each["name"] == step), None)
            known = self.model.records[record["id"]].steps.get(step)
            if row is None:
                continue
            if row["attempt"] > (known.attempt if known else 0):
                self.model.claim(record["id"], step, worker, lease)
                self.attempts.append((record["id"], step, row["attempt"]))
                claimed.add(record["id"])
            elif record["id"] in self.model.expired(step) and row["state"] != "RUNNING":
                self.model.expire(record["id"], step)
        return claimed

    def _open(self) -> None:
        self.buffer = create_buffer(self.settings)
        if self.app is None:
            self.app = create_app(self.buffer, max_body=_MAX_BODY)
        else:  # FastAPI takes 100 ms for the routes of another application
            self.app._app.state.buffer = self.buffer  # noqa: SLF001 (no other application does this)
            self.app._handlers = {("POST", SegmentRoute.path): SegmentRoute(self.buffer, _MAX_BODY)}  # noqa: SLF001
        transport = httpx2.ASGITransport(self.app)
        self.client = httpx2.AsyncClient(transport=transport, base_url="http://buffer")
        self._run(self.buffer.open())

    def _crash(self) -> None:
        """End the process without a clean stop."""

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._run(cancel_all())
        end_threads(self.buffer)
        self.buffer._store.close()  # noqa: SLF001 (a process that ends closes its files)

    def _stop_clock(self) -> None:
        """Make the clocks show the model's time, a little later at each look."""
        start, steady = time.time_ns(), time.monotonic_ns()
        ticks = itertools.count(1)
        self.patch.setattr(time, "time_ns", lambda: start + self.model.now * 10**9 + next(ticks) * 1000)
        self.patch.setattr(time, "monotonic_ns", lambda: steady + self.model.now * 10**9 + next(ticks) * 1000)

    def _find_batch(self) -> None:
        [self.batch] = [f"batch/{each['id']}" for each in self._get("/batches")["batches"] if each["state"] == "OPEN"]
        self.model.add(self.batch)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def _send(self, method: str, path: str, order: Any = None) -> httpx2.Response:
        body = None if order is None else json.dumps(order)
        return await self.client.request(method, path, content=body, headers=JSON)

    def _ask(self, method: str, path: str, order: Any = None) -> int:
        status: int = self._run(self._send(method, path, order)).status_code
        return status

    def _json(self, method: str, path: str, order: Any = None) -> Any:
        answer = self._run(self._send(method, path, order))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def _get(self, path: str) -> Any:
        return self._json("GET", path)

    def _records(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("/records?limit=1000")["records"]
        return found

    # ---- checks

    def _check(self) -> None:
        """Compare with the model: every record, what the feed says since the last look, the count of every step."""
        records = {record["id"]: record for record in self._records()}
        assert {name: _seen(record) for name, record in records.items()} == {
            name: _expected(record) for name, record in self.model.records.items()
        }
        self._check_leases(records)
        self._check_feed(records)
        self.model.seqs = {name: record["seq"] for name, record in records.items()}
        for step in self._get("/steps")["steps"]:
            if step["name"] in USUAL:  # the datastore has steps of its own
                self._check_counts(step)

    def _check_feed(self, records: Mapping[str, dict[str, Any]]) -> None:
        lines = self._run(self._send("GET", f"/changes?since={self.cursor}")).text.splitlines()
        told = [json.loads(line) for line in lines]
        changed = {each["id"]: each for each in told if "id" in each}
        assert changed.keys() == self.model.changed
        assert [each["seq"] for each in told] == sorted({each["seq"] for each in told})
        for name, record in changed.items():
            before = self.replica.get(name, {"rev": 0, "seq": self.cursor})
            assert record["seq"] > before["seq"]
            assert record["rev"] > before["rev"] or record["rev"] == before["rev"] == 0
        self.replica |= changed
        self.cursor = max([self.cursor, *(each["seq"] for each in told)])
        assert {name: _seen(record) for name, record in self.replica.items()} == {
            name: _seen(record) for name, record in records.items()
        }
        assert {name: (each["rev"], each["seq"]) for name, each in self.replica.items()} == {
            name: (each["rev"], each["seq"]) for name, each in records.items()
        }
        self.model.changed = set()

    def _check_leases(self, records: Mapping[str, dict[str, Any]]) -> None:
        ends = {
            (name, step["name"]): step["expires"]
            for name, record in records.items()
            for step in record["steps"]
            if step["state"] == "RUNNING"
        }
        start = time.time_ns() / 10**9 - self.model.now
        for (name, step), end in ends.items():
            due = self.model.records[name].steps[step].due
            assert due is not None
            assert abs(end - start - due) < 1

    def _check_counts(self, told: Mapping[str, Any]) -> None:
        step = told["name"]
        least, most = self.model.waiting(step)
        assert least <= told["waiting"] <= most, f"{step}: {told['waiting']} wait, not {least} to {most}"
        states = [record.steps[step].state for record in self.model.records.values() if step in record.steps]
        for state in ("RUNNING", "DONE", "FAILED"):
            assert told[state.lower()] == states.count(state)


def _order(declaration: Declaration, worker: str, limit: int, lease: int) -> dict[str, Any]:
    return {"worker": worker, "limit": limit, "lease": lease, **declaration.order()}


def _seen(record: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("state", "attempt", "worker", "result", "reason")
    steps = {step["name"]: {name: step[name] for name in fields} for step in record["steps"]}
    return {name: record[name] for name in ("status", "run", "conditions", "last")} | {"steps": steps}


def _expected(record: RecordModel) -> dict[str, Any]:
    steps = {name: step.seen() for name, step in record.steps.items()}
    return {name: getattr(record, name) for name in ("status", "run", "conditions", "last")} | {"steps": steps}
