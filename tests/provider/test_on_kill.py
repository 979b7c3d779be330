"""A task that is killed (marked, or its worker shut down) sends nothing more, and its retry continues from there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import run_dag, tell_to_end
from installed import needs_store

from airflow_provider_voucherify.local_voucherify import Delay, LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator

pytestmark = pytest.mark.needs_airflow("3.0", "Airflow 2 itself ends a task after on_kill")

ROWS = [{"source_id": f"c{number}"} for number in range(20)]
AGAIN = {"retries": 1, "retry_delay": timedelta(0)}


def posts(server: LocalVoucherify) -> int:
    return sum(request.method == "POST" for request in server.received)


@pytest.mark.parametrize("mapped", [False, True], ids=["plain", "mapped"])
def test_no_request_follows(voucherify: LocalVoucherify, task_log: Callable[[], str], mapped: bool) -> None:
    voucherify.misbehave("submit", Delay(0.2), times=None)
    tell_to_end(lambda: posts(voucherify) >= 3)
    with DAG("killed", schedule=None) as dag:
        kwargs = {"task_id": "sync", "resource": "customers", "requests": {"max_records": 1}}
        if mapped:
            VoucherifyBulkUpdateOperator.partial(**kwargs).expand(records=[ROWS])
        else:
            VoucherifyBulkUpdateOperator(records=ROWS, **kwargs)
    run = run_dag(dag)

    assert run.state == "failed"
    assert posts(voucherify) <= 3 + 2, "those that were in flight, and no more"
    assert "the task was killed when" in task_log()


@needs_store
def test_the_next_try_sends_the_rest(voucherify: LocalVoucherify, task_log: Callable[[], str]) -> None:
    voucherify.misbehave("submit", Delay(0.2), times=None)
    tell_to_end(lambda: posts(voucherify) >= 3)
    with DAG("killed_and_retried", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=ROWS, requests={"max_records": 1}, **AGAIN
        )
    run = run_dag(dag)

    assert "VoucherifyTaskKilledError" in task_log()
    assert run.state == "success"
    assert posts(voucherify) == len(ROWS)
    assert run.xcom("sync")["created"] == len(ROWS)


@needs_store
def test_waiting_ends_too_and_the_next_try_waits_for_the_same(
    voucherify: LocalVoucherify, task_log: Callable[[], str]
) -> None:
    voucherify.next_actions(seconds=5)
    tell_to_end(lambda: any(request.method == "GET" for request in voucherify.received))
    with DAG("killed_while_waiting", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=ROWS, deferrable=False, poll_interval=600, **AGAIN
        )
    run = run_dag(dag)

    assert "the task was killed while it waited for its async actions" in task_log()
    assert run.state == "success"
    assert posts(voucherify) == 1


def test_nothing_is_logged_in_the_signal_handler(task_log: Callable[[], str]) -> None:
    """Airflow's log takes a lock that is not reentrant: a handler that interrupts a log line would wait for itself."""
    operator = VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=ROWS)

    operator.on_kill()

    assert task_log() == ""


def test_a_csv_import_sends_no_further_part(
    voucherify: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    file = tmp_path / "customers.csv"
    file.write_text("Source_id,Name\n" + "".join(f"{row},{'x' * 300}\n" for row in ROWS))
    voucherify.misbehave("/v1/customers/importCSV", Delay(0.5), times=None)
    tell_to_end(lambda: posts(voucherify) >= 2)
    with DAG("killed_import", schedule=None) as dag:
        VoucherifyImportCsvOperator(task_id="sync", resource="customers", path=str(file), requests={"max_bytes": 1_000})
    run = run_dag(dag)

    assert run.state == "failed"
    assert posts(voucherify) <= 3
    assert "the task was killed when" in task_log()
