"""
The report file of a bulk update, read row by row.

The vendor documents only that it has the columns ``found`` and ``updated``; format, key column and encoding are not
documented. So: CSV or a JSON array or JSON lines, any delimiter among comma, semicolon and tab, a byte order mark or
UTF-16, columns found by name in any order, anything else ignored. ``Source ID`` and ``source-id`` are ``source_id``:
the vendor's exports have such titles.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import msgspec

from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.models.partial_json import elements

MAX_FIELD_CHARACTERS = 1_000_000
MAX_LINE_CHARACTERS = 4 * MAX_FIELD_CHARACTERS
MAX_ARRAY_CHARACTERS = 64 * 1024 * 1024
"""A longer line, or JSON array, is not a report: that of a 10 MiB batch has less than half of that."""

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_KEYS = ("source_id", "code")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class ReportRow(NamedTuple):
    """
    What the report says about one record.

    :param record_id: ``source_id`` or ``code``; None if the row has none.
    :param found: whether the record existed; a customer or product that did not is created.
    :param updated: whether it was written.
    """

    record_id: str | None
    found: bool | None
    updated: bool | None


def read_report(file: BinaryIO, key: str | None) -> Iterator[ReportRow]:
    """
    Read a report in constant memory; only the text of a JSON array is in memory completely, and decoded row by row.

    :param file: seekable, positioned anywhere.
    :param key: the key field of the endpoint, ``source_id`` or ``code``; None takes whichever the report has.
    :raises VoucherifyReportError: it does not have exactly one column ``updated`` and one of the key, or cannot be
        decoded, or is truncated, or has a line of more than 4 million characters or an array of more than
        64 million.
    """
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8")
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        first = _skip_blanks(text)
        yield from _json_rows(text, first, key) if first in ("{", "[") else _csv_rows(text, key)
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
    """Yield the lines of a report, of limited length."""
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise VoucherifyReportError(f"the report has a line of more than {MAX_LINE_CHARACTERS:,} characters")
        yield line


def _csv_rows(text: io.TextIOWrapper, key: str | None) -> Iterator[ReportRow]:
    start = text.tell()
    header = next(_lines(text), "")
    delimiter = max(",;\t", key=header.count)
    text.seek(start)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    lines = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    names = next(lines)
    record_id, found, updated = _places(names, key, "no column")
    for values in lines:
        if not values:
            continue
        if len(values) < len(names):
            raise VoucherifyReportError(
                f"line {lines.line_num} of the report has {len(values)} of {len(names)} values; it may be cut off"
            )
        was_found = None if found is None else _flag(values[found])
        yield ReportRow(values[record_id] or None, was_found, _flag(values[updated]))


def _json_rows(text: io.TextIOWrapper, first: str, key: str | None) -> Iterator[ReportRow]:
    names: list[str] | None = None
    for encoded in _json_array(text) if first == "[" else _lines(text):
        if not encoded.strip():
            continue
        if len(encoded) > MAX_LINE_CHARACTERS:
            raise VoucherifyReportError(f"the report has a row of more than {MAX_LINE_CHARACTERS:,} characters")
        row = msgspec.json.decode(encoded)
        if not isinstance(row, dict):
            raise VoucherifyReportError("the report has a row without 'updated'")
        if list(row) != names:
            names = list(row)
            record_id, found, updated = _places(names, key, "a row without")
        values = list(row.values())
        named = values[record_id]
        yield ReportRow(
            (str(named) or None) if isinstance(named, str | int) and not isinstance(named, bool) else None,
            None if found is None else _flag(values[found]),
            _flag(values[updated]),
        )


def _json_array(text: io.TextIOWrapper) -> Iterator[bytes]:
    array = text.read(MAX_ARRAY_CHARACTERS + 1)
    if len(array) > MAX_ARRAY_CHARACTERS:
        raise VoucherifyReportError(f"the report is a JSON array of more than {MAX_ARRAY_CHARACTERS:,} characters")
    return elements(msgspec.json.decode(array, type=msgspec.Raw))


def _places(names: Sequence[str], key: str | None, lacks: str) -> tuple[int, int | None, int]:
    """Return where a report's key, ``found`` and ``updated`` are; only ``found`` may be missing."""
    simple = [name.strip().lower().replace(" ", "_").replace("-", "_") for name in names]
    if key is None:
        key = next((name for name in _KEYS if name in simple), _KEYS[0])
    shown = ", ".join(name[:50] if name.isprintable() else "?" for name in simple[:20])
    for name in ("updated", key, "found"):
        if name not in simple and name != "found":
            raise VoucherifyReportError(f"the report has {lacks} '{name}', only {shown}")
        if simple.count(name) > 1:
            raise VoucherifyReportError(f"the report has more than one '{name}': {shown}")
    return simple.index(key), simple.index("found") if "found" in simple else None, simple.index("updated")


def _flag(value: Any) -> bool | None:
    return _FLAGS.get(value if isinstance(value, str) and value in _FLAGS else str(value).strip().lower())
