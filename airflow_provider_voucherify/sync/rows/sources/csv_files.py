"""Rows of CSV files with a header: every value is text, and an empty one is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import IO, Any

from airflow_provider_voucherify.sync.rows.chunks import CHUNK_BYTES, ROWS_PER_CHUNK, BadLine, BlankRows, Chunk, Rows
from airflow_provider_voucherify.sync.rows.csv_rows import BadRow, CsvRows
from airflow_provider_voucherify.sync.rows.text_files import decoded, unpacked


def from_csv(file: IO[bytes], name: str, options: Mapping[str, Any]) -> Rows:
    """
    Read a file.

    :param options: see ``csv_rows.csv_options``.
    :raises VoucherifyConfigurationError: while reading, if rows cannot be separated; see ``csv_rows``.
    """
    with unpacked(file, name) as text, closing(decoded(text, name)) as lines:
        rows = CsvRows(lines, name, options)
        yield from _chunks(rows, rows.header())


def _chunks(rows: CsvRows, columns: tuple[str, ...]) -> Rows:
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
    """Return a hint for a file whose only column name seems to contain a delimiter; otherwise None."""
    used = [one for one in (";", "\t", "|", ",") if len(columns) == 1 and one in columns[0]]
    return f'if the file has another delimiter: csv_dialect={{"delimiter": {json.dumps(used[0])}}}' if used else ""
