"""The history of a sync in two tables: its tries, and what became of their rows. It is only ever added to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any

from airflow_provider_voucherify.sync.types.outcome import RUN_COUNTS, TRY_COLUMNS, RowOutcome
from airflow_provider_voucherify.sync.types.text import short_digest, whole_lines
from airflow_provider_voucherify.warehouse.database import TRIES, Database
from airflow_provider_voucherify.warehouse.kept_text import KeptText
from airflow_provider_voucherify.warehouse.schema import changelog, runs, widths
from airflow_provider_voucherify.warehouse.state_table import sync_key

ROWS_PER_DELETE = 10_000
"""Lines of the changelog that one statement deletes at most."""

_SAME_TIME = 0.001
"""Seconds by which a time may differ after a database has kept it."""

_LINE = (
    *("try_id", "entry_number", "written_at", "sync_key", "source_row", "record_id", "outcome", "reason_key"),
    *("message", "details", "async_action_id", "content"),
)


_KNOWN_AT_THE_END = {
    *("try_id", "status", "finished_at", "failures_by_key", "exceeded", "warning", "error_type", "error_message"),
    *("advice", "report_uri", *RUN_COUNTS),
}


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
        self._widths, self._widths_of_lines = widths(runs(name)), widths(changelog(name))
        self._beginning = ", ".join(one.name for one in runs(name).columns if one.name not in _KNOWN_AT_THE_END)
        self._sync_name = sync_name
        self._sync_key = sync_key(sync_name, resource)
        self._kept = kept

    def open(self, attempt: Mapping[str, Any]) -> None:
        """
        Add the row of a try that begins, and say of earlier tries of its run that never ended that they are lost.

        A try that is there already and has not ended is the same one: a sensor pokes again.

        :param attempt: columns of ``runs`` with their values, ``try_id`` and ``run_key`` among them.
        """
        self._database.retrying("to record a try")(self._open, attempt)

    def _open(self, attempt: Mapping[str, Any]) -> None:
        self._kept.probe()
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            try_id, is_open, _ = self._find(cursor, attempt["try_id"])
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
        try_id, is_open, last = self._find(cursor, try_id)
        if not is_open and last is not None:
            self._reopen(cursor, try_id, last)
        cursor.execute(f"select 1 from {self._changelog} where try_id = {self._database.mark}", [try_id])  # noqa: S608
        if cursor.fetchone() is not None:
            cursor.execute(f"delete from {self._changelog} where try_id = {self._database.mark}", [try_id])  # noqa: S608
        self._database.insert(cursor, self._changelog, _LINE, self._lines(try_id, outcomes, at))

    def close(self, attempt: Mapping[str, Any]) -> None:
        """
        Write into the row of a try how it ended; a try that has none gets one.

        A try that was called lost while it lived gets a second row, so that the first one stays as it is.

        :param attempt: columns of ``runs`` with their values, all of them.
        """
        self._database.retrying("to record how a try ended")(self._end, attempt)

    def _end(self, attempt: Mapping[str, Any]) -> None:
        self._kept.probe()
        ended = {name: value for name, value in attempt.items() if name not in ("try_id", "started_at")}
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            for _ in range(TRIES):
                try_id, is_open, last = self._find(cursor, attempt["try_id"])
                if not is_open and last is None:
                    self._insert(cursor, {**attempt, "try_id": try_id})
                    break
                if not is_open and last is not None:
                    if self._is_end(cursor, last, attempt["finished_at"]):
                        break  # the answer to an earlier commit was lost
                    self._reopen(cursor, try_id, last)
                if self._close(cursor, try_id, ended):
                    break
                connection.rollback()  # another process has just called it lost
            connection.commit()

    def has_runs_of_others(self, run_key: str) -> bool:
        """Say whether an earlier run of the sync has written records, which must have left a state."""
        mark = self._database.mark
        select = f"select 1 from {self._runs} where sync_key = {mark} and run_key <> {mark} "  # noqa: S608
        select += "and succeeded > 0 and values_not_cleared is not null"
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(select, [self._sync_key, run_key])
            return cursor.fetchone() is not None

    def tries(self, run_key: str) -> list[dict[str, Any]]:
        """Return the tries of a run, oldest first."""
        mark = self._database.mark
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            names = self._existing(cursor, TRY_COLUMNS)
            select = f"select {', '.join(names)} from {self._runs} where run_key = {mark} order by started_at"  # noqa: S608
            cursor.execute(select, [run_key])
            found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            connection.rollback()
        unknown = dict.fromkeys(TRY_COLUMNS)
        times = ("started_at", "finished_at")
        return [{**unknown, **one, **{name: self._database.epoch(one[name]) for name in times}} for one in found]

    def of_record(self, record_id: str, most: int) -> list[dict[str, Any]]:
        """Return the last lines of a record, newest first, each with the run that wrote it."""
        of_line = ("written_at", "outcome", "reason_key", "message", "details", "content")
        of_run = ("dag_id", "run_id", "try_number")
        names = (*of_line, *of_run)
        columns = ", ".join([*(f"entries.{name}" for name in of_line), *(f"runs.{name}" for name in of_run)])
        mark = self._database.mark
        lines = (
            f"select {columns} from {self._changelog} entries "  # noqa: S608
            f"left join {self._runs} runs on runs.try_id = entries.try_id "
            f"where entries.record_id = {mark} and entries.sync_key = {mark} "
            "order by entries.written_at desc, entries.entry_number desc"
        )
        with closing(self._database.transaction()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(lines, [record_id, self._sync_key])
            found = [dict(zip(names, row, strict=True)) for row in cursor.fetchmany(most)]
            connection.rollback()
        return [{**line, "written_at": self._database.epoch(line["written_at"])} for line in found]

    def forget(self, before: float) -> None:
        """
        Delete the sync's lines of the changelog that are older, in steps; its runs stay.

        :param before: Unix epoch seconds.
        """
        mark = self._database.mark
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

    def _find(self, cursor: Any, try_id: str) -> tuple[str, bool, str | None]:
        """Return the id of a try's row, or of a new one if all are closed; whether it is there; and the last closed."""
        closed = None
        while True:
            cursor.execute(f"select status from {self._runs} where try_id = {self._database.mark}", [try_id])  # noqa: S608
            rows = cursor.fetchall()
            if not rows or rows[0][0] == "running":
                return try_id, bool(rows), closed
            closed, try_id = try_id, short_digest(try_id)

    def _reopen(self, cursor: Any, try_id: str, closed: str) -> None:
        """Add an open row that begins as a closed one of the same try did."""
        mark = self._database.mark
        copy = f"select {mark}, 'running', {self._beginning} from {self._runs} where try_id = {mark}"  # noqa: S608
        cursor.execute(f"insert into {self._runs} (try_id, status, {self._beginning}) {copy}", [try_id, closed])

    def _is_end(self, cursor: Any, try_id: str, finished_at: float) -> bool:
        """Say whether a row was closed at that time."""
        cursor.execute(f"select finished_at from {self._runs} where try_id = {self._database.mark}", [try_id])  # noqa: S608
        (found,) = cursor.fetchone()
        closed_at = self._database.epoch(found)
        return closed_at is not None and abs(closed_at - finished_at) < _SAME_TIME

    def _insert(self, cursor: Any, attempt: Mapping[str, Any]) -> None:
        row = {"sync_key": self._sync_key, "sync_name": self._sync_name, **attempt}
        names = self._existing(cursor, row)
        self._database.insert(cursor, self._runs, names, [[self._value(name, row[name]) for name in names]])

    def _close(self, cursor: Any, try_id: str, columns: Mapping[str, Any]) -> int:
        """Close a row if it is open; returns how many were, which some drivers tell as -1."""
        names = self._existing(cursor, columns)
        assignments = ", ".join(f"{name} = {self._database.mark}" for name in names)
        values = [self._value(name, columns[name]) for name in names]
        where = f"where try_id = {self._database.mark} and status = 'running'"
        cursor.execute(f"update {self._runs} set {assignments} {where}", [*values, try_id])  # noqa: S608
        return int(cursor.rowcount)

    def _existing(self, cursor: Any, names: Iterable[str]) -> list[str]:
        """
        Return the columns, of those named, that the table of runs has.

        One made by an earlier version lacks some until a run begins that is not a dry run.
        """
        cursor.execute(f"select * from {self._runs} where 1 = 0")  # noqa: S608
        cursor.fetchall()
        existing = {column[0].lower() for column in cursor.description}
        return [name for name in names if name in existing]

    def _value(self, column: str, value: Any) -> Any:
        """Return a value as its column takes it."""
        if isinstance(value, float):
            return self._database.time(value)
        width = self._widths.get(column)
        if width is None or not isinstance(value, str):
            return value
        return self._kept.cut(whole_lines(value, width), width)

    def _lines(self, try_id: str, outcomes: Iterable[RowOutcome], at: str) -> Iterator[Sequence[Any]]:
        cut, widths, key = self._kept.cut, self._widths_of_lines, self._sync_key
        cut_again = lru_cache(1_000)(cut)  # what is the same in many lines
        for number, outcome in enumerate(outcomes, start=1):
            message, details = outcome.message, outcome.details
            yield (
                *(try_id, number, at, key, outcome.row, cut(outcome.id, widths["record_id"]), outcome.outcome),
                None if outcome.key is None else cut_again(outcome.key, widths["reason_key"]),
                None if message is None else cut(message, widths["message"]),
                None if details is None else cut(details, widths["details"]),
                cut_again(outcome.async_action_id, widths["async_action_id"]),
                None if outcome.content is None else self._kept.escaped_json(outcome.content),
            )
