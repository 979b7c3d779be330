"""Where rows come from: lists, cursors and files, all as a stream of small chunks of rows with their column names."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableSet, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from numbers import Integral
from operator import itemgetter
from pathlib import PurePosixPath
from types import NoneType
from typing import IO, Any, TypeVar
from uuid import UUID

import msgspec

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.csv_rows import BadRow, CsvRows, csv_options
from airflow_provider_voucherify.sync.rows.text_files import decoded, ending_of, some_lines, unpacked
from airflow_provider_voucherify.sync.rows.values import MAX_DEPTH, LostValue

ROWS_PER_CHUNK = 1_000

CHUNK_BYTES = 4 * 1024 * 1024
"""A chunk of large rows ends about here: encoding a chunk takes several times its size in memory."""

ROWS_AT_FIRST = 50
"""Read of a source whose rows' size is not known yet."""

PARQUET_BYTES_PER_READ = 65_536
"""Read ahead of each column: pyarrow would otherwise hold a row group's columns whole, or all of the file's."""

FAILURE_FILES = frozenset({"failures.jsonl", "set_aside.jsonl"})
"""Names of the files whose lines are failed records. Nothing that a row holds can make it pass for one of them."""

FAILURE_MEMBER = "_failure"
"""Member of a line of such a file that says why the record was not updated; never sent."""

_UNREADABLE_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError)
"""What a decoder raises that makes a ``Decimal`` of each number with a fraction or an exponent."""

LOST_MEMBER = "as_text"
"""Member of ``_failure`` that names the columns whose values the file can only show as text."""

_WHAT_ROWS_ARE = "a list or another iterable of dicts or named tuples, or a table such as a DataFrame"
_COLUMNS_ARE_FOR_SEQUENCES = "columns= names the values of rows that have no column names"
_LASTING = frozenset({str, int, float, bool, NoneType, bytes, Decimal, UUID, date, datetime, time, timedelta})
"""Types of values that nobody can change."""

_ROWS_PER_LOOK = 40
_ROWS_PER_SAMPLE = 10

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    Some rows of the same columns.

    :param columns: column names, in order.
    :param rows: one sequence of values per row, in the columns' order.
    :param fixed_columns: whether all rows of the source have these columns (a query's do, JSON lines' need not).
    :param are_records: the rows are records in the API's own form (lines of a ``failures.jsonl``): no mapping applies.
    :param failures: of lines of a ``failures.jsonl``, what each says of its record's failure; empty for other sources.
    :param file: where the rows are from, if the source has several files.
    :param hint: what may be the matter if a column is missing.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    fixed_columns: bool = True
    are_records: bool = False
    failures: Sequence[Mapping[str, Any]] = ()
    file: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class BadLine:
    """
    A line of a file that cannot be read as a row.

    :param line: counts from 1.
    :param row: what of it can be shown.
    """

    line: int
    why: str
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlankRows:
    """Rows of a file without any value, and empty lines: they are skipped, and counted here alone."""

    number: int


Rows = Generator[Chunk | BadLine | BlankRows, None, None]
"""
What a source gives. One that knows its columns without a row gives a chunk without rows if it has none, so that the
columns are checked all the same: a file whose only row is taken for its header is no empty source.
"""


def from_cursor(columns: Sequence[str], fetchmany: Callable[[int], Sequence[Sequence[Any]]]) -> Rows:
    """
    Read a database cursor to its end, ``ROWS_PER_CHUNK`` rows at a time, or fewer if they are large.

    :param columns: the cursor's column names.
    :param fetchmany: the cursor's ``fetchmany``. Whether the driver streams is the cursor's matter.
    """
    names = tuple(map(_column_name, columns))
    most, is_empty = ROWS_AT_FIRST, True
    while rows := fetchmany(most):
        if isinstance(rows[0], Mapping):
            if len(rows[0]) != len(names):
                raise VoucherifyConfigurationError(
                    "the query returns several columns of one name, of which its cursor gives one: rename them with AS"
                )
            rows = [tuple(dict(row).values()) for row in rows]
        elif not (isinstance(rows, list) and isinstance(rows[0], tuple)):
            rows = [tuple(row) for row in rows]
        most = _rows_that_fit(rows)
        for start in range(0, len(rows), most):
            yield Chunk(names, rows[start : start + most])
            is_empty = False
    if is_empty:
        yield Chunk(names, ())


def _column_name(name: Any) -> str:
    """Return a column's name as text; some drivers give bytes."""
    try:
        name = bytes(name).decode() if isinstance(name, bytes | bytearray) else name
    except UnicodeDecodeError:
        raise VoucherifyConfigurationError(f"the column name {name!r} is not UTF-8: name it with AS") from None
    if not isinstance(name, str):
        raise VoucherifyConfigurationError(f"the query returns a column whose name is {name!r}: name it with AS")
    return name


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

    :param records: a table that knows its column names (a pandas DataFrame, or whatever offers ``__arrow_c_stream__``,
        such as Polars' and PyArrow's tables and DuckDB's relations), or an iterable of rows: dicts, named tuples,
        sequences whose names ``columns`` gives, lists of dicts, or such tables.
    :param key: the resource's key field.
    :param columns: names of the values of rows that have no names; a row of another length is refused.
    :param takes_ids: whether a row may be a bare id (text or an integer), which becomes ``{key: id}``.
    :param of_mapped_task: each element is what an instance of a mapped task has returned, which may be a list of rows.
    :raises VoucherifyConfigurationError: here or while reading, for what is not rows, or rows without names.
    """
    if columns is not None:
        check_names_of_values(columns)
    if _is_table(records):
        if columns is not None:
            raise VoucherifyConfigurationError(f"{_COLUMNS_ARE_FOR_SEQUENCES}; a {type(records).__name__} has its own")
        return _from_table(records)
    if (
        isinstance(records, str | bytes | bytearray | Mapping)
        or (hasattr(type(records), "keys") and not _gives_rows(type(records)))
        or hasattr(type(records), "_fields")
        or not isinstance(records, Iterable)
    ):
        raise VoucherifyConfigurationError(f"the rows must come as {_WHAT_ROWS_ARE}, not as {_what(records)}")
    return _GivenRows(key, columns, takes_ids, of_mapped_task).read(records)


def check_names_of_values(columns: Any) -> None:
    """
    Check ``columns=``.

    :raises VoucherifyConfigurationError: it is not a list of different names.
    """
    if not isinstance(columns, list | tuple) or not columns:
        raise VoucherifyConfigurationError(f"columns must be a list of column names, not {columns!r:.200}")
    _check_names(columns, "columns= has")


def from_file(file: IO[bytes], name: str, csv_dialect: Mapping[str, Any] | str | None = None) -> Rows:
    """
    Read an open file; its name's ending says how.

    ``.jsonl`` (or ``.ndjson``): one JSON object per line. ``.csv``: UTF-8, with a header row; every value is text, and
    an empty one is missing. Both may be packed (``.jsonl.gz``, ``.csv.gz``). ``.parquet``: needs the extra ``parquet``.

    :param file: a binary file; it is not closed.
    :param name: the file's name or URI.
    :param csv_dialect: of a CSV file, see ``csv_rows.csv_options``.
    :raises VoucherifyConfigurationError: the file cannot be read (also while it is read).
    """
    reader = _reader(name)
    if PurePosixPath(name.partition("?")[0]).name in FAILURE_FILES:
        return _from_jsonl(file, name, of_failures=True)
    if reader is _from_csv:
        return _from_csv(file, name, csv_options(csv_dialect))
    if csv_dialect is not None:
        raise VoucherifyConfigurationError(f"csv_dialect is for CSV files, not for {name}")
    return reader(file, name)


def from_files(
    names: Sequence[str], opened: Callable[[str], IO[bytes]], csv_dialect: Mapping[str, Any] | str | None = None
) -> Rows:
    """
    Read files one after the other; with several, what is wrong with a row names its file too.

    :param names: names or URIs, all of one kind.
    :param opened: opens one of them.
    :raises VoucherifyConfigurationError: as ``from_file``, or the files are of several kinds.
    """
    kinds = {_reader(name): name for name in reversed(names)}
    if len(kinds) > 1:
        raise VoucherifyConfigurationError(f"path has files of several kinds: {' and '.join(reversed(kinds.values()))}")
    return _from_files(names, opened, csv_dialect)


def _from_files(
    names: Sequence[str], opened: Callable[[str], IO[bytes]], csv_dialect: Mapping[str, Any] | str | None
) -> Rows:
    for name in names:
        with opened(name) as file:
            for part in from_file(file, name, csv_dialect):
                if len(names) > 1 and isinstance(part, Chunk):
                    yield replace(part, file=name)
                elif len(names) > 1 and isinstance(part, BadLine):
                    yield replace(part, why=f"{PurePosixPath(name).name}: {part.why}")
                else:
                    yield part


def _reader(name: str) -> Callable[..., Rows]:
    ending, is_packed = ending_of(name)
    readers: dict[str, Callable[..., Rows]] = {
        ".jsonl": _from_jsonl,
        ".ndjson": _from_jsonl,
        ".csv": _from_csv,
        ".parquet": _from_parquet,
    }
    reader = readers.get(ending)
    if reader is None or (is_packed and reader is _from_parquet):
        said = f"path {name!r} must end in .jsonl, .csv or .parquet (or .jsonl.gz or .csv.gz)"
        if "?" in name:
            said += "; what follows a ? is taken for a URL's query, so of patterns only those with * are read"
        raise VoucherifyConfigurationError(said)
    return reader


def first_rows(rows: Rows, most: int) -> Rows:
    """Give the first rows of a source only."""
    left = most
    for chunk in rows:
        if left <= 0:
            return
        if isinstance(chunk, Chunk):
            chunk = replace(chunk, rows=chunk.rows[:left], failures=chunk.failures[:left])
            left -= len(chunk.rows)
        elif isinstance(chunk, BadLine):
            left -= 1
        yield chunk


@dataclass(frozen=True, slots=True)
class _GivenRows:
    """How the elements of an iterable become rows; see ``from_records``."""

    key: str
    columns: Sequence[str] | None
    takes_ids: bool
    of_mapped_task: bool

    def read(self, records: Iterable[Any]) -> Rows:
        """Read all elements, one after the other."""
        number, size, look = 0, 0, _ROWS_PER_LOOK
        some: list[Any] = []
        may_change = not isinstance(records, list | tuple)
        for record in self._flat(records):
            is_table = type(record) is not dict and _is_table(record)
            if not is_table:
                some.append(_as_it_is_now(record) if may_change else record)
                if len(some) < look:
                    continue
                size += _weight(record) * _ROWS_PER_LOOK
                if look < ROWS_PER_CHUNK and size < CHUNK_BYTES:
                    look += _ROWS_PER_LOOK
                    continue
            yield from self._rows(some, number)
            number += len(some)
            some, size, look = [], 0, _ROWS_PER_LOOK
            if is_table:
                for chunk in from_records(record, self.key, columns=self.columns):
                    yield chunk
                    number += len(chunk.rows) if isinstance(chunk, Chunk) else 1
        yield from self._rows(some, number)

    def _flat(self, records: Iterable[Any]) -> Iterator[Any]:
        """Give rows and tables; lists of rows are joined, each when its turn comes."""
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
        """Say whether an element is surely a list of rows: one row of a query can be a list too."""
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
            rows = [self._as_mapping(record, number) for number, record in enumerate(some, start=earlier + 1)]
            yield from _chunks(rows, earlier)
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
            return _chunk_of_dicts(some)
        if self.takes_ids and kinds <= {str, int}:
            return Chunk((self.key,), [(record,) for record in some], fixed_columns=False)
        names = getattr(some[0], "_fields", None)
        if len(kinds) == 1 and isinstance(some[0], tuple) and names and type(some[0]).__base__ is tuple:
            return Chunk(tuple(names), list(map(tuple, some)), fixed_columns=False)
        return None

    def _as_mapping(self, record: Any, number: int) -> Mapping[str, Any] | BadLine:
        if hasattr(type(record), "as_py"):  # of an Arrow array
            record = _arrow_value(record)
        if isinstance(record, Mapping):
            return record
        if (names := _names_of_values(record)) is not None:
            _check_names(names, f"row {number} has")
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
        """Give rows without names, and those of another length as what cannot be read."""
        names, gathered = tuple(columns), list[tuple[Any, ...]]()
        rows = [self._values(record, number) for number, record in enumerate(some, start=earlier + 1)]
        lengths = {len(row) if isinstance(row, tuple) else None for row in rows}
        if not earlier and len(lengths) == 1 and (length := lengths.pop()) not in (None, len(names)):
            raise VoucherifyConfigurationError(
                f"columns= names {len(names)} columns, and the rows have {length} values each: name each of them"
            )
        for number, values in enumerate(rows, start=earlier + 1):
            if isinstance(values, tuple) and len(values) == len(names):
                gathered.append(values)
                continue
            if gathered:
                yield Chunk(names, gathered)
                gathered = []
            if isinstance(values, tuple):
                values = BadLine(number, f"it has {len(values)} values for {len(names)} columns")
            yield values
        if gathered:
            yield Chunk(names, gathered)

    def _values(self, record: Any, number: int) -> tuple[Any, ...] | BadLine:
        if isinstance(record, Mapping) or _names_of_values(record) is not None:
            raise VoucherifyConfigurationError(f"{_COLUMNS_ARE_FOR_SEQUENCES}; row {number} has its own")
        if _is_list_of_sequences(record):
            raise VoucherifyConfigurationError(
                f"row {number} is a list of rows; give them one by one (in a function with yield from), since nobody "
                "could count them otherwise"
            )
        if isinstance(record, Iterable) and not isinstance(record, str | bytes | bytearray | Set):
            return tuple(record)
        return BadLine(number, f"it must be a sequence of values, not {type(record).__name__}")


def _is_list_of_sequences(record: Any) -> bool:
    """Say whether what is given for a row is surely several, as no id is a sequence of values."""
    return (
        isinstance(record, list | tuple)
        and bool(record)
        and isinstance(record[0], list | tuple)
        and all(isinstance(value, list | tuple) for value in record)
    )


def _is_table(value: Any) -> bool:
    """Say whether a value is a table, which may well give its columns' names when it is iterated over."""
    kind: Any = type(value)
    return _is_table_type(kind)


@lru_cache(256)
def _is_table_type(kind: Any) -> bool:
    if issubclass(kind, tuple | Mapping):
        return False
    has_columns = hasattr(kind, "columns") and not _gives_rows(kind)
    return has_columns or any(hasattr(kind, mark) for mark in ("__arrow_c_stream__", "__dataframe__"))


def _gives_rows(kind: Any) -> bool:
    """Say whether a type is a query's result that gives rows, such as SQLAlchemy's, which has ``columns`` too."""
    return hasattr(kind, "fetchmany") and not hasattr(kind, "__arrow_c_stream__")


def _names_of_values(record: Any) -> Sequence[Any] | None:
    """Return the names of a row's values, of a named tuple, SQLAlchemy's row, or one of a NumPy record array."""
    if isinstance(record, Sequence) and isinstance(names := getattr(record, "_fields", None), Sequence):
        return names
    names = getattr(getattr(record, "dtype", None), "names", None)
    return names if isinstance(names, tuple) and getattr(record, "shape", None) == () else None


def _from_table(table: Any) -> Rows:
    kind = type(table)
    if hasattr(kind, "iloc") and hasattr(kind, "columns"):
        return _from_pandas(table)
    if hasattr(kind, "__arrow_c_stream__"):
        return _from_arrow(table)
    raise VoucherifyConfigurationError(f"the rows must come as {_WHAT_ROWS_ARE}, not as {_what(table)}")


def _from_pandas(frame: Any) -> Rows:
    """Read a DataFrame by way of Python's objects: Arrow has no columns of mixed types, and fills up dicts in them."""
    names = tuple(frame.columns)
    _check_names(names, "the DataFrame has")
    unread = [name for name in frame.index.names if name is not None and name not in names]
    hint = ""
    if unread:
        hint = f"the index {', '.join(map(repr, unread))} is not read: make it a column with .reset_index()"
    start, most = 0, ROWS_AT_FIRST
    while start < len(frame):
        part = frame.iloc[start : start + most]
        columns = [_values_of_series(part.iloc[:, place]) for place in range(len(names))]
        rows = list(zip(*columns, strict=True)) if columns else [()] * len(part)
        yield Chunk(names, rows, hint=hint)
        start, most = start + len(part), _rows_that_fit(rows)


def _values_of_series(series: Any) -> list[Any]:
    """Return a column's values; NaN, NaT and NA are how a DataFrame says that there is none."""
    values: list[Any] = series.astype(object).tolist()
    if series.isna().any():
        return [None if missing else value for value, missing in zip(values, series.isna(), strict=True)]
    return values


def _from_arrow(table: Any) -> Rows:
    arrow = _pyarrow("a table")
    try:
        reader = arrow.RecordBatchReader.from_stream(table)
    except arrow.ArrowException as error:
        raise VoucherifyConfigurationError(
            f"the rows must come as {_WHAT_ROWS_ARE}, not as {_what(table)}: it has no named columns ({error})"
        ) from None
    names = tuple(reader.schema.names)
    _check_names(names, "the table has")
    try:
        for batch in reader:
            most = max(1, min(ROWS_PER_CHUNK, CHUNK_BYTES * len(batch) // max(1, batch.nbytes)))
            for start in range(0, len(batch), most):
                columns = [_arrow_values(column) for column in batch.slice(start, most).columns]
                yield Chunk(names, list(zip(*columns, strict=True)))
    except arrow.ArrowException as error:
        raise VoucherifyConfigurationError(f"the table cannot be read: {error}") from None


def _pyarrow(what: str) -> Any:
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise VoucherifyConfigurationError(
            f"reading {what} needs pyarrow: pip install 'airflow-provider-voucherify[parquet]'"
        ) from None
    return pyarrow


def _check_names(names: Sequence[Any], who_has: str) -> None:
    if unnamed := [name for name in names if not isinstance(name, str)]:
        raise VoucherifyConfigurationError(f"{who_has} a column whose name is {unnamed[0]!r:.60}, not text")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise VoucherifyConfigurationError(f"{who_has} more than one column named {', '.join(map(repr, twice))}")


def _as_it_is_now(row: Any, memo: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """
    Return a copy of a row, which a generator may change and give again as its next one.

    :param memo: the copies of what is being copied, by the id of the original: a row may refer to itself.
    """
    kind = type(row)
    if kind in _LASTING or depth > MAX_DEPTH or hasattr(kind, "as_py"):  # the last is of an Arrow array
        return row
    if memo is not None and id(row) in memo:
        return memo[id(row)]
    memo = {} if memo is None else memo
    if isinstance(row, Mapping):
        copied = memo[id(row)] = dict(row)
        if not _LASTING.issuperset(map(type, copied.values())):
            copied.update((name, _as_it_is_now(value, memo, depth + 1)) for name, value in row.items())
        return copied
    if isinstance(row, list | tuple):
        if _LASTING.issuperset(map(type, row)):
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


def _pieces(items: Iterator[_T]) -> Iterator[list[_T]]:
    """Give items in lists of ``ROWS_PER_CHUNK``, or of fewer if these take about ``CHUNK_BYTES``."""
    while some := list(islice(items, _ROWS_PER_LOOK)):
        size = _size(some)
        while len(some) < ROWS_PER_CHUNK and size < CHUNK_BYTES and (more := list(islice(items, _ROWS_PER_LOOK))):
            some += more
            size += _size(more)
        yield some


def _size(rows: Sequence[Any]) -> int:
    """Estimate how many bytes rows take, from some of them."""
    return sum(map(_weight, rows[::_ROWS_PER_SAMPLE])) * _ROWS_PER_SAMPLE


def _rows_that_fit(rows: Sequence[Any]) -> int:
    """Return how many rows like these make a chunk."""
    return max(1, min(ROWS_PER_CHUNK, CHUNK_BYTES * len(rows) // max(1, _size(rows))))


def _weight(value: Any, depth: int = 0) -> int:
    """Return about how many bytes a value takes."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if depth < 8 and isinstance(value, Mapping):
        value = [*value, *value.values()]
    if depth < 8 and isinstance(value, list | tuple):
        return sum(_weight(item, depth + 1) for item in value)
    return 8


def _chunk_of_dicts(records: Sequence[Any]) -> Chunk | None:
    """Return a chunk of records that are dicts with the same members; None where they are not."""
    first = records[0]
    if type(first) is not dict or not first or set(map(type, records)) != {dict}:
        return None
    columns = tuple(first)
    if set(map(len, records)) != {len(columns)} or set(map(type, columns)) != {str}:
        return None
    try:
        values = map(itemgetter(*columns), records)
        rows = list(values) if len(columns) > 1 else [(value,) for value in values]
    except KeyError:
        return None
    return Chunk(columns, rows, fixed_columns=False)


def _chunks(rows: Iterable[Mapping[Any, Any] | BadLine], earlier: int = 0, *, of_failures: bool = False) -> Rows:
    """
    Gather consecutive mappings of the same members into chunks.

    :param earlier: how many rows came before these.
    :param of_failures: they are lines of a ``failures.jsonl``, and a member ``_failure`` says what each one is.
    """
    shape: tuple[Any, ...] = ()
    gathered: list[tuple[Any, ...]] = []
    failures: list[Mapping[str, Any]] = []
    for number, row in enumerate(rows, start=earlier + 1):
        if of_failures and isinstance(row, Mapping) and _has_only_an_id(row):
            row = BadLine(number, "only the id of this record is known: what was sent is not in this file", row)
        if isinstance(row, Mapping) and (unnamed := [name for name in row if not isinstance(name, str)]):
            row = BadLine(number, f"it has a column whose name is {unnamed[0]!r:.60}, not text")
        if isinstance(row, BadLine):
            if gathered:
                yield _chunk(shape, gathered, failures)
                gathered, failures = [], []
            yield row
            continue
        failure = row.get(FAILURE_MEMBER) if of_failures else None
        told = failure if isinstance(failure, Mapping) else {}
        members = {str.__str__(name): value for name, value in row.items()}
        if of_failures:
            members.pop(FAILURE_MEMBER, None)
        this = tuple(members), told.get("form") == "record", bool(told)
        if gathered and (this != shape or len(gathered) == ROWS_PER_CHUNK):
            yield _chunk(shape, gathered, failures)
            gathered, failures = [], []
        shape = this
        lost = told.get(LOST_MEMBER)
        names_lost = lost if isinstance(lost, list) else ()
        gathered.append(tuple(LostValue(value) if name in names_lost else value for name, value in members.items()))
        failures.append(told)
    if gathered:
        yield _chunk(shape, gathered, failures)


def _chunk(shape: tuple[Any, ...], rows: Sequence[Sequence[Any]], failures: Sequence[Mapping[str, Any]]) -> Chunk:
    columns, are_records, have_failed = shape
    return Chunk(columns, rows, False, are_records, failures if have_failed else ())


def _has_only_an_id(row: Mapping[str, Any]) -> bool:
    failure = row.get(FAILURE_MEMBER)
    return isinstance(failure, Mapping) and failure.get("form") == "id"


def _from_jsonl(file: IO[bytes], name: str, *, of_failures: bool = False) -> Rows:
    decoder = msgspec.json.Decoder(float_hook=Decimal)
    number = blank = 0
    with unpacked(file, name) as text:
        for lines in some_lines(text, name, ROWS_PER_CHUNK, CHUNK_BYTES):
            if not number:
                lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
                if not of_failures:
                    _refuse_renamed_failures(lines[0])
            chunk = None if of_failures else _chunk_of_lines(lines, decoder)
            if chunk is not None:
                yield chunk
            else:
                blank += sum(not line.strip() for line in lines)
                yield from _chunks(list(_json_lines(lines, name, decoder, number)), number, of_failures=of_failures)
            number += len(lines)
    if blank:
        yield BlankRows(blank)


def _refuse_renamed_failures(first: bytes) -> None:
    """Refuse a ``failures.jsonl`` of another name: what was sent would be mapped again, and its marks be sent along."""
    try:
        row = msgspec.json.decode(first) if f'"{FAILURE_MEMBER}"'.encode() in first else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    told = row.get(FAILURE_MEMBER) if isinstance(row, dict) else None
    if isinstance(told, dict) and told.get("form") in ("record", "row", "id") and "outcome" in told:
        raise VoucherifyConfigurationError(
            f"the file begins with a failed record of an earlier run, as only {' and '.join(sorted(FAILURE_FILES))} "
            "have them: give the file that name, in a folder of its own"
        )


def _chunk_of_lines(lines: Sequence[bytes], decoder: msgspec.json.Decoder[Any]) -> Chunk | None:
    """Return a chunk of lines that are objects with the same members; None where they are not."""
    if not _are_objects(lines):
        return None
    try:
        rows = decoder.decode_lines(b"".join(lines))
    except _UNREADABLE_JSON:
        return None
    return _chunk_of_dicts(rows) if len(rows) == len(lines) else None


def _are_objects(lines: Sequence[bytes]) -> bool:
    """Say whether each line begins and ends with the braces of an object."""
    *others, last = lines
    try:
        begun, ended = bytes(map(itemgetter(0), lines)), bytes(map(itemgetter(-2), others))
        if ended.startswith(b"\r"):
            ended = bytes(map(itemgetter(-3), others))
    except IndexError:
        return False
    return begun == b"{" * len(lines) and ended == b"}" * len(others) and last.rstrip(b"\r\n").endswith(b"}")


def _json_lines(
    lines: Iterable[bytes], name: str, decoder: msgspec.json.Decoder[Any], earlier: int
) -> Iterator[Mapping[str, Any] | BadLine]:
    for number, line in enumerate(lines, start=earlier + 1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except _UNREADABLE_JSON as error:
            if _has_another_object(line):
                raise _several_rows(name, number) from None
            yield BadLine(number, f"line {number} is not valid JSON: {error}")
            continue
        if isinstance(row, list) and len(row) > 1 and isinstance(row[0], dict):
            raise _several_rows(name, number)
        yield row if isinstance(row, dict) else BadLine(number, f"line {number} is not a JSON object")


def _has_another_object(line: bytes) -> bool:
    """Say whether an object follows the first value of a line."""
    try:
        text = line.decode().strip()
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip(" \t\r,").startswith("{")


def _several_rows(name: str, number: int) -> VoucherifyConfigurationError:
    return VoucherifyConfigurationError(
        f"line {number:,} of {name} has several JSON objects, and would be counted as one row: each needs its own line"
    )


def _from_csv(file: IO[bytes], name: str, options: Mapping[str, Any]) -> Rows:
    with unpacked(file, name) as text, closing(decoded(text, name)) as lines:
        rows = CsvRows(lines, name, options)
        yield from _csv_chunks(rows, rows.header())


def _csv_chunks(rows: CsvRows, columns: tuple[str, ...]) -> Rows:
    gathered: list[tuple[str | None, ...]] = []
    blank = 0
    is_empty = True
    hint = _other_delimiter(columns)
    end_of_chunk = rows.characters + CHUNK_BYTES
    for values in rows:
        bad: BadLine | None = None
        if isinstance(values, BadRow):
            bad = BadLine(values.line, values.why)
        elif values:
            gathered.append(tuple(values) if "" not in values else tuple([value or None for value in values]))
        else:
            blank += 1
        if bad is not None or len(gathered) == ROWS_PER_CHUNK or rows.characters > end_of_chunk:
            if gathered:
                yield Chunk(columns, gathered, hint=hint)
                gathered, is_empty = [], False
            if bad is not None:
                yield bad
            end_of_chunk = rows.characters + CHUNK_BYTES
    if gathered or (columns and is_empty):
        yield Chunk(columns, gathered, hint=hint)
    if blank:
        yield BlankRows(blank)


def _other_delimiter(columns: Sequence[str]) -> str:
    """Say how to read a file whose only column's name has what looks like a delimiter in it; else nothing."""
    used = [one for one in (";", "\t", "|", ",") if len(columns) == 1 and one in columns[0]]
    return f'if the file has another delimiter: csv_dialect={{"delimiter": {json.dumps(used[0])}}}' if used else ""


def _from_parquet(file: IO[bytes], name: str) -> Rows:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise VoucherifyConfigurationError(
            "reading .parquet needs pyarrow: pip install 'airflow-provider-voucherify[parquet]'"
        ) from None
    try:
        source = parquet.ParquetFile(file, pre_buffer=False, buffer_size=PARQUET_BYTES_PER_READ)
        for batch in source.iter_batches(batch_size=_rows_per_batch(source.metadata), use_threads=False):
            columns = [_arrow_values(column) for column in batch.columns]
            yield Chunk(tuple(batch.schema.names), list(zip(*columns, strict=True)))
        if not source.metadata.num_rows:
            yield Chunk(tuple(source.schema_arrow.names), ())
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; pyarrow's own have none
            raise
        raise VoucherifyConfigurationError(f"{name} cannot be read: {error}") from None


def _rows_per_batch(metadata: Any) -> int:
    """Return how many rows to read at a time: fewer where a row group says that its rows are large."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    widest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows), default=0)
    return max(1, min(ROWS_PER_CHUNK, int(CHUNK_BYTES / max(widest, 1))))


def _arrow_values(column: Any) -> list[Any]:
    """Return a column's values; those that Python cannot hold, such as a date of the year 20000, refuse their row."""
    has_maps = _has_maps(column.type)
    try:
        values = column.to_pylist()
        return [_with_objects(value, column.type) for value in values] if has_maps else values
    except (OverflowError, ValueError):
        return [_arrow_value(scalar) for scalar in column]


def _arrow_value(scalar: Any) -> Any:
    try:
        return _with_objects(scalar.as_py(), scalar.type)
    except (OverflowError, ValueError) as error:
        try:
            shown: Any = scalar.cast("string").as_py()
        except Exception:
            shown = str(scalar.type)
        return LostValue(shown, f"cannot be held by Python: {error}")


def _has_maps(kind: Any) -> bool:
    from pyarrow import types  # type: ignore[import-untyped,unused-ignore]

    if types.is_map(kind):
        return True
    return types.is_nested(kind) and any(_has_maps(kind.field(place).type) for place in range(kind.num_fields))


def _with_objects(value: Any, kind: Any) -> Any:
    """
    Turn the maps in a value, which pyarrow gives as lists of pairs, into dicts.

    :raises ValueError: a map has a key twice.
    """
    from pyarrow import types  # type: ignore[import-untyped,unused-ignore]

    if value is None or not types.is_nested(kind):
        return value
    if types.is_map(kind):
        pairs = [(_with_objects(key, kind.key_type), _with_objects(item, kind.item_type)) for key, item in value]
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a map has a key twice")
        return found
    if types.is_struct(kind):
        return {name: _with_objects(item, kind.field(name).type) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_objects(item, kind.value_type) for item in value]
    return value
