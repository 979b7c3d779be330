"""Streaming rows out of any database that Airflow has a ``DbApiHook`` for."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from airflow_provider_voucherify.compat import BaseHook
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.chunks import ROWS_AT_FIRST, Rows
from airflow_provider_voucherify.sync.rows.sources import from_cursor

log = logging.getLogger(__name__)


@contextmanager
def query(sql_conn_id: str, sql: str, parameters: Iterable[Any] | Mapping[str, Any] | None = None) -> Iterator[Rows]:
    """
    Run a query and give its rows as a stream; the connection is closed at the end, whatever is left unread.

    Drivers that would otherwise fetch the whole result into memory are asked for a server-side or unbuffered cursor:
    psycopg2, psycopg, MySQLdb (mysqlclient), pymysql and mysql.connector. The others are read with ``fetchmany``.

    Bytes become text if the cursor describes their column as one of text, and integers if it is a BIT of MySQL.

    A server-side cursor of PostgreSQL takes one ``SELECT``, ``VALUES`` or ``WITH`` that changes nothing, and lives in
    a transaction: autocommit is switched off on the connection.

    :param sql_conn_id: a connection whose hook is a ``DbApiHook``.
    :param sql: one statement that returns rows.
    :param parameters: bound by the driver, in its own style.
    :raises VoucherifyConfigurationError: the connection's hook cannot run queries, or the statement returns no rows.
        Errors of the driver are raised as they are.
    """
    hook = database_hook(sql_conn_id)
    connection = hook.get_conn()
    driver = _driver(connection)
    cursor: Any = None
    try:
        cursor = driver.cursor(connection)
        if parameters is None:
            cursor.execute(sql)
        else:
            cursor.execute(sql, parameters)
        yield _rows(cursor, partial(driver.reader, connection))
    finally:
        driver.close(connection, cursor)


def database_hook(conn_id: str) -> Any:
    """
    Return the hook of a connection to a database.

    :raises VoucherifyConfigurationError: it is none.
    """
    hook = BaseHook.get_hook(conn_id)
    if not hasattr(hook, "get_records") or not hasattr(hook, "get_conn"):
        raise VoucherifyConfigurationError(
            f"{conn_id!r} is a connection of type {getattr(hook, 'conn_type', None)!r}, whose "
            f"{type(hook).__name__} cannot run queries (it is not a DbApiHook)"
        )
    return hook


_Reader = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class _Driver:
    """
    How a driver is used.

    :param cursor: opens a cursor that streams.
    :param close: closes it and the connection before all rows are read.
    :param reader: returns what reads the bytes of a column, which is given as the cursor describes it; None if they are
        no more than bytes.
    """

    cursor: Callable[[Any], Any]
    close: Callable[[Any, Any], None]
    reader: Callable[[Any, Sequence[Any]], _Reader | None]


def _driver(connection: Any) -> _Driver:
    """Return the driver of a connection, also if its class is extended elsewhere."""
    modules = [cls.__module__.partition(".")[0] for cls in type(connection).__mro__]
    return next((_DRIVERS[module] for module in modules if module in _DRIVERS), _ANY_DRIVER)


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


def _reader_by_type_code(connection: Any, column: Sequence[Any]) -> _Reader | None:
    """Return what reads the bytes of a column of text, as PEP 249 lets the driver's module say."""
    for cls in type(connection).__mro__:
        module = sys.modules.get(cls.__module__.partition(".")[0])
        if (string := getattr(module, "STRING", None)) is not None:
            return _text if string == column[1] and getattr(module, "BINARY", None) != column[1] else None
    return None


def _mysql_reader(connection: Any, column: Sequence[Any]) -> _Reader | None:
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


_MYSQL_BIT, _MYSQL_BINARY = 16, 63
_MYSQL_CHARSET = 8
"""The place of the character set in ``mysql.connector``'s description of a column."""

_ANY_DRIVER = _Driver(_plain_cursor, _close_in_turn, _reader_by_type_code)

_DRIVERS = {
    "psycopg2": _Driver(_psycopg2_cursor, _close_in_turn, _reader_by_type_code),
    "psycopg": _Driver(_psycopg_cursor, _close_in_turn, _reader_by_type_code),
    "MySQLdb": _Driver(_mysqldb_cursor, _hang_up, _mysql_reader),
    "pymysql": _Driver(_pymysql_cursor, _hang_up, _mysql_reader),
    "mysql": _Driver(_mysql_connector_cursor, _hang_up, _mysql_reader),
}


def _rows(cursor: Any, reader: Callable[[Sequence[Any]], _Reader | None]) -> Rows:
    """Fetch first and ask for the columns afterwards: a named cursor knows them only then."""
    first: Sequence[Sequence[Any]] | None = cursor.fetchmany(ROWS_AT_FIRST)
    if cursor.description is None:
        raise VoucherifyConfigurationError("the sql is not a query: it returns no rows")
    described = ((place, reader(column)) for place, column in enumerate(cursor.description))
    readers = {place: read_bytes for place, read_bytes in described if read_bytes is not None}

    def fetchmany(size: int) -> Sequence[Sequence[Any]]:
        nonlocal first
        rows, first = (first, None) if first is not None else (cursor.fetchmany(size), None)
        return _without_bytes(rows, readers)

    read: Callable[[int], Sequence[Sequence[Any]]] = fetchmany
    return from_cursor([column[0] for column in cursor.description], read)


def _without_bytes(rows: Sequence[Sequence[Any]], readers: Mapping[int, _Reader]) -> Sequence[Sequence[Any]]:
    """Read the bytes of some columns, each of which has either bytes or none."""
    if rows and isinstance(rows[0], Mapping):
        return rows
    for place, read in readers.items():
        if isinstance(next((row[place] for row in rows if row[place] is not None), None), bytes | bytearray):
            rows = [(*row[:place], None if row[place] is None else read(row[place]), *row[place + 1 :]) for row in rows]
    return rows
