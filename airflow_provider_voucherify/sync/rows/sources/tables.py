"""Rows of tables in memory that know their column names: DataFrames, and anything with an Arrow stream."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.chunks import (
    CHUNK_BYTES,
    ROWS_AT_FIRST,
    ROWS_PER_CHUNK,
    Chunk,
    Rows,
    rows_that_fit,
)
from airflow_provider_voucherify.sync.rows.sources.arrow import arrow_values
from airflow_provider_voucherify.sync.rows.sources.names import check_names


def is_table(value: Any) -> bool:
    """Say whether a value is a table; iterating over one may yield its column names."""
    kind: Any = type(value)
    return _is_table_type(kind)


@lru_cache(256)
def _is_table_type(kind: Any) -> bool:
    if issubclass(kind, tuple | Mapping):
        return False
    has_columns = hasattr(kind, "columns") and not gives_rows(kind)
    return has_columns or any(hasattr(kind, mark) for mark in ("__arrow_c_stream__", "__dataframe__"))


def gives_rows(kind: Any) -> bool:
    """Say whether a type is a query result that yields rows, such as SQLAlchemy's, which has ``columns`` too."""
    return hasattr(kind, "fetchmany") and not hasattr(kind, "__arrow_c_stream__")


def from_table(table: Any) -> Rows | None:
    """
    Read a table; None if it is of a kind that cannot be read.

    :raises VoucherifyConfigurationError: while reading, if it has no usable column names, or cannot be read.
    """
    kind = type(table)
    if hasattr(kind, "iloc") and hasattr(kind, "columns"):
        return _from_pandas(table)
    return _from_arrow(table) if hasattr(kind, "__arrow_c_stream__") else None


def _from_pandas(frame: Any) -> Rows:
    """Read a DataFrame through Python objects: Arrow has no columns of mixed types, and fills up dicts in them."""
    names = tuple(frame.columns)
    check_names(names, "the DataFrame has")
    unread = [name for name in frame.index.names if name is not None and name not in names]
    hint = ""
    if unread:
        hint = f"the index {', '.join(map(repr, unread))} is not read: make it a column with .reset_index()"
    start, size = 0, ROWS_AT_FIRST
    while start < len(frame):
        part = frame.iloc[start : start + size]
        columns = [_values_of_series(part.iloc[:, place]) for place in range(len(names))]
        rows = list(zip(*columns, strict=True)) if columns else [()] * len(part)
        yield Chunk(names, rows, hint=hint)
        start, size = start + len(part), rows_that_fit(rows)


def _values_of_series(series: Any) -> list[Any]:
    """Return a column's values; NaN, NaT and NA are a DataFrame's missing values."""
    values: list[Any] = series.astype(object).tolist()
    if series.isna().any():
        return [None if missing else value for value, missing in zip(values, series.isna(), strict=True)]
    return values


def _from_arrow(table: Any) -> Rows:
    arrow = _pyarrow()
    try:
        reader = arrow.RecordBatchReader.from_stream(table)
    except arrow.ArrowException as error:
        raise VoucherifyConfigurationError(
            f"the rows must come as a table with named columns, not as {type(table).__name__} ({error})"
        ) from None
    names = tuple(reader.schema.names)
    check_names(names, "the table has")
    try:
        for batch in reader:
            size = max(1, min(ROWS_PER_CHUNK, CHUNK_BYTES * len(batch) // max(1, batch.nbytes)))
            for start in range(0, len(batch), size):
                columns = [arrow_values(column) for column in batch.slice(start, size).columns]
                yield Chunk(names, list(zip(*columns, strict=True)))
    except arrow.ArrowException as error:
        raise VoucherifyConfigurationError(f"the table cannot be read: {error}") from None


def _pyarrow() -> Any:
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise VoucherifyConfigurationError(
            "reading a table needs pyarrow: pip install 'airflow-provider-voucherify[parquet]'"
        ) from None
    return pyarrow
