"""Reads of the tables of holdings in threads, and changes on the commit thread."""

from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from databuffer.ingest.pipeline import Ingest
from databuffer.ledger_changes import LedgerChanges
from databuffer.queries import Queries
from databuffer.state import State
from databuffer.storage.store import Store

T = TypeVar("T")


class HoldingLedger:
    """The tables of holdings; its methods raise VolumeError."""

    def __init__(self, store: Store, state: State, ingest: Ingest, queries: Queries) -> None:
        self._store = store
        self._changes = LedgerChanges(store, state, ingest)
        self._queries = queries

    async def read(self, look: Callable[[sa.Connection], T]) -> T:
        """Look at one state of the tables."""
        return await self._queries.read(look)

    def look(self, look: Callable[[sa.Connection], T]) -> T:
        """Look at the tables, from a thread."""
        with self._store.catalog.database.reading() as connection:
            return look(connection)

    async def change(self, change: Callable[[sa.Connection], T]) -> T:
        """Change the tables in one transaction, which is durable on return, or is rolled back by an error."""
        return await self._changes.make(change)
