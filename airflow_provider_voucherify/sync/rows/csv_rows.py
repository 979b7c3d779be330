"""
The rows of a CSV file, each of them checked for misplaced quotes.

An unclosed quote, or one with an undeclared escape, swallows the lines after it into one value. An invalid row of one
line costs only itself. An invalid row of several lines may contain other rows, so the file is refused, as it is if the
first and the last line of a row look like rows themselves.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from airflow_provider_voucherify.models.endpoints import MAX_BODY_BYTES
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, refuse_all
from airflow_provider_voucherify.sync.types.text import counted

MAX_FIELD_CHARACTERS = 2 * MAX_BODY_BYTES
"""Longest value that Python's CSV reader accepts; its default limit is 131,072."""

ESCAPED_QUOTES = r"""it has \" in it; if that stands for a quote, csv_dialect={"escapechar": "\\"} reads it so"""

_CHARACTERS = ("delimiter", "quotechar", "escapechar")
_FLAGS = ("doublequote", "skipinitialspace")
_QUOTING = (csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE)
_STANDARD: dict[str, Any] = {"delimiter": ",", "quotechar": '"', "escapechar": None}


def csv_options(dialect: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """
    Return the options of ``csv.reader`` for a file.

    :param dialect: ``delimiter``, ``quotechar``, ``escapechar``, ``doublequote``, ``skipinitialspace`` and ``quoting``
        as ``csv.reader`` has them, or the name of a registered dialect.
    :raises VoucherifyConfigurationError: it is neither, or has unknown members.
    """
    known = (*_CHARACTERS, *_FLAGS, "quoting")
    if isinstance(dialect, str):
        if dialect not in csv.list_dialects():
            raise VoucherifyConfigurationError(
                f"csv_dialect={dialect!r} is not registered; it may be {', '.join(csv.list_dialects())} or a dict"
            )
        registered = csv.get_dialect(dialect)
        dialect = {name: getattr(registered, name) for name in known}
    elif dialect is not None and not isinstance(dialect, Mapping):
        raise VoucherifyConfigurationError(f"csv_dialect must be a dict or a dialect's name, not {dialect!r:.100}")
    options = {**_STANDARD, **(dialect or {})}
    mistakes = (_mistake(name, value, known) for name, value in options.items())
    refuse_all(f"csv_dialect {mistake}" for mistake in mistakes if mistake is not None)
    characters = [options[name] for name in _CHARACTERS if options[name] is not None]
    if len(set(characters)) != len(characters):
        raise VoucherifyConfigurationError(
            "csv_dialect has one character for two of delimiter, quotechar and escapechar"
        )
    try:
        csv.reader((), strict=True, **options)
    except (TypeError, ValueError, csv.Error) as error:
        raise VoucherifyConfigurationError(f"csv_dialect cannot be used: {error}") from None
    return options


def _mistake(name: str, value: Any, known: tuple[str, ...]) -> str | None:
    """Say what is wrong with an option, or None."""
    if name not in known:
        return f"has an unknown member {name!r}; it may have {', '.join(known)}"
    if name in _CHARACTERS:
        is_character = isinstance(value, str) and len(value) == 1 and value not in "\r\n"
        if not is_character and not (value is None and name != "delimiter"):
            return f"needs one character for {name}, not {value!r:.60}"
    elif name in _FLAGS and not isinstance(value, bool):
        return f"needs True or False for {name}, not {value!r:.60}"
    elif name == "quoting" and (isinstance(value, bool) or value not in _QUOTING):
        return f"needs csv.QUOTE_MINIMAL, QUOTE_ALL or QUOTE_NONE for quoting, not {value!r:.60}"
    return None


@dataclass(frozen=True, slots=True)
class BadRow:
    """An invalid row of one line; ``why`` names the line."""

    line: int
    why: str


class CsvRows:
    """
    An iterator over rows: a row's values, an empty list for a row without any (only blanks and separators), or what
    is wrong with a row.

    With an ``escapechar``, a value of it and ``N`` is missing, as MySQL and Hive write it. Before anything except a
    separator, a quote, a line break or itself it is an ordinary character, as Spark writes it.

    :param lines: of the file, with their ends.
    :param name: of the file, for errors.
    :param options: as ``csv_options`` returns them.
    :param hint: what to say if ``\\"`` is in a row that cannot be read.
    :ivar columns: how many values a row has; None until the header is known.
    :ivar characters: number of characters read from the file.
    """

    def __init__(self, lines: Iterable[str], name: str, options: Mapping[str, Any], hint: str = ESCAPED_QUOTES) -> None:
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
        self.columns: int | None = None
        self._names: list[str] = []
        self.characters = 0
        self._name = name
        self._hint = hint
        self._delimiter, self._quote, self._escape = (options[one] for one in _CHARACTERS)
        self._lines: list[str] = []
        self._ended = False
        self._missing = None if self._escape is None else f"{self._escape}N"
        self._escaped: re.Pattern[str] | None = None
        if self._escape is not None:
            self._escaped = re.compile(re.escape(self._escape) + "(.)?", re.DOTALL)
        self._special = {self._delimiter, self._quote, self._escape, "\r", "\n", None}
        self._reader: Any = csv.reader(self._held(lines), strict=True, **options)

    @property
    def line(self) -> int:
        """Where the last row begins, from 1."""
        return int(self._reader.line_num) - len(self._lines) + 1

    def header(self) -> tuple[str, ...]:
        """
        Read the column names; none if the file is empty.

        :raises VoucherifyConfigurationError: they are not valid CSV.
        """
        names = next((row for row in self if row != []), [])
        if isinstance(names, BadRow):
            raise VoucherifyConfigurationError(f"the header of {self._name} is not valid CSV: {names.why}")
        self.has_header(names)
        return tuple(names)

    def has_header(self, names: list[str]) -> None:
        """
        Use the last row read as the header.

        :raises VoucherifyConfigurationError: a name in it has lines with separators, so it contains rows.
        """
        if any(self._delimiter in name and "\n" in name.replace("\r", "\n") for name in names):
            raise VoucherifyConfigurationError(
                f"the header of {self._name} has {len(self._lines):,} lines, of which some look like rows: a quote in "
                "the wrong place takes rows for a part of a column's name"
            )
        self.columns, self._names = len(names), names

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[str] | BadRow:
        self._lines.clear()
        try:
            values: list[str] = next(self._reader)
        except csv.Error as error:
            return self._bad(f"is not valid CSV: {error}", is_one_row=self._ended or self._is_closed)
        if self._missing is not None:
            values = ["" if value == self._missing else value for value in values]
        if not values or (not values[0].strip() and not "".join(values).strip()):
            return []
        if self.columns is None:
            return values
        if len(values) != self.columns:
            why = f"has {counted(len(values), 'value')} for {counted(self.columns, 'column')}"
            return self._bad(why, is_one_row=True)
        if values[-1] == self._names[-1] and [values[0].lstrip("\ufeff"), *values[1:]] == self._names:
            return self._bad("is the header once more: several files in one?", is_one_row=True)
        if len(self._lines) > 1 and self._has_rows_in_it:
            raise VoucherifyConfigurationError(
                f"the row that begins in line {self.line:,} of {self._name} has {len(self._lines):,} lines that look "
                "like rows of their own: a quote in the wrong place takes rows for a part of a value. If the value is "
                "meant, quote all values when the file is written, or write JSON lines or Parquet"
            )
        return values

    def _held(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._lines.append(line)
            self.characters += len(line)
            if self._escaped is not None and self._escape in line:
                yield self._escaped.sub(self._as_meant, line)
            else:
                yield line
        self._ended = True

    def _as_meant(self, escaped: re.Match[str]) -> str:
        return escaped[0] if escaped[1] in self._special else f"{self._escape}{escaped[0]}"

    def _bad(self, why: str, *, is_one_row: bool) -> BadRow:
        begins, ends = self.line, int(self._reader.line_num)
        escaped = self._escape is None and any('\\"' in line for line in self._lines)
        hint = f"; {self._hint}" if escaped else ""
        if is_one_row and begins == ends:
            return BadRow(begins, f"line {begins} {why}{hint}")
        raise VoucherifyConfigurationError(
            f"the row that begins in line {begins:,} of {self._name} and ends in line {ends:,} {why}; a quote that is "
            f"not closed takes the lines after it for a part of its value{hint}"
        )

    @property
    def _is_closed(self) -> bool:
        """Whether every quote in the last line is closed; if not, the next line belongs to the same row."""
        text = "".join(self._lines)
        if self._escaped is not None:
            text = self._escaped.sub("", text)
        return self._quote is None or text.count(self._quote) % 2 == 0

    @property
    def _has_rows_in_it(self) -> bool:
        """Whether the first and last line have a row's separators and one quote each, and not all values are quoted."""
        if self._quote is None or self.columns is None or self._all_values_are_quoted:
            return False
        return all(
            line.count(self._quote) == 1
            and line.count(self._delimiter) == self.columns - 1
            and f"{self._delimiter} " not in line
            for line in (self._lines[0], self._lines[-1])
        )

    @property
    def _all_values_are_quoted(self) -> bool:
        """Whether a row of several values has a quote before and after each."""
        text = "".join(self._lines).strip("\r\n")
        between = text.count(f"{self._quote}{self._delimiter}{self._quote}")
        return text[0] == text[-1] == self._quote and 0 < (self.columns or 0) - 1 <= between
