"""
Every week compare the customers of the warehouse with what Voucherify has, and say who is missing or different.

Nothing is sent: a person reads the report, and starts a run with ``{"repair": true}`` as its configuration to send
what differs and nothing else. The task warns of any difference, and fails if there are more than a thousand: so many
have not been changed by hand.

Connections: ``voucherify_default`` and ``warehouse``. Variable: ``voucherify_reports``, a folder or an object storage
URI.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_voucherify.operators.reconcile import VoucherifyReconcileOperator

with DAG(
    "reconcile_customers",
    schedule="@weekly",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):
    VoucherifyReconcileOperator(
        task_id="compare",
        resource="customers",
        sql="SELECT customer_id, full_name, city, segment FROM customers",
        sql_conn_id="warehouse",
        mapping={
            "customer_id": "source_id",
            "full_name": "name",
            "city": "address.city",
            "segment": "metadata.segment",
        },
        repair="{{ dag_run.conf.get('repair', False) }}",
        fail_if={"differing": 1_000, "failed": None},
        report_path="{{ var.value.voucherify_reports }}/drift/{{ ds }}",
    )
