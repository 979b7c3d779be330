"""
A full customer sync: every field mapped by name, a part of the rows allowed to fail, and failures told and kept.

Up to 1 % of the rows may fail before the task does. Below that the task is green, and the callback tells of the failed
rows all the same. ``failures.jsonl`` in the report folder has each of them with its reason; ``redrive_failures.py``
sends them again.

Connections: ``voucherify_default`` and ``warehouse``. Variable: ``voucherify_reports``, a local folder or a URI such as
``s3://aws_default@bucket/voucherify``.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator


def log_failures(context: dict[str, Any]) -> None:
    """Tell of failed rows; a notifier of Airflow's Slack or SMTP provider may stand here instead."""
    logging.getLogger("airflow.task").warning("Some customers did not arrive:\n%s", context["voucherify_text"])


with DAG(
    "customers_full_sync",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):
    VoucherifyBulkUpdateOperator(
        task_id="sync_customers",
        resource="customers",
        sql="SELECT * FROM customers",
        sql_conn_id="warehouse",
        mapping={
            "customer_id": "source_id",
            "full_name": "name",
            "email": "email",
            "phone": "phone",
            "birthdate": "birthdate",
            "street": "address.line_1",
            "city": "address.city",
            "country": "address.country",
            "segment": "metadata.segment",
        },
        fail_if={"failed_ratio": 0.01},
        report_path="{{ var.value.voucherify_reports }}/customers/{{ run_id }}",
        on_failed_records_callback=log_failures,
        deferrable=True,
    )
