"""Streaming rows out of any database that Airflow has a ``DbApiHook`` for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from airflow_provider_voucherify.compat import BaseHook
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.chunks import ROWS_AT_FIRST, Rows
from airflow_provider_voucherify.sync.rows.sources import from_cursor
from airflow_provider_voucherify.warehouse.drivers import Reader, driver_of


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
    driver = driver_of(connection)
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


def _rows(cursor: Any, reader: Callable[[Sequence[Any]], Reader | None]) -> Rows:
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


def _without_bytes(rows: Sequence[Sequence[Any]], readers: Mapping[int, Reader]) -> Sequence[Sequence[Any]]:
    """Read the bytes of some columns, each of which has either bytes or none."""
    if rows and isinstance(rows[0], Mapping):
        return rows
    for place, read in readers.items():
        if isinstance(next((row[place] for row in rows if row[place] is not None), None), bytes | bytearray):
            rows = [(*row[:place], None if row[place] is None else read(row[place]), *row[place + 1 :]) for row in rows]
    return rows
