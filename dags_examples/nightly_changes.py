"""
Every night send the customers that changed, mark those that left, and keep the outcome of every row in the warehouse.

The first night sends everybody. After that a night with one change in a hundred takes one request instead of many.
Records that fail are sent again every night, five times at most; ``{"full_refresh": true}`` as the run's configuration
sends everybody once more. The threshold is a number: in a quiet night a few records that fail are all that is sent, and
so a large part.

Connections: ``voucherify_default`` and ``warehouse``.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

with DAG(
    "nightly_changes",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):
    VoucherifyBulkUpdateOperator(
        task_id="sync_customers",
        resource="customers",
        sql="SELECT id, name, email, segment FROM customers ORDER BY id",
        sql_conn_id="warehouse",
        mapping={"id": "source_id", "name": "name", "email": "email", "segment": "metadata.segment"},
        fail_if={"failed": 100},
        warn_if={"created": 1_000},
        state={"conn_id": "warehouse", "table": "voucherify", "on_removed": {"metadata": {"segment": "left"}}},
        full_refresh="{{ dag_run.conf.get('full_refresh', False) }}",
    )
