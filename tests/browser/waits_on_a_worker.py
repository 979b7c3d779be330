"""A task that waits on its worker, for the test that kills it there."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

with DAG("waits_on_a_worker", schedule=None):
    VoucherifyBulkUpdateOperator(
        task_id="sync",
        resource="customers",
        records=[{"source_id": "row-do-not-show", "name": "Nobody's business"}],
        deferrable=False,
        voucherify_conn_id="from_environment",
    )
