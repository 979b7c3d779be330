"""What every source of rows yields: chunks of rows with their column names, and what cannot be read as a row."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, NamedTuple

ROWS_PER_CHUNK = 1_000

CHUNK_BYTES = 4 * 1024 * 1024
"""Approximate size at which a chunk of large rows ends: encoding takes several times its size in memory."""

ROWS_AT_FIRST = 50
"""Rows to read from a source while the size of its rows is unknown."""

_SAMPLE = 20
"""Rows that are weighed of a chunk."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    Some rows of the same columns.

    :param columns: column names, in order.
    :param rows: one sequence of values per row, in the columns' order.
    :param fixed_columns: whether all rows of the source have these columns (those of a query do, JSON lines need not).
    :param are_records: the rows are records in the API's own form (lines of a ``failures.jsonl``): no mapping applies.
    :param failures: of the lines of a ``failures.jsonl``, what each says about the failure; empty for other sources.
    :param file: the file that the rows are from, if the source has several.
    :param hint: what may be wrong if a column is missing.
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
    :param row: the part of it that can be shown.
    """

    line: int
    why: str
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BlankRows:
    """Rows of a file without any value, and empty lines: they are skipped, and counted nowhere else."""

    number: int


Rows = Generator[Chunk | BadLine | BlankRows, None, None]
"""
What a source yields. A source that knows its columns but has no rows yields a chunk without rows, so that the columns
are checked all the same: a file whose only row is taken for its header is not an empty source.
"""


def first_rows(rows: Rows, number: int) -> Rows:
    """Yield only the first rows of a source."""
    remaining = number
    for chunk in rows:
        if remaining <= 0:
            return
        if isinstance(chunk, Chunk):
            chunk = replace(chunk, rows=chunk.rows[:remaining], failures=chunk.failures[:remaining])
            remaining -= len(chunk.rows)
        elif isinstance(chunk, BadLine):
            remaining -= 1
        yield chunk


class SingleRow(NamedTuple):
    """
    A row with its own columns; the members are those of ``Chunk``.

    :param failure: None for a row that is not from a ``failures.jsonl``.
    """

    columns: tuple[str, ...]
    values: tuple[Any, ...]
    are_records: bool = False
    failure: Mapping[str, Any] | None = None


def single_row(row: Mapping[Any, Any], number: int) -> SingleRow | BadLine:
    """
    Return a mapping as a row.

    :param number: of the row, from 1.
    """
    if unnamed := [name for name in row if not isinstance(name, str)]:
        return BadLine(number, f"it has a column whose name is {unnamed[0]!r:.60}, not text")
    members = {str.__str__(name): value for name, value in row.items()}
    return SingleRow(tuple(members), tuple(members.values()))


def gathered(rows: Iterable[SingleRow | BadLine]) -> Rows:
    """Yield chunks of consecutive rows of the same shape."""
    for shape, some in groupby(rows, _shape):
        if shape is None:
            yield from (row for row in some if isinstance(row, BadLine))
            continue
        columns, are_records, has_failures = shape
        alike = (row for row in some if isinstance(row, SingleRow))
        while part := list(islice(alike, ROWS_PER_CHUNK)):
            failures = [row.failure for row in part if row.failure is not None] if has_failures else ()
            yield Chunk(columns, [row.values for row in part], False, are_records, failures)


def _shape(row: SingleRow | BadLine) -> tuple[tuple[str, ...], bool, bool] | None:
    return None if isinstance(row, BadLine) else (row.columns, row.are_records, row.failure is not None)


def chunk_of_dicts(records: Sequence[Any]) -> Chunk | None:
    """Return a chunk of records that are dicts with the same members; None if they are not."""
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


def rows_that_fit(rows: Sequence[Any]) -> int:
    """Return how many rows like these make a chunk."""
    step = max(1, len(rows) // _SAMPLE)
    size = sum(map(weight, rows[::step])) * step
    return max(1, min(ROWS_PER_CHUNK, CHUNK_BYTES * len(rows) // max(1, size)))


def weight(value: Any, depth: int = 0) -> int:
    """Return approximately how many bytes a value takes."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if depth < 8 and isinstance(value, Mapping):
        value = [*value, *value.values()]
    if depth < 8 and isinstance(value, list | tuple):
        return sum(weight(item, depth + 1) for item in value)
    return 8
