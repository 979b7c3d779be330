"""The tables of a ``state`` in a database: their columns, indexes and version, in each database's own types."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    Unicode,
)
from sqlalchemy.dialects import mssql, mysql, postgresql, sqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable
from sqlalchemy.sql import quoted_name

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.types.outcome import RUN_COUNTS
from airflow_provider_voucherify.warehouse.database import Database

log = logging.getLogger(__name__)

VERSION = 1
"""Of the tables. A new column that may be null needs no new one: ``create`` adds it to tables that lack it."""

MAX_ID = 500
"""Characters of an id of which a state is kept. Records with longer ids are sent with every sync."""

MAX_FIELDS = 4_000
"""Characters of the list of a record's fields, all of them ASCII; of a longer one nothing is kept."""

_MOST_OF_NVARCHAR = 1_000
"""Characters of a column, beyond which SQL Server has another type."""

_CHARACTERS = "characters"
"""In what a column tells of itself: how many it takes."""

_TIME = (
    TIMESTAMP(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql").with_variant(DateTime(timezone=True), "mssql")
)
_DIALECTS: dict[str, Any] = {
    "postgres": postgresql.dialect,
    "mysql": mysql.dialect,
    "sqlite": sqlite.dialect,
    "mssql": mssql.dialect,
}
_DIGEST = String(32)
_BYTES_PER_CHARACTER = 4
"""Some databases count a varchar in bytes."""

_ID = (
    Unicode(_BYTES_PER_CHARACTER * MAX_ID)
    .with_variant(mysql.VARCHAR(MAX_ID, collation="utf8mb4_bin"), "mysql")  # else ``a`` is ``A``
    .with_variant(Unicode(MAX_ID), "mssql")  # more is too long for an index
)
_CONTENT = Text().with_variant(mysql.LONGTEXT(), "mysql").with_variant(Unicode(), "mssql")
_ANY_TEXT = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4"), "mysql").with_variant(Unicode(), "mssql")
"""For a table that somebody else may have made, in MySQL with a character set that lacks some characters."""


def _text(name: str, characters: int, *, nullable: bool = True) -> Column[Any]:
    """Describe a column of text; in MySQL of a type that does not count towards the size of a row."""
    kind = Unicode(_BYTES_PER_CHARACTER * characters).with_variant(mysql.TEXT(), "mysql")
    if characters > _MOST_OF_NVARCHAR:
        kind = kind.with_variant(Unicode(), "mssql")
    return Column(name, kind, nullable=nullable, info={_CHARACTERS: characters})


def widths(table: Table) -> dict[str, int]:
    """Return how many characters the columns of text take; those without a limit are not in it."""
    widths = {
        column.name: column.info.get(_CHARACTERS) or getattr(column.type, "length", None) for column in table.columns
    }
    return {name: width for name, width in widths.items() if width}


def runs(name: str) -> Table:
    """
    Describe ``{name}_runs``: a row for each try of each task instance, which is only ever closed, and never replaced.

    ``status`` is ``running`` until the try ends, also while it is deferred; then ``success``, ``failed``, ``skipped``,
    or ``lost``, if a later try of the task instance has found that nobody had closed it. Counts are
    those of the summary (null: unknown), of the whole run, whichever of its tries has sent what.
    """
    return _table(
        f"{name}_runs",
        Column("try_id", _DIGEST, primary_key=True),
        Column("run_key", _DIGEST, nullable=False),
        Column("sync_key", _DIGEST, nullable=False),
        _text("sync_name", 600, nullable=False),
        Column("resource", String(20)),
        _text("dag_id", 250, nullable=False),
        _text("task_id", 250, nullable=False),
        _text("run_id", 250, nullable=False),
        Column("map_index", Integer, nullable=False),
        Column("try_number", Integer, nullable=False),
        Column("run_type", String(40)),
        Column("logical_date", _TIME),
        Column("status", String(20), nullable=False),
        Column("started_at", _TIME, nullable=False),
        Column("finished_at", _TIME),
        Column("dry_run", Boolean, nullable=False),
        *(Column(count, BigInteger) for count in RUN_COUNTS),
        _text("failures_by_key", 4_000),
        _text("exceeded", 4_000),
        _text("warning", 4_000),
        Column("error_type", String(200)),
        _text("error_message", 500),
        _text("advice", 500),
        _text("log_url", 4_000),
        _text("run_url", 4_000),
        _text("report_uri", 4_000),
        Column("provider_version", String(40)),
        Column("airflow_version", String(40)),
        indexes={"by_run": ("run_key",), "by_sync": ("sync_key", "started_at")},
    )


def changelog(name: str) -> Table:
    """
    Describe ``{name}_changelog``: a line for each row of a try, of those that were not simply ``unchanged``.

    ``written_at`` is when the outcomes were written down, the same for all lines of a try. ``content`` is the JSON that
    was sent, if the state's ``keep_values`` says so.
    """
    return _table(
        f"{name}_changelog",
        Column("try_id", _DIGEST, primary_key=True),
        Column("entry_number", BigInteger, primary_key=True, autoincrement=False),
        Column("written_at", _TIME, nullable=False),
        Column("sync_key", _DIGEST, nullable=False),
        Column("source_row", BigInteger),
        Column("record_id", _ID, info={_CHARACTERS: MAX_ID}),
        Column("outcome", String(20), nullable=False),
        _text("reason_key", 100),
        _text("message", 500),
        _text("details", 500),
        _text("async_action_id", 100),
        Column("content", _CONTENT),
        indexes={"by_record": ("record_id", "written_at"), "by_sync": ("sync_key", "written_at")},
    )


def state(name: str) -> Table:
    """
    Describe ``{name}_state``: a row for each record of a sync.

    ``record_key`` is a digest of the sync's name, the resource and the id: databases limit the length of keys, and some
    take ``a`` and ``A`` for the same. ``sent_by`` is a digest of the run that was the last to be about to send it.
    """
    return _table(
        f"{name}_state",
        Column("record_key", _DIGEST, primary_key=True),
        Column("sync_key", _DIGEST, nullable=False),
        _text("sync_name", 600, nullable=False),
        Column("resource", String(20), nullable=False),
        Column("record_id", _ID, nullable=False, info={_CHARACTERS: MAX_ID}),
        Column("settings", String(40), nullable=False),
        Column("digest", BigInteger),
        Column("failed_digest", BigInteger),
        Column("attempts", Integer, nullable=False),
        Column("outcome", String(20), nullable=False),
        _text("reason_key", 100),
        _text("message", 500),
        _text("run_name", 760, nullable=False),
        Column("changed_at", _TIME),
        Column("confirmed_at", _TIME),
        Column("failing_since", _TIME),
        _text("fields", MAX_FIELDS // _BYTES_PER_CHARACTER),
        _text("not_cleared", MAX_FIELDS // _BYTES_PER_CHARACTER),
        Column("sent_by", _DIGEST),
        Column("content", _CONTENT),
        indexes={"by_sync": ("sync_key",)},
    )


def staging(name: str) -> Table:
    """Describe ``{name}_staging``: states on their way to their table, by batch, where no table can be temporary."""
    columns = (Column(column.name, column.type) for column in state(name).columns)
    return _table(
        f"{name}_staging", Column("batch", _DIGEST, nullable=False), *columns, indexes={"by_batch": ("batch",)}
    )


def staged(name: str) -> Table:
    """Describe ``{name}_staged``: files of tasks that are deferred, in pieces."""
    return _table(
        f"{name}_staged",
        Column("folder", String(200), primary_key=True),
        Column("file_name", String(200), primary_key=True),
        Column("piece", Integer, primary_key=True, autoincrement=False),
        Column("content", String(4000), nullable=False),
        indexes={},
    )


def create(database: Database, tables: Iterable[Table], name: str) -> None:
    """
    Create the tables that are not there, and add the columns that those that are there lack.

    :param name: what the tables' names begin with: ``{name}_schema`` has their version.
    :raises VoucherifyConfigurationError: they are of a later version, or cannot be brought to this one.
    """
    with closing(database.transaction()) as connection:
        version = _version(name)
        if not database.exists(connection, version.fullname):
            _create(database, connection, version)
        newest = _newest_version(connection, name)
        for table in tables:
            if not database.exists(connection, table.fullname):
                _create(database, connection, table)
            elif not database.exists(connection, table.fullname, table.columns.keys()):
                _add_columns(database, connection, table)
        if newest is None:
            _note_version(database, connection, version)


def prepare(database: Database, connection: Any, name: str, columns: Iterable[str]) -> list[str]:
    """
    Create a table with columns of text, or add those that it lacks.

    :returns: the columns' names as a statement has them, quoted where they need it.
    """
    table = _table(name, *(Column(column, _ANY_TEXT) for column in columns), indexes={})
    quoted = [_quoted(database, column) for column in table.columns]
    if not database.exists(connection, name):
        _create(database, connection, table)
    elif not database.exists(connection, name, quoted):
        _add_columns(database, connection, table)
    return quoted


def exist(database: Database, name: str) -> bool:
    """
    Say whether the tables are there, without making any.

    :raises VoucherifyConfigurationError: they are of a later version.
    """
    with closing(database.transaction()) as connection:
        if not database.exists(connection, _version(name).fullname):
            return False
        return _newest_version(connection, name) is not None and database.exists(connection, f"{name}_state")


def _version(name: str) -> Table:
    return _table(
        f"{name}_schema",
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("created_at", _TIME, nullable=False),
        indexes={},
    )


def _newest_version(connection: Any, name: str) -> int | None:
    """
    Return the version of the tables; None where it has not been written down yet.

    :raises VoucherifyConfigurationError: it is a later one.
    """
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"select max(version) from {_version(name).fullname}")  # noqa: S608
        newest: int | None = cursor.fetchall()[0][0]
        connection.rollback()
    if newest is not None and newest > VERSION:
        raise VoucherifyConfigurationError(
            f"the tables {name}_… are of version {newest}, which a later version of this provider has made; this "
            f"one knows version {VERSION}: upgrade it, or give another table in the state"
        )
    return newest


def _note_version(database: Database, connection: Any, version: Table) -> None:
    """Write the version down; another task that has done so at the same moment has written the same."""
    with closing(connection.cursor()) as cursor:
        try:
            database.insert(cursor, version.fullname, version.columns.keys(), [(VERSION, database.time())])
            connection.commit()
        except Exception:
            connection.rollback()
            cursor.execute(f"select 1 from {version.fullname} where version = {VERSION}")  # noqa: S608
            if not cursor.fetchall():
                raise


def _create(database: Database, connection: Any, table: Table) -> None:
    if not database.create(connection, table.fullname, str(CreateTable(table).compile(dialect=_dialect(database)))):
        return  # another task has just created it, and its indexes
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        try:
            database.retrying(f"to create the index {index.name}")(_create_index, database, connection, index)
        except Exception as error:  # Snowflake and others have none
            log.warning("The index %s is left out: %s", index.name, error)


def _create_index(database: Database, connection: Any, index: Index) -> None:
    with closing(connection.cursor()) as cursor:
        try:
            cursor.execute(str(CreateIndex(index).compile(dialect=_dialect(database))))
            connection.commit()
        except Exception:
            connection.rollback()
            raise


def _add_columns(database: Database, connection: Any, table: Table) -> None:
    for column in table.columns:
        if database.exists(connection, table.fullname, [_quoted(database, column)]):
            continue
        if not column.nullable:
            raise VoucherifyConfigurationError(
                f"the table {table.fullname} lacks the column {column.name}, as that of a build before 0.1.0 does: "
                "drop or rename the tables, or give another table in the state"
            )
        described = CreateColumn(column).compile(dialect=_dialect(database))
        with closing(connection.cursor()) as cursor:
            try:
                cursor.execute(f"alter table {table.fullname} add {described}")
                connection.commit()
                log.info("The table %s has a new column %s", table.fullname, column.name)
            except Exception:
                connection.rollback()
                if not database.exists(
                    connection, table.fullname, [_quoted(database, column)]
                ):  # else another task has added it
                    raise


def _quoted(database: Database, column: Column[Any]) -> str:
    """Return a column's name as a statement has it: in quotes where a word of SQL's or an odd character needs them."""
    return str(_dialect(database).identifier_preparer.format_column(column))


def _dialect(database: Database) -> Any:
    """Return SQLAlchemy's dialect for a database, the same whatever is installed; most take the common one."""
    return _DIALECTS.get(database.kind, DefaultDialect)()


def _table(name: str, *columns: Column[Any], indexes: dict[str, Sequence[str]]) -> Table:
    """Describe a table under a name, perhaps with a schema in it, that is written as it was given, never quoted."""
    schema, _, bare = name.rpartition(".")
    described = Table(
        quoted_name(bare, quote=False),
        MetaData(),
        *columns,
        schema=quoted_name(schema, quote=False) if schema else None,
        mysql_charset="utf8mb4",
    )
    for suffix, names in indexes.items():
        Index(quoted_name(f"{bare}_{suffix}", quote=False), *(described.columns[one] for one in names))
    return described
