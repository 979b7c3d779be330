"""
The report file of a bulk update, read in columns, some thousand rows at a time.

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
from itertools import chain, repeat
from typing import Any, BinaryIO, NamedTuple, TextIO

import msgspec

from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.models.partial_json import elements

MAX_FIELD_CHARACTERS = 1_000_000
MAX_LINE_CHARACTERS = 4 * MAX_FIELD_CHARACTERS
MAX_ARRAY_CHARACTERS = 64 * 1024 * 1024
"""A longer line, or JSON array, is not a report: that of a 10 MiB batch has less than half of that."""

_CHARACTERS_PER_READ = 32 * 1024
_ROWS_PER_CHUNK = 1_000
_MAX_KEPT_TEXTS = 100

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_KEYS = ("source_id", "code")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _put_off(error: Any) -> tuple[str, int]:
    """Return bytes that cannot be decoded as surrogates, which cannot be encoded: ``surrogateescape`` for any byte."""
    return "".join(chr(0xDC00 | byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error("voucherify.put_off", _put_off)

Flags = tuple[bool | None, bool | None]
"""What a report says about one record: whether it existed (one that did not is created), and whether it was written."""


class ReportRows(NamedTuple):
    """
    Some rows of a report, each of which is about one record.

    :param ids: ``source_id`` or ``code``; None of a row that has none.
    :param flags: of the same records.
    """

    ids: Sequence[str | None]
    flags: Sequence[Flags]


def read_report(file: BinaryIO, key: str | None) -> Iterator[ReportRows]:
    """
    Read a report in constant memory; only the text of a JSON array is in memory completely, and decoded row by row.

    :param file: seekable, positioned anywhere.
    :param key: the key field of the endpoint, ``source_id`` or ``code``; None takes whichever the report has.
    :raises VoucherifyReportError: it does not have exactly one column ``updated`` and one of the key, or cannot be
        decoded, or is truncated, or has a line of more than 4 million characters or an array of more than
        64 million. The rows before the mistake have been given then, unless they are in a JSON array.
    """
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if head.startswith(mark)), "utf-8")
    text = io.TextIOWrapper(file, encoding=encoding, errors="voucherify.put_off", newline="")
    try:
        first = _skip_blanks(text)
        yield from (_in_chunks(_json_rows(text, first, key)) if first in ("{", "[") else _csv_rows(text, key))
    except UnicodeEncodeError as error:
        byte = ord(error.object[error.start]) & 0xFF
        raise VoucherifyReportError(f"the report cannot be read: byte 0x{byte:02x} cannot be decoded") from None
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


def _lines(text: TextIO) -> Iterator[str]:
    """Yield the lines of a report, of limited length."""
    while line := text.readline(MAX_LINE_CHARACTERS + 1):
        if len(line) > MAX_LINE_CHARACTERS:
            raise VoucherifyReportError(f"the report has a line of more than {MAX_LINE_CHARACTERS:,} characters")
        if not line.isascii():
            line.encode()  # raises what was put off, so that the lines before could be read
        yield line


def _is_decoded(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _csv_rows(text: io.TextIOWrapper, key: str | None) -> Iterator[ReportRows]:
    start = text.tell()
    header = next(_lines(text), "")
    delimiter = max(",;\t", key=header.count)
    text.seek(start)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    names = next(reader)
    record_id, found, updated = _places(names, key, "no column")
    width, flags, line = len(names), _FlagsOfTexts(), reader.line_num

    def lines_from(piece: str) -> Iterator[tuple[str | None, Flags]]:
        reader = csv.reader(chain(_lines(io.StringIO(piece, "")), _lines(text)), delimiter=delimiter, strict=True)
        for values in reader:
            if values and len(values) < width:
                raise VoucherifyReportError(
                    f"line {line + reader.line_num} of the report has {len(values)} of {width} values; it may be cut "
                    "off"
                )
            if values:
                yield values[record_id] or None, flags["" if found is None else values[found], values[updated]]

    while piece := text.read(_CHARACTERS_PER_READ):
        piece += text.readline(MAX_LINE_CHARACTERS + 1)
        fields = _split(piece, delimiter, width) if _is_decoded(piece) else None
        if fields is None:
            yield from _in_chunks(lines_from(piece))
            return
        ids: list[str | None] = [*fields[record_id :: width + 1]]
        if "" in ids:
            ids = [one or None for one in ids]
        was_found = repeat("") if found is None else fields[found :: width + 1]
        yield ReportRows(ids, list(map(flags.__getitem__, zip(was_found, fields[updated :: width + 1], strict=False))))
        line += len(ids)


def _split(text: str, delimiter: str, width: int) -> list[str] | None:
    """
    Return the fields of some lines of CSV, with one for the line break after those of each line.

    :param width: number of fields that each line should have.
    :returns: None if a line has another number, a field may be too long, or some are quoted and not all, or need it.
    """
    given = text.replace("\r\n", "\n").removesuffix("\n")
    if len(text) > MAX_FIELD_CHARACTERS or "\r" in given or (unquoted := _unquoted(given, delimiter)) is None:
        return None
    lines = unquoted + "\n"
    fields = lines.replace("\n", f"{delimiter}\n{delimiter}").split(delimiter)
    fields.pop()
    breaks = fields[width :: width + 1]
    is_regular = breaks.count("\n") == len(breaks) == lines.count("\n") and len(breaks) * (width + 1) == len(fields)
    return fields if is_regular else None


def _unquoted(lines: str, delimiter: str) -> str | None:
    """Leave out quotes that are around each field, if none has a quote, a delimiter or a line break in it."""
    if '"' not in lines:
        return lines
    inner, between, around_break = lines[1:-1], f'"{delimiter}"', '"\n"'
    if not lines.startswith('"') or not lines.endswith('"') or inner.count(delimiter) != inner.count(between):
        return None
    unquoted = inner.replace(between, delimiter).replace(around_break, "\n")
    return unquoted if inner.count("\n") == inner.count(around_break) and '"' not in unquoted else None


def _json_rows(text: io.TextIOWrapper, first: str, key: str | None) -> Iterator[tuple[str | None, Flags]]:
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
        text_of_id = str(named) if isinstance(named, str | int) and not isinstance(named, bool) else None
        yield text_of_id or None, (None if found is None else _flag(values[found]), _flag(values[updated]))


def _in_chunks(rows: Iterator[tuple[str | None, Flags]]) -> Iterator[ReportRows]:
    """Join rows. If there is an error, the rows before it come first."""
    ids: list[str | None] = []
    flags: list[Flags] = []
    try:
        for record_id, of_record in rows:
            ids.append(record_id)
            flags.append(of_record)
            if len(ids) == _ROWS_PER_CHUNK:
                yield ReportRows(ids, flags)
                ids, flags = [], []
    except Exception:
        yield ReportRows(ids, flags)
        raise
    yield ReportRows(ids, flags)


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


class _FlagsOfTexts(dict[tuple[str, str], Flags]):
    """What the texts of ``found`` and ``updated`` mean, as far as there are not too many different ones to keep."""

    def __missing__(self, texts: tuple[str, str]) -> Flags:
        flags = _flag(texts[0]), _flag(texts[1])
        if len(self) < _MAX_KEPT_TEXTS:
            self[texts] = flags
        return flags


def _flag(value: Any) -> bool | None:
    return _FLAGS.get(value if isinstance(value, str) and value in _FLAGS else str(value).strip().lower())
