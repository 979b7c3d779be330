"""The largest body that Voucherify takes may shrink: batches that are too large are sent in halves, and in no more."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, run_dag
from installed import needs_store

from airflow_provider_voucherify.local_voucherify import DropAfter, LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

RECORDS = [{"source_id": f"c{i:04}", "note": "x" * 40} for i in range(4_000)]


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Any:
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, max_body_bytes=10_000, keep_bodies=True) as server:
        connect(monkeypatch, server)
        yield server


def sync(**kwargs: Any) -> DagRunResult:
    defaults = {"resource": "customers", "records": RECORDS, "retries": 1, "retry_delay": timedelta(0)}
    with DAG("smaller_limit", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", **{**defaults, **kwargs})
    return run_dag(dag)


def posted(server: LocalVoucherify, status: int) -> list[bytes]:
    return [r.body for r in server.received if r.method == "POST" and r.status == status]


def times_taken(server: LocalVoucherify) -> set[int]:
    taken = Counter(record["source_id"] for body in posted(server, 202) for record in json.loads(body))
    assert len(taken) == len(RECORDS)
    return set(taken.values())


@pytest.mark.parametrize("max_in_flight", [1, 2, 4])
def test_a_body_that_is_too_large_is_halved_until_it_fits(strict: LocalVoucherify, max_in_flight: int) -> None:
    summary = sync(requests={"max_bytes": 60_000, "max_in_flight": max_in_flight}).xcom("sync")

    assert (summary["created"], summary["submitted"]) == (4_000, 4_000)
    assert times_taken(strict) == {1}
    assert summary["requests"] == len(posted(strict, 202))
    assert len(posted(strict, 413)) <= 4 * max_in_flight, "it takes more than 15 if nothing is learned of the limit"


@needs_store
def test_a_retry_knows_the_halves_that_were_sent(strict: LocalVoucherify) -> None:
    strict.misbehave("submit", DropAfter(), after=8)

    summary = sync(requests={"max_bytes": 60_000}).xcom("sync")

    assert (summary["succeeded"], summary["resubmitted"]) == (4_000, 1)
    lost = 1
    assert len(strict.actions) == len(summary["async_action_ids"]) + lost, "no other half was sent twice"


def test_a_single_record_that_is_too_large_fails_the_task(strict: LocalVoucherify) -> None:
    run = sync(records=[{"source_id": "c1", "note": "x" * 20_000}], retries=0)

    assert run.state == "failed"
    assert posted(strict, 202) == []
