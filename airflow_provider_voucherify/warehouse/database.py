"""What any database with a ``DbApiHook`` is asked for: whether a table is there, one more table, many rows at once."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random

from airflow_provider_voucherify.warehouse.bulk_load import Dialect, bulk_load, dialect_of
from airflow_provider_voucherify.warehouse.drivers import transaction_of
from airflow_provider_voucherify.warehouse.queries import database_hook

log = logging.getLogger(__name__)

TRIES = 4
"""How often a transaction is tried that the database refuses: with a second in between at most."""

_KEEPS_TIME_ZONES = ("postgres", "sqlite", "mssql", "duckdb")
"""Kinds of databases whose times have a zone; those of all others are in UTC."""

_MICROSECONDS: dict[Dialect, str] = {
    "postgres": "cast(extract(epoch from {}) * 1000000 as bigint)",
    "mysql": "timestampdiff(microsecond, '1970-01-01', {})",
    "sqlite": "{}",
    "duckdb": "epoch_us({})",
    "other": "{}",
}


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
    def retrying(what: str) -> Retrying:
        """
        Return what tries a transaction again if the database refuses it, as for a deadlock.

        :param what: is tried, for the log, e.g. ``to write the outcomes``.
        """

        def warn(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            log.warning("The database refuses %s (%s); it is tried again", what, type(error).__name__)

        return Retrying(
            retry=retry_if_exception(_may_be_accepted_later),
            stop=stop_after_attempt(TRIES),
            wait=wait_random(0, 1),
            before_sleep=warn,
            reraise=True,
        )

    def insert(self, cursor: Any, table: str, columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows, by the database's own means of writing many."""
        bulk_load(cursor, table, columns, rows, mark=self.mark)

    def exists(self, connection: Any, table: str, columns: Iterable[str] = ("1",)) -> bool:
        """
        Say whether a table, or some columns of it, can be read, which asks for no right to create tables.

        A database that is out of order passes for one without the table: the caller tries to create it then.
        """
        with closing(connection.cursor()) as cursor:
            try:
                cursor.execute(f"select {', '.join(columns)} from {table} where 1 = 0")  # noqa: S608
                cursor.fetchall()
            except Exception:
                connection.rollback()
                return False
        return True

    def create(self, connection: Any, table: str, statement: str) -> bool:
        """
        Create a table that is not there.

        :param statement: which creates it.
        :returns: whether it was created; False if another task has just done so.
        """
        with closing(connection.cursor()) as cursor:
            try:
                cursor.execute(statement)
                connection.commit()
            except Exception:
                connection.rollback()
                if self.exists(connection, table):
                    return False
                raise
        return True

    def time(self, epoch: float | None = None) -> str:
        """
        Return a time as a statement gives it to a column of that type, which casts it.

        :param epoch: Unix epoch seconds; None for now.
        """
        moment = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(epoch, UTC)
        text = moment.isoformat(" ", timespec="microseconds")
        return text if self.kind in _KEEPS_TIME_ZONES else text.removesuffix("+00:00")

    @cached_property
    def dialect(self) -> Dialect:
        """Which database it is, as far as its own means are known."""
        with closing(self.transaction()) as connection, closing(connection.cursor()) as cursor:
            return dialect_of(cursor)

    def time_column(self, name: str) -> str:
        """Return what selects a column of times: as microseconds since 1970, where the database can say so."""
        return _MICROSECONDS[self.dialect].format(name)

    @staticmethod
    def epoch(value: Any) -> float | None:
        """Return a time that was read from a table as Unix epoch seconds; None for null."""
        if value is None:
            return None
        if isinstance(value, int):
            return value / 1_000_000
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _may_be_accepted_later(error: BaseException) -> bool:
    """Say whether an error is a refusal of the database, by the names that PEP 249 gives every driver's errors."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return "DatabaseError" in kinds and not kinds & {"ProgrammingError", "DataError", "NotSupportedError"}
