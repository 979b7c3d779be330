"""Rows of JSON lines, and of failure files, which have one more member."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import IO, Any, get_args

import msgspec
from msgspec.structs import astuple

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.chunks import (
    CHUNK_BYTES,
    ROWS_PER_CHUNK,
    BadLine,
    BlankRows,
    Chunk,
    Rows,
    SingleRow,
    gathered,
    single_row,
)
from airflow_provider_voucherify.sync.rows.failure_lines import FAILURE_FILES, FAILURE_MEMBER, LOST_MEMBER, Form
from airflow_provider_voucherify.sync.rows.text_files import some_lines, unpacked
from airflow_provider_voucherify.sync.rows.values import LostValue

_UNREADABLE_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ArithmeticError)
"""Errors of a decoder that converts each number with a fraction or an exponent to ``Decimal``."""

_decoder = msgspec.json.Decoder(float_hook=Decimal)


def from_json_lines(file: IO[bytes], name: str) -> Rows:
    """
    Read one JSON object per line; numbers with a fraction or an exponent become ``Decimal``.

    :raises VoucherifyConfigurationError: while reading, if lines are too long, or have several objects each.
    """
    number = blank = 0
    for lines in _lines(file, name):
        if not number:
            _refuse_renamed_failures(lines[0])
        chunk = _chunk_of_lines(lines)
        if chunk is not None:
            yield chunk
        else:
            blank += sum(not line.strip() for line in lines)
            yield from gathered(list(_single_rows(lines, name, number, single_row)))
        number += len(lines)
    if blank:
        yield BlankRows(blank)


def from_failure_lines(file: IO[bytes], name: str) -> Rows:
    """
    Read failed records, see ``failure_lines``.

    :raises VoucherifyConfigurationError: see ``from_json_lines``.
    """
    number = blank = 0
    for lines in _lines(file, name):
        blank += sum(not line.strip() for line in lines)
        yield from gathered(list(_single_rows(lines, name, number, _failed_row)))
        number += len(lines)
    if blank:
        yield BlankRows(blank)


def _lines(file: IO[bytes], name: str) -> Iterator[list[bytes]]:
    with unpacked(file, name) as text:
        is_first = True
        for lines in some_lines(text, name, ROWS_PER_CHUNK, CHUNK_BYTES):
            if is_first:
                lines[0], is_first = lines[0].removeprefix(b"\xef\xbb\xbf"), False
            yield lines


def _failed_row(row: Mapping[str, Any], number: int) -> SingleRow | BadLine:
    """Return a failed record, or a row that was refused, without its ``_failure``."""
    members = dict(row)
    failure = members.pop(FAILURE_MEMBER, None)
    if not isinstance(failure, Mapping) or not failure:
        return single_row(members, number)
    form, lost = failure.get("form"), failure.get(LOST_MEMBER)
    if form == "id":
        return BadLine(number, "only the id of this record is known: what was sent is not in this file", row)
    if form == "hidden":
        raise VoucherifyConfigurationError(
            "the file was written with hide_values, which leaves the records out of it: the next run of their sync "
            "sends them again"
        )
    if isinstance(lost, list):
        members = {name: LostValue(value) if name in lost else value for name, value in members.items()}
    return SingleRow(tuple(members), tuple(members.values()), form == "record", failure)


def _refuse_renamed_failures(first: bytes) -> None:
    """Refuse a ``failures.jsonl`` with another name: what was sent would be mapped again, with ``_failure``."""
    try:
        row = msgspec.json.decode(first) if f'"{FAILURE_MEMBER}"'.encode() in first else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    failure = row.get(FAILURE_MEMBER) if isinstance(row, dict) else None
    if isinstance(failure, dict) and failure.get("form") in get_args(Form) and "outcome" in failure:
        raise VoucherifyConfigurationError(
            f"the file begins with a failed record of an earlier run, as only {' and '.join(sorted(FAILURE_FILES))} "
            "have them: give the file that name, in a separate folder"
        )


def _chunk_of_lines(lines: Sequence[bytes]) -> Chunk | None:
    """Return a chunk of lines that are objects with the same members; None if they are not."""
    if not _are_objects(lines):
        return None
    try:
        columns = tuple(_decoder.decode(lines[0]))
        rows = list(map(astuple, _decoder_of(columns).decode_lines(b"".join(lines))))
    except (*_UNREADABLE_JSON, ValueError):
        return None
    return Chunk(columns, rows, fixed_columns=False) if columns and len(rows) == len(lines) else None


@lru_cache(16)
def _decoder_of(columns: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """
    Return the decoder of objects with exactly these members, which makes no dicts of them.

    :raises ValueError: a name has quotes or the like.
    """
    names = {f"f{place}": name for place, name in enumerate(columns)}
    of_line = msgspec.defstruct("line", [(name, Any) for name in names], rename=names, forbid_unknown_fields=True)
    return msgspec.json.Decoder(of_line, float_hook=Decimal)


def _are_objects(lines: Sequence[bytes]) -> bool:
    """Say whether each line begins and ends with the braces of an object."""
    *others, last = lines
    try:
        begun, ended = bytes(map(itemgetter(0), lines)), bytes(map(itemgetter(-2), others))
        if ended.startswith(b"\r"):
            ended = bytes(map(itemgetter(-3), others))
    except IndexError:
        return False
    return begun == b"{" * len(lines) and ended == b"}" * len(others) and last.rstrip(b"\r\n").endswith(b"}")


def _single_rows(
    lines: Sequence[bytes],
    name: str,
    earlier: int,
    as_row: Callable[[Mapping[str, Any], int], SingleRow | BadLine],
) -> Iterator[SingleRow | BadLine]:
    """
    Read line by line.

    :param earlier: how many lines came before these.
    :param as_row: makes a row of a line's object.
    """
    for number, line in enumerate(lines, start=earlier + 1):
        if not line.strip():
            continue
        try:
            row = _decoder.decode(line)
        except _UNREADABLE_JSON as error:
            if _has_another_object(line):
                raise _several_rows(name, number) from None
            yield BadLine(number, f"line {number} is not valid JSON: {error}")
            continue
        if isinstance(row, list) and len(row) > 1 and isinstance(row[0], dict):
            raise _several_rows(name, number)
        yield as_row(row, number) if isinstance(row, dict) else BadLine(number, f"line {number} is not a JSON object")


def _has_another_object(line: bytes) -> bool:
    """Say whether an object follows the first value of a line."""
    try:
        text = line.decode().strip()
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return text[end:].lstrip(" \t\r,").startswith("{")


def _several_rows(name: str, number: int) -> VoucherifyConfigurationError:
    return VoucherifyConfigurationError(
        f"line {number:,} of {name} has several JSON objects, and would be counted as one row: each needs its own line"
    )
