"""Outcomes and the state of records in three tables of a warehouse, through any ``DbApiHook``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.results.summary import joined
from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.warehouse.bulk_load import MAX_PARAMETERS
from airflow_provider_voucherify.warehouse.database import TRIES, Database, some_of
from airflow_provider_voucherify.warehouse.kept_text import KeptText
from airflow_provider_voucherify.warehouse.outcome_columns import (
    CHANGELOG,
    RUNS,
    STATE,
    STATE_AS_READ,
    changelog_row,
    record_state,
    run_row,
    says_what_is_there,
    state_row,
)
from airflow_provider_voucherify.warehouse.queries import query

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.state.record_state import RecordState
    from airflow_provider_voucherify.sync.types.outcome import RowOutcome

log = logging.getLogger(__name__)

MAX_NAME = 600

CONTESTED = "another run of this sync has been at work at the same time, so what both have sent is sent again next time"


class OutcomeTables:
    """
    The tables ``{table}_runs``, ``{table}_changelog`` and ``{table}_state`` of a database, created if absent.

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
        if len(sync_name) > MAX_NAME:
            raise VoucherifyConfigurationError(f"the sync's name has more than {MAX_NAME} characters")
        self._sync_name = sync_name
        self._resource = resource
        self._database = Database(conn_id)
        self.strangers = 0
        self._runs, self._changelog, self._state = (f"{table}_{name}" for name in ("runs", "changelog", "state"))
        self._kept = KeptText(self._database, self._state)

    def create(self) -> None:
        """
        Create the tables that are not there, and see what they can keep.

        :raises VoucherifyConfigurationError: they cannot keep the sync's name, or lack columns.
        """
        self._create_absent()
        self._kept.probe()
        if self._kept.is_everything:
            return
        warning = (
            f"the table {self._state} cannot keep every character: records whose ids have others are sent with every "
            f"sync, and texts are escaped ({self._kept.advice()}; the same goes for {self._runs} and {self._changelog})"
        )
        log.warning("%s", warning)
        if not self._kept.has(self._sync_name):
            raise VoucherifyConfigurationError(f"sync_name {self._sync_name!r} cannot be kept: {warning}")

    def _create_absent(self) -> None:
        keys = {self._runs: "run_key", self._changelog: "run_key, entry_number", self._state: "record_key"}
        tables = ((self._runs, RUNS), (self._changelog, CHANGELOG), (self._state, STATE))
        with closing(self._database.hook.get_conn()) as connection:
            for table, columns in tables:
                if not self._database.exists(connection, table):
                    self._database.create(connection, table, columns, keys[table])
                elif not self._database.exists(connection, table, columns):
                    raise VoucherifyConfigurationError(
                        f"the table {table} lacks columns, as that of an earlier version does: drop it or add them; "
                        f"it has to have {', '.join(columns)}"
                    )

    def exist(self) -> bool:
        """Say whether the state's table is there."""
        with closing(self._database.hook.get_conn()) as connection:
            return self._database.exists(connection, self._state)

    def states(self) -> Iterator[RecordState]:
        """Give the state of every record of the sync."""
        select = (
            f"select record_key, {STATE_AS_READ} from {self._state} "  # noqa: S608
            f"where sync_name = {self._database.mark} and resource = {self._database.mark} order by record_id"
        )
        self.strangers = 0
        with query(self._database.conn_id, select, (self._sync_name, self._resource)) as chunks:
            for chunk in chunks:
                for record_key, *row in chunk.rows if isinstance(chunk, Chunk) else ():
                    if row[0] is None or self._key(row[0]) != record_key:
                        self.strangers += 1
                    else:
                        yield record_state(row)

    def has_runs_of_others(self, run_key: str) -> bool:
        """Say whether an earlier run of the sync has written records, which must have left a state."""
        mark = self._database.mark
        select = (
            f"select distinct sync_name from {self._runs} "  # noqa: S608
            f"where sync_name = {mark} and resource = {mark} and run_key <> {mark} and succeeded > 0"
        )
        with closing(self._database.hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(select, [self._sync_name, self._resource, run_key])
            return any(name == self._sync_name for (name,) in cursor.fetchall())

    def doubt(self, ids: Iterable[str], run_key: str) -> None:
        """
        Take the confirmation from records that a run is about to send, and say which run that is.

        It is checked afterwards, and done again if need be: a row that another run's transaction has just replaced was
        not there for the update.
        """
        run = _digest(run_key)
        update = f"update {self._state} set digest = null, sent_by = {self._database.mark} where record_key in"  # noqa: S608
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            for keys in some_of(map(self._key, ids), MAX_PARAMETERS - 1):
                remaining = keys
                for _ in range(TRIES):
                    cursor.execute(f"{update} {self._database.marks(len(remaining))}", [run, *remaining])
                    connection.commit()
                    remaining = [key for key, sent_by in self._there(cursor, keys).items() if sent_by != run]
                    connection.commit()
                    if not remaining:
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

        The transaction is tried again if the database refuses it: another run of the same sync that ends at the
        same moment has written the same records, or, in some databases, holds locks that this one needs.

        :param run: values of the ``runs`` table by column.
        :param outcomes: gives those of the rows that are to be in the changelog.
        :param states: gives those of the records that the run has changed. A record that was sent, or written into the
            table, by another run since ``doubt`` is contested: then nobody knows which of the two came last at
            Voucherify, and neither counts.
        :returns: what deserves a look, in words; ``warning`` in the ``runs`` table says it too.
        """
        self._kept.probe()
        return self._database.retrying()(lambda: self._write(run, outcomes(), states()))

    def _write(
        self, run: Mapping[str, Any], outcomes: Iterable[RowOutcome], states: Iterable[RecordState]
    ) -> list[str]:
        contested, left_out, this_run = 0, 0, _digest(run["run_key"])
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            self._forget(cursor, run["run_key"])
            entries = (changelog_row(run["run_key"], n, o, self._kept.cut) for n, o in enumerate(outcomes, start=1))
            self._database.insert(cursor, self._changelog, CHANGELOG, entries)
            for given in some_of(states, MAX_PARAMETERS // len(STATE)):
                some = [state for state in given if self._kept.has(state.id)]
                left_out += len(given) - len(some)
                if not some:
                    continue
                keys = [self._key(state.id) for state in some]
                there = self._there(cursor, keys)
                of_others = {key for key, sent_by in there.items() if sent_by != this_run}
                contested += sum(says_what_is_there(s) and k in of_others for s, k in zip(some, keys, strict=True))
                if there:
                    cursor.execute(
                        f"delete from {self._state} where record_key in {self._database.marks(len(there))}",  # noqa: S608
                        list(there),
                    )
                rows = (
                    state_row(
                        (key, self._sync_name, self._resource),
                        state,
                        finished_at=run["finished_at"],
                        sent_by=this_run,
                        contested=key in of_others,
                        cut=self._kept.cut,
                    )
                    for key, state in zip(keys, some, strict=True)
                )
                self._database.insert(cursor, self._state, STATE, rows)
            warnings = [CONTESTED] if contested else []
            if left_out:
                warnings.append(
                    f"{left_out} records have ids that {self._state} cannot keep, so they are sent with every sync"
                )
            finished = {**run, "warning": joined([run.get("warning"), *warnings])}
            self._database.insert(cursor, self._runs, RUNS, [run_row(finished, self._kept.cut)])
            connection.commit()
        return warnings

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

    def _key(self, record_id: str) -> str:
        return _digest(f"{self._sync_name}\n{self._resource}\n{record_id}")


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
