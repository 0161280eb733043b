"""Databases of a test process share what SQLAlchemy has compiled: a service opens one, the tests open thousands."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite


def share_compiled_statements() -> None:
    """Make all SQLite engines created from now on use one dialect and one cache of compiled statements."""
    first = sa.create_engine("sqlite://")
    first.connect().close()  # the dialect gets to know the release of SQLite
    first.dispose()
    compiled: dict[Any, Any] = {}

    def share(_: type, engine: sa.Engine) -> None:
        engine.dialect = first.dialect
        engine.update_execution_options(compiled_cache=compiled)

    SQLiteDialect_pysqlite.engine_created = classmethod(share)  # type: ignore[method-assign,assignment]
