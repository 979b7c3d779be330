"""An older run's late retry must not silently overwrite what a later run has sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.utils.types import DagRunType
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.task.newer_runs import later_at_work, may_be_late

OLDER, NEWER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
ASSET_TRIGGERED = next(kind.value for kind in DagRunType if kind.value in ("asset_triggered", "dataset_triggered"))


def run(day: datetime, limits: dict[str, Any], dag_id: str) -> DagRunResult:
    with DAG(dag_id, schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c1", "name": str(day.date())}],
            retries=1,
            retry_delay=timedelta(0),
            **limits,
        )
    return run_dag(dag, logical_date=day)


@pytest.mark.parametrize(
    ("limits", "state", "name", "warned"),
    [
        ({}, "success", OLDER, True),
        ({"warn_if": {"failed_ratio": 0.5}}, "success", OLDER, True),
        ({"fail_if": {"newer_runs": 0}}, "failed", NEWER, True),
        ({"fail_if": {"newer_runs": 1}}, "success", OLDER, True),
        ({"warn_if": {"newer_runs": None}}, "success", OLDER, False),
    ],
    ids=str,
)
def test_a_late_retry_warns_or_fails(
    voucherify: LocalVoucherify,
    task_log: Callable[[], str],
    limits: dict[str, Any],
    request: pytest.FixtureRequest,
    state: str,
    name: datetime,
    warned: bool,
) -> None:
    dag_id = "newer_" + re.sub(r"\W", "", request.node.name)
    run(NEWER, limits, dag_id)
    voucherify.misbehave("submit", Status(409))

    late = run(OLDER, limits, dag_id)

    assert late.task_state("sync") == state
    assert voucherify.customers["c1"]["name"] == str(name.date())
    assert ("1 run of this task (the last is manual__" in task_log()) == warned


def test_a_manual_run_for_an_older_day_is_late_from_its_first_try_on(voucherify: LocalVoucherify) -> None:
    run(NEWER, {"fail_if": {"newer_runs": 0}}, "late_at_once")

    late = run(OLDER, {"fail_if": {"newer_runs": 0}}, "late_at_once")

    assert late.task_state("sync") == "failed"
    assert voucherify.customers["c1"]["name"] == str(NEWER.date())


@pytest.mark.parametrize(
    ("run_type", "try_number", "catchup", "late"),
    [
        ("scheduled", 1, False, False),
        ("scheduled", 2, False, True),
        ("scheduled", 1, True, True),
        (ASSET_TRIGGERED, 1, False, False),
        ("backfill", 1, False, True),
        ("manual", 1, False, True),
    ],
)
def test_which_tries_look_for_newer_runs(run_type: str, try_number: int, catchup: bool, late: bool) -> None:
    ti, dag_run = SimpleNamespace(try_number=try_number), SimpleNamespace(run_type=DagRunType(run_type))
    context: Any = {"ti": ti, "dag_run": dag_run, "dag": SimpleNamespace(catchup=catchup)}

    assert may_be_late(context) is late


def test_a_manual_run_is_as_old_as_its_logical_date() -> None:
    triggered_later = "manual__2026-01-09T08:00:00+00:00"

    assert later_at_work(RUNS, triggered_later, "sync") == []
    assert later_at_work(RUNS, triggered_later, "sync", OLDER)[-1] == "scheduled__2026-01-02T00:00:00+00:00"


RUNS: dict[str, dict[str, Any]] = {
    "scheduled__2026-01-01T00:00:00+00:00": {"sync": "failed"},
    "scheduled__2026-01-02T00:00:00+00:00": {"sync": "success"},
    "manual__2026-01-03T00:00:00+00:00": {"sync": "scheduled", "sync_1": "deferred"},
    "asset_triggered__2026-01-04T00:00:00.000001+00:00_AbCd1234": {"sync_2": "success"},
    "asset_triggered__2026-01-05T00:00:00+00:00_9fGh0kLm": {"sync_2": "running"},
    "a person's own id": {"sync": "success"},
}


@pytest.mark.parametrize(
    ("run_id", "task", "newer"),
    [
        ("scheduled__2026-01-01T00:00:00+00:00", "sync", "scheduled__2026-01-02T00:00:00+00:00"),
        ("scheduled__2026-01-02T00:00:00+00:00", "sync", None),
        ("scheduled__2026-01-01T00:00:00+00:00", "sync_1", "manual__2026-01-03T00:00:00+00:00"),
        (
            "asset_triggered__2026-01-04T00:00:00.000001+00:00_AbCd1234",
            "sync_2",
            "asset_triggered__2026-01-05T00:00:00+00:00_9fGh0kLm",
        ),
        ("asset_triggered__2026-01-05T00:00:00+00:00_9fGh0kLm", "sync_2", None),
        ("a person's own id", "sync", None),
    ],
)
def test_only_later_runs_that_were_at_work_count(run_id: str, task: str, newer: str | None) -> None:
    assert later_at_work(RUNS, run_id, task)[-1:] == ([] if newer is None else [newer])
