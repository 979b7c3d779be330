"""
Rows of an export in a table.

All of it is one transaction: whoever reads the table sees the old rows until the new ones are all there, and an error
leaves the old ones. The table itself is never dropped or renamed, so its types, indexes, rights and views stay.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.rows.exported_rows import ExportedRows, without_doubles
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.warehouse import schema
from airflow_provider_voucherify.warehouse.bulk_load import dialect_of
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.queries import database_hook

_MAX_NAME = 55
"""Characters of a column's name: PostgreSQL takes 63 bytes, and a number may be added."""


class ExportedTable:
    """
    A table for the rows of an export, made with columns of text if it is not there.

    A column that it lacks is added, as text. Of one that is there the type stays: the database reads the text that
    Voucherify has written, and a value that is empty becomes null.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    :param table: its name, optionally after a schema and a dot.
    :param merge_on: the field by whose values rows are replaced; None to replace all rows.
    """

    def __init__(self, conn_id: str, table: str, merge_on: str | None = None) -> None:
        self._conn_id = conn_id
        self._table = table
        self._merge_on = merge_on

    def check(self) -> None:
        """
        See whether the connection leads to a database.

        :raises VoucherifyConfigurationError: it does not.
        """
        database_hook(self._conn_id)

    @contextmanager
    def replaced_by(self, rows: ExportedRows) -> Iterator[None]:
        """Write rows; they are there when the block is left, unless that is by an error."""
        database = Database(self._conn_id)
        if self._merge_on is not None and self._merge_on not in rows.columns:
            raise VoucherifyConfigurationError(
                f"merge_on: the export has no column {self._merge_on!r}; it has {', '.join(rows.columns)}"
            )
        key = None if self._merge_on is None else rows.columns.index(self._merge_on)
        with closing(database.transaction()) as connection, closing(connection.cursor()) as cursor:
            names = schema.prepare(database, connection, self._table, sql_names(rows.columns))
            values = ([value or None for value in row] for row in rows)
            if key is None:
                cursor.execute(f"delete from {self._table}")  # noqa: S608
                database.insert(cursor, self._table, names, values)
            else:
                self._merge(database, cursor, names, values, names[key])
            yield
            connection.commit()

    def _merge(
        self, database: Database, cursor: Any, names: Sequence[str], rows: Iterable[Sequence[Any]], key: str
    ) -> None:
        """Load rows into a temporary table, and put them in the place of those that have the same key."""
        staging, columns = f"voucherify_export_{uuid.uuid4().hex[:12]}", ", ".join(names)
        ending = " on commit drop" if dialect_of(cursor) == "postgres" else ""
        cursor.execute(
            f"create temporary table {staging}{ending} as select {columns} from {self._table} where 1 = 0"  # noqa: S608
        )
        database.insert(cursor, staging, names, rows)
        cursor.execute(f"select count(*) - count(distinct {key}) from {staging}")  # noqa: S608
        if without_one := cursor.fetchone()[0]:
            raise VoucherifyConfigurationError(
                f"merge_on: {key} does not identify {counted(without_one, 'row')} of the export; choose a column that "
                "identifies each row, such as id"
            )
        cursor.execute(f"delete from {self._table} where {key} in (select {key} from {staging})")  # noqa: S608
        cursor.execute(f"insert into {self._table} ({columns}) select {columns} from {staging}")  # noqa: S608


def sql_names(columns: Iterable[str]) -> tuple[str, ...]:
    """Return names of columns as a table has them: ``metadata.Favourite colour`` is ``metadata_favourite_colour``."""
    return without_doubles(map(_sql_name, columns))


def _sql_name(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.lower()).encode("ascii", "ignore").decode()
    word = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:_MAX_NAME]
    return f"column_{word}".rstrip("_") if not word or word[0].isdigit() else word
