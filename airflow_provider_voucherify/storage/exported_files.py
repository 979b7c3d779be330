"""Rows of an export as a file: CSV, JSON lines or Parquet, local or in object storage."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import islice
from typing import IO, Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.storage.files import check_writable, replacing
from airflow_provider_voucherify.sync.rows.exported_rows import ExportedRows
from airflow_provider_voucherify.sync.rows.text_files import ending_of

_ROWS_PER_WRITE = 1_000
_ROWS_PER_GROUP = 20_000
"""Of a Parquet file, which are held in memory."""

Row = Sequence[str]


class ExportedFile:
    """
    A file for the rows of an export; its name's ending says which kind.

    :param path: ends in ``.csv``, ``.jsonl``, ``.csv.gz``, ``.jsonl.gz`` or ``.parquet``.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def check(self) -> None:
        """
        See whether the file can be written.

        :raises VoucherifyConfigurationError: it cannot.
        """
        check_ending(self._path)
        check_writable(self._path, "path")

    @contextmanager
    def replaced_by(self, rows: ExportedRows) -> Iterator[None]:
        """Write rows; the file takes the place of the old one when the block is left, unless that is by an error."""
        ending, is_packed = ending_of(self._path)
        with replacing(self._path) as file:
            with ExitStack() as stack:
                out: Any = file
                if is_packed:
                    out = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))
                _WRITERS[ending](out, rows.columns, rows)
            yield


def check_ending(path: str) -> None:
    """
    See whether there is a format for a file's name.

    :raises VoucherifyConfigurationError: there is none, or a package is missing.
    """
    ending, is_packed = ending_of(path)
    if ending not in _WRITERS or (is_packed and ending == ".parquet"):
        raise VoucherifyConfigurationError(
            f"path must end in .csv, .jsonl (both perhaps with .gz) or .parquet, not {path!r:.200}"
        )
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise VoucherifyConfigurationError(
            "writing .parquet needs pyarrow: pip install 'airflow-provider-voucherify[parquet]'"
        )


def _write_csv(file: IO[bytes], columns: Row, rows: Iterable[Row]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for some in _some(rows, _ROWS_PER_WRITE):
        lines = io.StringIO(newline="")
        csv.writer(lines, lineterminator="\n").writerows(some)
        text.write(lines.getvalue())
    text.detach()


def _write_json_lines(file: IO[bytes], columns: Row, rows: Iterable[Row]) -> None:
    from msgspec.json import encode

    for some in _some(rows, _ROWS_PER_WRITE):
        lines = [encode(dict(zip(columns, [value or None for value in row], strict=True))) for row in some]
        file.write(b"\n".join([*lines, b""]))


def _write_parquet(file: IO[bytes], columns: Row, rows: Iterable[Row]) -> None:
    import pyarrow  # type: ignore[import-untyped,unused-ignore]
    from pyarrow import parquet  # type: ignore[import-untyped,unused-ignore]

    schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
    with parquet.ParquetWriter(file, schema) as writer:
        for some in _some(rows, _ROWS_PER_GROUP):
            values = [[value or None for value in column] for column in zip(*some, strict=True)]
            writer.write_table(pyarrow.table(values, schema=schema))


def _some(rows: Iterable[Row], number: int) -> Iterator[list[Row]]:
    rest = iter(rows)
    while some := list(islice(rest, number)):
        yield some


_WRITERS: dict[str, Callable[[IO[bytes], Row, Iterable[Row]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".parquet": _write_parquet,
}
