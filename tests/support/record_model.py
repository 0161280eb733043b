"""The expected state of records and steps, as plain Python: what a change does, and what waits for a step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

#: s after the first failure; doubles with each.
_FIRST_PAUSE = 5
_SEALED, _ARCHIVED = "sealed", "archived"
_OK, _NOT_FOUND, _CONFLICT = 200, 404, 409


@dataclass
class StepModel:
    """A step on one record; `due` is the end of its lease or pause, `done` its place in the order of DONE steps."""

    state: str = "WAITING"
    attempt: int = 0
    worker: str = ""
    failures: int = 0
    due: int | None = None
    result: Any = None
    reason: str | None = None
    ended: bool = False
    done: int = 0

    def seen(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("state", "attempt", "worker", "result", "reason")}


@dataclass
class RecordModel:
    """A record; the conditions of a segment are None until somebody writes to them."""

    status: str = "good"
    run: str | None = None
    conditions: dict[str, Any] | None = field(default_factory=dict)
    steps: dict[str, StepModel] = field(default_factory=dict)

    @property
    def last(self) -> str | None:
        done = {step.done: name for name, step in self.steps.items() if step.state == "DONE"}
        return done[max(done)] if done else None

    def has(self, steps: list[str]) -> bool:
        return all(name in self.steps and self.steps[name].state == "DONE" for name in steps)


@dataclass(frozen=True)
class Declaration:
    """The parameters of a claim; `colder` selects records with a lower temperature, `run` those of a run."""

    after: tuple[str, ...] = ()
    kind: str | None = None
    run: str | None = None
    colder: float | None = None
    attempts: int = 3
    since: int = 0
    before: tuple[str, ...] = ()

    def order(self) -> dict[str, Any]:
        """Return it as the JSON of a claim."""
        query: dict[str, Any] = {} if self.run is None else {"run": self.run}
        if self.colder is not None:
            query["conditions"] = {"temperature": {"lt": self.colder}}
        kind = {} if self.kind is None else {"kind": self.kind}
        steps = {"after": list(self.after), "before": list(self.before)}
        return {**steps, "query": query, "attempts": self.attempts, "since": self.since, **kind}

    def selects(self, name: str, record: RecordModel) -> bool:
        temperature = (record.conditions or {}).get("temperature")
        return (
            record.status == "good"
            and self.kind in {None, name.partition("/")[0]}
            and self.run in {None, record.run}
            and (self.colder is None or (temperature is not None and temperature < self.colder))
            and record.has([*self.after])
            and not any(record.has([step]) for step in self.before)
        )


@dataclass
class RecordsModel:
    """All records and declared steps; `changed` are the records that changed since it was cleared."""

    records: dict[str, RecordModel] = field(default_factory=dict)
    declared: dict[str, Declaration] = field(default_factory=dict)
    seqs: Mapping[str, int] = field(default_factory=dict)
    now: int = 0
    changed: set[str] = field(default_factory=set)
    _done: int = 0

    # ---- writes

    def add(self, name: str) -> None:
        """Add the record of a new segment or batch."""
        self.records[name] = RecordModel(conditions=None if name.startswith("segment/") else {})
        self.changed.add(name)

    def write(self, name: str, **content: Any) -> None:
        self.records[name] = replace(self.records.get(name, RecordModel()), **content)
        self.changed.add(name)

    def seal(self, batch: str) -> None:
        self._perform(batch, _SEALED)

    def archive(self, batch: str) -> None:
        if _SEALED not in self.records[batch].steps:
            self._perform(batch, _SEALED)
        self._perform(batch, _ARCHIVED)

    def thaw(self, batch: str) -> None:
        del self.records[batch].steps[_SEALED]
        self._reopen(batch, self._dependents(_SEALED))

    def _perform(self, batch: str, step: str) -> None:
        self._done += 1
        self.records[batch].steps[step] = StepModel("DONE", done=self._done)
        self.changed.add(batch)

    # ---- steps

    def would_wait_for_itself(self, step: str, declaration: Declaration) -> bool:
        known = {**self.declared, step: declaration}
        order = [(each, name) for name, declared in known.items() for each in declared.after]
        order += [(name, each) for name, declared in known.items() for each in declared.before]
        earlier = {each for each, name in order if name == step}
        while more := {each for each, name in order if name in earlier} - earlier:
            earlier |= more
        return step in earlier

    def offered(self, step: str) -> set[str]:
        """Return the records that a claim may get now."""
        declared = self.declared[step]
        return {name for name, record in self._selected(declared) if self._is_offered(name, record, step)}

    def waiting(self, step: str) -> tuple[int, int]:
        """Return the smallest and largest number of records that wait, which a pause or a status may hold up."""
        waits = {name for name in self.offered(step) if self.state(name, step) != "RUNNING"}
        later = {name for name, record in self.records.items() if self._is_due(record, step, "WAITING", later=True)}
        selected = dict(self._selected(self.declared[step]))
        paused = {name for name, record in self.records.items() if self._is_due(record, step, "WAITING")}
        return len(waits | (later & selected.keys())), len(waits | later | paused)

    def expired(self, step: str) -> set[str]:
        """Return the records whose lease for a step has ended."""
        return {name for name, record in self.records.items() if self._is_due(record, step, "RUNNING")}

    def state(self, name: str, step: str) -> str | None:
        found = self.records[name].steps.get(step)
        return None if found is None else found.state

    def claim(self, name: str, step: str, worker: str, lease: int) -> None:
        if name in self.expired(step):
            self.expire(name, step)
        assert name in self.offered(step), f"{step} is offered on {name}, which does not wait for it"
        known = self.records[name].steps.get(step, StepModel())
        due = self.now + lease
        self.records[name].steps[step] = StepModel(
            "RUNNING", known.attempt + 1, worker, known.failures, due, None, known.reason
        )
        self.changed.add(name)

    def expire(self, name: str, step: str) -> None:
        """Count the end of a lease as a failure, after which the record is offered at once."""
        row = self.records[name].steps[step]
        self._fail(name, step, f"the lease of {row.worker} ended before the step did")
        row.due = None

    def end(self, name: str, step: str, order: Mapping[str, Any]) -> int:
        """Apply the end or the renewal of an attempt; return the status of the answer."""
        row = self.records[name].steps.get(step) if name in self.records else None
        if row is None:
            return _NOT_FOUND
        if row.attempt != order["attempt"]:
            return _CONFLICT
        if row.state != "RUNNING":
            return _OK if _is_repeated(row, order) else _CONFLICT
        match order["state"]:
            case "RUNNING":
                row.due = self.now + order["lease"]
                return _OK
            case "FAILED":
                self._fail(name, step, order["reason"], retry=order.get("retry", True))
            case "DONE":
                self._done += 1
                done = {"result": order["result"], "ended": True, "done": self._done}
                self.records[name].steps[step] = StepModel("DONE", row.attempt, row.worker, **done)
            case _:
                row.state, row.due, row.ended = "WAITING", None, True
        self.changed.add(name)
        return _OK

    def redo(self, name: str, step: str) -> int:
        """Reopen a step and its dependents; return the status of the answer."""
        if name not in self.records or step not in self.records[name].steps:
            return _NOT_FOUND
        self._reopen(name, {step, *self._dependents(step)})
        return _OK

    def forget(self, step: str) -> int:
        """Remove the declaration of a step; return the status of the answer."""
        if step not in self.declared:
            return _NOT_FOUND
        begun = {name for name in self.records if self.state(name, step) == "RUNNING"}
        if begun - self.expired(step):
            return _CONFLICT
        for name in begun:
            self.expire(name, step)
        del self.declared[step]
        return _OK

    def _reopen(self, name: str, steps: set[str]) -> None:
        for step in steps & self.records[name].steps.keys():
            self.records[name].steps[step] = StepModel(attempt=self.records[name].steps[step].attempt)
        self.changed.add(name)

    def _fail(self, name: str, step: str, reason: str, *, retry: bool = True) -> None:
        row = self.records[name].steps[step]
        row.failures += 1
        again = retry and row.failures < self.declared[step].attempts
        row.state, row.reason, row.ended = "WAITING" if again else "FAILED", reason, True
        row.due = self.now + _FIRST_PAUSE * 2 ** (row.failures - 1) if again else None
        self.changed.add(name)

    def _selected(self, declared: Declaration) -> Iterator[tuple[str, RecordModel]]:
        for name, record in self.records.items():
            if declared.selects(name, record) and (name in self.changed or self.seqs[name] > declared.since):
                yield name, record

    def _is_offered(self, name: str, record: RecordModel, step: str) -> bool:
        row = record.steps.get(step, StepModel())
        match row.state:
            case "WAITING":
                return row.due is None or row.due <= self.now
            case "RUNNING":
                return name in self.expired(step) and row.failures + 1 < self.declared[step].attempts
        return False

    def _is_due(self, record: RecordModel, step: str, state: str, *, later: bool = False) -> bool:
        row = record.steps.get(step)
        return row is not None and row.state == state and row.due is not None and (row.due > self.now) == later

    def _dependents(self, step: str) -> set[str]:
        return {name for name in self.declared if step in self._before(name) - {name}}

    def _before(self, step: str) -> set[str]:
        found: set[str] = set()
        left = [step]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += self.declared[name].after if name in self.declared else []
        return found


def _is_repeated(row: StepModel, order: Mapping[str, Any]) -> bool:
    if order["state"] == "FAILED":
        return row.ended and row.reason == order["reason"]
    return row.ended and row.state == order["state"]
