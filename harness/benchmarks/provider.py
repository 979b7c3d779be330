"""
The provider, as these benchmarks call it: everything that would have to follow a renamed argument is here.

The engine is called as the operator calls it. Airflow is imported by the functions that need it alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.sync.batches.destination import metadata_destination, update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Rows
from airflow_provider_voucherify.sync.rows.sources import from_cursor, from_file, from_records
from airflow_provider_voucherify.sync.sending.journal import Journal, Try
from airflow_provider_voucherify.sync.sending.submission import Submission
from harness import process
from harness.benchmarks.rows import COLUMNS, Sender, Source, cursor, dicts
from harness.process import ROOT

CONNECTION_ID = "voucherify_default"


def connection(url: str) -> dict[str, Any]:
    """Return the Airflow connection that leads to a URL."""
    return {"conn_type": "voucherify", "host": url, "login": "app", "password": "secret"}


def sender(variant: str) -> Sender:
    """
    Return what sends a source's rows to a URL.

    ``ours`` only sends; ``ours_confirmed`` collects the outcomes too, and ``ours_tracked`` that of every row;
    ``ours_metadata`` gives one metadata to all ids.
    """
    senders: dict[str, Sender] = {
        "ours": update_customers,
        "ours_metadata": tag_customers,
        "ours_confirmed": confirm_customers,
        "ours_tracked": partial(confirm_customers, tracked=True),
    }
    return senders[variant]


def update_customers(source: Source, url: str) -> None:
    """Read a source and post bulk updates, the way the operator does before it waits."""
    with _rows(source) as rows, Plan(update_destination("customers")) as plan, _client(url) as client:
        plan.read(rows)
        Submission(plan, client, Journal(None, Try()), max_in_flight=2).run()


def confirm_customers(source: Source, url: str, *, tracked: bool = False) -> dict[str, float]:
    """
    Do the same, and collect the outcomes of actions that are done, the way the operator does after it has waited.

    :param tracked: whether there is a ledger, which learns the outcome of every row.
    :returns: CPU time and memory of collecting alone, and the peak of memory.
    """
    from airflow_provider_voucherify.sync.results.collect import collect_outcomes
    from airflow_provider_voucherify.sync.state.ledger import Ledger
    from airflow_provider_voucherify.task.staging import PlannedRecords

    ledger = Ledger("run", "settings") if tracked else None
    with Plan(update_destination("customers"), ledger=ledger) as plan, _client(url) as client:
        with _rows(source) as rows:
            plan.read(rows)
        sync = Submission(plan, client, Journal(None, Try()), max_in_flight=2).run()
        peak = process.peak_mb()
        process.forget_peak()
        cpu, base = time.process_time(), process.resident_mb()
        sent = PlannedRecords(plan)
        summary = collect_outcomes(sync, client, resource="customers", sent=sent, ledger=ledger)
        cpu = time.process_time() - cpu
        if not source.rows == summary.succeeded == (summary.updated or 0) + (summary.created or 0):
            raise process.MeasurementError(f"not all of {source.rows} rows have an outcome: {summary.text()}")
        collecting_mb = process.peak_mb() - base
        return {"collecting_cpu": cpu, "collecting_mb": collecting_mb, "peak_mb": max(peak, process.peak_mb())}


def tag_customers(source: Source, url: str) -> None:
    """Give as many ids as the source has rows the same metadata."""
    ids = (row["source_id"] for row in dicts(source.rows))
    rows = from_records(ids, "source_id", takes_ids=True)
    with Plan(metadata_destination("customers", {"audience": "spring"})) as plan, _client(url) as client:
        plan.read(rows)
        Submission(plan, client, Journal(None, Try()), max_in_flight=2).run()


@contextmanager
def _rows(source: Source) -> Iterator[Rows]:
    match source.kind:
        case "sqlite" | "postgres":
            with cursor(source) as opened:
                yield from_cursor(COLUMNS, opened.fetchmany)
        case "records":
            yield from_records(dicts(source.rows), "source_id")
        case "jsonl" | "csv":
            with open(source.where, "rb") as file:
                yield from_file(file, source.where)


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
