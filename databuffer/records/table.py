"""Records as rows: load, list, write. Every function works on the connection of a transaction."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

import msgspec
import sqlalchemy as sa

from databuffer.errors import NotFound, SeqAhead
from databuffer.records.conditions import encoded, scalars
from databuffer.records.declaration import Declaration
from databuffer.records.selection import BATCH_KIND, SEGMENT_KIND, Selection, sources
from databuffer.search.clauses import SEGMENT_RECORD
from databuffer.search.plan import plan
from databuffer.storage.catalog.batches import BATCH_RECORD
from databuffer.storage.catalog.counter import draw
from databuffer.storage.catalog.database import portions, upsert
from databuffer.storage.catalog.schema import (
    BATCHES,
    COUNTER,
    RECORD_CONDITIONS,
    RECORDS,
    SEGMENTS,
    STEP_DECLARATIONS,
    STEPS,
)
from databuffer.storage.clock import wall_ns
from gwwire.public import BatchState
from gwwire.records import ARCHIVED, SEALED, Record, Step, StepState, kind_of

#: The content of a record: status, run, and conditions or None for those of the segment.
Content = tuple[str, str | None, dict[str, Any] | None]

# Statements that run with every claim are built once, because that costs more than to run them.
_KEYS: sa.BindParameter[str] = sa.bindparam("keys", expanding=True)
_WRITTEN = sa.select(RECORDS.c.id).where(RECORDS.c.id.in_(_KEYS))
_TOUCH = sa.update(RECORDS).where(RECORDS.c.id == sa.bindparam("record")).values(rev=RECORDS.c.rev + 1)
_FORGET_CONDITIONS = sa.delete(RECORD_CONDITIONS).where(RECORD_CONDITIONS.c.record == sa.bindparam("of_record"))
_ADD_CONDITIONS = sa.insert(RECORD_CONDITIONS)
_DECLARATIONS = sa.select(STEP_DECLARATIONS)
_LAST_SEQ = sa.select(COUNTER.c.seq)
_MOST_DECLARATIONS = 1000
#: The key of the declarations that the transaction of a connection has read.
_REMEMBERED = "declarations"


def check_seq(connection: sa.Connection, since: int, field: str = "since") -> None:
    """Raise SeqAhead for a seq that nothing has reached, so that what comes next would be left out for long."""
    last = connection.execute(_LAST_SEQ).scalar_one()
    if since > last:
        older = "if it was valid once, an older catalog was restored: read again from 0"
        raise SeqAhead(f"{field}={since}: the last seq is {last}; {older}", field=field)


def load(connection: sa.Connection, ids: Iterable[str]) -> dict[str, Record]:
    """Return the existing records among these, including virtual ones."""
    wanted = list(ids)
    rows = {row.id: row for row in _rows(connection, RECORDS.c.id, wanted)}
    things = dict(_things(connection, wanted))
    found = sorted(_rows(connection, STEPS.c.record, rows), key=lambda step: (step.started or 0, step.name))
    after = {name: claim.after for name, claim in declarations(connection).items()} if found else {}
    done: dict[str, list[Step]] = {}
    for row in found:
        done.setdefault(row.record, []).append(_step(row, after.get(row.name, [])))
    return {
        record: _record(record, rows.get(record), things.get(record), done.get(record, []))
        for record in wanted
        if record in rows or record in things
    }


def find(connection: sa.Connection, wanted: Selection, after: int, limit: int) -> list[Record]:
    """Return the first `limit` records that a filter selects after a seq, by increasing seq."""
    found: list[tuple[int, str]] = []
    for source in sources(wanted):
        narrowed = plan(connection, wanted.query, after) if source.seq is SEGMENTS.c.seq else ()
        clauses = (source.seq > after, *source.present, *source.selected, *narrowed)
        query = sa.select(source.seq, source.id).where(*clauses)
        found += [(seq, record) for seq, record in connection.execute(query.order_by(source.seq).limit(limit))]
    return in_order(connection, [record for _, record in sorted(found)[:limit]])


def in_order(connection: sa.Connection, ids: Sequence[str]) -> list[Record]:
    """Return these records, which exist, in the order of their ids here."""
    found = load(connection, ids)
    return [found[record] for record in ids]


def write(connection: sa.Connection, record: str, change: Callable[[Record | None], Content], now: int) -> Record:
    """Apply `change` to a record's current content, store the result, and return it.

    Raise NotFound for a segment or a batch that does not exist; records of other kinds are created.
    """
    present = load(connection, [record]).get(record)
    kind = kind_of(record)
    if present is None and kind in {SEGMENT_KIND, BATCH_KIND}:
        raise NotFound(f"there is no {kind} {record.partition('/')[2]!r}")
    status, run, conditions = change(present)
    text = None if conditions is None else encoded(conditions, "conditions")
    values = [
        {"record": record, "name": name, "number": number, "text": each}
        for name, (number, each) in scalars(conditions or {}).items()
    ]
    before = present or Record(record, kind, 0, 0)
    seq = _put(connection, before, now, status=status, run=run, conditions=text)
    if before.rev:
        connection.execute(_FORGET_CONDITIONS, {"of_record": record})
    if values:
        connection.execute(_ADD_CONDITIONS, values)
    rev = before.rev + 1
    return msgspec.structs.replace(before, rev=rev, seq=seq, status=status, run=run, conditions=conditions)


def touch(connection: sa.Connection, record: str, now: int, **values: Any) -> None:
    """Note a change of a record, which has a row afterwards, and set `values` in it; raise NotFound if it is none."""
    changed = {"record": record, "seq": draw(connection), "changed": now, **values}
    if not connection.execute(_TOUCH, changed).rowcount:
        _begin(connection, [record], now, **values)


def touch_all(connection: sa.Connection, records: Sequence[str], now: int) -> None:
    """Note a change of each record as `touch` does, with a few statements for all."""
    if len(records) == 1:
        touch(connection, records[0], now)
        return
    written = set(connection.execute(_WRITTEN, {"keys": records}).scalars())
    if written:
        first = draw(connection, len(written)) - len(written) + 1
        old = [record for record in records if record in written]
        changed = [{"record": record, "seq": seq, "changed": now} for seq, record in enumerate(old, first)]
        connection.execute(_TOUCH, changed)
    if len(written) < len(records):
        _begin(connection, [record for record in records if record not in written], now)


def steps_named(connection: sa.Connection, name: str, records: Iterable[str] | None = None) -> dict[str, Step]:
    """Return one step of each record that has it, of all records or of these."""
    mine = sa.select(STEPS).where(STEPS.c.name == name)
    after = declarations(connection)[name].after if name in declarations(connection) else []
    if records is None:
        return {row.record: _step(row, after) for row in connection.execute(mine)}
    return {
        row.record: _step(row, after)
        for some in portions(records)
        for row in connection.execute(mine.where(STEPS.c.record.in_(some)))
    }


def declarations(connection: sa.Connection) -> Mapping[str, Declaration]:
    """Return the last declaration of each step."""
    known: dict[str, Declaration] | None = connection.info.get(_REMEMBERED)
    if known is None:
        known = {row.name: _declaration(row.declaration) for row in connection.execute(_DECLARATIONS)}
        if _REMEMBERED in connection.info:
            connection.info[_REMEMBERED] = known
    return known


@contextmanager
def remembering_declarations(connection: sa.Connection) -> Iterator[None]:
    """Read the declarations once in the transaction of several changes, and again after `declare` changed them."""
    connection.info[_REMEMBERED] = None
    try:
        yield
    finally:
        del connection.info[_REMEMBERED]


def put_declaration(connection: sa.Connection, step: str, declaration: Declaration) -> None:
    """Store the declaration of a step."""
    row = {"name": step, "declaration": msgspec.json.encode(declaration).decode()}
    connection.execute(upsert(connection.dialect, STEP_DECLARATIONS), row)
    if _REMEMBERED in connection.info:
        connection.info[_REMEMBERED] = None


def remove_declaration(connection: sa.Connection, step: str) -> None:
    """Remove the declaration of a step."""
    connection.execute(sa.delete(STEP_DECLARATIONS).where(STEP_DECLARATIONS.c.name == step))
    if _REMEMBERED in connection.info:
        connection.info[_REMEMBERED] = None


def last_done(connection: sa.Connection, record: str) -> str | None:
    """Return the step that was done last on a record, by a worker or by the datastore, or None."""
    done = sa.select(STEPS.c.name, STEPS.c.ended).where(STEPS.c.record == record, STEPS.c.state == StepState.DONE)
    last = connection.execute(done.order_by(STEPS.c.ended.desc()).limit(1)).first()
    thing = dict(_things(connection, [record])).get(record)
    performed = [*_performed(thing)][-1:] if thing and record.startswith(BATCH_RECORD) else []
    if last is None or (performed and (performed[0].ended or 0) > last.ended / 10**9):
        return performed[0].name if performed else None
    name: str = last.name
    return name


def last_change(connection: sa.Connection, record: str) -> float | None:
    """Return when a record last changed, in Unix seconds, or None if it does not exist."""
    changed = connection.execute(sa.select(RECORDS.c.changed).where(RECORDS.c.id == record)).scalar()
    if changed is not None:
        return _seconds(changed)
    thing = dict(_things(connection, [record])).get(record)
    if thing is None:
        return None
    return _seconds(thing.archived or thing.frozen or thing.opened if record.startswith(BATCH_RECORD) else thing.stored)


@lru_cache(_MOST_DECLARATIONS)
def _declaration(text: str) -> Declaration:
    return msgspec.json.decode(text, type=Declaration)


def _begin(connection: sa.Connection, records: Sequence[str], now: int, **values: Any) -> None:
    """Store the first versions of virtual records; raise NotFound if one does not exist."""
    found = load(connection, records)
    for record in records:
        if record not in found:
            raise NotFound(f"there is no record {record!r}")
        present = found[record]
        _put(connection, present, now, status=present.status, run=present.run, conditions=None, **values)


def _put(connection: sa.Connection, present: Record, now: int, **values: Any) -> int:
    """Store the next version of a record; return its seq."""
    seq = draw(connection)
    row = {"id": present.id, "kind": present.kind, "rev": present.rev + 1, "last": present.last}
    row |= {"seq": seq, "changed": now, **values}
    connection.execute(upsert(connection.dialect, RECORDS), row)
    return seq


def _rows(connection: sa.Connection, key: sa.Column[str], keys: Iterable[str]) -> Iterator[Any]:
    for some in portions(keys):
        if len(some) == 1:  # costs half as much, and is what workers do
            yield from connection.execute(_select_one(key), {"key": some[0]})
        else:
            yield from connection.execute(_select_by(key), {"keys": some})


@cache
def _select_one(key: sa.Column[str]) -> sa.Select[Any]:
    return sa.select(key.table).where(key == sa.bindparam("key"))


@cache
def _select_by(key: sa.Column[str]) -> sa.Select[Any]:
    return sa.select(key.table).where(key.in_(_KEYS))


def _things(connection: sa.Connection, ids: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the rows of the batches and segments that records are about, with the ids of the records."""
    batches = [record.removeprefix(BATCH_RECORD) for record in ids if record.startswith(BATCH_RECORD)]
    for row in _rows(connection, BATCHES.c.id, batches):
        yield BATCH_RECORD + row.id, row
    segments = [record.removeprefix(SEGMENT_RECORD) for record in ids if record.startswith(SEGMENT_RECORD)]
    for row in sorted(_rows(connection, SEGMENTS.c.name, segments), key=lambda segment: segment.seq):
        yield SEGMENT_RECORD + row.name, row


def _record(record: str, row: Any, thing: Any, steps: Sequence[Step]) -> Record:
    performed = list(_performed(thing)) if record.startswith(BATCH_RECORD) and thing else []
    kind, found = record.partition("/")[0], [*performed, *steps]
    conditions: dict[str, Any] | None = None if kind == SEGMENT_KIND else {}
    if row is None:
        last = performed[-1].name if performed else None
        return Record(record, kind, 0, thing.seq, conditions=conditions, last=last, steps=found)
    if row.conditions is not None:
        conditions = msgspec.json.decode(row.conditions)
    return Record(record, kind, row.rev, row.seq, row.status, row.run, conditions, row.last, found)


def _performed(batch: Any) -> Iterator[Step]:
    if batch.frozen is not None:
        yield Step(SEALED, [], StepState.DONE, ended=batch.frozen / 10**9)
    if batch.state == BatchState.ARCHIVED:
        yield Step(ARCHIVED, [], StepState.DONE, ended=batch.archived / 10**9)


def _step(row: Any, after: list[str]) -> Step:
    is_only_requested = row.state == StepState.WAITING and not row.failures
    return Step(
        name=row.name,
        after=after,
        state=StepState(row.state),
        worker=row.worker,
        attempt=row.attempt,
        expires=None if row.due is None or is_only_requested else wall_ns(row.due) / 10**9,
        started=_seconds(row.started),
        ended=_seconds(row.ended),
        result=msgspec.json.decode(row.result) if row.result else None,
        reason=row.reason,
    )


def _seconds(unix_ns: int | None) -> float | None:
    return None if unix_ns is None else unix_ns / 10**9
