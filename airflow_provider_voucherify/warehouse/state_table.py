"""The state of a sync's records in a table, of which several runs may be at work at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.sync.state.record_state import RecordState
from airflow_provider_voucherify.sync.types.text import short_digest
from airflow_provider_voucherify.warehouse.bulk_load import MAX_PARAMETERS
from airflow_provider_voucherify.warehouse.database import TRIES, Database, some_of
from airflow_provider_voucherify.warehouse.kept_text import KeptText
from airflow_provider_voucherify.warehouse.queries import query
from airflow_provider_voucherify.warehouse.schema import MAX_FIELDS, MAX_ID

COLUMNS = (
    *("record_key", "sync_key", "sync_name", "resource", "record_id", "settings", "digest", "failed_digest"),
    *("attempts", "outcome", "reason_key", "message", "run_name", "changed_at", "confirmed_at"),
    *("fields", "not_cleared", "sent_by"),
)

_AS_READ = (
    "record_id, settings, digest, failed_digest, attempts, outcome, reason_key, message, run_name, confirmed_at, "
    "fields, not_cleared"
)
"""The columns that ``_record_state`` takes."""


class StateTable:
    """
    The rows of one sync in the table ``{name}_state``; see ``schema.state``.

    An id that is read counts only if it has the digest that is the row's key: the database may have changed it, and
    what it made of it is nobody's id.

    :param name: what the tables' names begin with.
    :param sync_name: whose state it is; other syncs in the same table have a state of their own.
    :param resource: of the records.
    :param kept: which text the table keeps. Ids that it cannot keep have no state.
    :ivar strangers: how many rows ``states`` has not given, because their id is not the one of their key.
    """

    def __init__(self, database: Database, name: str, sync_name: str, resource: str, kept: KeptText) -> None:
        self._database = database
        self._table = f"{name}_state"
        self._sync_name = sync_name
        self._resource = resource
        self._kept = kept
        self.strangers = 0

    def states(self) -> Iterator[RecordState]:
        """Give the state of every record of the sync."""
        as_read = _AS_READ.replace("confirmed_at", self._database.time_column("confirmed_at"))
        select = (
            f"select record_key, {as_read} from {self._table} where sync_key = {self._database.mark} "  # noqa: S608
            "order by record_id"
        )
        self.strangers = 0
        with query(self._database.conn_id, select, (sync_key(self._sync_name, self._resource),)) as chunks:
            for chunk in chunks:
                for record_key, *row in chunk.rows if isinstance(chunk, Chunk) else ():
                    if row[0] is None or self._key(row[0]) != record_key:
                        self.strangers += 1
                    else:
                        yield self._record_state(row)

    def doubt(self, ids: Iterable[str], run_key: str) -> None:
        """
        Take the confirmation from records that a run is about to send, and say which run that is.

        It is checked afterwards, and done again if need be: a row that another run's transaction has just replaced was
        not there for the update.
        """
        run = short_digest(run_key)
        update = f"update {self._table} set digest = null, sent_by = {self._database.mark} where record_key in"  # noqa: S608
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
        run = short_digest(run_key)
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            for some in some_of(ids, MAX_PARAMETERS):
                keys = {self._key(record_id): record_id for record_id in some}
                there = self._there(cursor, list(keys))
                yield from (keys[key] for key, sent_by in there.items() if sent_by != run)

    def write(self, cursor: Any, states: Iterable[RecordState], run_key: str, at: str) -> tuple[int, int]:
        """
        Write the states that a run has changed, in an open transaction.

        A record that was sent, or written into the table, by another run since ``doubt`` is contested: then nobody
        knows which of the two came last at Voucherify, and neither counts.

        :param at: when it was.
        :returns: how many records are contested, and how many have ids that the table cannot keep.
        """
        contested, left_out, this_run = 0, 0, short_digest(run_key)
        for given in some_of(states, MAX_PARAMETERS // len(COLUMNS)):
            some = [state for state in given if self._kept.has(state.id)]
            left_out += len(given) - len(some)
            if not some:
                continue
            keys = [self._key(state.id) for state in some]
            there = self._there(cursor, keys)
            of_others = {key for key, sent_by in there.items() if sent_by != this_run}
            contested += sum(_says_what_is_there(s) and k in of_others for s, k in zip(some, keys, strict=True))
            if there:
                cursor.execute(
                    f"delete from {self._table} where record_key in {self._database.marks(len(there))}",  # noqa: S608
                    list(there),
                )
            rows = (
                self._row(key, state, at, this_run, contested=key in of_others)
                for key, state in zip(keys, some, strict=True)
            )
            self._database.insert(cursor, self._table, COLUMNS, rows)
        return contested, left_out

    def _row(self, key: str, state: RecordState, at: str, sent_by: str, *, contested: bool) -> list[Any]:
        """Return a row of the table; of a contested record it must not say that Voucherify has anything."""
        cut = self._kept.cut
        reason_key = "reported" if contested and _is_marked(state) else state.key
        return [
            *(key, sync_key(self._sync_name, self._resource), self._sync_name, self._resource, state.id),
            state.settings,
            *(None if contested else state.digest, state.failed_digest, state.attempts, state.outcome),
            *(cut(reason_key, 100), cut(state.message, MAX_ID), cut(state.run, 760)),
            at,
            None if state.confirmed_at is None else self._database.time(state.confirmed_at),
            *(
                None if names is None or len(names) > MAX_FIELDS else names
                for names in (state.fields, state.not_cleared)
            ),
            sent_by,
        ]

    def _record_state(self, row: Sequence[Any]) -> RecordState:
        """Return the state that a row of ``_AS_READ`` tells."""
        record_id, settings, digest, failed, attempts, outcome, key, message, run, confirmed_at, *fields = row
        return RecordState(
            record_id,
            settings,
            None if digest is None else int(digest),
            None if failed is None else int(failed),
            int(attempts),
            outcome,
            key,
            message,
            run,
            self._database.epoch(confirmed_at),
            *fields,
        )

    def _there(self, cursor: Any, keys: Sequence[str]) -> dict[str, str | None]:
        """Return which records have a state, and which run was the last to be about to send them."""
        select = f"select record_key, sent_by from {self._table} where record_key in {self._database.marks(len(keys))}"  # noqa: S608
        cursor.execute(select, keys)
        return dict(cursor.fetchall())

    def _key(self, record_id: str) -> str:
        return short_digest(f"{self._sync_name}\n{self._resource}\n{record_id}")


def sync_key(sync_name: str, resource: str) -> str:
    """Return the digest of a sync, by which tables are indexed."""
    return short_digest(f"{sync_name}\n{resource}")


def _says_what_is_there(state: RecordState) -> bool:
    """Say whether a run that comes later believes what a state says of Voucherify."""
    return state.digest is not None or _is_marked(state)


def _is_marked(state: RecordState) -> bool:
    """Say whether a record has left the source, and Voucherify has it marked for that."""
    return state.outcome == "removed" and state.key == "marked"
