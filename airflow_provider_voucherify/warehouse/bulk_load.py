"""
Many rows into a table, by the database's own means: ``COPY``, statements of many rows, or Arrow.

Which means these are is told by the driver of the cursor. Rows are read as they are written, so memory does not grow
with their number. Everything happens in the transaction that the cursor is in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from threading import Event, Thread
from typing import Any, Literal

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOGS = 10
"""How often the log says how far a write has come."""

MAX_PARAMETERS = 2_000
"""Values in one statement: the databases' limits begin at 2,100."""

MAX_ROWS = 1_000
"""Rows in one statement: SQL Server's limit."""

FIRST_POSTGRES = 90_500
"""The version from which on a server counts as PostgreSQL: Redshift, which has the same drivers, says 8.0."""

_ROWS_PER_TABLE = 10_000
_CHARACTERS_PER_STATEMENT = 2_000_000
"""Of texts in one statement of MySQL, whose ``max_allowed_packet`` is 16 MB."""

Rows = Iterable[Sequence[Any]]
Dialect = Literal["postgres", "mysql", "sqlite", "duckdb", "other"]

_DIALECTS: dict[str, Dialect] = {
    **dict.fromkeys(("psycopg", "psycopg2"), "postgres"),
    **dict.fromkeys(("MySQLdb", "pymysql", "mysql"), "mysql"),
    "sqlite3": "sqlite",
    **dict.fromkeys(("duckdb", "_duckdb"), "duckdb"),
}


class Progress:
    """
    Says in the log how far a write has come, every ten seconds for as long as it takes; a context manager.

    :param what: is being written, e.g. ``rows into the table voucherify_state``.
    :ivar rows: how many have been written so far.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.rows = 0
        self._ended = Event()
        self._thread = Thread(target=self._tell, name="voucherify-progress", daemon=True)

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOGS):
            log.info("Writing %s: %d so far, %.0f seconds", self._what, self.rows, time.monotonic() - self._began)


def dialect_of(cursor: Any) -> Dialect:
    """Return which of the databases whose own means are known a cursor is of, by its driver."""
    known = (_DIALECTS[module] for module in _modules_of(cursor) if module in _DIALECTS)
    dialect: Dialect = next(known, "other")
    if dialect == "postgres" and int(cursor.connection.info.server_version) < FIRST_POSTGRES:
        return "other"
    return dialect


def bulk_load(cursor: Any, table: str, columns: Iterable[str], rows: Rows, *, mark: str = "%s") -> int:
    """
    Insert rows into a table.

    :param cursor: of any driver. Those of psycopg and psycopg2 use ``COPY``; those of MySQL ``executemany``, which
        makes statements of many rows; that of SQLite ``executemany``; that of DuckDB Arrow, if pyarrow is installed.
        All others get statements of many rows.
    :param columns: the columns' names.
    :param rows: their values: text, numbers, booleans, times, or None. Text that is meant for a column of another type
        has the form that the database reads.
    :param mark: what stands for a value in a statement.
    :returns: the number of rows. Errors of the database, and of ``rows``, are raised as they are.
    """
    names = list(columns)
    load = _LOADERS[dialect_of(cursor)]
    with Progress(f"rows into the table {table}") as progress:
        load(cursor, f"{table} ({', '.join(names)})", len(names), _counted(rows, progress), mark)
    return progress.rows


def _counted(rows: Rows, progress: Progress) -> Iterator[list[Sequence[Any]]]:
    """Give rows in lists of ``MAX_ROWS``."""
    rest = iter(rows)
    while some := list(islice(rest, MAX_ROWS)):
        yield some
        progress.rows += len(some)


def _modules_of(cursor: Any) -> Iterator[str]:
    """Give the names of the packages that a cursor's class and those that it extends come from."""
    return (cls.__module__.partition(".")[0] for cls in type(getattr(cursor, "wrapped", cursor)).__mro__)


# PostgreSQL

_COLUMN, _ROW, _NULL = "\x01", "\x02", "\x03"
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def _copy(cursor: Any, target: str, width: int, lists: Iterable[list[Sequence[Any]]], mark: str) -> None:
    if not hasattr(cursor, "copy"):
        return _copy_expert(cursor, target, width, lists, mark)
    with cursor.copy(f"copy {target} from stdin") as copy:
        for some in lists:
            copy.write(_copy_text(some))
    return None


def _copy_expert(cursor: Any, target: str, _: int, lists: Iterable[list[Sequence[Any]]], __: str) -> None:
    file = _CopyFile(lists)
    try:
        cursor.copy_expert(f"copy {target} from stdin", file)
    except Exception:
        if file.error is not None:  # psycopg2 takes it for one of the database
            raise file.error from None
        raise


class _CopyFile:
    """What psycopg2 reads rows from: any amount at a time, whatever it asks for."""

    def __init__(self, lists: Iterable[list[Sequence[Any]]]) -> None:
        self._texts = map(_copy_text, lists)
        self.error: BaseException | None = None

    def read(self, _: int) -> str:
        try:
            return next(self._texts, "")
        except BaseException as error:
            self.error = error
            raise


def _copy_text(rows: Sequence[Sequence[Any]]) -> str:
    """Write rows as ``COPY`` reads them: all at once, with separators that become the real ones after escaping."""
    text = _ROW.join(
        [
            _COLUMN.join([_NULL if value is None else value if type(value) is str else str(value) for value in row])
            for row in rows
        ]
    )
    separators = sum(map(len, rows)) - 1
    if text.count(_COLUMN) + text.count(_ROW) != separators or text.count(_NULL) != _count_nulls(rows):
        return "".join(map(_copy_line, rows))
    for character, escaped in _ESCAPES.items():
        if character in text:
            text = text.replace(character, escaped)
    return text.replace(_COLUMN, "\t").replace(_ROW, "\n").replace(_NULL, "\\N") + "\n"


def _count_nulls(rows: Sequence[Sequence[Any]]) -> int:
    return sum(row.count(None) for row in rows)


def _copy_line(row: Sequence[Any]) -> str:
    escapes = str.maketrans(_ESCAPES)
    return "\t".join("\\N" if value is None else str(value).translate(escapes) for value in row) + "\n"


# Others


def _executemany(cursor: Any, target: str, width: int, lists: Iterable[list[Sequence[Any]]], mark: str) -> None:
    cursor.executemany(f"insert into {target} values {_marks(mark, width)}", chain.from_iterable(lists))  # noqa: S608


def _executemany_some(cursor: Any, target: str, width: int, lists: Iterable[list[Sequence[Any]]], mark: str) -> None:
    for some in lists:
        for fitting in _fitting(some):
            cursor.executemany(f"insert into {target} values {_marks(mark, width)}", fitting)  # noqa: S608


def _fitting(rows: list[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """Give rows in lists whose texts fit a statement, though a single row may not."""
    first, characters = 0, 0
    for place, row in enumerate(rows):
        of_row = sum([len(value) for value in row if type(value) is str])
        if place > first and characters + of_row > _CHARACTERS_PER_STATEMENT:
            yield rows[first:place]
            first, characters = place, 0
        characters += of_row
    yield rows[first:]


def _insert(cursor: Any, target: str, width: int, lists: Iterable[list[Sequence[Any]]], mark: str) -> None:
    most = max(1, MAX_PARAMETERS // width)
    for some in lists:
        for start in range(0, len(some), most):
            part = some[start : start + most]
            values = ", ".join([_marks(mark, width)] * len(part))
            cursor.execute(f"insert into {target} values {values}", list(chain.from_iterable(part)))  # noqa: S608


def _insert_arrow(cursor: Any, target: str, width: int, lists: Iterable[list[Sequence[Any]]], mark: str) -> None:
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return _insert(cursor, target, width, lists, mark)
    rest = iter(lists)
    while some := list(chain.from_iterable(islice(rest, _ROWS_PER_TABLE // MAX_ROWS))):
        columns = {f"c{place}": list(values) for place, values in enumerate(zip(*some, strict=True))}
        # Named in the statement: what is registered instead would be held until the transaction ends.
        voucherify_rows = pyarrow.table(columns)  # noqa: F841
        cursor.execute(f"insert into {target} select * from voucherify_rows")  # noqa: S608
    return None


def _marks(mark: str, width: int) -> str:
    return f"({', '.join([mark] * width)})"


_LOADERS: dict[Dialect, Callable[[Any, str, int, Iterable[list[Sequence[Any]]], str], None]] = {
    "postgres": _copy,
    "mysql": _executemany_some,
    "sqlite": _executemany,
    "duckdb": _insert_arrow,
    "other": _insert,
}
