"""The catalog of segments and batches, and the ledger, in one database."""

from databuffer.storage.catalog.backup import LedgerBackups
from databuffer.storage.catalog.catalog import Catalog
from databuffer.storage.catalog.database import Database
from databuffer.storage.catalog.rows import (
    BatchRow,
    CataloguedSegment,
    Extent,
    IdempotencyKey,
    SegmentFilter,
    SegmentRow,
)

__all__ = [
    "BatchRow",
    "Catalog",
    "CataloguedSegment",
    "Database",
    "Extent",
    "IdempotencyKey",
    "LedgerBackups",
    "SegmentFilter",
    "SegmentRow",
]
