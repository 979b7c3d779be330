"""``VoucherifyAsyncActionSensor``: waiting for what somebody else has submitted."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, RateLimited, Status
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.task.completion import Completion

MODES = [{"deferrable": True}, {"deferrable": False, "mode": "poke"}, {"deferrable": False, "mode": "reschedule"}]


pytestmark = pytest.mark.usefixtures("defer_at_once")


def wait(**kwargs: Any) -> DagRunResult:
    with DAG("wait", schedule=None) as dag:
        VoucherifyAsyncActionSensor(task_id="wait", **{"poke_interval": 0.02, **kwargs})
    return run_dag(dag)


@pytest.mark.parametrize("mode", MODES, ids=["deferrable", "poke", "reschedule"])
def test_it_returns_the_same_summary_as_the_operator(voucherify: LocalVoucherify, mode: dict[str, Any]) -> None:
    with DAG("submit_and_wait", schedule=None) as dag:
        submit = VoucherifyBulkUpdateOperator(
            task_id="submit",
            resource="products",
            records=[{"source_id": f"p{i}", "price": i} for i in range(5)],
            requests={"max_records": 2},
            wait_for_completion=False,
        )
        VoucherifyAsyncActionSensor(
            task_id="wait", async_action_ids=submit.output["async_action_ids"], poke_interval=0.02, **mode
        )
    run = run_dag(dag)

    summary = run.xcom("wait")
    assert run.state == "success"
    assert summary["resource"] == "products"
    assert summary["async_action_ids"] == run.xcom("submit")["async_action_ids"]
    assert (summary["submitted"], summary["created"], summary["rows_read"]) == (5, 5, None)


@pytest.mark.parametrize("mode", MODES, ids=["deferrable", "poke", "reschedule"])
def test_failed_records_fail_the_sensor(voucherify: LocalVoucherify, mode: dict[str, Any], tmp_path: Path) -> None:
    with VoucherifyHook() as hook:
        action_id = hook.update_vouchers_in_bulk([{"code": "GONE", "metadata": {"a": 1}}])

    run = wait(async_action_id=action_id, report_path=str(tmp_path), **mode)

    assert run.task_state("wait") == "failed"
    assert run.xcom("wait")["failures"][0]["id"] == "GONE"
    line = json.loads((tmp_path / "failures.jsonl").read_text())
    assert line["code"] == "GONE"


@pytest.mark.parametrize(("soft_fail", "state"), [(True, "skipped"), (False, "failed")])
def test_a_timeout_is_a_sensor_timeout(voucherify: LocalVoucherify, soft_fail: bool, state: str) -> None:
    voucherify.next_actions(stuck="ENQUEUED")
    with VoucherifyHook() as hook:
        action_id = hook.update_customers_in_bulk([{"source_id": "c1"}])

    run = wait(
        async_action_id=action_id,
        deferrable=True,
        timeout=0.1,
        soft_fail=soft_fail,
        retries=2,
        retry_delay=timedelta(0),
    )

    assert run.task_state("wait") == state


RESCHEDULE_TWICE = pytest.mark.needs_airflow("3.1", "under dag.test() 3.0 cannot reschedule a sensor more than once")


@pytest.mark.parametrize("mode", ["poke", pytest.param("reschedule", marks=RESCHEDULE_TWICE)])
def test_results_that_a_rate_limit_holds_back_are_left_to_the_next_poke(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str], mode: str
) -> None:
    monkeypatch.setattr(Completion, "rate_limit_seconds", 0.2)
    with VoucherifyHook() as hook:
        ids = [hook.update_customers_in_bulk([{"source_id": f"c{number}"}]) for number in range(2)]
    voucherify.misbehave(lambda method, path: ids[0] in path, RateLimited(retry_after=3))

    run = wait(async_action_ids=ids, deferrable=False, mode=mode)

    assert run.state == "success"
    assert run.xcom("wait")["created"] == 2
    assert "This poll failed, the next may not" in task_log()


@pytest.mark.parametrize("mode", MODES, ids=["deferrable", "poke", "reschedule"])
def test_records_that_were_created_fail_it_where_none_should_be(
    voucherify: LocalVoucherify, task_log: Callable[[], str], mode: dict[str, Any]
) -> None:
    with VoucherifyHook() as hook:
        action_id = hook.update_customers_in_bulk([{"source_id": "mistyped"}])

    run = wait(async_action_id=action_id, fail_if={"created": 0}, **mode)

    assert run.task_state("wait") == "failed"
    assert "1 record was created, and created of fail_if is 0" in task_log()


def test_a_threshold_can_warn_alone(voucherify: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        action_id = hook.update_customers_in_bulk([{"source_id": "mistyped"}])

    run = wait(async_action_id=action_id, warn_if={"created": 0})

    assert run.state == "success"
    assert run.xcom("wait")["warning"] == "1 record was created, and created of warn_if is 0"


@pytest.mark.parametrize("mode", MODES, ids=["deferrable", "poke", "reschedule"])
def test_never_fail_skips_it_whatever_happens(voucherify: LocalVoucherify, mode: dict[str, Any]) -> None:
    assert wait(async_action_id="aa_00000000", never_fail=True, **mode).task_state("wait") == "skipped"


def test_never_fail_holds_after_a_deferral_too(voucherify: LocalVoucherify, task_log: Callable[[], str]) -> None:
    with VoucherifyHook() as hook:
        action_id = hook.update_customers_in_bulk([{"source_id": "c1"}])
    voucherify.misbehave(lambda method, path: action_id in path, Status(403), times=None)

    assert wait(async_action_id=action_id, never_fail=True, deferrable=True).task_state("wait") == "skipped"
    assert "Waiting in the triggerer" in task_log()


def test_an_unknown_action_fails_with_the_api_s_own_words(
    voucherify: LocalVoucherify, task_log: Callable[[], str]
) -> None:
    run = wait(async_action_id="aa_00000000", deferrable=True)

    assert run.task_state("wait") == "failed"
    assert "Cannot find async_action with id aa_00000000" in task_log()


@pytest.mark.parametrize("form", ["{ids}", "{ids!r}", " {first} "], ids=["list", "list as text", "one"])
def test_ids_come_in_any_form_that_a_template_makes(voucherify: LocalVoucherify, form: str) -> None:
    with VoucherifyHook() as hook:
        ids = [hook.update_customers_in_bulk([{"source_id": "c1"}]) for _ in range(2)]

    run = wait(async_action_ids=form.format(ids=ids, first=ids[0]), deferrable=False)

    assert run.xcom("wait")["async_action_ids"] == (ids if "ids" in form else ids[:1])


def test_no_ids_at_all_is_an_error_and_not_a_success(voucherify: LocalVoucherify) -> None:
    assert wait(async_action_ids="None").task_state("wait") == "failed"
