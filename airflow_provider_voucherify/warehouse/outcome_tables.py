"""Outcomes and the state of records in three tables of a warehouse, through any ``DbApiHook``."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_random

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.results.summary import joined
from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.warehouse.database import MAX_PARAMETERS, Database, some_of
from airflow_provider_voucherify.warehouse.queries import query

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.state.record_state import RecordState
    from airflow_provider_voucherify.sync.types.outcome import RowOutcome

log = logging.getLogger(__name__)

LONGEST_ID = 500
"""Characters of an id of which a state is kept. Records with longer ids are sent with every sync."""

LONGEST_NAME = 600

LONGEST_FIELDS = 4_000
"""Characters of the list of a record's fields, all of them ASCII; of a longer one nothing is kept."""

TRIES = 4
"""How often a transaction is tried that the database refuses: with a second in between at most."""

CONTESTED = "another run of this sync has been at work at the same time, so what both have sent is sent again next time"

_PROBES = (("顧客 Ω 𝄞", 0x10FFFF), ("顧客 Ω", 0xFFFF), ("é ß", 0xFF), ("c1", 0x7F))
"""Texts that a table may be able to keep, and up to which character it keeps all others then."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*){0,2}")

RUN_COUNTS = (
    "rows_read", "submitted", "succeeded", "updated", "created", "unchanged", "failed", "refused", "superseded",
    "not_reported", "values_not_cleared", "removed", "removed_to_mark", "requests", "bytes_sent",
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
    "fields": "varchar(4000)",
    "not_cleared": "varchar(4000)",
    "sent_by": "varchar(32)",
}


class OutcomeTables:
    """
    The tables ``{table}_runs``, ``{table}_changelog`` and ``{table}_state`` of a database, created where absent.

    ``runs`` has a row per task run with its counts, ``changelog`` a row per source row of a run (rows that were not
    sent because they had not changed are only counted), and ``state`` a row per record with what its last sync came to.
    Everything of a run is written in one transaction, with as many rows in a statement as databases take, and writing
    the same run again replaces it.

    Times are ISO-8601 in UTC. Times and text are ``varchar``, which every database has (in SQL Server ``nvarchar``, in
    MySQL of ``utf8mb4``). ``sent_by`` is a digest of the key of the run that was the last to be about to send a record.
    ``record_key``, a digest of the sync's name, the resource and the record's id, is the key of ``state``, since
    databases limit the length of keys, and some take ``a`` and ``A`` for the same. An id that is read from ``state``
    counts only if it has that digest: the database may have changed it, and what it made of it is nobody's id.

    Tables of a character set that cannot keep every text (MySQL's ``latin1``, SQL Server's ``varchar``) are found out
    by a probe before anything is sent. Ids that they cannot keep have no state there, and other text is escaped.

    :param conn_id: a connection whose hook is a ``DbApiHook``.
    :param table: what the tables' names begin with, optionally after a schema and a dot.
    :param sync_name: whose state it is; other syncs in the same tables have a state of their own.
    :param resource: of the records.
    """

    def __init__(self, conn_id: str, table: str, sync_name: str, resource: str) -> None:
        if not _NAME.fullmatch(table):
            raise VoucherifyConfigurationError(f"outcomes_table {table!r} is not a table name")
        if len(sync_name) > LONGEST_NAME:
            raise VoucherifyConfigurationError(f"the sync's name has more than {LONGEST_NAME} characters")
        self._sync_name = sync_name
        self._resource = resource
        self._database = Database(conn_id)
        self._highest = _PROBES[0][1]
        self.strangers = 0
        self._runs, self._changelog, self._state = (f"{table}_{name}" for name in ("runs", "changelog", "state"))

    def create(self) -> None:
        """
        Create the tables that are not there, and see what they can keep.

        :raises VoucherifyConfigurationError: they cannot keep the sync's name.
        """
        self._create_absent()
        self._probe()
        if self._highest < _PROBES[0][1]:
            log.warning("%s", self._cannot_keep())
            if not self._can_keep(self._sync_name):
                raise VoucherifyConfigurationError(
                    f"sync_name {self._sync_name!r} cannot be kept: {self._cannot_keep()}"
                )

    def _create_absent(self) -> None:
        keys = {self._runs: "run_key", self._changelog: "run_key, entry_number", self._state: "record_key"}
        tables = ((self._runs, _RUNS), (self._changelog, _CHANGELOG), (self._state, _STATE))
        with closing(self._database.hook.get_conn()) as connection:
            for table, columns in tables:
                if not self._database.exists(connection, table):
                    self._database.create(connection, table, columns, keys[table])

    def exist(self) -> bool:
        """Say whether the state's table is there."""
        with closing(self._database.hook.get_conn()) as connection:
            return self._database.exists(connection, self._state)

    def states(self) -> Iterator[RecordState]:
        """Give the state of every record of the sync."""
        from airflow_provider_voucherify.sync.state.record_state import RecordState

        columns = (
            "record_key, record_id, settings, digest, failed_digest, attempts, outcome, reason_key, message, run_key, "
            "confirmed_at, fields, not_cleared"
        )
        where = f"sync_name = {self._database.mark} and resource = {self._database.mark}"
        select = f"select {columns} from {self._state} where {where} order by record_id"  # noqa: S608
        self.strangers = 0
        with query(self._database.conn_id, select, (self._sync_name, self._resource)) as chunks:
            for chunk in chunks:
                for row in chunk.rows if isinstance(chunk, Chunk) else ():
                    record_key, record_id, settings, digest, failed, attempts, outcome, key, message, *others = row
                    run, at, fields, not_cleared = others
                    if record_id is None or self._key(record_id) != record_key:
                        self.strangers += 1
                        continue
                    yield RecordState(
                        record_id,
                        settings,
                        None if digest is None else int(digest),
                        None if failed is None else int(failed),
                        int(attempts),
                        outcome,
                        key,
                        message,
                        run,
                        None if at is None else datetime.fromisoformat(at).timestamp(),
                        fields,
                        not_cleared,
                    )

    def has_runs_of_others(self, run_key: str) -> bool:
        """Say whether an earlier run of the sync has written records, which must have left a state."""
        select = (
            f"select distinct sync_name from {self._runs} "  # noqa: S608
            f"where sync_name = {self._database.mark} and resource = {self._database.mark} and run_key <> {self._database.mark} and succeeded > 0"
        )
        with closing(self._database.hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(select, [self._sync_name, self._resource, run_key])
            return any(name == self._sync_name for (name,) in cursor.fetchall())

    def doubt(self, ids: Iterable[str], run_key: str) -> None:
        """
        Take the confirmation from records that a run is about to send, and say which run that is.

        It is looked whether that has come to pass: a row that another run's transaction has just replaced was not there
        for the update.
        """
        run = _digest(run_key)
        update = f"update {self._state} set digest = null, sent_by = {self._database.mark} where record_key in"  # noqa: S608
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            for keys in some_of(map(self._key, ids), MAX_PARAMETERS - 1):
                left = keys
                for _ in range(TRIES):
                    cursor.execute(f"{update} {self._database.marks(len(left))}", [run, *left])
                    connection.commit()
                    left = [key for key, sent_by in self._there(cursor, keys).items() if sent_by != run]
                    connection.commit()
                    if not left:
                        break

    def sent_by_others(self, ids: Iterable[str], run_key: str) -> Iterator[str]:
        """Give those of some records that another run was the last to be about to send."""
        run = _digest(run_key)
        with closing(self._database.hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
            for some in some_of(ids, MAX_PARAMETERS):
                keys = {self._key(record_id): record_id for record_id in some}
                there = self._there(cursor, list(keys))
                yield from (keys[key] for key, sent_by in there.items() if sent_by != run)

    def write(
        self,
        run: Mapping[str, Any],
        outcomes: Callable[[], Iterable[RowOutcome]],
        states: Callable[[], Iterable[RecordState]],
    ) -> list[str]:
        """
        Write what became of a run.

        The transaction is tried again where the database refuses it: another run of the same sync that ends at the
        same moment has written the same records, or, in some databases, holds locks that this one needs.

        :param run: values of the ``runs`` table by column.
        :param outcomes: gives those of the rows that are to be in the changelog.
        :param states: gives those of the records that the run has changed. A record that was sent, or written into the
            table, by another run since ``doubt`` is contested: then nobody knows which of the two came last at
            Voucherify, and neither counts.
        :returns: what deserves a look, in words; ``warning`` in the ``runs`` table says it too.
        """
        again = Retrying(
            retry=retry_if_exception(_comes_from_the_database),
            stop=stop_after_attempt(TRIES),
            wait=wait_random(0, 1),
            before_sleep=before_sleep_log(log, logging.WARNING),
            reraise=True,
        )
        self._probe()
        return again(lambda: self._write(run, outcomes(), states()))

    def _write(
        self, run: Mapping[str, Any], outcomes: Iterable[RowOutcome], states: Iterable[RecordState]
    ) -> list[str]:
        contested, left_out, this_run = 0, 0, _digest(run["run_key"])
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            self._forget(cursor, run["run_key"])
            entries = ([run["run_key"], number, *self._entry(o)] for number, o in enumerate(outcomes, start=1))
            self._database.insert(cursor, self._changelog, _CHANGELOG, entries)
            for given in some_of(states, MAX_PARAMETERS // len(_STATE)):
                some = [state for state in given if self._can_keep(state.id)]
                left_out += len(given) - len(some)
                if not some:
                    continue
                keys = [self._key(state.id) for state in some]
                there = self._there(cursor, keys)
                of_others = {key for key, sent_by in there.items() if sent_by != this_run}
                contested += sum(_says_what_is_there(s) and k in of_others for s, k in zip(some, keys, strict=True))
                if there:
                    cursor.execute(
                        f"delete from {self._state} where record_key in {self._database.marks(len(there))}",  # noqa: S608
                        list(there),
                    )
                rows = [
                    [*self._state_row(run, key, state, contested=key in of_others), this_run]
                    for key, state in zip(keys, some, strict=True)
                ]
                self._database.insert(cursor, self._state, _STATE, rows)
            warnings = [CONTESTED] if contested else []
            if left_out:
                warnings.append(
                    f"{left_out} records have ids that {self._state} cannot keep, so they are sent with every sync"
                )
            told = {**run, "warning": joined([run.get("warning"), *warnings])}
            self._database.insert(cursor, self._runs, _RUNS, [[self._text(told.get(name), 1_000) for name in _RUNS]])
            connection.commit()
        return warnings

    def _probe(self) -> None:
        """Find out up to which character the tables keep text."""
        refused: Exception | None = None
        for text, self._highest in _PROBES:
            for _ in range(2):  # what is refused once may have been locked
                try:
                    if self._keeps(text):
                        return
                    break
                except Exception as error:
                    refused = error
        if refused is not None:
            raise refused
        raise VoucherifyConfigurationError(f"the table {self._state} does not give back what is written to it")

    def _keeps(self, text: str) -> bool:
        """Write a text into the state's table, read it, and take it back."""
        key = uuid.uuid4().hex
        row: dict[str, Any] = dict.fromkeys(_STATE, "-") | dict.fromkeys(("sync_name", "record_id", "message"), text)
        row |= {"record_key": key, "digest": None, "failed_digest": None, "attempts": 0}
        where = f"where record_key = {self._database.mark}"
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            try:
                self._database.insert(cursor, self._state, _STATE, [list(row.values())])
                cursor.execute(f"select sync_name, record_id, message from {self._state} {where}", [key])  # noqa: S608
                found = [list(read) for read in cursor.fetchall()]
                cursor.execute(f"delete from {self._state} {where}", [key])  # noqa: S608
            finally:
                connection.rollback()
        return found == [[text] * 3]

    def _can_keep(self, record_id: str) -> bool:
        return (
            len(record_id) <= LONGEST_ID and "\0" not in record_id and ord(max(record_id, default=" ")) <= self._highest
        )

    def _cannot_keep(self) -> str:
        how = {
            "mysql": f"alter table {self._state} convert to character set utf8mb4, and charset in the connection's"
            " extra",
            "mssql": "make its columns nvarchar",
        }
        return (
            f"the table {self._state} cannot keep every character: records whose ids have others are sent with every "
            f"sync, and texts are escaped ({how.get(self._database.kind, 'give it a character set of Unicode')}; "
            f"the same goes for {self._runs} and {self._changelog})"
        )

    def _forget(self, cursor: Any, run_key: str) -> None:
        """
        Delete what an earlier try of a run has written.

        Nothing is deleted that is not there: MySQL would lock the gap, and two runs that end together each other.
        """
        cursor.execute(f"select 1 from {self._runs} where run_key = {self._database.mark}", [run_key])  # noqa: S608
        if cursor.fetchall():
            for table in (self._runs, self._changelog):
                cursor.execute(f"delete from {table} where run_key = {self._database.mark}", [run_key])  # noqa: S608

    def _there(self, cursor: Any, keys: Sequence[str]) -> dict[str, str | None]:
        """Return which records have a state, and which run was the last to be about to send them."""
        select = f"select record_key, sent_by from {self._state} where record_key in {self._database.marks(len(keys))}"  # noqa: S608
        cursor.execute(select, keys)
        return dict(cursor.fetchall())

    def _state_row(self, run: Mapping[str, Any], key: str, state: RecordState, *, contested: bool) -> list[Any]:
        told = (state.fields, state.not_cleared)
        key_of_reason = "reported" if contested and _is_marked(state) else state.key
        return [
            *(key, self._sync_name, self._resource, state.id, state.settings),
            *(None if contested else state.digest, state.failed_digest, state.attempts, state.outcome),
            *(self._text(key_of_reason, 100), self._text(state.message, LONGEST_ID), self._text(state.run, 760)),
            run["finished_at"],
            None if state.confirmed_at is None else iso(state.confirmed_at),
            *(None if names is None or len(names) > LONGEST_FIELDS else names for names in told),
        ]

    def _entry(self, outcome: RowOutcome) -> list[Any]:
        long = (self._text(text, LONGEST_ID) for text in (outcome.id, outcome.message, outcome.details))
        short = (self._text(text, 100) for text in (outcome.key, outcome.async_action_id))
        (record_id, message, details), (key, action) = long, short
        return [outcome.row, record_id, outcome.outcome, key, message, details, action]

    def _text(self, value: Any, most: int) -> Any:
        """Cut a text to what its column takes, without what it does not take: NUL in PostgreSQL, and see the class."""
        if not isinstance(value, str):
            return value
        kept = value[:most].replace("\0", " ")
        if kept.isascii() or self._highest == _PROBES[0][1]:
            return kept
        return "".join(c if ord(c) <= self._highest else f"\\u{ord(c):04x}" for c in kept)[:most]

    def _key(self, record_id: str) -> str:
        return _digest(f"{self._sync_name}\n{self._resource}\n{record_id}")


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _says_what_is_there(state: RecordState) -> bool:
    """Say whether a run that comes later believes what a state says of Voucherify."""
    return state.digest is not None or _is_marked(state)


def _is_marked(state: RecordState) -> bool:
    return state.outcome == "removed" and state.key == "marked"


def iso(epoch: float) -> str:
    """Write a time as the tables have it, e.g. ``2026-11-21T02:00:00.123+00:00``."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds")


def _comes_from_the_database(error: BaseException) -> bool:
    """Say whether an error is one of those that every driver has by the name that PEP 249 gives it."""
    return any(kind.__name__ == "DatabaseError" for kind in type(error).__mro__)
