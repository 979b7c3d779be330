"""
A CSV file on its way to an import: checked as a whole, and split into batches that fit into a request.

What a column means and whether a row is valid is up to Voucherify, which answers row by row. Checked here is whatever
would make it misread the file: a file that is not CSV in UTF-8, rows with too few or too many values, no header row (a
first line without any column that is a field), two columns with the same name, names with white space (vendor's
importCSV pages), a missing column that the vendor requires. Such a file is refused as a whole before anything is sent.

Rows are numbered as Voucherify numbers them: from 1, not counting the header; a row with line breaks in it is one row.
Rows without any value, empty lines and a byte order mark are left out and not numbered; everything else is sent byte by
byte as it is.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import IO, Self

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.csv_imports import csv_import
from airflow_provider_voucherify.models.endpoints import CsvImportEndpoint
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.batches.bodies import digest_of
from airflow_provider_voucherify.sync.rows.csv_rows import BadRow, CsvRows, csv_options
from airflow_provider_voucherify.sync.rows.text_files import not_utf8, some_lines, unpacked
from airflow_provider_voucherify.sync.types.counts import Counts

_BYTES_PER_READ = 262_144
_BYTES_IN_MEMORY = 1_048_576
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPED_QUOTES = (
    'it has \\" in it, and the file is sent as it is: a quote in a value has to be doubled (""); '
    "VoucherifyBulkUpdateOperator reads such a file with csv_dialect="
)


@dataclass(slots=True)
class CsvBatch:
    """
    Rows that are sent in one request, after the header.

    :param first_row: number of the first of them in the file, from 1.
    :param start: where their bytes start in the copy on local disk; ``end`` is where they end.
    :param records: how many rows.
    :param has_ids: whether every row has a ``source_id``, so that sending it twice does not make two records. A column
        ``id`` does not count: what an ``id`` creates that Voucherify does not know has another one.
    """

    file: CsvFile = field(repr=False, compare=False)
    first_row: int
    start: int
    end: int
    records: int = 0
    has_ids: bool = True

    def add(self, raw: bytes, values: Sequence[str]) -> None:
        """Add the row that follows in the copy."""
        self.records += 1
        self.end += len(raw)
        self.has_ids = self.has_ids and self.file.has_id(values)

    @property
    def number(self) -> int:
        """Identifies the batch in the file; batches are sent in this order."""
        return self.first_row

    @property
    def name(self) -> str:
        """The name in logs."""
        return f"rows from {self.first_row:,} on"

    @property
    def length(self) -> int:
        """Size in bytes, including the header."""
        return self.file.header_bytes + self.end - self.start

    @property
    def action_type(self) -> str:
        """The ``type`` of the async action that it becomes."""
        return self.file.endpoint.action_type

    @property
    def creates_each_time(self) -> bool:
        """Whether sending it twice may make two records of a row."""
        return not self.has_ids

    def content(self) -> Iterator[bytes]:
        """Yield the bytes, starting with the header; can be called again."""
        return self.file.content(self.start, self.end)

    def digest(self) -> str:
        """Return a digest of its content and destination."""
        return digest_of(self.file.endpoint.path, self.content())

    def call(self) -> Call[str]:
        """Return the call that sends it."""
        return csv_import(self.file.endpoint, self.length, self.content)


class CsvFile:
    """
    A CSV file, copied to local disk. A context manager; closing it frees the disk.

    :param endpoint: where it goes.
    :param max_bytes: bytes of a batch, the header included.
    """

    def __init__(self, endpoint: CsvImportEndpoint, max_bytes: int) -> None:
        self.endpoint = endpoint
        self.rows = 0
        self.blank_rows = 0
        self.batches: list[CsvBatch] = []
        self.warnings: Sequence[str] = ()
        self._max_bytes = max_bytes
        self._columns: tuple[str, ...] = ()
        self._ids: list[int] = []
        self._header = b""
        self._copy: IO[bytes] = tempfile.TemporaryFile(prefix="voucherify-")  # noqa: SIM115

    def read(self, file: IO[bytes], name: str = "the CSV file") -> None:
        """
        Read a file to its end. Closes itself if that fails.

        :param name: of the file, for errors; if it ends in ``.gz``, the file is unpacked.
        :raises VoucherifyConfigurationError: it cannot be imported as it is.
        """
        try:
            with unpacked(file, name) as text:
                self._read(text, name)
        except BaseException:
            self.close()
            raise

    @property
    def counts(self) -> Counts:
        """How many rows there are."""
        return Counts(self.rows, self.blank_rows)

    @property
    def has_ids(self) -> bool:
        """Whether every row names its record."""
        return all(batch.has_ids for batch in self.batches)

    @property
    def header_bytes(self) -> int:
        """Bytes of the header row."""
        return len(self._header)

    def has_id(self, values: Sequence[str]) -> bool:
        """Say whether a row names its record."""
        return any(values[place].strip() for place in self._ids)

    def content(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the header, and the bytes of the copy between two offsets."""
        yield self._header
        while start < end:
            self._copy.seek(start)
            piece = self._copy.read(min(_BYTES_PER_READ, end - start))
            start += len(piece)
            yield piece

    def split(self, batch: CsvBatch) -> tuple[CsvBatch, CsvBatch]:
        """
        Put two halves of a batch in its place.

        :param batch: has at least two rows; if their number is odd the second half has one more.
        """
        rows = _rows(chain.from_iterable(self._lines(batch)))
        first = CsvBatch(self, batch.first_row, batch.start, batch.start)
        for raw, values in islice(rows, batch.records // 2):
            first.add(raw, values)
        second = CsvBatch(self, first.first_row + first.records, first.end, first.end)
        for raw, values in rows:
            second.add(raw, values)
        place = self.batches.index(batch)
        self.batches[place : place + 1] = first, second
        return first, second

    def split_into(self, rows: Sequence[int]) -> bool:
        """
        Split the batches into halves, and these into halves, until they have these numbers of rows.

        :returns: whether that can be done.
        """
        for place, count in enumerate(rows):
            while place < len(self.batches) and self.batches[place].records > max(1, count):
                self.split(self.batches[place])
            if place == len(self.batches) or self.batches[place].records != count:
                return False
        return len(rows) == len(self.batches)

    def values(self, batch: CsvBatch, numbers: Collection[int]) -> Iterator[tuple[int, dict[str, str]]]:
        """Return rows of a batch by their numbers in the file, each as column to value."""
        lines = (line.decode() for piece in self._lines(batch) for line in piece)
        for number, values in enumerate(csv.reader(lines), start=batch.first_row):
            if number in numbers:
                yield number, dict(zip(self._columns, values, strict=True))

    def close(self) -> None:
        """Free the disk space."""
        self._copy.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, file: IO[bytes], name: str) -> None:
        lines = chain.from_iterable(some_lines(file, name, 1_000, _BYTES_IN_MEMORY))
        rows = _rows(_without_mark(lines), name, has_header=True)
        self._header, columns = next(((raw, values) for raw, values in rows if values), (b"", []))
        self._columns = tuple(columns)
        self._check_columns(name)
        self._ids = [place for place, column in enumerate(columns) if column.lower() == "source_id"]
        for raw, values in rows:
            if not values:
                self.blank_rows += 1
                continue
            self.rows += 1
            if len(self._header) + len(raw) > self._max_bytes:
                raise VoucherifyConfigurationError(
                    f"row {self.rows} of {name} takes {len(raw):,} bytes, and a request takes "
                    f"{self._max_bytes - len(self._header):,}"
                )
            if not self.batches or self.batches[-1].length + len(raw) > self._max_bytes:
                self.batches.append(CsvBatch(self, self.rows, self._copy.tell(), self._copy.tell()))
            self._copy.write(raw)
            self.batches[-1].add(raw, values)

    def _lines(self, batch: CsvBatch) -> Iterator[Sequence[bytes]]:
        """Yield the lines of a batch's rows, whole ones only, without the header."""
        rest = b""
        pieces = batch.content()
        next(pieces)
        for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            yield [line + b"\n" for line in lines]
        yield [rest] if rest else []

    def _check_columns(self, file: str) -> None:
        names = [name.lower() for name in self._columns]
        if not names:
            raise VoucherifyConfigurationError(f"{file} has no header row")
        if len(names) == 1 and any(separator in names[0] for separator in ";\t|"):
            raise VoucherifyConfigurationError(f"{file} is not separated by commas: {self._columns[0]!r:.100}")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise VoucherifyConfigurationError(f"{file} has more than one column {', '.join(map(repr, repeated))}")
        if wrong := [name for name in self._columns if not name or any(character.isspace() for character in name)]:
            raise VoucherifyConfigurationError(
                f"Voucherify takes no column names that are empty or have white space, and {file} has "
                + ", ".join(map(repr, wrong))
            )
        if missing := [name for name in self.endpoint.required if name not in names]:
            raise VoucherifyConfigurationError(
                f"{file} has no column {', '.join(missing)}, which an import of {self.endpoint.resource} requires"
            )
        if not set(names) & set(self.endpoint.fields):
            raise VoucherifyConfigurationError(
                f"{file} does not begin with the names of its columns: {', '.join(map(repr, self._columns)):.200} "
                f"would all become metadata. Its first line must have some of {', '.join(self.endpoint.fields)}"
            )


def _without_mark(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of a file, without a byte order mark."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix(_BYTE_ORDER_MARK)


def _rows(of: Iterable[bytes], name: str = "", *, has_header: bool = False) -> Iterator[tuple[bytes, list[str]]]:
    """Yield each row of some lines: its bytes, ending with a line break, and its values, none if they are all empty."""
    raw = bytearray()

    def lines() -> Iterator[str]:
        for number, line in enumerate(of, start=1):
            raw.extend(line)
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                raise not_utf8(name, number, line[error.start : error.start + 1]) from None

    rows = CsvRows(lines(), name, csv_options(None), _ESCAPED_QUOTES)
    for values in rows:
        if isinstance(values, BadRow):
            raise VoucherifyConfigurationError(f"{name}: {values.why}")
        if values and has_header and rows.columns is None:
            rows.has_header(values)
        yield bytes(raw) if raw.endswith(b"\n") else bytes(raw) + b"\n", values
        raw.clear()
