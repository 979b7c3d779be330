"""The history of a sync in two tables: its tries, and what became of their rows. It is only ever added to."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

from airflow_provider_voucherify.sync.types.outcome import RowOutcome
from airflow_provider_voucherify.sync.types.text import short_digest
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.kept_text import KeptText
from airflow_provider_voucherify.warehouse.schema import MAX_ID, runs
from airflow_provider_voucherify.warehouse.state_table import sync_key

log = logging.getLogger(__name__)

ROWS_PER_DELETE = 10_000
"""Lines of the changelog that one statement deletes at most."""

_LINE = (
    *("try_id", "entry_number", "written_at", "sync_key", "source_row", "record_id", "outcome", "reason_key"),
    *("message", "details", "async_action_id", "content"),
)


class HistoryTables:
    """
    The rows of one sync in the tables ``{name}_runs`` and ``{name}_changelog``; see ``schema``.

    :param name: what the tables' names begin with.
    :param sync_name: whose history it is.
    :param resource: of the records; empty if that is not known before they are settled.
    :param kept: which text the tables keep.
    """

    def __init__(self, database: Database, name: str, sync_name: str, resource: str, kept: KeptText) -> None:
        self._database = database
        self._runs, self._changelog = f"{name}_runs", f"{name}_changelog"
        self._types = {column.name: column.type for column in runs(name).columns}
        self._sync_name = sync_name
        self._sync_key = sync_key(sync_name, resource)
        self._kept = kept

    def open(self, attempt: Mapping[str, Any]) -> None:
        """
        Add the row of a try that begins, and say of earlier tries of its run that never ended that they are lost.

        A try that is there already and has not ended is the same one: a sensor pokes again.

        :param attempt: columns of ``runs`` with their values, ``try_id`` and ``run_key`` among them.
        """
        self._database.retrying()(self._open, attempt)

    def _open(self, attempt: Mapping[str, Any]) -> None:
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            try_id, is_open = self._find(cursor, attempt["try_id"])
            if not is_open:
                mark = self._database.mark
                lost = f"select try_id from {self._runs} where run_key = {mark} and status = 'running'"  # noqa: S608
                cursor.execute(lost, [attempt["run_key"]])
                for (other,) in cursor.fetchall():
                    self._close(cursor, other, {"status": "lost", "finished_at": attempt["started_at"]})
                self._insert(cursor, {**attempt, "try_id": try_id, "status": "running"})
            connection.commit()

    def write(self, cursor: Any, try_id: str, outcomes: Iterable[RowOutcome], at: str) -> None:
        """Add the lines of a try to the changelog, in an open transaction; those that it has written before go."""
        try_id, _ = self._find(cursor, try_id)
        cursor.execute(f"select 1 from {self._changelog} where try_id = {self._database.mark}", [try_id])  # noqa: S608
        if cursor.fetchone() is not None:
            cursor.execute(f"delete from {self._changelog} where try_id = {self._database.mark}", [try_id])  # noqa: S608
        self._database.insert(cursor, self._changelog, _LINE, self._lines(try_id, outcomes, at))

    def close(self, attempt: Mapping[str, Any]) -> None:
        """
        Write into the row of a try how it ended; a try that has none gets one.

        :param attempt: columns of ``runs`` with their values, all of them.
        """
        self._database.retrying()(self._end, attempt)

    def _end(self, attempt: Mapping[str, Any]) -> None:
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            try_id, is_open = self._find(cursor, attempt["try_id"])
            if is_open:
                self._close(cursor, try_id, {k: v for k, v in attempt.items() if k not in ("try_id", "started_at")})
            else:
                self._insert(cursor, {**attempt, "try_id": try_id})
            connection.commit()

    def has_runs_of_others(self, run_key: str) -> bool:
        """Say whether an earlier run of the sync has written records, which must have left a state."""
        mark = self._database.mark
        select = f"select 1 from {self._runs} where sync_key = {mark} and run_key <> {mark} and succeeded > 0"  # noqa: S608
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(select, [self._sync_key, run_key])
            return cursor.fetchone() is not None

    def forget(self, before: float) -> int:
        """
        Delete the sync's lines of the changelog that are older, in steps; its runs stay.

        :param before: Unix epoch seconds.
        :returns: how many.
        """
        mark, deleted = self._database.mark, 0
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            old = (
                f"select try_id, min(entry_number), max(entry_number) from {self._changelog} "  # noqa: S608
                f"where sync_key = {mark} and written_at < {mark} group by try_id"
            )
            cursor.execute(old, [self._sync_key, self._database.time(before)])
            for try_id, first, last in cursor.fetchall():
                for start in range(int(first), int(last) + 1, ROWS_PER_DELETE):
                    some = f"where try_id = {mark} and entry_number between {start} and {start + ROWS_PER_DELETE - 1}"
                    cursor.execute(f"delete from {self._changelog} {some}", [try_id])  # noqa: S608
                    connection.commit()
                    deleted += max(0, cursor.rowcount)
        return deleted

    def _find(self, cursor: Any, try_id: str) -> tuple[str, bool]:
        """Return the id of a try's row and whether it is open, or, if all rows of that id are closed, a new one."""
        while True:
            cursor.execute(f"select status from {self._runs} where try_id = {self._database.mark}", [try_id])  # noqa: S608
            rows = cursor.fetchall()
            if not rows or rows[0][0] == "running":
                return try_id, bool(rows)
            try_id = short_digest(try_id)

    def _insert(self, cursor: Any, attempt: Mapping[str, Any]) -> None:
        row = {"sync_key": self._sync_key, "sync_name": self._sync_name, **attempt}
        self._database.insert(cursor, self._runs, row, [[self._value(name, value) for name, value in row.items()]])

    def _close(self, cursor: Any, try_id: str, columns: Mapping[str, Any]) -> None:
        assignments = ", ".join(f"{name} = {self._database.mark}" for name in columns)
        values = [self._value(name, value) for name, value in columns.items()]
        update = f"update {self._runs} set {assignments} where try_id = {self._database.mark}"  # noqa: S608
        cursor.execute(update, [*values, try_id])

    def _value(self, column: str, value: Any) -> Any:
        """Return a value as its column takes it; of a column of text the database may count bytes."""
        if isinstance(value, float):
            return self._database.time(value)
        characters: int = getattr(self._types[column], "length", None) or 0
        return self._kept.cut(value, characters if characters < MAX_ID else characters // 4)

    def _lines(self, try_id: str, outcomes: Iterable[RowOutcome], at: str) -> Iterator[Sequence[Any]]:
        cut, key = self._kept.cut, self._sync_key
        cut_again = lru_cache(1_000)(cut)  # what is the same in many lines
        for number, outcome in enumerate(outcomes, start=1):
            message, details = outcome.message, outcome.details
            yield (
                *(try_id, number, at, key, outcome.row, cut(outcome.id, MAX_ID), outcome.outcome),
                None if outcome.key is None else cut_again(outcome.key, 100),
                None if message is None else cut(message, MAX_ID),
                None if details is None else cut(details, MAX_ID),
                cut_again(outcome.async_action_id, 100),
                outcome.content,
            )
