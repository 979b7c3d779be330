"""
A table for the rows of one transaction, which statements join instead of naming row by row whom they are about.

It is temporary where the database has temporary tables and lets the connection make one. In others it is a table of
their own, ``{name}_staging``, whose rows have the number of a batch: transactions share it, and take their rows with
them whether they end or break off.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from airflow_provider_voucherify.warehouse import schema
from airflow_provider_voucherify.warehouse.bulk_load import Dialect, dialect_of
from airflow_provider_voucherify.warehouse.database import Database

log = logging.getLogger(__name__)

_CREATE: dict[Dialect, str] = {
    "postgres": "create temporary table {name} on commit drop as",
    "mysql": "create temporary table {name} as",
    "sqlite": "create temporary table {name} as",
    "duckdb": "create temporary table {name} as",
}


@dataclass(frozen=True, slots=True)
class Staged:
    """
    Rows that are staged.

    :param table: where.
    :param batch: which of its rows; None for all.
    """

    table: str
    batch: str | None = None

    @property
    def where(self) -> str:
        """The condition that its rows fulfil."""
        return "1 = 1" if self.batch is None else f"batch = '{self.batch}'"

    @property
    def source(self) -> str:
        """What a statement selects from."""
        return self.table if self.batch is None else f"(select * from {self.table} where {self.where})"  # noqa: S608


class StagingTable:
    """
    Rows with columns of ``{name}_state``, for as long as a transaction lasts.

    :param name: what the tables' names begin with.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._state = f"{name}_state"
        self._shared = f"{name}_staging"
        self._name = name

    @contextmanager
    def filled(self, cursor: Any, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[Staged]:
        """
        Fill the table in the transaction of a cursor, and give its rows; they are gone at the end.

        :param columns: of the state's table.
        :param rows: their values.
        """
        if self.is_temporary:
            name = self._temporary_name(cursor)
            self._create(cursor, name, columns)
            self._database.insert(cursor, name, columns, rows)
            yield Staged(name)
            cursor.execute(f"drop table {name}" if dialect_of(cursor) != "mysql" else f"drop temporary table {name}")
            return
        batch = uuid.uuid4().hex
        self._database.insert(cursor, self._shared, ("batch", *columns), ((batch, *row) for row in rows))
        staged = Staged(self._shared, batch)
        yield staged
        cursor.execute(f"delete from {staged.table} where {staged.where}")  # noqa: S608

    @cached_property
    def is_temporary(self) -> bool:
        """Whether the connection can make a temporary table; if not, the one that transactions share is there then."""
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            if dialect_of(cursor) in _CREATE:
                try:
                    self._create(cursor, self._temporary_name(cursor), ["record_key"])
                    return True
                except Exception as error:
                    log.info("Rows are staged in the table %s, not in a temporary one: %s", self._shared, error)
                finally:
                    connection.rollback()
        schema.create(self._database, [schema.staging(self._name)], self._name)
        return False

    def _create(self, cursor: Any, name: str, columns: Sequence[str]) -> None:
        create = _CREATE[dialect_of(cursor)].format(name=name)
        cursor.execute(f"{create} select {', '.join(columns)} from {self._state} where 1 = 0")  # noqa: S608

    def _temporary_name(self, cursor: Any) -> str:
        """Return a name that is not that of any other table; only in MySQL a temporary table is in a database, too."""
        place, _, table = f"{self._name}_temporary".rpartition(".")
        return f"{place}.{table}" if place and dialect_of(cursor) == "mysql" else table
