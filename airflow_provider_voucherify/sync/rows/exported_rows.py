"""
The rows of an export: what its columns are called, and the values of each row.

What the vendor has not published decides here: whether a header has names of fields or titles (``voucher_type``,
``Voucher Type``), and whether that of a metadata property has a prefix. Both are recognised.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import IO

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyExportError
from airflow_provider_voucherify.models.exported_objects import METADATA_PREFIX, letters_of
from airflow_provider_voucherify.sync.rows.csv_rows import MAX_FIELD_CHARACTERS
from airflow_provider_voucherify.sync.rows.text_files import decoded
from airflow_provider_voucherify.sync.types.text import counted

ROWS_PER_CHECK = 1_000
"""How many rows are read between two looks at whether the task has been killed."""


class ExportedRows:
    """
    An iterator over the rows of an export's file, each a list with a text for each column, empty for a missing value.

    :param file: CSV with a header, or nothing at all, read once.
    :param fields: that the export was asked for.
    :param check: called after every thousand rows; what it raises ends the reading.
    :ivar header: the first line as it is; None if there is not even that.
    :ivar columns: what the columns are called.
    :ivar count: number of rows so far.
    :raises VoucherifyExportError: the file cannot be read (also while it is read).
    """

    def __init__(self, file: IO[bytes], fields: Sequence[str], check: Callable[[], None] = lambda: None) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
        self._reader = csv.reader(decoded(file, "the export"), strict=True)
        self._check = check
        self.count = 0
        with self._readable():
            self.header = next(self._reader, None)
        self.columns = column_names(self.header, fields) if self.header else tuple(fields)

    def __iter__(self) -> Iterator[list[str]]:
        return chain.from_iterable(self.chunks())

    def chunks(self) -> Iterator[list[list[str]]]:
        """Give the rows, a thousand at a time."""
        width = len(self.columns)
        with self._readable():
            while rows := list(islice(self._reader, ROWS_PER_CHECK)):
                if set(map(len, rows)) != {width}:
                    # A blank line is a row only where it can be one: of one column, with an empty value.
                    rows = [row or [""] for row in rows if row or width == 1]
                    self._check_widths(rows, width)
                self.count += len(rows)
                self._check()
                yield rows

    def _check_widths(self, rows: Iterable[list[str]], width: int) -> None:
        for number, row in enumerate(rows, self.count + 1):
            if len(row) != width:
                values = f"{counted(len(row), 'value')} for {counted(width, 'column')}"
                raise VoucherifyExportError(f"row {number:,} of the export has {values}")

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except csv.Error as error:
            line = f"the row that ends in line {self._reader.line_num:,} of the export"
            raise VoucherifyExportError(f"{line} is not valid CSV: {error}") from None
        except VoucherifyConfigurationError as error:
            raise VoucherifyExportError(str(error)) from None


def column_names(header: Sequence[str], fields: Sequence[str]) -> tuple[str, ...]:
    """
    Return what the columns of an export are called: as the fields are, whatever titles the file has.

    A column that is none of the fields, such as a property of ``metadata``, keeps its title. Of two columns with the
    same name the second gets a number: ``name_2``.

    :param header: of the file.
    :param fields: that were asked for; in their order, unless ``metadata`` is among them.
    """
    if len(header) == len(fields) and all(map(_is_title_of, header, fields)):
        return tuple(fields)
    left = {letters_of(field): field for field in fields}
    return without_doubles(left.pop(letters_of(title), title) for title in header)


def without_doubles(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of which each is there once: a number is added to the others."""
    found: dict[str, None] = {}
    for name in names:
        number, other = 1, name
        while other in found:
            number += 1
            other = f"{name}_{number}"
        found[other] = None
    return tuple(found)


def _is_title_of(title: str, field: str) -> bool:
    return letters_of(title) in (letters_of(field), letters_of(field.removeprefix(METADATA_PREFIX)))
