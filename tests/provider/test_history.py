"""The history of a sync: a record for each try, of those that failed, died or were cleared too; it only ever grows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseHook
from dags import clear_and_run, run_dag
from database_fixtures import connection_of
from installed import AIRFLOW, HAS_TASK_STATE_STORE, needs_store

import airflow_provider_voucherify
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import DropAfter, LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.warehouse import history_tables
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.outcome_tables import OutcomeTables

SECONDS_THAT_SQLITE_WAITS = 5

ROWS = [{"source_id": "c1", "name": "Ann"}, {"source_id": "c2", "name": "Bo"}]


class History:
    """What a test reads of the history, in whichever place it is."""

    def __init__(self, state: dict[str, Any], read: Callable[[], list[dict[str, Any]]]) -> None:
        self.state = state
        self._read = read

    def runs(self) -> list[dict[str, Any]]:
        """Return what is said last of each try, in the order in which they began."""
        return sorted(self._read(), key=lambda row: (str(row["started_at"]), row["try_number"]))

    def statuses(self) -> list[tuple[int, str]]:
        return [(row["try_number"], row["status"]) for row in self.runs()]


@pytest.fixture(params=["sqlite", "postgres", "mariadb", "duckdb", "folder"])
def history(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    if request.param == "folder":
        return History({"path": str(tmp_path / "state"), "outcomes": "jsonl"}, lambda: _from_files(tmp_path / "state"))
    monkeypatch.setenv("AIRFLOW_CONN_HISTORY", connection_of(request, tmp_path))
    table = f"h{time.time_ns()}"
    return History({"conn_id": "history", "table": table}, lambda: select(f"SELECT * FROM {table}_runs"))


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "history.db")}
    monkeypatch.setenv("AIRFLOW_CONN_HISTORY", json.dumps(connection))
    return History({"conn_id": "history"}, lambda: select("SELECT * FROM voucherify_runs"))


def select(statement: str) -> list[dict[str, Any]]:
    with closing(BaseHook.get_hook("history").get_conn()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _from_files(folder: Path) -> list[dict[str, Any]]:
    last: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.rglob("runs/*/*.json"), key=lambda file: file.stat().st_mtime_ns):
        row = json.loads(file.read_bytes())
        last[row["try_id"]] = row
    return list(last.values())


def sync(history: History, dag_id: str = "nightly", **kwargs: Any) -> DAG:
    arguments: dict[str, Any] = {"records": ROWS, "state": history.state, **kwargs}
    with DAG(dag_id, schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", retry_delay=timedelta(0), **arguments)
    return dag


def test_a_night_is_recorded_with_all_that_is_known_of_it(voucherify: LocalVoucherify, history: History) -> None:
    run = run_dag(sync(history))

    (row,) = history.runs()
    summary = run.xcom("sync")
    assert (row["status"], row["created"], row["rows_read"], row["failed"]) == ("success", 2, 2, 0)
    assert {name: row[name] for name in ("requests", "bytes_sent", "updated")} == {
        name: summary[name] for name in ("requests", "bytes_sent", "updated")
    }
    assert (row["dag_id"], row["task_id"], row["run_id"]) == ("nightly", "sync", run.dag_run.run_id)
    assert (row["map_index"], row["run_type"], bool(row["dry_run"])) == (-1, "manual", False)
    assert row["provider_version"] == airflow_provider_voucherify.__version__
    assert row["airflow_version"].startswith(".".join(map(str, AIRFLOW[:2])))
    assert row["log_url"].startswith("http")
    assert "nightly" in row["run_url"]
    started, finished = (_moment(row[name]) for name in ("started_at", "finished_at"))
    assert abs(time.time() - finished.timestamp()) < 60
    assert started < finished
    assert row.get("error_type") is None


def _moment(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo is not None else datetime.fromisoformat(f"{moment.isoformat()}+00:00")


def test_a_night_that_fails_before_anything_is_sent_is_recorded_as_failed(
    voucherify: LocalVoucherify, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NO_DATABASE", json.dumps({"conn_type": "sqlite", "host": "/nowhere/at.all"}))
    assert run_dag(sync(history, records=None, sql="SELECT 1", sql_conn_id="no_database")).state == "failed"

    (row,) = history.runs()
    assert (row["status"], row["error_type"]) == ("failed", "OperationalError")
    assert "unable to open database file" in row["error_message"]
    assert row.get("rows_read") is None


def test_a_wrong_key_is_recorded_with_what_to_do(
    voucherify: LocalVoucherify, tables: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = json.loads(os.environ["AIRFLOW_CONN_VOUCHERIFY_DEFAULT"]) | {"password": "another-key-4711"}
    monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json.dumps(wrong))

    assert run_dag(sync(tables)).state == "failed"

    (row,) = tables.runs()
    assert (row["status"], row["error_type"]) == ("failed", "VoucherifyAuthenticationError")
    assert "401" in row["error_message"]
    assert "does not accept" in row["advice"]
    assert "another-key-4711" not in json.dumps(row, default=str)


def test_all_limits_that_were_exceeded_are_recorded(voucherify: LocalVoucherify, history: History) -> None:
    run_dag(sync(history, records=[{"source_id": "c1"}, {"name": "nobody"}], fail_if={"failed": 0, "created": 0}))

    (row,) = history.runs()
    assert (row["status"], row["error_type"], row["refused"]) == ("failed", "VoucherifyRecordsFailedError", 1)
    assert "failed of fail_if is 0" in row["exceeded"]
    assert "created of fail_if is 0" in row["exceeded"]
    assert json.loads(row["failures_by_key"]) == {"missing_key": 1}


def test_each_try_has_a_record_of_its_own(voucherify: LocalVoucherify, history: History) -> None:
    voucherify.misbehave("submit", DropAfter())

    run_dag(sync(history, retries=1))

    assert history.statuses() == [(1, "failed"), (2, "success")]
    assert history.runs()[0]["error_type"] == "VoucherifyNoAnswerError"
    if HAS_TASK_STATE_STORE:  # else the retry does not know it
        assert history.runs()[1]["resubmitted"] == 1


@needs_store
def test_a_clear_adds_a_record_and_changes_none(voucherify: LocalVoucherify, history: History) -> None:
    failing = [*ROWS, {"name": "without id"}]
    dag = sync(history, "cleared", records=failing, fail_if={"failed": None}, full_refresh=True)
    run = run_dag(dag)
    before = history.runs()
    lines = _lines(history)

    clear_and_run(dag, run)

    assert history.statuses() == [(1, "success"), (2, "success")]
    assert history.runs()[0] == before[0]
    assert _lines(history)[: len(lines)] == lines
    assert len(_lines(history)) == 2 * len(lines) == 6


def _lines(history: History) -> list[Any]:
    """Return the lines of the changelog, those of earlier tries first."""
    if "path" not in history.state:
        table = history.state.get("table", "voucherify")
        query = f"SELECT try_id, entry_number, written_at, record_id, outcome, message FROM {table}_changelog"
        return [tuple(row.values()) for row in select(f"{query} ORDER BY written_at, entry_number")]
    files = sorted(Path(history.state["path"]).rglob("outcomes/*/try=*"), key=lambda file: file.stat().st_mtime_ns)
    return [(file.name, line) for file in files for line in file.read_text().splitlines()]


def test_a_try_that_dies_without_a_word_is_told_by_the_next(
    voucherify: LocalVoucherify, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed while the first try waits: nobody closes its record."""
    from airflow_provider_voucherify.task.history import TryRecord

    close = TryRecord.close
    monkeypatch.setattr(TryRecord, "close", lambda self, error: None if error is not None else close(self, error))
    voucherify.misbehave("submit", DropAfter())

    run_dag(sync(history, retries=1))

    assert history.statuses() == [(1, "lost"), (2, "success")]


def test_a_record_waits_for_a_database_that_is_locked(voucherify: LocalVoucherify, tables: History) -> None:
    """By another task of the same night, for longer than the driver waits by itself."""
    run_dag(sync(tables))
    connection = BaseHook.get_hook("history").get_conn()
    connection.execute("BEGIN IMMEDIATE")
    history = OutcomeTables("history", "voucherify", "nightly/sync", "customers").history
    (before,) = tables.runs()
    attempt = {**before, "try_id": "next", "try_number": 2, "started_at": time.time()}

    with ThreadPoolExecutor(1) as tasks:
        opening = tasks.submit(history.open, attempt)
        time.sleep(SECONDS_THAT_SQLITE_WAITS + 1)
        connection.rollback()
        opening.result()

    assert tables.statuses() == [(1, "success"), (2, "running")]


def test_a_task_that_is_deferred_is_one_try(voucherify: LocalVoucherify, history: History, defer_at_once: None) -> None:
    run = run_dag(sync(history, deferrable=True))

    assert run.deferred_tasks()
    (row,) = history.runs()
    assert (row["status"], row["created"], row["rows_read"]) == ("success", 2, 2)


def test_a_dry_run_is_marked_and_makes_no_tables(voucherify: LocalVoucherify, tables: History) -> None:
    run_dag(sync(tables, dry_run=True))
    assert select("SELECT name FROM sqlite_master") == []

    run_dag(sync(tables))
    run_dag(sync(tables, dry_run=True))

    assert [(row["status"], bool(row["dry_run"])) for row in tables.runs()] == [("success", False), ("success", True)]


def test_the_record_of_a_dry_run_counts_no_request(voucherify: LocalVoucherify, history: History) -> None:
    run_dag(sync(history))
    run = run_dag(sync(history, dry_run=True, full_refresh=True))

    (_, dry) = history.runs()
    assert run.xcom("sync")["requests"] == 1, "it would send one"
    assert (bool(dry["dry_run"]), dry["rows_read"], dry["requests"], dry["bytes_sent"]) == (True, 2, 0, 0)


def test_a_dry_run_that_cannot_be_recorded_shows_its_numbers_all_the_same(
    voucherify: LocalVoucherify, tables: History, task_log: Callable[[], str]
) -> None:
    """As of a user who may only read."""
    run_dag(sync(tables))
    refuse = "CREATE TRIGGER refuse BEFORE INSERT ON voucherify_runs BEGIN SELECT raise(ABORT, 'read only'); END"
    BaseHook.get_hook("history").run(refuse)

    run = run_dag(sync(tables, dry_run=True))

    assert (run.state, run.xcom("sync")["unchanged"]) == ("success", 2)
    assert "This dry run is not recorded in the history" in task_log()
    assert tables.statuses() == [(1, "success")]


def test_a_dry_run_says_too_that_the_tables_are_of_a_later_version(
    voucherify: LocalVoucherify, tables: History, task_log: Callable[[], str]
) -> None:
    run_dag(sync(tables))
    BaseHook.get_hook("history").run("UPDATE voucherify_schema SET version = 99")

    assert run_dag(sync(tables, dry_run=True)).state == "failed"
    assert "are of version 99" in task_log()


def test_a_state_whose_database_does_not_answer_for_a_moment_is_not_taken_for_none(
    voucherify: LocalVoucherify, tables: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is locked just when it is asked whether the table is there."""
    run_dag(sync(tables))
    exists = Database.exists
    monkeypatch.setattr(
        Database, "exists", lambda *a: not str(a[2]).endswith("_state") and exists(*a) if created else exists(*a)
    )
    created: list[bool] = []
    create = OutcomeTables.create
    monkeypatch.setattr(OutcomeTables, "create", lambda self: (create(self), created.append(True))[0])

    assert run_dag(sync(tables)).xcom("sync")["unchanged"] == 2


def test_all_warnings_are_recorded_whole_or_counted(voucherify: LocalVoucherify, history: History) -> None:
    names = [f"a_column_with_a_very_long_name_{number}" for number in range(30)]
    wide = {"source_id": "c1", **dict.fromkeys(names, "x")}
    run_dag(sync(history, records=[wide]))
    run = run_dag(
        sync(history, records=[{**wide, **dict.fromkeys(names), "name": "Ann"}], warn_if={"created": 0, "failed": 0})
    )

    warning, row = run.xcom("sync")["warning"], history.runs()[-1]
    assert len(warning) > 1_000
    assert row["warning"] == warning


def test_an_import_before_the_first_sync_is_not_taken_for_a_state_that_is_gone(
    voucherify: LocalVoucherify, tables: History, tmp_path: Path
) -> None:
    (tmp_path / "customers.csv").write_text("Source_id,Name\nc1,Ann\n")
    state = {**tables.state, "sync_name": "all customers"}
    with DAG("imports_first", schedule=None) as dag:
        VoucherifyImportCsvOperator(
            task_id="import", resource="customers", path=str(tmp_path / "customers.csv"), state=state
        )
    run_dag(dag)

    assert run_dag(sync(tables, state=state)).xcom("sync")["warning"] is None


MODES = [{"deferrable": True}, {"deferrable": False, "mode": "poke"}, {"deferrable": False, "mode": "reschedule"}]


@pytest.mark.parametrize("mode", MODES, ids=["deferrable", "poke", "reschedule"])
def test_the_sensor_writes_the_same_history(
    voucherify: LocalVoucherify, tables: History, mode: dict[str, Any], defer_at_once: None
) -> None:
    with VoucherifyHook() as hook:
        ids = hook.update_vouchers_in_bulk([{"code": code, "metadata": {"a": 1}} for code in ("GONE", "LOST")])
    with DAG("waits", schedule=None) as dag:
        VoucherifyAsyncActionSensor(
            task_id="wait",
            async_action_id=ids,
            poke_interval=0.02,
            fail_if={"failed": None},
            state=tables.state,
            **mode,
        )
    run_dag(dag)

    (row,) = tables.runs()
    assert (row["status"], row["resource"], row["failed"], row["rows_read"]) == ("success", "vouchers", 2, None)
    lines = select("SELECT record_id, outcome, reason_key, async_action_id FROM voucherify_changelog ORDER BY 1")
    assert [tuple(line.values()) for line in lines] == [(code, "failed", "not_found", ids) for code in ("GONE", "LOST")]


def test_a_sensor_that_is_skipped_or_fails_is_recorded(voucherify: LocalVoucherify, tables: History) -> None:
    for never_fail in (True, False):
        with DAG(f"unknown_{never_fail}", schedule=None) as dag:
            VoucherifyAsyncActionSensor(
                task_id="wait", async_action_id="aa_unknown", never_fail=never_fail, state=tables.state
            )
        run_dag(dag)

    assert [row["status"] for row in tables.runs()] == ["skipped", "failed"]
    assert "aa_unknown" in tables.runs()[0]["error_message"]


def test_a_csv_import_writes_the_same_history(voucherify: LocalVoucherify, tables: History, tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("Source_id,Name\nc1,Ann\nc2,Bo\n")
    with DAG("imports", schedule=None) as dag:
        VoucherifyImportCsvOperator(
            task_id="import", resource="customers", path=str(tmp_path / "customers.csv"), state=tables.state
        )
    assert run_dag(dag).state == "success"

    (row,) = tables.runs()
    assert (row["status"], row["resource"], row["rows_read"]) == ("success", "customers", 2)


def test_old_lines_of_the_changelog_are_deleted_in_steps_and_runs_stay(
    voucherify: LocalVoucherify, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "path" in history.state:
        run_dag(sync(history))
        run_dag(sync(history, full_refresh=True))
        assert len(_lines(history)) == 4, "files are for the lifecycle rules of their storage"
        return
    table = history.state["table"]
    monkeypatch.setattr(history_tables, "ROWS_PER_DELETE", 2)
    many = [{"source_id": f"c{number}"} for number in range(5)]
    run_dag(sync(history, records=many))
    other = sync(history, "another_sync")
    run_dag(other)
    with closing(BaseHook.get_hook("history").get_conn()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(f"UPDATE {table}_changelog SET written_at = '2026-01-01 00:00:00'")
        connection.commit()

    run_dag(sync(history, records=many, state={**history.state, "keep_days": None}, full_refresh=True))
    assert len(_lines(history)) == 5 + 2 + 5
    run_dag(sync(history, records=many, state={**history.state, "keep_days": 30}, full_refresh=True))

    assert len(_lines(history)) == 2 + 5 + 5, "the old lines of this sync are gone, and no others"
    assert [status for _, status in history.statuses()] == ["success"] * 4
