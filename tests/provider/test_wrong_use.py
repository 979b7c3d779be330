"""Mistakes of a DAG's author, and what they are told, as early as possible."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task
from dags import run_dag

from airflow_provider_voucherify.exceptions import VoucherifyConfigurationError
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

STATE = "needs the state of earlier syncs: outcomes_conn_id= (a database) or state_path= (a file)"
WHEN_WRITTEN: list[tuple[dict[str, Any], str]] = [
    (
        {"resource": "orders", "records": []},
        "unknown resource 'orders': it must be one of customers, products, vouchers",
    ),
    ({}, "give exactly one source: records=, sql= or path="),
    ({"records": [], "path": "x.csv"}, "give exactly one source"),
    ({"sql": "SELECT 1"}, "sql= needs sql_conn_id="),
    ({"sql": ["SELECT 1"], "sql_conn_id": "warehouse"}, "sql= must be one query or the path of a .sql file, not list"),
    ({"mapping": {"source_id": "nmae"}}, "has no field 'nmae'"),
    ({"mapping": ["source_id"]}, "mapping must be a dict of column to field"),
    ({"mapping": {"name": "name"}}, "the mapping names no column for source_id"),
    ({"exclude_columns": "name"}, "exclude_columns must be a list of column names"),
    ({"null_policy": "blank"}, "null_policy must be 'omit' or 'send', not 'blank'"),
    ({"null_policy": 5}, "null_policy must be 'omit' or 'send', not 5"),
    ({"validate_metadata": "yes"}, "validate_metadata must be 'schema' or None, not 'yes'"),
    ({"on_newer_run": "stop"}, "on_newer_run must be 'warn', 'fail' or 'ignore', not 'stop'"),
    ({"full_refresh": "perhaps"}, "full_refresh must be true or false, not 'perhaps'"),
    ({"sync_mode": "delta"}, "sync_mode must be 'full' or 'changed', not 'delta'"),
    ({"on_removed": "delete", "state_path": "x"}, "on_removed must be 'ignore', 'report' or {'metadata': {...}}"),
    ({"on_removed": {"metadata": 1}, "state_path": "x"}, "on_removed must be 'ignore', 'report' or"),
    ({"on_removed": {"metadata": {"active": False}}}, f"on_removed= {STATE}"),
    ({"sync_mode": "changed"}, f"sync_mode='changed' {STATE}"),
    ({"state_path": "x", "outcomes_conn_id": "y"}, "give state_path= or outcomes_conn_id=, not both"),
    ({"state_path": "x", "deferrable": True}, "of a deferrable task need report_path="),
    (
        {"state_path": "x", "wait_for_completion": False},
        "need wait_for_completion=True: a sensor does not know what was",
    ),
    ({"outcomes_path": "x.txt"}, "outcomes_path 'x.txt' must end in .jsonl, .csv or .parquet"),
    ({"outcomes_path": ["x.csv"]}, "outcomes_path must be a path or an object storage URI, not ['x.csv']"),
    ({"report_path": Path("s3://bucket/reports")}, "report_path: pathlib.Path takes a slash out of the URI"),
    ({"state_path": Path("s3://bucket/state")}, "state_path: pathlib.Path takes a slash out of the URI"),
    ({"outcomes_path": Path("s3://bucket/x.csv")}, "outcomes_path: pathlib.Path takes a slash out of the URI"),
    ({"report_path": " "}, "report_path must be a path or an object storage URI, not ' '"),
    ({"retry_failed_records": True}, "retry_failed_records=True needs durable=True and retries"),
    ({"dry_run": "yes"}, "dry_run must be True or False, not 'yes'"),
    ({"deferrable": "no"}, "deferrable must be True or False, not 'no'"),
    ({"max_failed_ratio": 5}, "max_failed_ratio must be a number from 0 to 1, not 5"),
    ({"max_failed_ratio": "0.5"}, "max_failed_ratio must be a number from 0 to 1, not '0.5'"),
    ({"max_failed_records": "5"}, "max_failed_records must be a number of at least 0, not '5'"),
    ({"warn_superseded": -1}, "warn_superseded must be a number of at least 0, not -1"),
    ({"max_removed_ratio": 2}, "max_removed_ratio must be a number from 0 to 1, not 2"),
    ({"max_batch_bytes": 20_000_000}, "max_batch_bytes must be a number from 1 to 10485760, not 20000000"),
    ({"max_batch_records": 0}, "max_batch_records must be a number of at least 1, not 0"),
    ({"max_in_flight": 0}, "max_in_flight must be a number of at least 1, not 0"),
    ({"max_in_flight": "2"}, "max_in_flight must be a number of at least 1, not '2'"),
    *(
        (
            {"on_failed_records_callback": wrong},
            "on_failed_records_callback must be a notifier, a callable, or a list of",
        )
        for wrong in ("mail", [print, 3], 3)
    ),
    ({"poll_interval": "30"}, "poll_interval must be seconds or a timedelta, more than 0, not '30'"),
    *(
        ({"completion_timeout": wrong}, "completion_timeout must be seconds or a timedelta, more than 0")
        for wrong in (None, "PT1H", 0, -5, float("inf"))
    ),
    *(
        ({"wait_for_completion": False, name: 0}, f"{name} cannot be checked with wait_for_completion=False")
        for name in ("max_created", "max_not_reported", "warn_created", "warn_not_reported")
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WHEN_WRITTEN, ids=[str(case[0]) for case in WHEN_WRITTEN])
def test_told_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    source = {} if not arguments or {"records", "sql", "path"} & arguments.keys() else {"records": ["c1"]}

    with pytest.raises(VoucherifyConfigurationError) as told:
        VoucherifyBulkUpdateOperator(task_id="sync", **({"resource": "customers"} | source | arguments))

    assert str(told.value).startswith("task 'sync': ")
    assert message in str(told.value)


def test_all_that_is_wrong_is_told_at_once_with_the_lines_to_paste() -> None:
    with pytest.raises(VoucherifyConfigurationError) as told:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            sql="SELECT 1",
            sql_conn_id="crm",
            sync_mode="changed",
            deferrable=True,
            max_created=-1,
        )

    first, *others = str(told.value).splitlines()
    assert first == "task 'sync' has 3 wrong parameters:"
    assert [line for line in others if not line.startswith("- ")] == [
        "Add to it, for example:",
        '    outcomes_conn_id="crm",',
        '    report_path="s3://aws_default@my-bucket/voucherify/{{ run_id }}",',
    ]


def test_all_wrong_thresholds_are_told_at_once() -> None:
    with pytest.raises(VoucherifyConfigurationError) as told:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=["c1"], max_failed_records="10", max_created=-1
        )

    assert "max_failed_records must be a number of at least 0, not '10'" in str(told.value)
    assert "max_created must be a number of at least 0, not -1" in str(told.value)


def test_the_lines_to_paste_are_all_that_is_missing() -> None:
    VoucherifyBulkUpdateOperator(
        task_id="sync",
        resource="customers",
        sql="SELECT 1",
        sql_conn_id="crm",
        sync_mode="changed",
        deferrable=True,
        outcomes_conn_id="crm",
        report_path="s3://aws_default@my-bucket/voucherify/{{ run_id }}",
    )


def test_what_is_wrong_with_metadata_is_told_with_the_rest() -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"has 2 wrong parameters(.|\n)*sample(.|\n)*plan must be"):
        VoucherifyBulkMetadataOperator(task_id="tag", resource="customers", records=["c1"], plan="both", sample=0)
    with pytest.raises(VoucherifyConfigurationError, match="task 'tag': metadata is empty"):
        VoucherifyBulkMetadataOperator(task_id="tag", resource="customers", records=["c1"], metadata={})


def test_a_decorated_function_is_checked_too() -> None:
    @task.voucherify_bulk_update(resource="customers", sync_mode="changed")  # type: ignore[attr-defined]
    def rows() -> list[str]:
        return ["c1"]

    with DAG("decorated", schedule=None), pytest.raises(VoucherifyConfigurationError, match="task 'rows': sync_mode"):
        rows()


def test_a_subclass_may_set_what_is_missing() -> None:
    class Nightly(VoucherifyBulkUpdateOperator):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(resource="customers", sync_mode="changed", **kwargs)
            self.state_path = f"/state/{self.task_id}"

    assert Nightly(task_id="sync", records=["c1"]).state_path == "/state/sync"


def test_the_sensor_wants_one_kind_of_id() -> None:
    with pytest.raises(VoucherifyConfigurationError, match="task 'wait': give exactly one of"):
        VoucherifyAsyncActionSensor(task_id="wait")


def test_a_dry_run_asks_for_nothing_that_only_sending_needs(voucherify: LocalVoucherify) -> None:
    with DAG("only_dry", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c1"}],
            sync_mode="changed",
            on_removed="report",
            deferrable=True,
            dry_run=True,
        )

    summary = run_dag(dag).xcom("sync")

    assert (summary["rows_read"], summary["requests"]) == (1, 1)
    assert f"without dry_run: sync_mode='changed' and on_removed= {STATE}" in summary["warning"]
    assert "without dry_run: outcomes and state of a deferrable task need report_path=" in summary["warning"]
    assert voucherify.received == []


def mapped_wrongly() -> None:
    VoucherifyBulkUpdateOperator.partial(
        task_id="sync", resource="customers", records=[{"source_id": "c1"}], retries=2, retry_delay=timedelta(0)
    ).expand(max_in_flight=[0])


def templated_wrongly() -> None:
    VoucherifyBulkUpdateOperator(
        task_id="sync",
        resource="customers",
        records=[{"source_id": "c1"}],
        sync_mode="changed",
        state_path="{{ '' }}",
        retries=2,
        retry_delay=timedelta(0),
    )


def sensor_mapped_wrongly() -> None:
    VoucherifyAsyncActionSensor.partial(task_id="sync", retries=2, retry_delay=timedelta(0), max_failed_ratio=5).expand(
        async_action_id=["aa_1"]
    )


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (mapped_wrongly, "max_in_flight must be a number of at least 1, not 0"),
        (templated_wrongly, f"sync_mode='changed' {STATE}"),
        (sensor_mapped_wrongly, "max_failed_ratio must be a number from 0 to 1, not 5"),
    ],
)
def test_what_is_known_when_the_task_runs_is_told_then_and_not_retried(
    voucherify: LocalVoucherify, task_log: Callable[[], str], write: Callable[[], None], message: str
) -> None:
    with DAG("known_late", schedule=None) as dag:
        write()

    assert run_dag(dag).state == "failed"
    log = task_log()
    assert f"task 'sync': {message}" in log
    assert "AirflowFailException" in log
    assert "XCom not found" not in log
    assert voucherify.received == []


WHEN_RUN: list[tuple[dict[str, Any], str]] = [
    ({"records": "c1"}, "the rows must come as a list"),
    ({"sql": "SELECT 1 AS name", "sql_conn_id": "warehouse"}, "no column gives source_id"),
    ({"sql": "SELECT * FROM nowhere", "sql_conn_id": "warehouse"}, "no such table: nowhere"),
    ({"sql": "SELECT 1 AS source_id", "sql_conn_id": "voucherify_default"}, "cannot run queries"),
    ({"path": "/nowhere.csv"}, "nowhere.csv"),
    ({"path": "/etc/hostname"}, "must end in .jsonl, .csv or .parquet"),
    (
        {"sql": "SELECT 1 AS ID", "sql_conn_id": "warehouse", "mapping": {"id": "source_id"}},
        "do not have (did you mean 'ID'?); they have 'ID'",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), WHEN_RUN, ids=[str(case[0]) for case in WHEN_RUN])
def test_told_when_the_task_runs_and_nothing_is_sent(
    voucherify: LocalVoucherify,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    task_log: Callable[[], str],
    arguments: dict[str, Any],
    message: str,
) -> None:
    sqlite3.connect(tmp_path / "w.sqlite").close()
    warehouse = {"conn_type": "sqlite", "host": str(tmp_path / "w.sqlite")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(warehouse))
    with DAG("wrong_use", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", **arguments)

    assert run_dag(dag).state == "failed"
    assert message in task_log()
    assert voucherify.received == []


def test_a_connection_that_is_not_there_is_told_before_any_row_is_read(
    voucherify: LocalVoucherify, task_log: Callable[[], str]
) -> None:
    with DAG("no_connection", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", path="/nowhere.csv", voucherify_conn_id="nobody_knows"
        )

    assert run_dag(dag).state == "failed"
    output = task_log()
    assert "nobody_knows" in output
    assert "nowhere.csv" not in output


def test_wrong_credentials_fail_with_the_api_s_words_and_without_the_key(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    wrong = {"conn_type": "voucherify", "host": voucherify.base_url, "login": "app", "password": "wrong-key-123"}
    monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json.dumps(wrong))
    with DAG("wrong_key", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=[{"source_id": "c1"}])

    assert run_dag(dag).state == "failed"
    output = task_log()
    assert f"POST {voucherify.base_url}/v1/customers/bulk/async (connection voucherify_default) was answered" in output
    assert "Wrong key or wrong region" in output
    assert "(connection voucherify_default)" in output
    assert "wrong-key-123" not in output


@pytest.mark.parametrize("status", [400, 401, 402, 403])
def test_what_a_retry_cannot_mend_is_not_retried(
    voucherify: LocalVoucherify, task_log: Callable[[], str], status: int
) -> None:
    voucherify.misbehave("submit", Status(status), times=None)
    with DAG("in_vain", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=[{"source_id": "c1"}], retries=2, retry_delay=timedelta(0)
        )
    run = run_dag(dag)

    assert run.task_state("sync") == "failed"
    assert [request.status for request in voucherify.received] == [status]
    assert "AirflowFailException" in task_log()


@pytest.mark.parametrize(
    "operator", [VoucherifyBulkUpdateOperator, VoucherifyBulkMetadataOperator, VoucherifyAsyncActionSensor]
)
def test_constructors_leave_templates_alone(operator: type[Any]) -> None:
    template = "{{ params.anything }}"
    names = set(operator.template_fields) - {"sql", "sql_conn_id", "sql_parameters", "path", "async_action_ids"}
    fixed = {} if operator is VoucherifyAsyncActionSensor else {"resource": "customers"}

    task = operator(task_id="t", **fixed, **dict.fromkeys(names, template))

    assert {getattr(task, name) for name in names} == {template}
    assert isinstance(operator.template_fields, tuple)
    assert "voucherify_conn_id" in operator.template_fields
