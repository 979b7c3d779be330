"""
Reports: what happened to each record of a bulk update, as one or several files.

The vendor says that a report has the columns ``found`` and ``updated``; what else it has, and its format, are options.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from airflow_provider_voucherify.local_voucherify.options import ReportColumns, ReportFormat

MEDIA_TYPES = {
    "csv": "text/csv",
    "semicolons": "text/csv",
    "tabs": "text/tab-separated-values",
    "json": "application/json",
    "json_lines": "application/x-ndjson",
}

_FOUND, _UPDATED = 1, 2
_ROWS_PER_CHUNK = 5_000
_DELIMITERS = {"csv": ",", "semicolons": ";", "tabs": "\t"}


@dataclass(frozen=True, slots=True)
class Report:
    """
    What happened to each record: the rows of the report files.

    :param key: name of the first column, ``source_id`` or ``code``.
    :param ids: the ids in the order of the request; an empty string if a record had none.
    :param flags: for each id a byte with the bits for found and updated.
    """

    key: str
    ids: list[str] = field(default_factory=list)
    flags: bytearray = field(default_factory=bytearray)

    def add(self, record_id: str, *, found: bool, updated: bool) -> None:
        """Append the row of one record."""
        self.ids.append(record_id)
        self.flags.append(found * _FOUND + updated * _UPDATED)

    def rows(self, first: int, last: int) -> Iterator[tuple[str, bool, bool]]:
        """Yield id, found and updated of the rows from ``first`` up to, without, ``last``."""
        for record_id, flags in zip(islice(self.ids, first, last), islice(self.flags, first, last), strict=True):
            yield record_id, bool(flags & _FOUND), bool(flags & _UPDATED)


@dataclass(frozen=True, slots=True)
class ReportFile:
    """
    One downloadable file: a slice of a report's rows.

    :param id: last segment of the file's URL.
    :param token: secret part of the URL.
    :param available_till: seconds since the epoch after which the file is gone.
    """

    id: str
    token: str
    report: Report
    first: int
    last: int
    available_till: float

    def chunks(self, file_format: ReportFormat, columns: ReportColumns) -> Iterator[bytes]:
        """
        Yield the content of the file.

        :param file_format: its format.
        :param columns: whether its columns are called ``source_id`` or ``Source ID``.
        """
        names = [self.report.key, "found", "updated"]
        if columns == "titles":
            names = [name.replace("_", " ").title().replace("Id", "ID") for name in names]
        rows = self.report.rows(self.first, self.last)
        if file_format in _DELIMITERS:
            return _csv_chunks(names, rows, _DELIMITERS[file_format])
        objects = (msgspec.json.encode(dict(zip(names, row, strict=True))) for row in rows)
        if file_format == "json_lines":
            return (line + b"\n" for line in objects)
        return iter((b"[" + b",".join(objects) + b"]",))


def _csv_chunks(names: list[str], rows: Iterator[tuple[str, bool, bool]], delimiter: str) -> Iterator[bytes]:
    yield (delimiter.join(names) + "\r\n").encode()
    while chunk := list(islice(rows, _ROWS_PER_CHUNK)):
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter).writerows(
            (record_id, _csv_flag(found), _csv_flag(updated)) for record_id, found, updated in chunk
        )
        yield text.getvalue().encode()


def _csv_flag(flag: bool) -> str:
    return "true" if flag else "false"
