"""
Every morning load yesterday's redemptions and all customers from Voucherify into the warehouse, and check them.

Redemptions are merged by their id, so that a night that is run again changes nothing; customers are replaced. Each of
the two tables appears with all of its rows at once, and stays as it was if anything goes wrong. The check at the end is
what dbt calls a test of relationships: a redemption whose customer is not there fails it.

Connections: ``voucherify_default`` and ``warehouse``.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.common.sql.operators.sql import SQLCheckOperator

from airflow_provider_voucherify.operators.export import VoucherifyExportOperator

with DAG(
    "exports_to_warehouse",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):
    redemptions = VoucherifyExportOperator(
        task_id="redemptions",
        exported_object="redemption",
        fields=["id", "date", "voucher_code", "customer_id", "result", "order_amount", "metadata.channel"],
        filters={"created_at": {"conditions": {"$after": ["{{ data_interval_start }}"]}}},
        table="voucherify_redemptions",
        conn_id="warehouse",
        merge_on="id",
        deferrable=True,
        retries=2,
    )
    customers = VoucherifyExportOperator(
        task_id="customers",
        exported_object="customer",
        fields=["id", "source_id", "name", "created_at", "loyalty_points"],
        table="voucherify_customers",
        conn_id="warehouse",
        fail_if={"rows_below": 1},
        deferrable=True,
        retries=2,
    )
    check = SQLCheckOperator(
        task_id="check",
        conn_id="warehouse",
        sql="""
            SELECT COUNT(*) = 0 FROM voucherify_redemptions AS redemption
            LEFT JOIN voucherify_customers AS customer ON customer.id = redemption.customer_id
            WHERE redemption.customer_id IS NOT NULL AND customer.id IS NULL
        """,
    )
    [redemptions, customers] >> check
