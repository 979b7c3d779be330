"""The page of questions: its queries are read from it, and what they answer is written into it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness import ROOT

PAGE = ROOT / "docs" / "history-queries.md"

_QUERY = re.compile(r"^```sql\n(?P<sql>.*?)^```\n(?:\n(?:\|[^\n]*\n)+)?", re.MULTILINE | re.DOTALL)
_OF_ONE_DATABASE = re.compile(r"-- (\w+)\n")
_SIZES = re.compile(r"(^\| database \|.*\n\|[-|]+\n)((?:\|.*\n)*)", re.MULTILINE)

Answer = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Names of columns, and rows."""


def answered(text: str, database: str, run: Callable[[str], Answer | None]) -> str:
    """
    Return the page with the answers of a database under its queries.

    :param database: ```SQLite`` or ``PostgreSQL``: a query that begins with a comment that names another is left alone.
    :param run: executes a statement, and returns its answer; None if it has none.
    """

    def with_answer(block: re.Match[str]) -> str:
        sql = block["sql"]
        only = _OF_ONE_DATABASE.match(sql)
        if only is not None and only[1] != database:
            return block[0]
        answer = run(sql)
        return f"```sql\n{sql}```\n" + ("" if answer is None else f"\n{_table(*answer)}")

    return _QUERY.sub(with_answer, text)


def with_sizes(text: str, sizes: Mapping[str, Sequence[str]]) -> str:
    """
    Return the page with the sizes of the changelog.

    :param sizes: cells by database; those of databases that are not among them stay as they are.
    """

    def replaced(table: re.Match[str]) -> str:
        before = {line.split("|")[1].strip(): line for line in table[2].splitlines()}
        now = {name: f"| {' | '.join([name, *cells])} |" for name, cells in sizes.items()}
        return table[1] + "".join(f"{line}\n" for line in (before | now).values())

    return _SIZES.sub(replaced, text)


def _table(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(columns), *([_cell(value) for value in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    """Return a value as a cell of a table; the port of the local Voucherify is another in each run."""
    text = "" if value is None else re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1", str(value))
    return text.replace("|", "\\|").replace("\n", "<br>")
