"""Where rows come from: lists, cursors and files, all as a stream of small chunks of rows with their column names."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from pathlib import PurePosixPath
from typing import IO, Any

import msgspec

from airflow_provider_voucherify.models.endpoints import MAX_BODY_BYTES
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.values import LostValue

ROWS_PER_CHUNK = 1_000

MAX_FIELD_CHARACTERS = 2 * MAX_BODY_BYTES
"""Python's CSV reader gives up a longer value with its whole line; the standard limit is 131,072."""

PARQUET_BYTES_PER_READ = 65_536
"""Read ahead of each column: pyarrow would otherwise hold a row group's columns whole, or all of the file's."""

FAILURE_MEMBER = "_failure"
"""Member of a line of ``failures.jsonl`` that says why the record was not updated; never sent."""

_UNREADABLE_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError)
"""What a decoder raises that makes a ``Decimal`` of each number with a fraction or an exponent."""

LOST_MEMBER = "as_text"
"""Member of ``_failure`` that names the columns whose values the file can only show as text."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """
    Some rows of the same columns.

    :param columns: column names, in order.
    :param rows: one sequence of values per row, in the columns' order.
    :param fixed_columns: whether all rows of the source have these columns (a query's do, JSON lines' need not).
    :param are_records: the rows are records in the API's own form (lines of a ``failures.jsonl``): no mapping applies.
    :param failures: of lines of a ``failures.jsonl``, what each says of its record's failure; empty for other sources.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]
    fixed_columns: bool = True
    are_records: bool = False
    failures: Sequence[Mapping[str, Any]] = ()


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


Rows = Generator[Chunk | BadLine, None, None]


def from_cursor(columns: Sequence[str], fetchmany: Callable[[int], Sequence[Sequence[Any]]]) -> Rows:
    """
    Read a database cursor to its end, ``ROWS_PER_CHUNK`` rows at a time.

    :param columns: the cursor's column names.
    :param fetchmany: the cursor's ``fetchmany``. Whether the driver streams is the cursor's matter.
    """
    names = tuple(columns)
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise VoucherifyConfigurationError(f"the query returns more than one column named {', '.join(twice)}")
    while rows := fetchmany(ROWS_PER_CHUNK):
        if isinstance(rows[0], Mapping):
            rows = [tuple(dict(row).values()) for row in rows]
        elif not (isinstance(rows, list) and isinstance(rows[0], tuple)):
            rows = [tuple(row) for row in rows]
        yield Chunk(names, rows)


def from_records(records: Iterable[Any], key: str) -> Rows:
    """
    Read records that are in memory, or a generator of them.

    :param records: dicts, or bare ids (strings or integers), which become ``{key: id}``; lists of these are joined, and
        read one after the other.
    :param key: the resource's key field.
    """
    if isinstance(records, str | bytes | Mapping) or not isinstance(records, Iterable):
        raise VoucherifyConfigurationError(
            f"records must be a list of dicts or of ids, not {type(records).__name__}; with .expand(records=...) each "
            "element is to be such a list"
        )
    return _from_records(_joined(records), key)


def from_file(file: IO[bytes], name: str) -> Rows:
    """
    Read an open file; its name's ending says how.

    ``.jsonl`` (or ``.ndjson``): one JSON object per line. ``.csv``: UTF-8, comma-separated, with a header row; every
    value is text and an empty one is missing. ``.parquet``: needs the extra ``parquet``.

    :param file: a binary file; it is not closed.
    :param name: the file's name or URI.
    """
    ending = PurePosixPath(name.partition("?")[0]).suffix.lower()
    reader = {".jsonl": _from_jsonl, ".ndjson": _from_jsonl, ".csv": _from_csv, ".parquet": _from_parquet}.get(ending)
    if reader is None:
        raise VoucherifyConfigurationError(f"path {name!r} must end in .jsonl, .csv or .parquet")
    return reader(file)


def first_rows(rows: Rows, most: int) -> Rows:
    """Give the first rows of a source only."""
    left = most
    for chunk in rows:
        if left <= 0:
            return
        if isinstance(chunk, Chunk):
            chunk = replace(chunk, rows=chunk.rows[:left], failures=chunk.failures[:left])
        left -= len(chunk.rows) if isinstance(chunk, Chunk) else 1
        yield chunk


def _joined(records: Iterable[Any]) -> Iterator[Any]:
    has_ids = has_lists = False
    for record in records:
        if type(record) is dict:
            yield record
            continue
        is_list = isinstance(record, list | tuple)
        has_lists, has_ids = has_lists or is_list, has_ids or not is_list
        if has_ids and has_lists:
            raise VoucherifyConfigurationError(
                "records has lists beside ids; with .expand(records=...) each element is to be a list, and of a dict "
                "Airflow makes a task for each member"
            )
        if is_list:
            yield from record
        else:
            yield record


def _from_records(records: Iterator[Any], key: str) -> Rows:
    number = 0
    while some := list(islice(records, ROWS_PER_CHUNK)):
        chunk = _chunk_of_dicts(some) or _chunk_of_ids(some, key)
        if chunk is not None:
            yield chunk
        else:
            yield from _chunks(
                [_as_mapping(record, index, key) for index, record in enumerate(some, number + 1)], number
            )
        number += len(some)


def _chunk_of_dicts(records: Sequence[Any]) -> Chunk | None:
    """Return a chunk of records that are dicts with the same members; None where they are not."""
    first = records[0]
    if type(first) is not dict or not first or FAILURE_MEMBER in first or set(map(type, records)) != {dict}:
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


def _chunk_of_ids(records: Sequence[Any], key: str) -> Chunk | None:
    if set(map(type, records)) <= {str, int}:
        return Chunk((key,), [(record,) for record in records], fixed_columns=False)
    return None


def _as_mapping(record: Any, index: int, key: str) -> Mapping[str, Any] | BadLine:
    if isinstance(record, Mapping):
        return record
    if isinstance(record, str) or (isinstance(record, int) and not isinstance(record, bool)):
        return {key: record}
    return BadLine(index, f"a record must be a dict or an id, not {type(record).__name__}")


def _chunks(rows: Iterable[Mapping[str, Any] | BadLine], earlier: int = 0) -> Rows:
    """Gather consecutive mappings of the same members into chunks; ``earlier`` rows came before these."""
    shape: tuple[Any, ...] = ()
    gathered: list[tuple[Any, ...]] = []
    failures: list[Mapping[str, Any]] = []
    for number, row in enumerate(rows, start=earlier + 1):
        if isinstance(row, Mapping) and _has_only_an_id(row):
            row = BadLine(number, "only the id of this record is known: what was sent is not in this file", row)
        if isinstance(row, BadLine):
            if gathered:
                yield _chunk(shape, gathered, failures)
                gathered, failures = [], []
            yield row
            continue
        failure = row.get(FAILURE_MEMBER)
        told = failure if isinstance(failure, Mapping) else {}
        names = tuple(str(name) for name in row if name != FAILURE_MEMBER)
        this = names, told.get("form") == "record", bool(told)
        if gathered and (this != shape or len(gathered) == ROWS_PER_CHUNK):
            yield _chunk(shape, gathered, failures)
            gathered, failures = [], []
        shape = this
        lost = told.get(LOST_MEMBER)
        names_lost = lost if isinstance(lost, list) else ()
        gathered.append(
            tuple(
                LostValue(value) if name in names_lost else value
                for name, value in row.items()
                if name != FAILURE_MEMBER
            )
        )
        failures.append(told)
    if gathered:
        yield _chunk(shape, gathered, failures)


def _chunk(shape: tuple[Any, ...], rows: Sequence[Sequence[Any]], failures: Sequence[Mapping[str, Any]]) -> Chunk:
    columns, are_records, have_failed = shape
    return Chunk(columns, rows, False, are_records, failures if have_failed else ())


def _has_only_an_id(row: Mapping[str, Any]) -> bool:
    failure = row.get(FAILURE_MEMBER)
    return isinstance(failure, Mapping) and failure.get("form") == "id"


def _from_jsonl(file: IO[bytes]) -> Rows:
    decoder = msgspec.json.Decoder(float_hook=Decimal)
    number = 0
    while lines := list(islice(file, ROWS_PER_CHUNK)):
        if not number:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        chunk = _chunk_of_lines(lines, decoder)
        if chunk is not None:
            yield chunk
        else:
            yield from _chunks(list(_json_lines(lines, decoder, number)), number)
        number += len(lines)


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
    lines: Iterable[bytes], decoder: msgspec.json.Decoder[Any], earlier: int
) -> Iterator[Mapping[str, Any] | BadLine]:
    for number, line in enumerate(lines, start=earlier + 1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except _UNREADABLE_JSON as error:
            yield BadLine(number, f"line {number} is no JSON: {error}")
            continue
        yield row if isinstance(row, dict) else BadLine(number, f"line {number} is no JSON object")


def _from_csv(file: IO[bytes]) -> Rows:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
        lines = csv.reader(text, strict=True)
        try:
            columns = tuple(next(lines, ()))
        except csv.Error as error:
            raise VoucherifyConfigurationError(f"the CSV file's header is no CSV: {error}") from None
        if len(set(columns)) != len(columns):
            raise VoucherifyConfigurationError("the CSV file has two columns of the same name")
        yield from _csv_chunks(lines, columns)
    except UnicodeDecodeError as error:
        raise VoucherifyConfigurationError(f"the CSV file is not UTF-8: {error}") from None
    finally:
        text.detach()


def _csv_chunks(lines: Any, columns: tuple[str, ...]) -> Rows:
    gathered: list[tuple[str | None, ...]] = []
    ended = False
    while not ended:
        bad: BadLine | None = None
        ended = True
        try:
            for values in lines:
                if len(values) == len(columns):
                    gathered.append(tuple(values) if "" not in values else tuple([value or None for value in values]))
                elif values:
                    found = f"line {lines.line_num} has {len(values)} values for {len(columns)} columns"
                    bad = BadLine(lines.line_num, found)
                if bad is not None or len(gathered) == ROWS_PER_CHUNK:
                    ended = False
                    break
        except csv.Error as error:
            ended, bad = False, BadLine(lines.line_num, f"line {lines.line_num} is no CSV: {error}")
        if gathered:
            yield Chunk(columns, gathered)
            gathered = []
        if bad is not None:
            yield bad


def _from_parquet(file: IO[bytes]) -> Rows:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise VoucherifyConfigurationError(
            "reading .parquet needs pyarrow: pip install 'airflow-provider-voucherify[parquet]'"
        ) from None
    try:
        source = parquet.ParquetFile(file, pre_buffer=False, buffer_size=PARQUET_BYTES_PER_READ)
        for batch in source.iter_batches(batch_size=ROWS_PER_CHUNK, use_threads=False):
            columns = [column.to_pylist() for column in batch.columns]
            yield Chunk(tuple(batch.schema.names), list(zip(*columns, strict=True)))
    except ArrowException as error:
        raise VoucherifyConfigurationError(f"the .parquet file cannot be read: {error}") from None
