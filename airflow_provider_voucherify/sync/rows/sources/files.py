"""Files of rows: the reader for a name, and several files one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import IO, Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.chunks import BadLine, Chunk, Rows
from airflow_provider_voucherify.sync.rows.csv_rows import csv_options
from airflow_provider_voucherify.sync.rows.failure_lines import FAILURE_FILES
from airflow_provider_voucherify.sync.rows.sources.csv_files import from_csv
from airflow_provider_voucherify.sync.rows.sources.json_lines import from_failure_lines, from_json_lines
from airflow_provider_voucherify.sync.rows.sources.parquet_files import from_parquet
from airflow_provider_voucherify.sync.rows.text_files import ending_of

_READERS: dict[str, Callable[..., Rows]] = {
    ".jsonl": from_json_lines,
    ".ndjson": from_json_lines,
    ".csv": from_csv,
    ".parquet": from_parquet,
}


def from_file(file: IO[bytes], name: str, csv_dialect: Mapping[str, Any] | str | None = None) -> Rows:
    """
    Read an open file, according to the ending of its name.

    ``.jsonl`` (or ``.ndjson``): one JSON object per line. ``.csv``: UTF-8, with a header row; every value is text, and
    an empty one is missing. Both may be gzipped (``.jsonl.gz``, ``.csv.gz``). ``.parquet`` needs the extra ``parquet``.

    :param file: a binary file; it is not closed.
    :param name: the file's name or URI.
    :param csv_dialect: of a CSV file, see ``csv_rows.csv_options``.
    :raises VoucherifyConfigurationError: the file cannot be read (also raised while reading).
    """
    reader = _reader(name)
    if PurePosixPath(name.partition("?")[0]).name in FAILURE_FILES:
        return from_failure_lines(file, name)
    if reader is from_csv:
        return from_csv(file, name, csv_options(csv_dialect))
    if csv_dialect is not None:
        raise VoucherifyConfigurationError(f"csv_dialect is for CSV files, not for {name}")
    return reader(file, name)


def from_files(
    names: Sequence[str], opened: Callable[[str], IO[bytes]], csv_dialect: Mapping[str, Any] | str | None = None
) -> Rows:
    """
    Read files one after the other; if there are several, errors about a row name its file too.

    :param names: names or URIs, all of one kind.
    :param opened: opens a file.
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
    reader = _READERS.get(ending)
    if reader is None or (is_packed and reader is from_parquet):
        message = f"path {name!r} must end in .jsonl, .csv or .parquet (or .jsonl.gz or .csv.gz)"
        if "?" in name:
            message += "; anything after a ? counts as a URL's query, so only patterns with * are possible"
        raise VoucherifyConfigurationError(message)
    return reader
