"""
The provider, as these benchmarks call it: everything that would have to follow a renamed argument is here.

The engine is called as the operator calls it. Airflow is imported by the functions that need it alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.sync.batches.destination import Destination, metadata_destination, update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Rows
from airflow_provider_voucherify.sync.rows.sources import from_cursor, from_file, from_records
from airflow_provider_voucherify.sync.sending.journal import Attempt, Journal
from airflow_provider_voucherify.sync.sending.submission import Submission
from harness.benchmarks.rows import COLUMNS, Sender, Source, cursor, dicts
from harness.process import ROOT

CONNECTION_ID = "voucherify_default"


def connection(url: str) -> dict[str, Any]:
    """Return the Airflow connection that leads to a URL."""
    return {"conn_type": "voucherify", "host": url, "login": "app", "password": "secret"}


def sender(variant: str) -> Sender:
    """Return what sends a source's rows to a URL: ``ours``, or ``ours_metadata`` for one metadata for all ids."""
    return {"ours": update_customers, "ours_metadata": tag_customers}[variant]


def update_customers(source: Source, url: str) -> None:
    """Read a source and post bulk updates, the way the operator does before it waits."""
    destination = update_destination("customers")
    match source.kind:
        case "sqlite" | "postgres":
            with cursor(source) as opened:
                _send(from_cursor(COLUMNS, opened.fetchmany), destination, url)
        case "records":
            _send(from_records(dicts(source.rows), "source_id"), destination, url)
        case "jsonl" | "csv":
            with open(source.where, "rb") as file:
                _send(from_file(file, source.where), destination, url)


def tag_customers(source: Source, url: str) -> None:
    """Give as many ids as the source has rows the same metadata."""
    ids = (row["source_id"] for row in dicts(source.rows))
    rows = from_records(ids, "source_id", takes_ids=True)
    _send(rows, metadata_destination("customers", {"audience": "spring"}), url)


def _send(rows: Rows, destination: Destination, url: str) -> None:
    with closing(rows), Plan(destination) as plan, _client(url) as client:
        plan.read(rows)
        Submission(plan, client, Journal(None, Attempt()), max_in_flight=2).run()


def settle(async_action_ids: Iterable[str], submitted_at: float, url: str) -> int:
    """Fetch the results of finished actions as a task does when it is resumed; return how many records succeeded."""
    from airflow_provider_voucherify.sync.results.collect import collect_outcomes
    from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync

    batches = tuple(SubmittedBatch(action_id, 1) for action_id in async_action_ids)
    with _client(url) as client:
        sync = SubmittedSync(batches, submitted_at)
        return collect_outcomes(sync, client, resource="customers").succeeded or 0


def trigger(async_action_ids: Iterable[str], submitted_at: float, end_time: float) -> Any:
    """Make a trigger with the default settings; the connection's id is ``CONNECTION_ID``."""
    from airflow_provider_voucherify.triggers.async_action import VoucherifyAsyncActionTrigger

    return VoucherifyAsyncActionTrigger(CONNECTION_ID, list(async_action_ids), submitted_at, end_time)


def operator(sql: str, sql_conn_id: str) -> Any:
    """Make the task ``sync``; called within a DAG."""
    from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

    return VoucherifyBulkUpdateOperator(
        task_id="sync", resource="customers", sql=sql, sql_conn_id=sql_conn_id, poll_interval=1
    )


def run_dag(dag: Any) -> Any:
    """Run a DAG with ``dag.test()``, as the tests do."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "provider")]
    try:
        from dags import run_dag
    finally:
        del sys.path[:2]
    return run_dag(dag)


def changes_operator(sql: str, sql_conn_id: str, state: dict[str, Any]) -> Any:
    """Make the task ``sync`` that sends only what has changed; called within a DAG."""
    from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

    return VoucherifyBulkUpdateOperator(
        task_id="sync",
        resource="customers",
        sql=sql,
        sql_conn_id=sql_conn_id,
        state={**state, "sync_name": "customers"},
        poll_interval=1,
    )


def _client(url: str) -> VoucherifyClient:
    shown = connection(url)
    return VoucherifyClient(
        ConnectionSettings.build(application_id=shown["login"], secret_key=shown["password"], host=shown["host"])
    )
