"""The table of bundles: what was asked for, what the answer was, and when it was used.

Every function works on the connection of a transaction. The archive of a bundle can be deleted; what is here is enough
to make it again under the same id.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from databuffer.storage.catalog.database import upsert
from databuffer.storage.catalog.schema import BUNDLES
from gwwire.bundles import BundleFormat, BundleState

_C = BUNDLES.c


@dataclass(frozen=True)
class BundleRow:
    """A bundle; times are nanoseconds of Unix time.

    `selection` is the order, and `info` the BundleInfo of the archive, both as JSON. `uses` is a count that ages: the
    archives with the smallest are deleted first. `size` is that of the archive once it is known. `group` had the
    files built, and they take `held` bytes, at most. `reason` is that of a bundle that is FAILED.
    """

    id: str
    format: BundleFormat
    state: BundleState
    selection: str
    info: str
    as_of: int
    made: int
    used: int
    uses: int
    size: int | None = None
    group: str | None = None
    held: int = 0
    reason: str | None = None


def get(connection: sa.Connection, bundle: str) -> BundleRow | None:
    """Return a bundle, or None if it does not exist."""
    row = connection.execute(sa.select(BUNDLES).where(_C.id == bundle)).first()
    return None if row is None else _row(row)


def all_bundles(connection: sa.Connection) -> list[BundleRow]:
    """Return all bundles, those whose archives are deleted first in front."""
    return [_row(row) for row in connection.execute(sa.select(BUNDLES).order_by(_C.uses, _C.used, _C.id))]


def put(connection: sa.Connection, row: BundleRow) -> None:
    """Insert a bundle, or replace its row."""
    connection.execute(upsert(connection.dialect, BUNDLES), vars(row))


def change(connection: sa.Connection, bundle: str, *, only_if: BundleState | None = None, **values: Any) -> bool:
    """Change columns of a bundle, if it exists and has the state `only_if`; return whether it was changed."""
    statement = sa.update(BUNDLES).where(_C.id == bundle).values(**values)
    if only_if is not None:
        statement = statement.where(_C.state == only_if)
    return bool(connection.execute(statement).rowcount)


def use(connection: sa.Connection, bundle: str, now: int) -> None:
    """Count a use of a bundle.

    The count begins above that of archives that were deleted already, so that what was popular once ages.
    """
    floor = connection.execute(sa.select(sa.func.max(_C.uses)).where(_C.state == BundleState.EXPIRED)).scalar() or 0
    row = get(connection, bundle)
    if row is not None:
        change(connection, bundle, used=now, uses=max(row.uses, floor) + 1)


def last_use(connection: sa.Connection) -> int:
    """Return when a bundle was used last, or 0."""
    return connection.execute(sa.select(sa.func.max(_C.used))).scalar() or 0


def correct_uses(connection: sa.Connection, now: int) -> None:
    """Move to `now` the uses that are later."""
    connection.execute(sa.update(BUNDLES).where(_C.used > now).values(used=now))


def forget(connection: sa.Connection, before: int) -> None:
    """Delete the bundles without an archive that were last used before a time."""
    without_archive = _C.state.in_([BundleState.EXPIRED, BundleState.CANCELLED, BundleState.FAILED])
    connection.execute(sa.delete(BUNDLES).where(without_archive, _C.used < before))


def _row(row: Any) -> BundleRow:
    values = row._asdict()
    return BundleRow(**{**values, "format": BundleFormat(row.format), "state": BundleState(row.state)})
