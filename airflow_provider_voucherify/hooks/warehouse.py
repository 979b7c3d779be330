"""Streaming rows out of any database that Airflow has a ``DbApiHook`` for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from airflow_provider_voucherify.compat import BaseHook
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.sources import ROWS_PER_CHUNK, Rows, from_cursor


@contextmanager
def query(sql_conn_id: str, sql: str, parameters: Iterable[Any] | Mapping[str, Any] | None = None) -> Iterator[Rows]:
    """
    Run a query and give its rows as a stream; the connection is closed at the end.

    Drivers that would otherwise fetch the whole result into memory are asked for a server-side cursor: psycopg2 and
    psycopg (a named cursor) and MySQLdb (an unbuffered one). The others are read with ``fetchmany``.

    :param sql_conn_id: a connection whose hook is a ``DbApiHook``.
    :param sql: one statement that returns rows.
    :param parameters: bound by the driver, in its own style.
    :raises VoucherifyConfigurationError: the connection's hook cannot run queries, or the query returns no rows' form.
    """
    hook = BaseHook.get_hook(sql_conn_id)
    if not hasattr(hook, "get_records") or not hasattr(hook, "get_conn"):
        raise VoucherifyConfigurationError(
            f"sql_conn_id {sql_conn_id!r} is a connection of type {getattr(hook, 'conn_type', None)!r}, whose "
            f"{type(hook).__name__} cannot run queries (it is no DbApiHook)"
        )
    with closing(hook.get_conn()) as connection, closing(_cursor(connection)) as cursor:
        if parameters is None:
            cursor.execute(sql)
        else:
            cursor.execute(sql, parameters)
        yield _rows(cursor)


def _cursor(connection: Any) -> Any:
    driver = type(connection).__module__.partition(".")[0]
    if driver in ("psycopg2", "psycopg"):
        cursor = connection.cursor(name="voucherify")
        cursor.itersize = ROWS_PER_CHUNK
        return cursor
    if driver == "MySQLdb":
        from MySQLdb.cursors import SSCursor  # type: ignore[import-untyped,import-not-found,unused-ignore]

        return connection.cursor(SSCursor)
    return connection.cursor()


def _rows(cursor: Any) -> Rows:
    """Fetch first and ask for the columns afterwards: a named cursor knows them only then."""
    first: Sequence[Sequence[Any]] | None = cursor.fetchmany(ROWS_PER_CHUNK)
    if cursor.description is None:
        raise VoucherifyConfigurationError("the sql is no query: it returns no rows")

    def fetchmany(size: int) -> Sequence[Sequence[Any]]:
        nonlocal first
        rows, first = (first, None) if first is not None else (cursor.fetchmany(size), None)
        return rows

    read: Callable[[int], Sequence[Sequence[Any]]] = fetchmany
    return from_cursor([column[0] for column in cursor.description], read)
