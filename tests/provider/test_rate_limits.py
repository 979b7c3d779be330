"""Tasks and rate limits: a worker is not held through a long wait, and a deadline is a deadline."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import run_dag

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, RateLimited
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.task.completion import Completion


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., LocalVoucherify]]:
    """Give a function that starts a local Voucherify with options and makes the connection lead to it."""
    with ExitStack() as cleanup:

        def start_one(**options: Any) -> LocalVoucherify:
            server = cleanup.enter_context(LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, **options))
            connect(monkeypatch, server)
            return server

        yield start_one


def update(**kwargs: Any) -> DAG:
    kwargs = {"records": [{"source_id": "c1"}]} | kwargs
    with DAG("rate_limits", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", **kwargs)
    return dag


def statuses(server: LocalVoucherify) -> list[int | None]:
    return [request.status for request in server.received]


@pytest.mark.parametrize("known", [True, False], ids=["held back", "refused"])
def test_a_deferrable_task_does_not_wait_on_its_worker_for_a_limit(
    start: Callable[..., LocalVoucherify],
    monkeypatch: pytest.MonkeyPatch,
    task_log: Callable[[], str],
    known: bool,
) -> None:
    monkeypatch.setattr(Completion, "worker_seconds", 1.5)
    run_dag(update(dry_run=True))  # lest the first run, which prepares the database, outlast the period
    server = start(api_calls=(2, 6), action_seconds=3) if known else start()
    if not known:
        server.misbehave("poll", RateLimited(retry_after=2.5))

    run = run_dag(update(deferrable=True))

    assert run.state == "success"
    assert run.xcom("sync")["created"] == 1
    text = task_log()
    assert text.index("A rate limit leaves no time for another poll") < text.index("Waiting in the triggerer for 1")
    assert statuses(server).count(429) == (0 if known else 1)


def test_a_task_that_is_not_deferrable_ends_at_its_deadline_and_not_after_the_limit(
    start: Callable[..., LocalVoucherify], task_log: Callable[[], str]
) -> None:
    server = start(api_calls=(2, 600))
    server.next_actions(stuck="IN_PROGRESS")
    began = time.time()

    run = run_dag(update(deferrable=False, completion_timeout=2))

    assert run.task_state("sync") == "failed"
    assert "VoucherifyCompletionTimeoutError" in task_log()
    assert 2 <= time.time() - began < 300
    assert statuses(server) == [202, 200]


def test_a_worker_that_waits_for_a_limit_says_until_when(
    start: Callable[..., LocalVoucherify], task_log: Callable[[], str]
) -> None:
    server = start(api_calls=(2, 2), action_seconds=0.6)

    run = run_dag(update(deferrable=False))

    assert run.state == "success"
    waits = (
        r"GET /v1/async-actions/\w+ waits \d+ s, until \d\d:\d\d:\d\d UTC: Voucherify's api_calls limit of 2 is used up"
    )
    assert re.search(waits, task_log())
    assert 429 not in statuses(server)


@pytest.mark.parametrize("late", [False, True], ids=["before it was deferred", "when it is resumed"])
def test_a_limit_that_holds_the_results_back_is_waited_for_in_the_triggerer(
    start: Callable[..., LocalVoucherify], monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str], late: bool
) -> None:
    monkeypatch.setattr(Completion, "rate_limit_seconds", 0.2)
    monkeypatch.setattr(Completion, "worker_seconds", 0.2 if late else 60.0)
    server = start(action_seconds=0.3 if late else 0.0)
    server.misbehave(lambda method, path: first_action_of(server) in path, RateLimited(retry_after=2.5))

    run = run_dag(
        update(records=TWO, requests={"max_records": 1, "max_in_flight": 1}, deferrable=True, report_path=None)
    )

    assert run.state == "success"
    assert run.xcom("sync")["created"] == 2
    said = task_log()
    assert said.count(f"Waiting in the triggerer for a rate limit: GET {server.base_url}/v1/async-actions/") == 1
    assert "Waiting until" in said, "the trigger waits for the time alone"
    assert statuses(server).count(429) == 1


TWO = [{"source_id": "c1"}, {"source_id": "c2"}]


def first_action_of(server: LocalVoucherify) -> str:
    return next(iter(server.actions), "none")


def test_results_that_no_period_has_calls_enough_for_are_fetched_on_the_worker(
    start: Callable[..., LocalVoucherify], monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    monkeypatch.setattr(Completion, "rate_limit_seconds", 0.2)
    server = start(api_calls=(4, 3), bulk_calls_are_api_calls=False)
    records = [{"source_id": f"c{number}"} for number in range(9)]

    run = run_dag(update(records=records, requests={"max_records": 1}, deferrable=True))

    assert run.state == "success"
    assert run.xcom("sync")["created"] == 9
    assert task_log().count("Waiting in the triggerer for a rate limit") <= 2
    fetched = [request.path for request in server.received if request.path.startswith("/v1/async-actions/")]
    assert len(fetched) <= 9 + 4


@pytest.mark.parametrize("deferrable", [True, False])
def test_results_are_waited_for_until_the_deadline_and_then_the_task_fails(
    start: Callable[..., LocalVoucherify],
    monkeypatch: pytest.MonkeyPatch,
    task_log: Callable[[], str],
    deferrable: bool,
) -> None:
    monkeypatch.setattr(Completion, "rate_limit_seconds", 0.2)
    server = start()
    server.misbehave(lambda method, path: first_action_of(server) in path, RateLimited(retry_after=3_000), times=None)
    began = time.time()

    in_order = {"requests": {"max_records": 1, "max_in_flight": 1}}
    run = run_dag(update(records=TWO, deferrable=deferrable, completion_timeout=600, **in_order))

    assert run.task_state("sync") == "failed"
    assert "VoucherifyRateLimitError" in task_log()
    assert time.time() - began < 300


def test_only_one_batch_at_a_time_waits_for_a_limit_of_bulk_calls(
    start: Callable[..., LocalVoucherify], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "airflow_provider_voucherify")
    server = start(bulk_api_calls=(1, 2))
    records = [{"source_id": f"c{number}"} for number in range(5)]

    run = run_dag(update(records=records, requests={"max_records": 1, "max_in_flight": 3}))

    assert run.state == "success"
    assert run.xcom("sync")["requests"] == 5
    assert statuses(server).count(202) == len(server.customers) == 5
    waits = [record.message for record in caplog.records if "bulk/async waits" in record.message]
    # Two that came with the first, one of them again, one for each of the other two, and some that end too early on a
    # busy machine; if all three in flight waited each time, it would be nine.
    assert len(waits) <= 7


def test_a_poke_leaves_a_long_wait_to_the_next_poke(
    start: Callable[..., LocalVoucherify], task_log: Callable[[], str]
) -> None:
    server = start(api_calls=(2, 600))
    with VoucherifyHook() as hook:
        action_id = hook.update_customers_in_bulk([{"source_id": "c1"}])
        hook.list_async_actions()
    with DAG("wait", schedule=None) as dag:
        VoucherifyAsyncActionSensor(
            task_id="wait", async_action_id=action_id, deferrable=False, poke_interval=0.05, timeout=0.2
        )

    run = run_dag(dag)

    assert run.task_state("wait") == "failed"
    assert "This poll failed, the next may not: GET" in task_log()
    assert statuses(server) == [202, 200]
