"""Two processes of one task at the same time, one of which has been given up: no closed record is changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from database_fixtures import connection_of

from airflow_provider_voucherify.storage.history_folder import HistoryFolder
from airflow_provider_voucherify.storage.report_folder import StorageReportFolder
from airflow_provider_voucherify.sync.types.outcome import RowOutcome
from airflow_provider_voucherify.warehouse.history_tables import HistoryTables
from airflow_provider_voucherify.warehouse.outcome_tables import OutcomeTables

BEGAN, MIDNIGHT = 1_790_000_000.0, 1_790_000_000.0 + 3_600


def attempt(number: int, status: str = "running", **columns: Any) -> dict[str, Any]:
    """Return what a task knows of its try."""
    begun = {"try_id": f"try-{number}", "run_key": "run", "resource": "customers", "try_number": number}
    task = {"dag_id": "nightly", "task_id": "sync", "run_id": "monday", "map_index": -1, "dry_run": False}
    started_at = BEGAN + 60 * number
    ended = {} if status == "running" else {"status": status, "finished_at": started_at + 30}
    return {**begun, **task, "started_at": started_at, **ended, **columns}


@pytest.fixture(params=["sqlite", "postgres", "mariadb", "duckdb"])
def tables(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], OutcomeTables]:
    """Give a function that opens the same tables as another process does."""
    monkeypatch.setenv("AIRFLOW_CONN_HISTORY", connection_of(request, tmp_path))
    table = f"t{time.time_ns()}"

    def opened() -> OutcomeTables:
        made = OutcomeTables("history", table, "nightly/sync", "customers")
        made.create()
        return made

    return opened


def rows(of: OutcomeTables, columns: str, table: str = "runs") -> list[tuple[Any, ...]]:
    hook = BaseHook.get_hook("history")
    with closing(hook.get_conn()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(f"select {columns} from {of._table}_{table}")
        return sorted(map(tuple, cursor.fetchall()), key=str)


def seconds(value: Any, of: OutcomeTables) -> float:
    epoch = of._database.epoch(value)
    assert epoch is not None
    return epoch - BEGAN


def test_a_try_that_is_given_up_while_it_lives_keeps_its_record_and_gets_another(
    tables: Callable[[], OutcomeTables],
) -> None:
    first, second = tables(), tables()
    first.history.open(attempt(1))
    second.history.open(attempt(2))
    second.history.close(attempt(2, "success", succeeded=7))

    first.write("try-1", "run", lambda: iter([RowOutcome(1, "c1", "updated")]), tuple)
    first.history.close({**attempt(1, "failed", error_type="TimeoutError"), "started_at": MIDNIGHT})

    found = rows(first, "try_number, status, started_at, error_type")
    assert [(number, status, error) for number, status, _, error in found] == [
        (1, "failed", "TimeoutError"),
        (1, "lost", None),
        (2, "success", None),
    ]
    assert [seconds(started, first) for _, _, started, _ in found] == [60, 60, 120], "it began when it began"
    ids = {try_id for (try_id,) in rows(first, "try_id")}
    assert {try_id for (try_id,) in rows(first, "try_id", "changelog")} <= ids, "no line without a record"


@pytest.mark.parametrize("closes", ["success", "failed"])
def test_a_record_that_is_closed_at_the_same_moment_is_not_called_lost(
    tables: Callable[[], OutcomeTables], monkeypatch: pytest.MonkeyPatch, closes: str
) -> None:
    """The next try has already read that it is open."""
    first, second = tables(), tables()
    first.history.open(attempt(1))
    close_row = HistoryTables._close

    def close_late(self: HistoryTables, cursor: Any, try_id: str, columns: Any) -> int:
        if columns["status"] == "lost" and len(closed) == 0:
            closed.append(try_id)
            first.history.close(attempt(1, closes))
        return close_row(self, cursor, try_id, columns)

    closed: list[str] = []
    monkeypatch.setattr(HistoryTables, "_close", close_late)
    second.history.open(attempt(2))

    assert rows(first, "try_number, status") == [(1, closes), (2, "running")]


def test_the_end_of_a_try_is_recorded_once_though_the_answer_to_the_commit_is_lost(
    tables: Callable[[], OutcomeTables],
) -> None:
    history = tables().history
    history.open(attempt(1))
    for _ in range(2):
        history.close(attempt(1, "success"))

    assert rows(tables(), "try_number, status") == [(1, "success")]


def test_in_a_folder_too_it_begins_when_it_began(tmp_path: Path) -> None:
    folder = HistoryFolder(StorageReportFolder(str(tmp_path), "path"), "monday", {"sync_name": "nightly/sync"})
    folder.open(attempt(1))
    folder.open(attempt(2))
    folder.close({**attempt(1, "failed"), "started_at": MIDNIGHT})

    files = {file.name: json.loads(file.read_bytes()) for file in tmp_path.rglob("*.json")}
    late = [row for row in files.values() if row["status"] == "failed"]
    assert [row["started_at"] for row in late] == [files["try=1.try-1.running.json"]["started_at"]]
    assert {row["sync_name"] for row in files.values()} == {"nightly/sync"}
    assert sorted(row["status"] for row in files.values()) == ["failed", "lost", "running", "running"]
