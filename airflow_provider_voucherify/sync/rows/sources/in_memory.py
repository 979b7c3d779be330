"""Rows in memory: lists, generators and tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, MutableSet, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from numbers import Integral
from operator import itemgetter
from types import NoneType
from typing import Any
from uuid import UUID

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.chunks import (
    CHUNK_BYTES,
    ROWS_PER_CHUNK,
    BadLine,
    Chunk,
    Rows,
    SingleRow,
    chunk_of_dicts,
    gathered,
    single_row,
    weight,
)
from airflow_provider_voucherify.sync.rows.sources.arrow import arrow_value
from airflow_provider_voucherify.sync.rows.sources.names import check_names, check_names_of_values
from airflow_provider_voucherify.sync.rows.sources.tables import from_table, gives_rows, is_table
from airflow_provider_voucherify.sync.rows.values import MAX_DEPTH
from airflow_provider_voucherify.sync.types.text import counted

_WHAT_ROWS_ARE = "a list or another iterable of dicts or named tuples, or a table such as a DataFrame"
_COLUMNS_ARE_FOR_SEQUENCES = "columns= names the values of rows that have no column names"
_IMMUTABLE = frozenset({str, int, float, bool, NoneType, bytes, Decimal, UUID, date, datetime, time, timedelta})
"""Types of immutable values."""

_ROWS_PER_STEP = 40
_NO_ROW = object()


def from_records(
    records: Any,
    key: str,
    *,
    columns: Sequence[str] | None = None,
    takes_ids: bool = False,
    of_mapped_task: bool = False,
) -> Rows:
    """
    Read rows that are in memory, or a generator of them.

    :param records: a table that knows its column names (a pandas DataFrame, or anything with ``__arrow_c_stream__``,
        such as Polars' and PyArrow's tables and DuckDB's relations), or an iterable of rows: dicts, named tuples,
        sequences whose names ``columns`` gives, lists of dicts, or such tables.
    :param key: the resource's key field.
    :param columns: names of the values of rows that have no names; a row of another length is refused.
    :param takes_ids: whether a row may be a bare id (text or an integer), which becomes ``{key: id}``.
    :param of_mapped_task: whether each element is the output of a mapped task's instance, which may be a list of rows.
    :raises VoucherifyConfigurationError: now or while reading, for anything but rows, and for rows without names.
    """
    if columns is not None:
        check_names_of_values(columns)
    if is_table(records):
        if columns is not None:
            raise VoucherifyConfigurationError(f"{_COLUMNS_ARE_FOR_SEQUENCES}; a {type(records).__name__} has its own")
        if (rows := from_table(records)) is not None:
            return rows
        raise VoucherifyConfigurationError(f"the rows must come as {_WHAT_ROWS_ARE}, not as {_what(records)}")
    if (
        isinstance(records, str | bytes | bytearray | Mapping)
        or (hasattr(type(records), "keys") and not gives_rows(type(records)))
        or hasattr(type(records), "_fields")
        or not isinstance(records, Iterable)
    ):
        raise VoucherifyConfigurationError(f"the rows must come as {_WHAT_ROWS_ARE}, not as {_what(records)}")
    return _GivenRows(key, columns, takes_ids, of_mapped_task).read(records)


@dataclass(frozen=True, slots=True)
class _GivenRows:
    """How the elements of an iterable become rows; see ``from_records``."""

    key: str
    columns: Sequence[str] | None
    takes_ids: bool
    of_mapped_task: bool

    def read(self, records: Iterable[Any]) -> Rows:
        """Read all elements, one after the other."""
        number = 0
        may_change = not isinstance(records, list | tuple)
        rows = self._flat(records)
        for record in rows:
            if type(record) is dict and self.columns is None and {*map(type, record)} == {str}:
                columns = tuple(record)
                alike, record = _alike(columns, chain([record], rows), may_change=may_change)
                if alike:
                    yield Chunk(columns, alike, fixed_columns=False)
                    number += len(alike)
                if record is _NO_ROW:
                    continue
            some, table = _some(chain([record], rows), may_change=may_change)
            yield from self._rows(some, number)
            number += len(some)
            if table is not _NO_ROW:
                for chunk in from_records(table, self.key, columns=self.columns):
                    yield chunk
                    number += len(chunk.rows) if isinstance(chunk, Chunk) else 1

    def _flat(self, records: Iterable[Any]) -> Iterator[Any]:
        """Yield rows and tables; lists of rows are joined, each at its turn."""
        has_ids = has_lists = False
        for record in records:
            if type(record) is dict:
                yield record
                continue
            is_list = self._is_list_of_rows(record)
            has_lists, has_ids = has_lists or is_list, has_ids or isinstance(record, str | int)
            if has_ids and has_lists:
                raise VoucherifyConfigurationError(
                    "the rows have lists beside ids; with .expand(records=...) each element is to be a list, and of a "
                    "dict Airflow makes a task for each member"
                )
            if is_list:
                yield from record
            else:
                yield record

    def _is_list_of_rows(self, record: Any) -> bool:
        """Say whether an element is certainly a list of rows: one row of a query can be a list too."""
        if not isinstance(record, list | tuple) or hasattr(record, "_fields"):
            return False
        if not self.of_mapped_task:
            return self.columns is None and isinstance(record, list) and all(isinstance(row, Mapping) for row in record)
        return self.columns is None or all(isinstance(row, list | tuple) for row in record)

    def _rows(self, some: Sequence[Any], earlier: int) -> Rows:
        if not some:
            return
        chunk = self._chunk(some)
        if chunk is not None:
            yield chunk
        elif self.columns is None:
            yield from gathered([self._single(record, number) for number, record in enumerate(some, start=earlier + 1)])
        else:
            yield from self._by_position(some, self.columns, earlier)

    def _chunk(self, some: Sequence[Any]) -> Chunk | None:
        """Return one chunk of all the rows; None if they are not of one kind and shape."""
        kinds = set(map(type, some))
        if self.columns is not None:
            fit = kinds <= {list, tuple} and set(map(len, some)) == {len(self.columns)}
            if not fit or any(map(_is_list_of_sequences, some)):
                return None
            return Chunk(tuple(self.columns), list(map(tuple, some)))
        if kinds == {dict}:
            return chunk_of_dicts(some)
        if self.takes_ids and kinds <= {str, int}:
            return Chunk((self.key,), [(record,) for record in some], fixed_columns=False)
        names = getattr(some[0], "_fields", None)
        if len(kinds) == 1 and isinstance(some[0], tuple) and names and type(some[0]).__base__ is tuple:
            return Chunk(tuple(names), list(map(tuple, some)), fixed_columns=False)
        return None

    def _single(self, record: Any, number: int) -> SingleRow | BadLine:
        row = self._as_mapping(record, number)
        return row if isinstance(row, BadLine) else single_row(row, number)

    def _as_mapping(self, record: Any, number: int) -> Mapping[str, Any] | BadLine:
        if hasattr(type(record), "as_py"):  # of an Arrow array
            record = arrow_value(record)
        if isinstance(record, Mapping):
            return record
        if (names := _names_of_values(record)) is not None:
            check_names(names, f"row {number} has")
            return dict(zip(names, record, strict=True))
        if hasattr(record, "keys"):
            return dict(record)
        if isinstance(record, str) or (isinstance(record, Integral) and not isinstance(record, bool)):
            if self.takes_ids:
                return {self.key: record if isinstance(record, str) else int(record)}
            raise VoucherifyConfigurationError(
                f"row {number} is a bare id, which is enough only if metadata= is given, and no mapping=; give dicts "
                f"such as {{{self.key!r}: ..., ...}}"
            )
        if isinstance(record, Iterable) and not isinstance(record, bytes | bytearray | Set):
            raise VoucherifyConfigurationError(
                f"row {number} is a {type(record).__name__} of values without column names: name them in their order "
                "with columns=[...] (what hook.get_records() and a SQLExecuteQueryOperator give needs it), let the "
                "operator run the query itself with sql=, or give dicts"
            )
        return BadLine(number, f"a row must be a dict, not {type(record).__name__}")

    def _by_position(self, some: Iterable[Any], columns: Sequence[str], earlier: int) -> Rows:
        """Yield rows without names; rows of another length are bad lines."""
        names, gathered = tuple(columns), list[tuple[Any, ...]]()
        rows = [self._values(record, number) for number, record in enumerate(some, start=earlier + 1)]
        lengths = {len(row) if isinstance(row, tuple) else None for row in rows}
        if not earlier and len(lengths) == 1 and (length := lengths.pop()) not in (None, len(names)):
            raise VoucherifyConfigurationError(
                f"columns= names {counted(len(names), 'column')}, and the rows have {counted(length, 'value')} each: "
                "name each of them"
            )
        for number, values in enumerate(rows, start=earlier + 1):
            if isinstance(values, tuple) and len(values) == len(names):
                gathered.append(values)
                continue
            if gathered:
                yield Chunk(names, gathered)
                gathered = []
            if isinstance(values, tuple):
                values = BadLine(number, f"it has {counted(len(values), 'value')} for {counted(len(names), 'column')}")
            yield values
        if gathered:
            yield Chunk(names, gathered)

    def _values(self, record: Any, number: int) -> tuple[Any, ...] | BadLine:
        if isinstance(record, Mapping) or _names_of_values(record) is not None:
            raise VoucherifyConfigurationError(f"{_COLUMNS_ARE_FOR_SEQUENCES}; row {number} has its own")
        if _is_list_of_sequences(record):
            raise VoucherifyConfigurationError(
                f"row {number} is a list of rows; give them one by one (in a function with yield from), since they "
                "could not be counted otherwise"
            )
        if isinstance(record, Iterable) and not isinstance(record, str | bytes | bytearray | Set):
            return tuple(record)
        return BadLine(number, f"it must be a sequence of values, not {type(record).__name__}")


class _Filling:
    """Says when some rows are enough for a chunk; weighs one in ``_ROWS_PER_STEP``."""

    def __init__(self) -> None:
        self.weighs_at = _ROWS_PER_STEP
        self._size = 0

    def is_full(self, row: Any) -> bool:
        """Weigh a row, after ``weighs_at`` rows."""
        self.weighs_at += _ROWS_PER_STEP
        self._size += weight(row) * _ROWS_PER_STEP
        return self.weighs_at > ROWS_PER_CHUNK or self._size >= CHUNK_BYTES


def _alike(columns: tuple[str, ...], rows: Iterable[Any], *, may_change: bool) -> tuple[list[tuple[Any, ...]], Any]:
    """
    Take the values of dicts that have the same columns, enough for a chunk.

    :param may_change: whether a row may be another one once the next is asked for. Then its values are of types that
        cannot change.
    :returns: with the first row that is of another kind, which comes next; ``_NO_ROW`` if there is none.
    """
    values_of = itemgetter(*columns) if len(columns) > 1 else lambda row: (row[columns[0]],)
    width, filling = len(columns), _Filling()
    alike: list[tuple[Any, ...]] = []
    for row in rows:
        if type(row) is not dict or len(row) != width:
            return alike, row
        try:
            values = values_of(row)
        except KeyError:
            return alike, row
        if may_change and not _IMMUTABLE.issuperset(map(type, values)):
            return alike, row
        alike.append(values)
        if len(alike) == filling.weighs_at and filling.is_full(values):
            break
    return alike, _NO_ROW


def _some(rows: Iterable[Any], *, may_change: bool) -> tuple[list[Any], Any]:
    """Take rows of any kind, enough for a chunk; return them with the table that comes after them, or ``_NO_ROW``."""
    filling = _Filling()
    some: list[Any] = []
    for row in rows:
        if type(row) is not dict and is_table(row):
            return some, row
        some.append(_as_it_is_now(row) if may_change else row)
        if len(some) == filling.weighs_at and filling.is_full(row):
            break
    return some, _NO_ROW


def _is_list_of_sequences(record: Any) -> bool:
    """Say whether a row is certainly a list of several rows, since no id is a sequence of values."""
    return (
        isinstance(record, list | tuple)
        and bool(record)
        and isinstance(record[0], list | tuple)
        and all(isinstance(value, list | tuple) for value in record)
    )


def _names_of_values(record: Any) -> Sequence[Any] | None:
    """Return the names of a row's values, of a named tuple, SQLAlchemy's row, or one of a NumPy record array."""
    if isinstance(record, Sequence) and isinstance(names := getattr(record, "_fields", None), Sequence):
        return names
    names = getattr(getattr(record, "dtype", None), "names", None)
    return names if isinstance(names, tuple) and getattr(record, "shape", None) == () else None


def _as_it_is_now(row: Any, memo: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """
    Return a copy of a row, since a generator may change it and yield it again.

    :param memo: the copies of what is being copied, by the id of the original: a row may refer to itself.
    """
    kind = type(row)
    if kind in _IMMUTABLE or depth > MAX_DEPTH or hasattr(kind, "as_py"):  # the last is of an Arrow array
        return row
    if memo is not None and id(row) in memo:
        return memo[id(row)]
    memo = {} if memo is None else memo
    if isinstance(row, Mapping):
        copied = memo[id(row)] = dict(row)
        if not _IMMUTABLE.issuperset(map(type, copied.values())):
            copied.update((name, _as_it_is_now(value, memo, depth + 1)) for name, value in row.items())
        return copied
    if isinstance(row, list | tuple):
        if _IMMUTABLE.issuperset(map(type, row)):
            return row.copy() if isinstance(row, list) else row
        if isinstance(row, list):
            of_list = memo[id(row)] = list[Any]()
            of_list.extend(_as_it_is_now(value, memo, depth + 1) for value in row)
            return of_list
        values = (_as_it_is_now(value, memo, depth + 1) for value in row)
        return row._make(values) if hasattr(row, "_make") else tuple(values)
    if isinstance(row, MutableSet | bytearray | deque) or kind.__module__.partition(".")[0] == "numpy":
        return row.copy()
    return row


def _what(value: Any) -> str:
    if isinstance(value, str):
        return "a text (a template gives text unless the DAG has render_template_as_native_obj=True; use .output)"
    if isinstance(value, Mapping) or hasattr(type(value), "_fields"):
        return f"one {type(value).__name__} (put a single row into a list)"
    return type(value).__name__ if value is not None else "None"
