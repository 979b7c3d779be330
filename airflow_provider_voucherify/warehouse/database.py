"""What any database with a ``DbApiHook`` is asked for: whether a table is there, one more table, many rows at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from itertools import islice
from typing import Any

from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_random

from airflow_provider_voucherify.warehouse.bulk_load import bulk_load
from airflow_provider_voucherify.warehouse.drivers import transaction_of
from airflow_provider_voucherify.warehouse.queries import database_hook

log = logging.getLogger(__name__)

TRIES = 4
"""How often a transaction is tried that the database refuses: with a second in between at most."""


class Database:
    """
    A database, by the connection that leads to it.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id

    @cached_property
    def hook(self) -> Any:
        """The connection's hook, which is looked up when it is needed first."""
        return database_hook(self.conn_id)

    @property
    def kind(self) -> str:
        """Which database it is, by the type of the connection, such as ``postgres``."""
        return str(getattr(self.hook, "conn_type", ""))

    @property
    def mark(self) -> str:
        """What stands for a value in a statement."""
        return str(getattr(self.hook, "placeholder", "%s"))

    def marks(self, count: int) -> str:
        """Return placeholders for that many values, in parentheses."""
        return f"({', '.join([self.mark] * count)})"

    def transaction(self) -> Any:
        """Open a connection whose statements are one transaction, whatever the driver's default is."""
        connection = self.hook.get_conn()
        if self.hook.supports_autocommit:
            self.hook.set_autocommit(connection, False)
        return transaction_of(connection)

    @staticmethod
    def retrying() -> Retrying:
        """Return what tries a transaction again if the database refuses it, as for a deadlock."""
        return Retrying(
            retry=retry_if_exception(_comes_from_the_database),
            stop=stop_after_attempt(TRIES),
            wait=wait_random(0, 1),
            before_sleep=before_sleep_log(log, logging.WARNING),
            reraise=True,
        )

    def insert(self, cursor: Any, table: str, columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows, by the database's own means of writing many."""
        bulk_load(cursor, table, columns, rows, mark=self.mark)

    def exists(self, connection: Any, table: str, columns: Iterable[str] = ("1",)) -> bool:
        """
        Say whether a table, or some columns of it, can be read, which asks for no right to create tables.

        A database that is out of order does not pass for one without the table: what is tried next fails too.
        """
        with closing(connection.cursor()) as cursor:
            try:
                cursor.execute(f"select {', '.join(columns)} from {table} where 1 = 0")  # noqa: S608
                cursor.fetchall()
            except Exception:
                connection.rollback()
                return False
        return True

    def create(self, connection: Any, table: str, columns: Mapping[str, str], key: str) -> None:
        """
        Create a table that is not there.

        :param columns: type by name; ``varchar`` becomes a type for text of any language.
        :param key: the columns of its primary key, which is text that fits ``varchar``.
        """
        keys = key.split(", ")
        described = ", ".join(f"{name} {self._type(kind, name in keys)}" for name, kind in columns.items())
        with closing(connection.cursor()) as cursor:
            try:
                suffix = " character set utf8mb4" if self.kind == "mysql" else ""
                cursor.execute(f"create table {table} ({described}, primary key ({key})){suffix}")
                connection.commit()
            except Exception:
                connection.rollback()
                if not self.exists(connection, table):  # else another task has just created it
                    raise

    def _type(self, kind: str, is_key: bool) -> str:
        """Return a column's type; SQL Server has one of its own for text of any language, too long for a key."""
        return kind.replace("varchar(", "nvarchar(") if self.kind == "mssql" and not is_key else kind


def _comes_from_the_database(error: BaseException) -> bool:
    """Say whether an error is one of those that every driver has by the name that PEP 249 gives it."""
    return any(kind.__name__ == "DatabaseError" for kind in type(error).__mro__)


def some_of(items: Iterable[Any], number: int) -> Iterator[list[Any]]:
    """Give items in lists of at most that many."""
    rest = iter(items)
    while some := list(islice(rest, number)):
        yield some
