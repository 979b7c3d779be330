"""Mistakes of a DAG's author, and what they are told, as early as possible."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import run_dag

from airflow_provider_voucherify.exceptions import VoucherifyConfigurationError
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

WHEN_WRITTEN: list[tuple[dict[str, Any], str]] = [
    ({"resource": "orders", "records": []}, "unknown resource 'orders'"),
    ({"resource": "customers"}, "exactly one source"),
    ({"resource": "customers", "records": [], "path": "x.csv"}, "exactly one source"),
    ({"resource": "customers", "sql": "SELECT 1"}, "sql_conn_id"),
]


@pytest.mark.parametrize(("arguments", "message"), WHEN_WRITTEN)
def test_told_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=message):
        VoucherifyBulkUpdateOperator(task_id="sync", **arguments)


def test_the_sensor_wants_one_kind_of_id() -> None:
    with pytest.raises(VoucherifyConfigurationError, match="exactly one of"):
        VoucherifyAsyncActionSensor(task_id="wait")


WHEN_RUN: list[tuple[dict[str, Any], str]] = [
    ({"records": "c1"}, "records must be a list"),
    ({"records": [{"source_id": "1"}], "mapping": {"source_id": "nmae"}}, "has no field 'nmae'"),
    ({"sql": "SELECT 1 AS name", "sql_conn_id": "warehouse"}, "no column gives source_id"),
    ({"sql": "SELECT * FROM nowhere", "sql_conn_id": "warehouse"}, "no such table: nowhere"),
    ({"sql": "SELECT 1 AS source_id", "sql_conn_id": "voucherify_default"}, "cannot run queries"),
    ({"path": "/nowhere.csv"}, "nowhere.csv"),
    ({"path": "/etc/hostname"}, "must end in .jsonl, .csv or .parquet"),
    ({"records": [], "null_policy": "blank"}, "null_policy must be 'omit' or 'send'"),
    ({"records": [], "max_failed_ratio": 5}, "max_failed_ratio must be a number from 0 to 1, not"),
    ({"records": [], "max_batch_bytes": 20_000_000}, "max_batch_bytes"),
    ({"records": ["c1"], "max_batch_records": 0}, "max_batch_records must be a number of at least 1, not 0"),
    ({"records": ["c1"], "max_in_flight": 0}, "max_in_flight must be a number of at least 1, not 0"),
    ({"records": ["c1"], "max_in_flight": -1}, "max_in_flight must be a number of at least 1, not -1"),
    ({"records": ["c1"], "max_in_flight": "2"}, "max_in_flight must be a number of at least 1, not '2'"),
    ({"records": ["c1"], "max_failed_records": "5"}, "max_failed_records must be a number of at least 0, not '5'"),
    ({"records": ["c1"], "max_failed_ratio": "0.5"}, "max_failed_ratio must be a number from 0 to 1, not '0.5'"),
    ({"records": ["c1"], "on_failed_records_callback": "mail"}, "must be a notifier, a callable, or a list of them"),
    (
        {"records": ["c1"], "on_failed_records_callback": [print, 3]},
        "must be a notifier, a callable, or a list of them",
    ),
    ({"records": ["c1"], "on_failed_records_callback": 3}, "must be a notifier, a callable, or a list of them, not 3"),
    ({"records": ["c1"], "mapping": ["source_id"]}, "mapping must be a dict of column to field"),
    (
        {"sql": "SELECT 1 AS ID", "sql_conn_id": "warehouse", "mapping": {"id": "source_id"}},
        "do not have (did you mean 'ID'?); they have 'ID'",
    ),
    ({"records": ["c1"], "poll_interval": "30"}, "poll_interval must be seconds or a timedelta, more than 0, not '30'"),
    *(
        (
            {"records": ["c1"], "completion_timeout": wrong},
            "completion_timeout must be seconds or a timedelta, more than 0",
        )
        for wrong in (None, "PT1H", 0, -5, float("inf"))
    ),
    *(
        (
            {"records": ["c1"], "wait_for_completion": False, name: 0},
            f"{name} cannot be checked with wait_for_completion",
        )
        for name in ("max_created", "max_not_reported", "warn_created")
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
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=["c1"])

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
            task_id="sync", resource="customers", records=["c1"], retries=2, retry_delay=timedelta(0)
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
