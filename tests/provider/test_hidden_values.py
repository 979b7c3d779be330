"""``hide_values``: nobody who reads logs, XComs, alerts, files or tables finds an id or a value of a row there."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, rendered_fields, run_dag

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

PRIVATE = "zzq7private"
"""In every id and value of the rows; what a reader finds of it has leaked."""

TIERS = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold", "silver"]}}}
ROWS: list[dict[str, Any]] = [
    {"source_id": f"{PRIVATE}-good", "name": PRIVATE},
    {"source_id": f" {PRIVATE}-odd ", "name": PRIVATE},
    {"source_id": f"{PRIVATE}-twice", "name": PRIVATE},
    {"source_id": f"{PRIVATE}-twice", "name": PRIVATE},
    {"source_id": f"{PRIVATE}-tier", "tier": PRIVATE},
    {"source_id": f"{PRIVATE}-date", "birthdate": PRIVATE},
    {"source_id": f"{PRIVATE}-object", "address": {PRIVATE: "1"}},
    {"source_id": f"{PRIVATE}-text", "address": f'{{"{PRIVATE}": 1, "{PRIVATE}": 2}}'},
    {"source_id": None, "name": PRIVATE},
    {"source_id": {PRIVATE: PRIVATE}, "name": PRIVATE},
]


@pytest.fixture
def strict_voucherify(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVoucherify]:
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, metadata_schemas={"customer": TIERS}) as server:
        connect(monkeypatch, server)
        yield server


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    for name in ("", "httpx", "httpcore", "airflow", "airflow_provider_voucherify"):
        caplog.set_level(logging.DEBUG, logger=name or None)
    return caplog


Shown = Callable[[DagRunResult], str]


@pytest.fixture
def shown(task_log: Callable[[], str], everything_logged: pytest.LogCaptureFixture) -> Shown:
    """Return all that a run has shown: its log at DEBUG, its XComs, its rendered fields."""

    def everything(run: DagRunResult) -> str:
        texts = [task_log(), *(record.getMessage() for record in everything_logged.records)]
        tasks = {ti.task_id for ti in run.dag_run.get_task_instances()}
        texts += [repr((run.xcoms(task), rendered_fields(run, task))) for task in tasks]
        return "\n".join(texts)

    return everything


def sync(operator: Any = VoucherifyBulkUpdateOperator, **kwargs: Any) -> DagRunResult:
    given = {"resource": "customers", "hide_values": True, "fail_if": {"failed": None}} | kwargs
    with DAG("hidden", schedule=None) as dag:
        operator(task_id="sync", **given)
    return run_dag(dag)


def contents(folder: Path) -> str:
    """Return names and contents of all files of a folder, but for the state, which needs the ids."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "state"]
    return "\n".join(f"{path} {path.read_bytes()!r}" for path in files)


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a database for ``state="warehouse"``."""
    path = tmp_path / "w.db"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return path


def history_in(database: Path) -> str:
    """Return all that the history of a database has."""
    with closing(sqlite3.connect(database)) as db:
        tables = [db.execute(f"select * from voucherify_{name}").fetchall() for name in ("runs", "changelog")]
    assert all(tables)
    return repr(tables)


@pytest.mark.parametrize("deferred", [True, False], ids=["deferred", "on the worker"])
@pytest.mark.parametrize("where", ["nothing", "folder", "tables"])
def test_no_id_and_no_value_of_a_row_is_shown_anywhere(
    strict_voucherify: LocalVoucherify,
    shown: Shown,
    tmp_path: Path,
    database: Path,
    defer_at_once: None,
    deferred: bool,
    where: str,
) -> None:
    states = {"nothing": None, "folder": {"path": str(tmp_path), "outcomes": "jsonl"}, "tables": "warehouse"}
    reports, outlet, told = tmp_path / "reports", Asset("copy"), []
    error = {"source_id": f"{PRIVATE}-good", "key": "k", "message": f"no {PRIVATE}", "details": f"id {PRIVATE}-good"}

    for _ in range(2):
        strict_voucherify.next_actions(result_fields={"failed_count": 2, "errors": [error, {"message": PRIVATE}]})
        run = sync(
            records=ROWS,
            state=states[where],
            deferrable=deferred,
            report_path=str(reports),
            outlets=[outlet],
            on_failed_records_callback=told.append,
        )

    summary = run.xcom("sync")
    assert (run.state, summary["refused"], summary["failed"]) == ("success", 5, 2)
    names = ("voucherify_text", "voucherify_slack_text", "voucherify_html", "voucherify_summary")
    told_texts = repr([[context[name] for name in names] for context in told])
    assert PRIVATE not in shown(run)
    assert PRIVATE not in told_texts
    assert PRIVATE not in contents(tmp_path / "reports")
    assert PRIVATE not in contents(tmp_path).replace(str(database), "") or where == "tables"
    assert PRIVATE not in repr(run.asset_extras(outlet.uri))
    with VoucherifyHook() as hook:
        good = hook.hidden_id(f"{PRIVATE}-good")
    assert good in told_texts, "a record is found by the hash of its id"
    assert "birthdate must be a date as YYYY-MM-DD" in told_texts, "why a row was refused is still told"
    if where == "tables":
        with closing(sqlite3.connect(database)) as db:
            states_of = db.execute("select outcome, reason_key, message from voucherify_state").fetchall()
        assert PRIVATE not in repr(states_of)
        assert PRIVATE not in history_in(database)
        assert good in history_in(database)
    if where != "nothing":
        assert summary["newly_failed"] == 0


def test_what_the_vendor_answers_to_a_request_is_not_quoted(strict_voucherify: LocalVoucherify, shown: Shown) -> None:
    answer = {"code": 400, "key": "invalid_payload", "message": f"bad {PRIVATE}", "details": f"{PRIVATE} is bad"}
    strict_voucherify.misbehave("submit", Status(400, answer), times=None)

    run = sync(records=ROWS[:1])

    said = shown(run)
    assert run.state == "failed"
    assert "was answered with 400 (key invalid_payload)" in said
    assert PRIVATE not in said


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_a_database_says_of_a_value_is_not_quoted(
    strict_voucherify: LocalVoucherify,
    shown: Shown,
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    dry_run: bool,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("airflow_provider_voucherify.warehouse.queries.query", raises(ValueError(f"bad {PRIVATE}")))
        run = sync(sql="SELECT 1", sql_conn_id="warehouse", sql_parameters=[PRIVATE], dry_run=dry_run)

    said = shown(run)
    assert run.state == "failed"
    assert "builtins.ValueError was raised; hide_values leaves out what it says" in said
    assert PRIVATE not in said


def raises(error: Exception) -> Callable[..., Any]:
    def query(*_: Any) -> Any:
        raise error

    return query


def test_a_dry_run_shows_no_json(strict_voucherify: LocalVoucherify, shown: Shown) -> None:
    run = sync(records=ROWS, sample=5, dry_run=True)

    said = shown(run)
    assert "The JSON is not shown, as hide_values says" in said
    assert PRIVATE not in said


def test_without_a_connection_ids_have_no_hash(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", raising=False)

    run = sync(records=ROWS, dry_run=True, voucherify_conn_id="nowhere")

    assert {failure["id"] for failure in run.xcom("sync")["failures"]} == {"hidden", None}
    assert PRIVATE not in shown(run)


@pytest.mark.parametrize("header", ["Source_id,name,tier", f"{PRIVATE},{PRIVATE}-x"], ids=["header", "no header"])
def test_a_csv_import_hides_its_rows(
    strict_voucherify: LocalVoucherify, shown: Shown, tmp_path: Path, database: Path, header: str
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"{header}\n{PRIVATE},a,gold\n{PRIVATE}-2,{PRIVATE},{PRIVATE}\n")

    run = sync(VoucherifyImportCsvOperator, path=str(file), report_path=str(tmp_path / "reports"), state="warehouse")

    said = shown(run)
    assert run.state == ("failed" if header.startswith(PRIVATE) else "success")
    assert PRIVATE not in said
    assert PRIVATE not in contents(tmp_path / "reports")
    if run.state == "success":
        assert PRIVATE not in history_in(database)


def test_a_csv_file_without_a_header_is_not_quoted(
    strict_voucherify: LocalVoucherify, shown: Shown, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"{PRIVATE},Ann\n{PRIVATE}-2,Bo\n")

    run = sync(path=str(file))

    assert run.state == "failed"
    assert PRIVATE not in shown(run)


@pytest.mark.parametrize("deferred", [True, False], ids=["deferred", "on the worker"])
def test_a_sensor_hides_what_failed(
    strict_voucherify: LocalVoucherify, shown: Shown, tmp_path: Path, database: Path, deferred: bool
) -> None:
    with VoucherifyHook() as hook:
        action = hook.update_customers_in_bulk([row for row in ROWS if isinstance(row["source_id"], str)])
    with DAG("hidden", schedule=None) as dag:
        VoucherifyAsyncActionSensor(
            task_id="wait",
            async_action_id=action,
            deferrable=deferred,
            poke_interval=0.02,
            hide_values=True,
            fail_if={"failed": None},
            report_path=str(tmp_path / "reports"),
            state="warehouse",
        )

    run = run_dag(dag)

    assert run.xcom("wait")["failed"] > 0
    assert PRIVATE not in shown(run)
    assert PRIVATE not in contents(tmp_path / "reports")
    assert PRIVATE not in history_in(database)


def test_metadata_for_all_hides_ids(strict_voucherify: LocalVoucherify, shown: Shown, tmp_path: Path) -> None:
    run = sync(
        VoucherifyBulkMetadataOperator,
        records=[f"{PRIVATE}-1", f" {PRIVATE}", None],
        metadata={"tier": "tin"},
        report_path=str(tmp_path),
    )

    assert run.xcom("sync")["failed"] > 0
    assert PRIVATE not in shown(run)
    assert PRIVATE not in contents(tmp_path)


def test_hidden_failures_cannot_be_sent_again_and_say_so(
    strict_voucherify: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    sync(records=ROWS, report_path=str(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]

    run = sync(path=str(tmp_path / "failures.jsonl"))

    assert {line["_failure"]["form"] for line in lines} == {"hidden"}
    assert {tuple(line) for line in lines} == {("_failure",)}
    assert run.state == "failed"
    assert "was written with hide_values, which leaves the records out of it" in task_log()


def test_the_hash_of_an_id_is_the_same_every_night_and_differs_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def hashed(secret_key: str) -> str:
        connection = {"conn_type": "voucherify", "host": "eu", "login": "app", "password": secret_key}
        monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
        with VoucherifyHook("other") as hook:
            return hook.hidden_id("c1")

    assert hashed("key-1") == hashed("key-1") != hashed("key-2")
    assert hashed("key-1").startswith("#")
    assert len(hashed("key-1")) == 17


def test_what_contradicts_itself_is_refused_when_the_dag_is_parsed() -> None:
    with DAG("wrong", schedule=None), pytest.raises(VoucherifyConfigurationError, match="keep_values of state keeps"):
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=ROWS,
            hide_values=True,
            state={"conn_id": "warehouse", "keep_values": True},
        )
    with DAG("wrong", schedule=None), pytest.raises(VoucherifyConfigurationError, match="hide_values must be True or"):
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=ROWS, hide_values="yes")
