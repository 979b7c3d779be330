"""Outcomes and the state of records in three tables of a warehouse, through any ``DbApiHook``."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_random

from airflow_provider_voucherify.hooks.warehouse import database_hook, query
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.sources import Chunk

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.record_state import RecordState, RowOutcome

log = logging.getLogger(__name__)

MOST_PARAMETERS = 2_000
"""Values in one statement: the databases' limits begin at 2,100."""

LONGEST_ID = 500
"""Characters of an id of which a state is kept. Records with longer ids are sent with every sync."""

LONGEST_NAME = 600

TRIES = 4
"""How often a transaction is tried that the database refuses: with a second in between at most."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*){0,2}")

RUN_COUNTS = (
    "rows_read", "submitted", "succeeded", "updated", "created", "unchanged", "failed", "refused", "superseded",
    "not_reported", "removed", "removed_to_mark", "requests", "bytes_sent",
)  # fmt: skip

# Some databases count a varchar in bytes, of which a character may take four.
_RUNS = {
    "run_key": "varchar(760) not null",
    "sync_name": "varchar(2400)",
    "dag_id": "varchar(1000)",
    "task_id": "varchar(1000)",
    "run_id": "varchar(1000)",
    "map_index": "integer",
    "try_number": "integer",
    "resource": "varchar(20)",
    "settings": "varchar(40)",
    "finished_at": "varchar(40)",
    **dict.fromkeys(RUN_COUNTS, "bigint"),
    "warning": "varchar(4000)",
}
_CHANGELOG = {
    "run_key": "varchar(760) not null",
    "entry_number": "bigint not null",
    "source_row": "bigint",
    "record_id": "varchar(2000)",
    "outcome": "varchar(20) not null",
    "reason_key": "varchar(400)",
    "message": "varchar(2000)",
    "details": "varchar(2000)",
    "async_action_id": "varchar(400)",
}
_STATE = {
    "record_key": "varchar(32) not null",
    "sync_name": "varchar(2400) not null",
    "resource": "varchar(20) not null",
    "record_id": "varchar(2000) not null",
    "settings": "varchar(40) not null",
    "digest": "bigint",
    "failed_digest": "bigint",
    "attempts": "integer not null",
    "outcome": "varchar(20) not null",
    "reason_key": "varchar(400)",
    "message": "varchar(2000)",
    "run_key": "varchar(760) not null",
    "changed_at": "varchar(40)",
    "confirmed_at": "varchar(40)",
}


class OutcomeTables:
    """
    The tables ``{table}_runs``, ``{table}_changelog`` and ``{table}_state`` of a database, created where absent.

    ``runs`` has a row per task run with its counts, ``changelog`` a row per source row of a run (rows that were not
    sent because they had not changed are only counted), and ``state`` a row per record with what its last sync came to.
    Everything of a run is written in one transaction, with as many rows in a statement as databases take, and writing
    the same run again replaces it.

    Times are ISO-8601 in UTC. Times and text are ``varchar``, which every database has. ``record_key``, a digest of the
    sync's name, the resource and the record's id, is the key of ``state``, since databases limit the length of keys,
    and some take ``a`` and ``A`` for the same.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    :param table: what the tables' names begin with, optionally after a schema and a dot.
    :param sync_name: whose state it is; other syncs in the same tables have a state of their own.
    :param resource: of the records.
    """

    def __init__(self, conn_id: str, table: str, sync_name: str, resource: str) -> None:
        if not _NAME.fullmatch(table):
            raise VoucherifyConfigurationError(f"outcomes_table {table!r} is no table name")
        if len(sync_name) > LONGEST_NAME:
            raise VoucherifyConfigurationError(f"the sync's name has more than {LONGEST_NAME} characters")
        self._conn_id = conn_id
        self._sync_name = sync_name
        self._resource = resource
        self._hook: Any = database_hook(conn_id)
        self._runs, self._changelog, self._state = (f"{table}_{name}" for name in ("runs", "changelog", "state"))

    def create(self) -> None:
        """Create the tables that are not there."""
        keys = {self._runs: "run_key", self._changelog: "run_key, entry_number", self._state: "record_key"}
        tables = ((self._runs, _RUNS), (self._changelog, _CHANGELOG), (self._state, _STATE))
        with closing(self._hook.get_conn()) as connection:
            for table, columns in tables:
                if not self._exists(connection, table):
                    described = ", ".join(f"{name} {kind}" for name, kind in columns.items())
                    self._create(connection, table, f"{described}, primary key ({keys[table]})")

    def exist(self) -> bool:
        """Say whether the state's table is there."""
        with closing(self._hook.get_conn()) as connection:
            return self._exists(connection, self._state)

    def states(self) -> Iterator[RecordState]:
        """Give the state of every record of the sync."""
        from airflow_provider_voucherify.sync.record_state import RecordState

        columns = (
            "record_id, settings, digest, failed_digest, attempts, outcome, reason_key, message, run_key, confirmed_at"
        )
        where = f"sync_name = {self._mark} and resource = {self._mark}"
        select = f"select {columns} from {self._state} where {where} order by record_id"  # noqa: S608
        with query(self._conn_id, select, (self._sync_name, self._resource)) as chunks:
            for chunk in chunks:
                for row in chunk.rows if isinstance(chunk, Chunk) else ():
                    record_id, settings, digest, failed_digest, attempts, outcome, key, message, run, confirmed_at = row
                    yield RecordState(
                        record_id,
                        settings,
                        None if digest is None else int(digest),
                        None if failed_digest is None else int(failed_digest),
                        int(attempts),
                        outcome,
                        key,
                        message,
                        run,
                        None if confirmed_at is None else datetime.fromisoformat(confirmed_at).timestamp(),
                    )

    def doubt(self, ids: Iterable[str]) -> None:
        """Take the confirmation from records that are about to be sent."""
        with closing(self._connection()) as connection, closing(connection.cursor()) as cursor:
            for some in _some(map(self._key, ids), MOST_PARAMETERS):
                keys = self._marks(len(some))
                cursor.execute(f"update {self._state} set digest = null where record_key in {keys}", some)  # noqa: S608
            connection.commit()

    def write(
        self,
        run: Mapping[str, Any],
        outcomes: Callable[[], Iterable[RowOutcome]],
        states: Callable[[], Iterable[RecordState]],
    ) -> int:
        """
        Write what became of a run.

        The transaction is tried again where the database refuses it: another run of the same sync that ends at the
        same moment has written the same records, or, in some databases, holds locks that this one needs.

        :param run: values of the ``runs`` table by column.
        :param outcomes: gives those of the rows that are to be in the changelog.
        :param states: gives those of the records that the run has changed. A record that is confirmed in the table
            although ``doubt`` has taken its confirmation was written by another run at the same time: then nobody knows
            which of the two came last at Voucherify, and neither counts.
        :returns: how many of these there are.
        """
        again = Retrying(
            retry=retry_if_exception(_comes_from_the_database),
            stop=stop_after_attempt(TRIES),
            wait=wait_random(0, 1),
            before_sleep=before_sleep_log(log, logging.WARNING),
            reraise=True,
        )
        return again(lambda: self._write(run, outcomes(), states()))

    def _write(self, run: Mapping[str, Any], outcomes: Iterable[RowOutcome], states: Iterable[RecordState]) -> int:
        contested = 0
        with closing(self._connection()) as connection, closing(connection.cursor()) as cursor:
            self._forget(cursor, run["run_key"])
            entries = ([run["run_key"], number, *_entry(o)] for number, o in enumerate(outcomes, start=1))
            self._insert(cursor, self._changelog, _CHANGELOG, entries)
            for some in _some(filter(_can_be_kept, states), MOST_PARAMETERS // len(_STATE)):
                keys = [self._key(state.id) for state in some]
                there = self._there(cursor, keys)
                confirmed = {key for key, is_confirmed in there.items() if is_confirmed}
                contested += sum(s.digest is not None and k in confirmed for s, k in zip(some, keys, strict=True))
                if there:
                    cursor.execute(
                        f"delete from {self._state} where record_key in {self._marks(len(there))}",  # noqa: S608
                        list(there),
                    )
                rows = [
                    self._state_row(run, key, state, contested=key in confirmed)
                    for key, state in zip(keys, some, strict=True)
                ]
                self._insert(cursor, self._state, _STATE, rows)
            self._insert(cursor, self._runs, _RUNS, [[_text(run.get(name), 1_000) for name in _RUNS]])
            connection.commit()
        return contested

    def _forget(self, cursor: Any, run_key: str) -> None:
        """
        Delete what an earlier try of a run has written.

        Nothing is deleted that is not there: MySQL would lock the gap, and two runs that end together each other.
        """
        cursor.execute(f"select 1 from {self._runs} where run_key = {self._mark}", [run_key])  # noqa: S608
        if cursor.fetchall():
            for table in (self._runs, self._changelog):
                cursor.execute(f"delete from {table} where run_key = {self._mark}", [run_key])  # noqa: S608

    def _there(self, cursor: Any, keys: Sequence[str]) -> dict[str, bool]:
        """Return which records have a state, and whether it is confirmed."""
        marks = self._marks(len(keys))
        select = f"select record_key, digest from {self._state} where record_key in {marks}"  # noqa: S608
        cursor.execute(select, keys)
        return {key: digest is not None for key, digest in cursor.fetchall()}

    def _connection(self) -> Any:
        """Open a connection whose statements are one transaction, whatever the driver's default is."""
        connection = self._hook.get_conn()
        if self._hook.supports_autocommit:
            self._hook.set_autocommit(connection, False)
        return connection

    def _state_row(self, run: Mapping[str, Any], key: str, state: RecordState, *, contested: bool) -> list[Any]:
        return [
            *(key, self._sync_name, self._resource, state.id, state.settings),
            *(None if contested else state.digest, state.failed_digest, state.attempts, state.outcome),
            *(_text(state.key, 100), _text(state.message, LONGEST_ID), _text(state.run, 760), run["finished_at"]),
            None if state.confirmed_at is None else iso(state.confirmed_at),
        ]

    def _key(self, record_id: str) -> str:
        return blake2b(f"{self._sync_name}\n{self._resource}\n{record_id}".encode(), digest_size=16).hexdigest()

    @property
    def _mark(self) -> str:
        return str(getattr(self._hook, "placeholder", "%s"))

    def _marks(self, count: int) -> str:
        return f"({', '.join([self._mark] * count)})"

    def _insert(self, cursor: Any, table: str, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
        for some in _some(rows, MOST_PARAMETERS // len(columns)):
            values = ", ".join([self._marks(len(columns))] * len(some))
            flat = [value for row in some for value in row]
            cursor.execute(f"insert into {table} ({', '.join(columns)}) values {values}", flat)  # noqa: S608

    def _exists(self, connection: Any, table: str) -> bool:
        """
        Say whether a table can be read, which asks for no right to create tables.

        A database that is out of order does not pass for one without the table: what is tried next fails too.
        """
        with closing(connection.cursor()) as cursor:
            try:
                cursor.execute(f"select 1 from {table} where 1 = 0")  # noqa: S608
                cursor.fetchall()
            except Exception:
                connection.rollback()
                return False
        return True

    def _create(self, connection: Any, table: str, described: str) -> None:
        with closing(connection.cursor()) as cursor:
            try:
                cursor.execute(f"create table {table} ({described})")
                connection.commit()
            except Exception:
                connection.rollback()
                if not self._exists(connection, table):  # else another task has just created it
                    raise


def iso(epoch: float) -> str:
    """Write a time as the tables have it, e.g. ``2026-11-21T02:00:00.123+00:00``."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")


def _entry(outcome: RowOutcome) -> list[Any]:
    return [
        *(outcome.row, _text(outcome.id, LONGEST_ID), outcome.outcome, _text(outcome.key, 100)),
        *(_text(outcome.message, LONGEST_ID), _text(outcome.details, LONGEST_ID), _text(outcome.async_action_id, 100)),
    ]


def _text(value: Any, most: int) -> Any:
    """Cut a text to what its column takes, without the character NUL, which PostgreSQL does not take."""
    return value[:most].replace("\0", " ") if isinstance(value, str) else value


def _comes_from_the_database(error: BaseException) -> bool:
    """Say whether an error is one of those that every driver has by the name that PEP 249 gives it."""
    return any(kind.__name__ == "DatabaseError" for kind in type(error).__mro__)


def _can_be_kept(state: RecordState) -> bool:
    return len(state.id) <= LONGEST_ID and "\0" not in state.id


def _some(items: Iterable[Any], most: int) -> Iterator[list[Any]]:
    left = iter(items)
    while some := list(islice(left, most)):
        yield some
