"""Actions that end in another order than that of submission: all are waited for, and each is fetched once."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import Action, LocalVoucherify, Status
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor


def shuffled(actions: int) -> list[int]:
    return random.Random(1).sample(range(actions), actions)


def end_in(voucherify: LocalVoucherify, order: Sequence[int], seconds: float) -> None:
    """Let actions end in an order, evenly in so many seconds from the first poll on."""
    ranks = {number: rank for rank, number in enumerate(order)}
    numbers: dict[str, int] = {}
    first_poll: list[float] = []

    def show(action: Action, wire: dict[str, Any]) -> dict[str, Any]:
        first_poll.append(time.time())
        numbers.update({} if numbers else {each: number for number, each in enumerate(voucherify.actions)})
        if time.time() < first_poll[0] + seconds * (ranks[numbers[action.id]] + 1) / len(ranks):
            return {name: wire[name] for name in wire if name != "result"} | {"status": "IN_PROGRESS", "progress": 50}
        return wire

    voucherify.script_action(show)


def sync(actions: int, **kwargs: Any) -> DagRunResult:
    with DAG("order", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": f"c{number}"} for number in range(actions)],
            requests={"max_records": 1},
            poll_interval=0.5,
            **kwargs,
        )
    return run_dag(dag)


def gets(voucherify: LocalVoucherify) -> list[str]:
    return [
        request.path for request in voucherify.received if request.method == "GET" and "reports" not in request.path
    ]


@pytest.fixture(params=[False, True], ids=["worker", "triggerer"])
def deferrable(request: pytest.FixtureRequest, defer_at_once: None) -> bool:
    return bool(request.param)


def test_every_action_is_fetched_once_at_its_end(voucherify: LocalVoucherify, deferrable: bool) -> None:
    end_in(voucherify, shuffled(100), 1.0)

    run = sync(100, deferrable=deferrable)

    assert run.xcom("sync")["created"] == 100
    assert len(gets(voucherify)) <= 100 + 15


def test_what_the_last_poll_found_is_not_fetched_again(voucherify: LocalVoucherify) -> None:
    run = sync(1, deferrable=False)

    assert gets(voucherify) == [f"/v1/async-actions/{action_id}" for action_id in run.xcom("sync")["async_action_ids"]]


def test_without_the_list_it_takes_more_polls_and_nothing_else(voucherify: LocalVoucherify, deferrable: bool) -> None:
    voucherify.misbehave("list", Status(403), times=None)
    end_in(voucherify, shuffled(10), 0.5)

    assert sync(10, deferrable=deferrable).xcom("sync")["created"] == 10


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_a_sensor_does_not_fetch_all_each_time(voucherify: LocalVoucherify, mode: str) -> None:
    with VoucherifyHook() as hook:
        ids = [hook.update_customers_in_bulk([{"source_id": f"c{number}"}]) for number in range(30)]
    end_in(voucherify, [29, *range(29)], 1.0)

    with DAG("wait", schedule=None) as dag:
        VoucherifyAsyncActionSensor(
            task_id="wait", async_action_ids=ids, mode=mode, poke_interval=0.2, deferrable=False
        )
    run = run_dag(dag)

    assert run.xcom("wait")["created"] == 30
    assert len(gets(voucherify)) <= 30 + 2 * 10
