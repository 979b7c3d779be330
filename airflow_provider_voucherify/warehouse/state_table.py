"""The state of a sync's records in a table, of which several runs may be at work at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from types import NoneType
from typing import Any

from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.sync.state.record_state import RecordState, StateColumns
from airflow_provider_voucherify.sync.types.text import short_digest
from airflow_provider_voucherify.warehouse import schema
from airflow_provider_voucherify.warehouse import state_sql as sql
from airflow_provider_voucherify.warehouse.bulk_load import Progress, dialect_of
from airflow_provider_voucherify.warehouse.database import TRIES, Database
from airflow_provider_voucherify.warehouse.kept_text import KeptText
from airflow_provider_voucherify.warehouse.queries import query
from airflow_provider_voucherify.warehouse.staging_table import StagingTable


class StateTable:
    """
    The rows of one sync in the table ``{name}_state``; see ``schema.state``.

    Rows are written all at once: they are loaded into a staging table, which the database then merges into this one.

    An id that is read counts only if it has the digest that is the row's key: the database may have changed it, and
    what it made of it is nobody's id.

    :param name: what the tables' names begin with.
    :param sync_name: whose state it is; other syncs in the same table have a state of their own.
    :param resource: of the records.
    :param kept: which text the table keeps. Ids that it cannot keep have no state.
    :param keep_values: whether the table has the JSON that Voucherify confirmed last of each record.
    :ivar strangers: how many rows ``states`` has not given, because their id is not the one of their key.
    """

    def __init__(
        self, database: Database, name: str, sync_name: str, resource: str, kept: KeptText, *, keep_values: bool = False
    ) -> None:
        self._database = database
        self._table = f"{name}_state"
        self._sync_name = sync_name
        self._resource = resource
        self._kept = kept
        self._keep_values = keep_values
        self._staging = StagingTable(database, name)
        self._of_sync = blake2b(f"{sync_name}\n{resource}\n".encode("utf-8", "surrogatepass"), digest_size=16)
        self.strangers = 0

    def states(self) -> Iterator[StateColumns]:
        """Give the state of every record of the sync, but for what Voucherify has confirmed last of it."""
        database = self._database
        times = ("confirmed_at", "failing_since")
        columns = [database.time_column(name) if name in times else name for name in sql.AS_READ]
        select = (
            f"select record_key, {', '.join(columns)} from {self._table} where sync_key = {database.mark} "  # noqa: S608
            f"{sql.IN_ORDER[database.dialect]}"
        )
        self.strangers = 0
        epoch = lru_cache(1_000)(database.epoch)
        with query(database.conn_id, select, (sync_key(self._sync_name, self._resource),)) as chunks:
            for chunk in chunks:
                rows = chunk.rows if isinstance(chunk, Chunk) else ()
                own = [row for row in rows if row[1] is not None and self._key(row[1]) == row[0]]
                self.strangers += len(rows) - len(own)
                if own:
                    yield _columns(own, epoch)

    def of_record(self, record_id: str) -> dict[str, Any] | None:
        """Return the state of one record; ``is_certain`` if Voucherify has it as it was in the source last."""
        names = (
            *("outcome", "reason_key", "message", "attempts", "confirmed_at", "failing_since", "content", "run_name"),
            "digest",
        )
        mark = self._database.mark
        select = f"select {', '.join(names)} from {self._table} where record_key = {mark}"  # noqa: S608
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(select, [self._key(record_id)])
            row = cursor.fetchone()
            connection.rollback()
        if row is None:
            return None
        *values, digest = row
        state = dict(zip(names, values, strict=False))
        times = {name: self._database.epoch(state[name]) for name in ("confirmed_at", "failing_since")}
        return {**state, **times, "is_certain": digest is not None}

    def doubt(self, ids: Callable[[], Iterable[str]], run_key: str) -> None:
        """
        Take the confirmation from records that a run is about to send, and say which run that is.

        It is checked afterwards, and done again if need be: in some databases a row that another run's transaction has
        just replaced was not there for the update.
        """
        self._database.retrying("to note whom it is about to send")(lambda: self._doubt(ids(), short_digest(run_key)))

    def _doubt(self, ids: Iterable[str], run: str) -> None:
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            keys = ((self._key(record_id),) for record_id in ids)
            statements = sql.Statements(self._table, self._database.mark, dialect_of(cursor))
            with self._staging.filled(cursor, ["record_key"], keys) as staged, self._progress():
                for _ in range(TRIES):
                    cursor.execute(statements.doubt(staged), [run])
                    cursor.execute(statements.count_sent_by_others(staged), [run])
                    if not int(cursor.fetchall()[0][0]):
                        break
            connection.commit()

    def sent_by_others(self, ids: Iterable[str], run_key: str) -> Iterator[str]:
        """Give those of some records that another run was the last to be about to send."""
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            keys = ((self._key(record_id),) for record_id in ids)
            statements = sql.Statements(self._table, self._database.mark, dialect_of(cursor))
            with self._staging.filled(cursor, ["record_key"], keys) as staged, self._progress():
                cursor.execute(statements.sent_by_others(staged), [short_digest(run_key)])
                rows = cursor.fetchall()
            connection.rollback()
        return (record_id for (record_id,) in rows)

    def prepare(self) -> None:
        """
        Find out how rows are staged, before the transaction that writes begins.

        It takes a connection of its own, and SQLite lets none read while another writes more than its cache holds.
        """
        _ = self._staging.is_temporary

    def write(self, cursor: Any, states: Iterable[RecordState], run_key: str, at: str) -> tuple[int, int]:
        """
        Write the states that a run has changed, in an open transaction.

        A record that was sent, or written into the table, by another run since ``doubt`` is contested: then nobody
        knows which of the two came last at Voucherify, and neither counts. The first states of a sync are loaded as
        they are: should another run do so at the same time, the database refuses one of both, which tries again.

        :param at: when it was.
        :returns: how many records are contested, and how many have ids that the table cannot keep.
        """
        rows = _Rows(states, self._kept, self._row(at))
        statements = sql.Statements(self._table, self._database.mark, dialect_of(cursor))
        of_sync = (sync_key(self._sync_name, self._resource), self._sync_name, self._resource)
        cursor.execute(statements.find_any(), [of_sync[0]])
        if cursor.fetchall()[0][0] is None:
            same = (*of_sync, short_digest(run_key))
            columns = (*sql.OF_SYNC, *sql.STAGED)
            self._database.insert(cursor, self._table, columns, ((*same, *row) for row in rows))
            return 0, rows.left_out
        with self._staging.filled(cursor, sql.STAGED, rows) as staged, self._progress():
            merge = sql.Merge(of_sync, short_digest(run_key), short_digest(f"{run_key}\ncontested"), self._keep_values)
            for statement, values in statements.merge(staged, merge):
                cursor.execute(statement, values)
            cursor.execute(statements.count_contested(), [of_sync[0], merge.contested])
            contested = int(cursor.fetchall()[0][0])
        return contested, rows.left_out

    def _progress(self) -> Progress:
        return Progress(f"states into the table {self._table}")

    def _row(self, at: str) -> Callable[[RecordState], list[Any]]:
        """Return what makes a row of ``STAGED`` of a state."""
        cut, key, time = self._kept.cut, self._key, lru_cache(1_000)(self._database.time)
        cut_name, characters = lru_cache(1_000)(cut), schema.widths(schema.state(self._table))

        def names(text: str | None) -> str | None:
            return None if text is None or len(text) > schema.MAX_FIELDS else text

        def row(state: RecordState) -> list[Any]:
            return [
                *(key(state.id), state.id, state.settings, state.digest, state.failed_digest, state.attempts),
                *(state.outcome, cut_name(state.key, characters["reason_key"])),
                None if state.message is None else cut(state.message, characters["message"]),
                *(cut_name(state.run, characters["run_name"]), at),
                None if state.confirmed_at is None else time(state.confirmed_at),
                None if state.failing_since is None else time(state.failing_since),
                *(names(state.fields), names(state.not_cleared)),
                None if state.content is None else self._kept.escaped_json(state.content),
            ]

        return row

    def _key(self, record_id: str) -> str:
        digest = self._of_sync.copy()
        digest.update(record_id.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


@dataclass
class _Rows:
    """
    Rows of states, but for those whose ids are not kept.

    :ivar left_out: how many these have been so far.
    """

    states: Iterable[RecordState]
    kept: KeptText
    row: Callable[[RecordState], list[Any]]
    left_out: int = 0

    def __iter__(self) -> Iterator[list[Any]]:
        for state in self.states:
            if self.kept.has(state.id):
                yield self.row(state)
            else:
                self.left_out += 1


def sync_key(sync_name: str, resource: str) -> str:
    """Return the digest of a sync, by which tables are indexed."""
    return short_digest(f"{sync_name}\n{resource}")


def _columns(rows: Sequence[Sequence[Any]], epoch: Callable[[Any], float | None]) -> StateColumns:
    """Return the states that the database gives in rows of a key and ``AS_READ``."""
    _, ids, settings, *numbers, outcome, key, message, run, confirmed_at, fields, not_cleared, since = zip(
        *rows, strict=True
    )
    return (
        *(ids, settings, *map(_integers, numbers), outcome, key, message, run),
        *(list(map(epoch, confirmed_at)), fields, not_cleared, list(map(epoch, since))),
    )


def _integers(column: Sequence[Any]) -> Sequence[int | None]:
    """Return a column of whole numbers; some drivers have decimal numbers alone."""
    if set(map(type, column)) <= {int, NoneType}:
        return column
    return [value if value is None else int(value) for value in column]
