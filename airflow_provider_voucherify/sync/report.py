"""
The report file of a bulk update, read row by row.

The vendor documents only that it has the columns ``found`` and ``updated``; format, key column and encoding are not
documented. So: CSV or a JSON array or JSON lines, any delimiter among comma, semicolon and tab, a
byte order mark or UTF-16, columns found by name in any order and case, anything else ignored.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from airflow_provider_voucherify.models.errors import VoucherifyReportError

MAX_FIELD_CHARACTERS = 1_000_000
MAX_LINE_CHARACTERS = 4 * MAX_FIELD_CHARACTERS
MAX_ARRAY_CHARACTERS = 64 * 1024 * 1024
"""A line, or a JSON array, that is longer is no report: one of 10 MiB of records has less than half of that."""

_TRUE, _FALSE = {"true", "1", "yes"}, {"false", "0", "no"}
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class ReportRow:
    """
    What the report says of one record.

    :param record_id: ``source_id`` or ``code``; None where the report has no such column.
    :param found: whether the record existed; a customer or product that did not is created.
    :param updated: whether it was written.
    """

    record_id: str | None
    found: bool | None
    updated: bool | None


def read_report(file: BinaryIO, key: str) -> Iterator[ReportRow]:
    """
    Read a report in constant memory, but for a JSON array, which is read whole.

    :param file: seekable, positioned anywhere.
    :param key: the key field of the endpoint, ``source_id`` or ``code``.
    :raises VoucherifyReportError: it has no ``updated`` column, or cannot be decoded, or is cut off in the middle, or
        has a line of more than 4 million characters or an array of more than 64 million.
    """
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8")
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        first = _skip_blanks(text)
        rows = _json_rows(text, first) if first in ("{", "[") else _csv_rows(text)
        for row in rows:
            yield _report_row(row, key)
    except (UnicodeError, csv.Error, msgspec.DecodeError, RecursionError) as error:
        raise VoucherifyReportError(f"the report cannot be read: {error}") from None
    finally:
        text.detach()


def _skip_blanks(text: io.TextIOWrapper) -> str:
    """Go to the first character that is not blank, and return it."""
    while True:
        position = text.tell()
        character = text.read(1)
        if not character:
            raise VoucherifyReportError("the report is empty")
        if character.strip():
            text.seek(position)
            return character


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Give the lines of a report, none of which can fill the memory."""
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise VoucherifyReportError(f"the report has a line of more than {MAX_LINE_CHARACTERS:,} characters")
        yield line


def _csv_rows(text: io.TextIOWrapper) -> Iterator[dict[str, str]]:
    start = text.tell()
    header = next(_lines(text), "")
    delimiter = max(",;\t", key=header.count)
    text.seek(start)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    lines = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    names = [name.strip().lower() for name in next(lines)]
    if "updated" not in names:
        raise VoucherifyReportError(f"the report has no column 'updated', only {', '.join(names[:20])}")
    for values in lines:
        if values and len(values) < len(names):
            raise VoucherifyReportError(
                f"line {lines.line_num} of the report has {len(values)} of {len(names)} values; it may be cut off"
            )
        if values:
            yield dict(zip(names, values, strict=False))


def _json_rows(text: io.TextIOWrapper, first: str) -> Iterator[Mapping[str, Any]]:
    documents: Sequence[Any] | Iterator[Any]
    if first == "[":
        array = text.read(MAX_ARRAY_CHARACTERS + 1)
        if len(array) > MAX_ARRAY_CHARACTERS:
            raise VoucherifyReportError(f"the report is a JSON array of more than {MAX_ARRAY_CHARACTERS:,} characters")
        documents = msgspec.json.decode(array)
    else:
        documents = (msgspec.json.decode(line) for line in _lines(text) if line.strip())
    for row in documents:
        if not isinstance(row, Mapping) or "updated" not in row:
            raise VoucherifyReportError("the report has a row without 'updated'")
        yield row


def _report_row(row: Mapping[str, Any], key: str) -> ReportRow:
    record_id = row.get(key)
    return ReportRow(
        record_id=str(record_id) if record_id not in (None, "") else None,
        found=_boolean(row.get("found")),
        updated=_boolean(row.get("updated")),
    )


def _boolean(value: Any) -> bool | None:
    word = str(value).strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None
