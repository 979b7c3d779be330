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
    ({"full_refresh": "perhaps"}, "full_refresh must be true or false, not 'perhaps'"),
    (
        {"state": {"on_removed": "delete", "path": "x"}},
        "on_removed of state must be 'ignore', 'report' or {'metadata': {...}}",
    ),
    ({"state": {"on_removed": {"metadata": 1}, "path": "x"}}, "on_removed of state must be 'ignore', 'report' or"),
    ({"state": {"on_removed": "report"}}, "state needs conn_id (a database) or path (a folder), and not both"),
    ({"state": {"path": "x", "conn_id": "y"}}, "state needs conn_id (a database) or path (a folder), and not both"),
    ({"state": 5}, "state must be State(...) or a dict of its members, not 5"),
    ({"state": {"pth": "x"}}, "state has no 'pth' (did you mean 'path'?)"),
    ({"state": "warehouse", "wait_for_completion": False}, "state= needs wait_for_completion=True: a sensor does not"),
    ({"state": {"path": "x", "outcomes": "txt"}}, "outcomes of state must be 'jsonl', 'csv', 'parquet' or None"),
    ({"state": {"conn_id": "y", "outcomes": "csv"}}, "outcomes of state is for a folder"),
    ({"report_path": Path("s3://bucket/reports")}, "report_path: pathlib.Path takes a slash out of the URI"),
    ({"state": Path("s3://bucket/state")}, "path of state: pathlib.Path takes a slash out of the URI"),
    ({"report_path": " "}, "report_path must be a path or an object storage URI, not ' '"),
    ({"on_retry": "resend_failed"}, "on_retry='resend_failed' needs retries"),
    ({"on_retry": "again"}, "on_retry must be 'resume', 'resend_failed' or 'restart', not 'again'"),
    ({"dry_run": "yes"}, "dry_run must be True or False, not 'yes'"),
    ({"deferrable": "no"}, "deferrable must be True or False, not 'no'"),
    ({"fail_if": {"failed_ratio": 5}}, "failed_ratio of fail_if must be a number from 0 to 1, not 5"),
    ({"fail_if": {"failed_ratio": "0.5"}}, "failed_ratio of fail_if must be a number from 0 to 1, not '0.5'"),
    ({"fail_if": {"failed": "5"}}, "failed of fail_if must be a number of at least 0, not '5'"),
    ({"warn_if": {"superseded": -1}}, "superseded of warn_if must be a number of at least 0, not -1"),
    (
        {"state": {"path": "x", "max_removed_ratio": 2}},
        "max_removed_ratio of state must be a number from 0 to 1, not 2",
    ),
    (
        {"requests": {"max_bytes": 20_000_000}},
        "max_bytes of requests must be a number from 1 to 10485760, not 20000000",
    ),
    ({"requests": {"max_records": 0}}, "max_records of requests must be a number of at least 1, not 0"),
    ({"requests": {"max_in_flight": 0}}, "max_in_flight of requests must be a number of at least 1, not 0"),
    ({"requests": {"max_in_flight": "2"}}, "max_in_flight of requests must be a number of at least 1, not '2'"),
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
        ({"wait_for_completion": False, parameter: {name: 0}}, f"{name} of {parameter} cannot be checked with wait_for")
        for parameter in ("fail_if", "warn_if")
        for name in ("created", "not_reported")
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
            fail_if={"created": -1},
            on_retry="resend_failed",
        )

    first, *others = str(told.value).splitlines()
    assert first == "task 'sync' has 3 wrong parameters:"
    assert [line for line in others if not line.startswith("- ")] == [
        "Add to it, for example:",
        '    sql_conn_id="warehouse",',
        "    retries=2,",
    ]


def test_all_wrong_thresholds_are_told_at_once() -> None:
    with pytest.raises(VoucherifyConfigurationError) as told:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=["c1"], fail_if={"failed": "10", "created": -1}
        )

    assert "failed of fail_if must be a number of at least 0, not '10'" in str(told.value)
    assert "created of fail_if must be a number of at least 0, not -1" in str(told.value)


def test_the_lines_to_paste_are_all_that_is_missing() -> None:
    VoucherifyBulkUpdateOperator(
        task_id="sync",
        resource="customers",
        sql="SELECT 1",
        sql_conn_id="warehouse",
        on_retry="resend_failed",
        retries=2,
    )


def test_what_is_wrong_with_metadata_is_told_with_the_rest() -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"has 2 wrong parameters(.|\n)*sample(.|\n)*plan must be"):
        VoucherifyBulkMetadataOperator(task_id="tag", resource="customers", records=["c1"], plan="both", sample=0)
    with pytest.raises(VoucherifyConfigurationError, match="task 'tag': metadata is empty"):
        VoucherifyBulkMetadataOperator(task_id="tag", resource="customers", records=["c1"], metadata={})


def test_a_decorated_function_is_checked_too() -> None:
    @task.voucherify_bulk_update(resource="customers", on_retry="resend_failed")  # type: ignore[attr-defined]
    def rows() -> list[str]:
        return ["c1"]

    with DAG("decorated", schedule=None), pytest.raises(VoucherifyConfigurationError, match="task 'rows': on_retry"):
        rows()


def test_a_subclass_may_set_what_is_missing() -> None:
    class Nightly(VoucherifyBulkUpdateOperator):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(resource="customers", records=["c1"], sql_conn_id="warehouse", **kwargs)
            self.records, self.sql = None, f"SELECT * FROM {self.task_id}"

    assert Nightly(task_id="sync").sql == "SELECT * FROM sync"


def test_the_sensor_wants_one_kind_of_id() -> None:
    with pytest.raises(VoucherifyConfigurationError, match="task 'wait': give exactly one of"):
        VoucherifyAsyncActionSensor(task_id="wait")


def test_a_dry_run_asks_for_nothing_that_only_sending_needs(voucherify: LocalVoucherify) -> None:
    with DAG("only_dry", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c1"}],
            on_retry="resend_failed",
            fail_if={"created": 5},
            wait_for_completion=False,
            dry_run=True,
        )

    summary = run_dag(dag).xcom("sync")

    assert (summary["rows_read"], summary["requests"]) == (1, 1)
    assert "without dry_run: on_retry='resend_failed' needs retries" in summary["warning"]
    assert "without dry_run: created of fail_if cannot be checked with wait_for_completion=False" in summary["warning"]
    assert voucherify.received == []


def mapped_wrongly() -> None:
    VoucherifyBulkUpdateOperator.partial(
        task_id="sync", resource="customers", records=[{"source_id": "c1"}], retries=2, retry_delay=timedelta(0)
    ).expand(requests=[{"max_in_flight": 0}])


def templated_wrongly() -> None:
    VoucherifyBulkUpdateOperator(
        task_id="sync",
        resource="customers",
        records=[{"source_id": "c1"}],
        state={"path": "{{ '' }}"},
        retries=2,
        retry_delay=timedelta(0),
    )


def sensor_mapped_wrongly() -> None:
    VoucherifyAsyncActionSensor.partial(
        task_id="sync", retries=2, retry_delay=timedelta(0), fail_if={"failed_ratio": 5}
    ).expand(async_action_id=["aa_1"])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (mapped_wrongly, "max_in_flight of requests must be a number of at least 1, not 0"),
        (templated_wrongly, "state needs conn_id (a database) or path (a folder)"),
        (sensor_mapped_wrongly, "failed_ratio of fail_if must be a number from 0 to 1, not 5"),
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
