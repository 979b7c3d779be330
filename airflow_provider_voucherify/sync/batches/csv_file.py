"""
A CSV file on its way to an import: checked as a whole, and cut into parts that a request takes.

What a column means and whether a row is right is Voucherify's business, which answers row by row. Checked here is what
would make it misread the file: a file that is not CSV in UTF-8, rows with too few or too many values, no header row (a
first line without any column that is a field), two columns of one name, names with white space (vendor's importCSV
pages), a missing column that the vendor requires.
Such a file is refused as a whole, before anything is sent.

Rows are numbered as Voucherify numbers them: from 1, the header not counted, a row with line breaks in it is one row.
Rows without any value are left out and not numbered, and so are empty lines and a byte order mark; everything else is
sent byte by byte as it is.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from typing import IO, Self

from airflow_provider_voucherify.models.endpoints import CsvImportEndpoint
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.csv_rows import BadRow, CsvRows, csv_options
from airflow_provider_voucherify.sync.rows.text_files import not_utf8, some_lines, unpacked

_BYTES_PER_READ = 262_144
_BYTES_IN_MEMORY = 1_048_576
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ESCAPED_QUOTES = (
    'it has \\" in it, and Voucherify is sent the file as it is: a quote in a value has to be doubled (""); '
    "VoucherifyBulkUpdateOperator reads such a file with csv_dialect="
)


@dataclass(frozen=True, slots=True)
class CsvPart:
    """
    Rows that are sent in one request, with the header before them.

    :param first_row: number of the first of them in the file, from 1.
    :param rows: how many.
    :param start: where their bytes start in the copy on local disk.
    :param end: where they end.
    :param has_ids: whether every row has a ``source_id``, so that sending it twice does not make two records. A column
        ``id`` does not count: what an ``id`` creates that Voucherify does not know has another one.
    """

    first_row: int
    rows: int
    start: int
    end: int
    has_ids: bool


class CsvFile:
    """
    A CSV file, copied to local disk. A context manager; closing it frees the disk.

    :param endpoint: where it goes.
    :param max_bytes: bytes of a part, the header included.
    """

    def __init__(self, endpoint: CsvImportEndpoint, max_bytes: int) -> None:
        self.endpoint = endpoint
        self.rows = 0
        self.blank_rows = 0
        self.parts: list[CsvPart] = []
        self._max_bytes = max_bytes
        self._columns: tuple[str, ...] = ()
        self._header = b""
        self._copy: IO[bytes] = tempfile.TemporaryFile(prefix="voucherify-")  # noqa: SIM115

    def read(self, file: IO[bytes], name: str = "the CSV file") -> None:
        """
        Read a file to its end. Closes itself where that fails.

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
    def has_ids(self) -> bool:
        """Whether every row names its record."""
        return all(part.has_ids for part in self.parts)

    def size(self, part: CsvPart) -> int:
        """Return the bytes of a part, the header included."""
        return len(self._header) + part.end - part.start

    def content(self, part: CsvPart) -> Iterator[bytes]:
        """Give the bytes of a part, the header first."""
        yield self._header
        place = part.start
        while place < part.end:
            self._copy.seek(place)
            piece = self._copy.read(min(_BYTES_PER_READ, part.end - place))
            place += len(piece)
            yield piece

    def digest(self, part: CsvPart) -> str:
        """Return what tells a part's content and destination from any other's."""
        digest = blake2b(self.endpoint.path.encode() + b"\n", digest_size=16)
        for piece in self.content(part):
            digest.update(piece)
        return digest.hexdigest()

    def split(self, part: CsvPart) -> None:
        """Put two halves of a part in its place, of which the second has a row more if need be; it has two at least."""
        half = part.rows // 2
        rows = _rows(chain.from_iterable(self._lines(part)))
        first = self._joined(CsvPart(part.first_row, 0, part.start, part.start, has_ids=True), islice(rows, half))
        second = self._joined(CsvPart(part.first_row + half, 0, first.end, first.end, has_ids=True), rows)
        place = self.parts.index(part)
        self.parts[place : place + 1] = (first, second)

    def split_into(self, rows: Sequence[int]) -> bool:
        """
        Cut the parts into halves, and these into halves, until they have so many rows each.

        :returns: whether that can be done.
        """
        for place, count in enumerate(rows):
            while place < len(self.parts) and self.parts[place].rows > max(1, count):
                self.split(self.parts[place])
            if place == len(self.parts) or self.parts[place].rows != count:
                return False
        return len(rows) == len(self.parts)

    def values(self, part: CsvPart, numbers: Collection[int]) -> Iterator[tuple[int, dict[str, str]]]:
        """Give rows of a part by their numbers in the file, each as column to value."""
        lines = (line.decode() for piece in self._lines(part) for line in piece)
        for number, values in enumerate(csv.reader(lines), start=part.first_row):
            if number in numbers:
                yield number, dict(zip(self._columns, values, strict=True))

    def close(self) -> None:
        """Give the disk space back."""
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
        part: CsvPart | None = None
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
            if part is None or len(self._header) + part.end - part.start + len(raw) > self._max_bytes:
                self._add(part)
                part = CsvPart(self.rows, 0, self._copy.tell(), self._copy.tell(), has_ids=True)
            self._copy.write(raw)
            part = self._joined(part, [(raw, values)])
        self._add(part)

    def _joined(self, part: CsvPart, rows: Iterable[tuple[bytes, list[str]]]) -> CsvPart:
        """Return a part with more rows, which follow it in the copy."""
        ids = [place for place, name in enumerate(self._columns) if name.lower() == "source_id"]
        for raw, values in rows:
            named = part.has_ids and any(values[place].strip() for place in ids)
            part = CsvPart(part.first_row, part.rows + 1, part.start, part.end + len(raw), named)
        return part

    def _add(self, part: CsvPart | None) -> None:
        if part is not None:
            self.parts.append(part)

    def _lines(self, part: CsvPart) -> Iterator[Sequence[bytes]]:
        """Give the lines of a part's rows, whole ones only, without the header."""
        rest = b""
        pieces = self.content(part)
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
    """Give the lines of a file, without a byte order mark."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix(_BYTE_ORDER_MARK)


def _rows(of: Iterable[bytes], name: str = "", *, has_header: bool = False) -> Iterator[tuple[bytes, list[str]]]:
    """Give each row of some lines: its bytes, ending with a line break, and its values, none if they are all empty."""
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
