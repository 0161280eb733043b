"""Changes of the tables that only the ledger has: made on the commit thread, each in one transaction."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import sqlalchemy as sa

from databuffer.errors import VolumeError
from databuffer.ingest.pipeline import Ingest
from databuffer.state import State
from databuffer.storage.store import Store
from gwwire.problems import ProblemError

T = TypeVar("T")


class LedgerChanges:
    """Makes changes while memory and volume agree."""

    def __init__(self, store: Store, state: State, ingest: Ingest) -> None:
        self._store = store
        self._state = state
        self._ingest = ingest

    async def make(self, change: Callable[[sa.Connection], T], *, with_reserve: bool = False) -> T:
        """Make a change, which is durable on return, or is rolled back by an error; raise VolumeError.

        `with_reserve`: it has to succeed on a full volume too.
        """

        def write() -> T | ProblemError:
            reserve = self._store.reserve.released() if with_reserve else nullcontext()
            try:
                with reserve, self._store.catalog.database.writing_synced() as connection:
                    return change(connection)
            except VolumeError:
                raise
            except ProblemError as refusal:  # memory and volume still agree
                return refusal

        def run() -> T | ProblemError:
            done = self._state.run(write)
            self._store.ledger_backup_due()
            return done

        done = await self._ingest.perform(run)
        if isinstance(done, ProblemError):
            raise done
        return done
