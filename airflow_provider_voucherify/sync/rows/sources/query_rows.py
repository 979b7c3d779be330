"""Rows of a database cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.chunks import ROWS_AT_FIRST, Chunk, Rows, rows_that_fit


def from_cursor(columns: Sequence[str], fetchmany: Callable[[int], Sequence[Sequence[Any]]]) -> Rows:
    """
    Read a database cursor to its end, ``ROWS_PER_CHUNK`` rows at a time, or fewer if they are large.

    :param columns: the cursor's column names.
    :param fetchmany: the cursor's ``fetchmany``. Whether the driver streams depends on the cursor.
    """
    names = tuple(map(_column_name, columns))
    size, is_empty = ROWS_AT_FIRST, True
    while rows := fetchmany(size):
        if isinstance(rows[0], Mapping):
            if len(rows[0]) != len(names):
                raise VoucherifyConfigurationError(
                    "the query returns several columns of one name, and its cursor keeps one: rename them with AS"
                )
            rows = [tuple(dict(row).values()) for row in rows]
        elif not (isinstance(rows, list) and isinstance(rows[0], tuple)):
            rows = [tuple(row) for row in rows]
        size = rows_that_fit(rows)
        for start in range(0, len(rows), size):
            yield Chunk(names, rows[start : start + size])
            is_empty = False
    if is_empty:
        yield Chunk(names, ())


def _column_name(name: Any) -> str:
    """Return a column's name as text; some drivers return bytes."""
    try:
        name = bytes(name).decode() if isinstance(name, bytes | bytearray) else name
    except UnicodeDecodeError:
        raise VoucherifyConfigurationError(f"the column name {name!r} is not UTF-8: name it with AS") from None
    if not isinstance(name, str):
        raise VoucherifyConfigurationError(f"the query returns a column whose name is {name!r}: name it with AS")
    return name
