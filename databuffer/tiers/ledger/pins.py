"""The table of pins: for whom a pack is kept where it can be read, and until when (nanoseconds of Unix time).

Every function works on the connection of a transaction.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from databuffer.storage.catalog.database import portions, upsert
from databuffer.storage.catalog.schema import PINS

_C = PINS.c
_REQUEST = re.compile(r"^(get|stage)-[0-9a-f]{32}.*", re.DOTALL)
#: The askers of stage requests have paths of others in them, and are released by their own routes.
_STAGE = re.compile(r"^(stage)-[0-9a-f]{32}.*", re.DOTALL)


def put(connection: sa.Connection, pack: str, asker: str, until: int, now: int) -> None:
    """Keep a pack for an asker until a time; pins that have expired are deleted."""
    put_all(connection, {asker: pack}, until, now)


def put_all(connection: sa.Connection, packs: Mapping[str, str], until: int, now: int) -> None:
    """Keep a pack for each of some askers, as `put` does."""
    connection.execute(sa.delete(PINS).where(_C.until <= now))
    rows = [{"pack": pack, "asker": asker, "until": until} for asker, pack in packs.items()]
    connection.execute(upsert(connection.dialect, PINS), rows)


def shorten(connection: sa.Connection, pack: str, asker: str, until: int) -> None:
    """End the pin of an asker on a pack at a time, unless it ends before."""
    mine = _C.pack == pack, _C.asker == asker, _C.until > until
    connection.execute(sa.update(PINS).where(*mine).values(until=until))


def latest(connection: sa.Connection) -> int:
    """Return the end of the last pin, or 0 if there is none."""
    return connection.execute(sa.select(sa.func.max(_C.until))).scalar() or 0


def shorten_all(connection: sa.Connection, until: int) -> None:
    """End each pin at a time, unless it ends before."""
    connection.execute(sa.update(PINS).where(_C.until > until).values(until=until))


def release(connection: sa.Connection, asker: str, pack: str | None = None) -> None:
    """Delete the pin of an asker on a pack, or all of the asker's."""
    mine = [_C.asker == asker] + ([] if pack is None else [_C.pack == pack])
    connection.execute(sa.delete(PINS).where(*mine))


def release_pack(connection: sa.Connection, pack: str) -> None:
    """Delete all pins on a pack."""
    connection.execute(sa.delete(PINS).where(_C.pack == pack))


def release_askers(connection: sa.Connection, askers: Iterable[str]) -> None:
    """Delete all pins of some askers."""
    for some in portions(askers):
        connection.execute(sa.delete(PINS).where(_C.asker.in_(some)))


def replace_packs(connection: sa.Connection, askers: Iterable[str], pack: str) -> None:
    """Move the only pin of each of some askers to another pack, until the same time."""
    for some in portions(askers):
        connection.execute(sa.update(PINS).where(_C.asker.in_(some)).values(pack=pack))


def packs_of(connection: sa.Connection, prefix: str, now: int) -> dict[str, str]:
    """Return the packs of the askers that begin with a prefix and have one pin, by asker."""
    query = sa.select(_C.asker, _C.pack).where(_begins(prefix), _C.until > now).order_by(_C.asker)
    return {asker: pack for asker, pack in connection.execute(query)}  # noqa: C416 (rows, not pairs)


def number_of(connection: sa.Connection, prefix: str, now: int) -> int:
    """Return the number of pins of askers that begin with a prefix."""
    query = sa.select(sa.func.count()).where(_begins(prefix), _C.until > now)
    return connection.execute(query).scalar_one()


def until(connection: sa.Connection, pack: str, asker: str, now: int) -> int | None:
    """Return until when a pack is kept for an asker, or None if it is not."""
    query = sa.select(_C.until).where(_C.pack == pack, _C.asker == asker, _C.until > now)
    return connection.execute(query).scalar()


def others(connection: sa.Connection, pack: str, asker: str, now: int) -> dict[str, int]:
    """Return until when a pack is kept for other askers, by their names; all stage requests are `stage`."""
    query = sa.select(_C.asker, _C.until).where(_C.pack == pack, _C.asker != asker, _C.until > now).order_by(_C.until)
    return {_STAGE.sub(r"\1", each): end for each, end in connection.execute(query)}


def is_pinned(connection: sa.Connection, pack: str, now: int) -> bool:
    """Return whether a pack is kept for anybody."""
    return connection.execute(sa.select(_C.pack).where(_C.pack == pack, _C.until > now).limit(1)).first() is not None


def kept(connection: sa.Connection, askers: Iterable[str], now: int) -> set[str]:
    """Return those of some askers for whom a pack is kept."""
    return {
        asker
        for some in portions(askers)
        for asker in connection.execute(sa.select(_C.asker).where(_C.asker.in_(some), _C.until > now)).scalars()
    }


def pinned(connection: sa.Connection, now: int) -> set[str]:
    """Return the packs that are kept for anybody."""
    return set(connection.execute(sa.select(_C.pack).where(_C.until > now)).scalars())


def packs_for(connection: sa.Connection, asker: str, now: int) -> set[str]:
    """Return the packs that are kept for an asker."""
    return set(connection.execute(sa.select(_C.pack).where(_C.asker == asker, _C.until > now)).scalars())


def askers(connection: sa.Connection, packs: Iterable[str], now: int) -> dict[str, set[str]]:
    """Return for whom each of some packs is kept, without the ids of requests: `get-ID` is `get`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for some in portions(packs):
        query = sa.select(_C.pack, _C.asker).where(_C.pack.in_(some), _C.until > now).order_by(_C.pack)
        for pack, asker in connection.execute(query):
            found[pack].add(_name_of(asker))
    return found


def _name_of(asker: str) -> str:
    return _REQUEST.sub(r"\1", asker)


def _begins(prefix: str) -> sa.ColumnElement[bool]:
    return _C.asker.startswith(prefix, autoescape=True)
