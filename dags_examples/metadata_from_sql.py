"""
Metadata per customer, computed by the warehouse: each column but the key becomes a member of the row's metadata.

Connections: ``voucherify_default`` and ``warehouse``.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator

with DAG(
    "metadata_from_sql",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):
    VoucherifyBulkMetadataOperator(
        task_id="lifetime_values",
        resource="customers",
        sql="""
            SELECT customer_id       AS source_id,
                   SUM(total_cents)  AS lifetime_value_cents,
                   COUNT(*)          AS orders,
                   MAX(ordered_on)   AS last_order
            FROM orders
            GROUP BY customer_id
        """,
        sql_conn_id="warehouse",
        deferrable=True,
    )
