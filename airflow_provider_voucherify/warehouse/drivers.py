"""How drivers of databases are asked for a cursor that streams and for a transaction, and what their bytes are."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

log = logging.getLogger(__name__)

Reader = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Driver:
    """
    How a driver is used.

    :param cursor: opens a cursor that streams.
    :param close: closes it and the connection before all rows are read.
    :param reader: returns what reads the bytes of a column, which is given as the cursor describes it; None if they are
        no more than bytes.
    """

    cursor: Callable[[Any], Any]
    close: Callable[[Any, Any], None]
    reader: Callable[[Any, Sequence[Any]], Reader | None]


def driver_of(connection: Any) -> Driver:
    """Return the driver of a connection, also if its class is extended elsewhere."""
    modules = [cls.__module__.partition(".")[0] for cls in type(connection).__mro__]
    return next((_DRIVERS[module] for module in modules if module in _DRIVERS), _ANY_DRIVER)


def transaction_of(connection: Any) -> Any:
    """Return a connection whose statements are one transaction until ``commit`` or ``rollback``, then another."""
    modules = {cls.__module__.partition(".")[0] for cls in type(connection).__mro__}
    return _DuckDbTransaction(connection) if modules & {"duckdb", "_duckdb"} else connection


class _DuckDbCursor:
    """A connection of DuckDB as its own cursor: one that it gave would be another connection."""

    def __init__(self, connection: Any) -> None:
        self.wrapped = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def close(self) -> None:
        """Leave the connection open."""


class _DuckDbTransaction:
    """A connection of DuckDB, which begins transactions only if it is told to."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        connection.begin()

    def cursor(self) -> _DuckDbCursor:
        return _DuckDbCursor(self._connection)

    def commit(self) -> None:
        self._connection.commit()
        self._connection.begin()

    def rollback(self) -> None:
        self._connection.rollback()
        self._connection.begin()

    def close(self) -> None:
        self._connection.close()


def _plain_cursor(connection: Any) -> Any:
    return connection.cursor()


def _named_cursor(connection: Any) -> Any:
    if connection.autocommit:
        connection.autocommit = False
    return connection.cursor(name="voucherify")


def _psycopg_cursor(connection: Any) -> Any:
    from psycopg.types.json import set_json_loads  # type: ignore[import-not-found,unused-ignore]

    set_json_loads(_exact_json, connection)
    return _named_cursor(connection)


def _psycopg2_cursor(connection: Any) -> Any:
    from psycopg2.extras import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
        register_default_json,
        register_default_jsonb,
    )

    for register in (register_default_json, register_default_jsonb):
        register(connection, loads=_exact_json)
    return _named_cursor(connection)


def _exact_json(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def _mysqldb_cursor(connection: Any) -> Any:
    from MySQLdb.cursors import SSCursor  # type: ignore[import-untyped,import-not-found,unused-ignore]

    return connection.cursor(SSCursor)


def _pymysql_cursor(connection: Any) -> Any:
    from pymysql.cursors import SSCursor  # type: ignore[import-untyped,import-not-found,unused-ignore]

    return connection.cursor(SSCursor)


def _mysql_connector_cursor(connection: Any) -> Any:
    return connection.cursor(buffered=False)


def _close_in_turn(connection: Any, cursor: Any) -> None:
    """Close both; failing to do so does not hide why the task fails, nor fail it when all rows were read."""
    for opened in (cursor, connection):
        if opened is not None:
            try:
                opened.close()
            except Exception as error:
                log.warning("Closing a %s failed: %s", type(opened).__name__, error)


def _hang_up(connection: Any, cursor: Any) -> None:
    """Close the connection only: closing a cursor of MySQL first receives, or complains of, all rows left unread."""
    result: Any = getattr(cursor, "_result", None)
    if result is not None and hasattr(result, "unbuffered_active"):
        result.unbuffered_active = False  # else pymysql's finalizers try to receive them from the closed connection
    _close_in_turn(connection, None)


def _reader_by_type_code(connection: Any, column: Sequence[Any]) -> Reader | None:
    """Return what reads the bytes of a column of text, as PEP 249 lets the driver's module say."""
    for cls in type(connection).__mro__:
        module = sys.modules.get(cls.__module__.partition(".")[0])
        if (string := getattr(module, "STRING", None)) is not None:
            return _text if string == column[1] and getattr(module, "BINARY", None) != column[1] else None
    return None


def _mysql_reader(connection: Any, column: Sequence[Any]) -> Reader | None:
    """
    Return what reads the bytes of a column of MySQL, whose type codes do not tell BINARY from CHAR.

    The character set does: ``mysql.connector`` describes it, and the other drivers have decoded all text themselves.
    """
    if column[1] == _MYSQL_BIT:
        return int.from_bytes
    return _text if len(column) > _MYSQL_CHARSET and column[_MYSQL_CHARSET] != _MYSQL_BINARY else None


def _text(value: bytes) -> str | bytes:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return value


_MYSQL_BIT = 16
_MYSQL_BINARY = 63
_MYSQL_CHARSET = 8
"""The place of the character set in ``mysql.connector``'s description of a column."""

_ANY_DRIVER = Driver(_plain_cursor, _close_in_turn, _reader_by_type_code)

_DRIVERS = {
    "psycopg2": Driver(_psycopg2_cursor, _close_in_turn, _reader_by_type_code),
    "psycopg": Driver(_psycopg_cursor, _close_in_turn, _reader_by_type_code),
    "MySQLdb": Driver(_mysqldb_cursor, _hang_up, _mysql_reader),
    "pymysql": Driver(_pymysql_cursor, _hang_up, _mysql_reader),
    "mysql": Driver(_mysql_connector_cursor, _hang_up, _mysql_reader),
}
