"""Spans of segments in SQL, with the sample spacing of `gwwire.spans.sample_period`."""

from typing import Any

import sqlalchemy as sa

from gwwire.spans import MOST_ROUNDED, SAMPLING_TOLERANCE


def stop_column(columns: Any) -> sa.ColumnElement[float]:
    """Return the end of a segment in GPS seconds; `columns` are those of SEGMENTS, or of an alias of it."""
    stop: sa.ColumnElement[float] = columns.t0 + seconds_column(columns)
    return stop


def seconds_column(columns: Any) -> sa.ColumnElement[float]:
    """Return the duration of a segment in s, with the sample spacing of `gwwire.spans.sample_period`."""
    rate = sa.literal(1.0) / columns.dt
    return sa.case(
        (_is_rounded(rate), columns.n / _round(rate)),
        (_is_rounded(columns.dt), columns.n * _round(columns.dt)),
        else_=columns.n * columns.dt,
    )


def _is_rounded(value: sa.ColumnElement[float]) -> sa.ColumnElement[bool]:
    whole = _round(value)
    off = sa.func.abs(value - whole)
    return sa.and_(whole > 0, off <= SAMPLING_TOLERANCE * whole, off <= MOST_ROUNDED)


def _round(value: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
    return sa.func.round(value, type_=sa.Double)
