"""A person clears a task: all is sent again, also after ``retries`` was lowered by as much as there were tries."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import clear_and_run, run_dag
from installed import needs_store

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator


def dag_with(retries: int) -> DAG:
    with DAG("cleared", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=[{"source_id": "c1"}], retries=retries
        )
    return dag


@needs_store
@pytest.mark.parametrize(
    ("retries", "max_tries", "said"),
    [
        (1, (1, 2), "The task was cleared: everything is sent again"),
        (0, (1, 1), "Tasks of this run were cleared since the last try, perhaps this one: everything is sent again"),
    ],
    ids=["the same", "lowered"],
)
def test_a_clear_sends_everything_again(
    voucherify: LocalVoucherify, task_log: Callable[[], str], retries: int, max_tries: tuple[int, int], said: str
) -> None:
    run = run_dag(dag_with(retries=1))

    assert clear_and_run(dag_with(retries), run) == max_tries

    assert said in task_log()
    assert len(voucherify.requests("POST", "/v1/customers/bulk/async")) == 2
