"""
Send in one task, wait in another, and tell a mailbox of rows that were refused and records that were not accepted.

The sensor is deferred while it waits. Its summary and ``failures.jsonl`` say what became of the records that were sent.
The sending task knows of refused rows alone. It has a threshold, since it would fail for a single one otherwise, and
the sensor would not run.

Connections: ``voucherify_default``, ``warehouse`` and ``smtp_default``. Variable: ``voucherify_reports``, a local
folder or an object-storage URI.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor


def mail(subject: str) -> SmtpNotifier:
    """Return a notifier for one task."""
    return SmtpNotifier(
        from_email="airflow@example.com",
        to="crm-team@example.com",
        subject=subject,
        html_content="{{ voucherify_html }}",
    )


with DAG(
    "wait_with_sensor",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):
    update_products = VoucherifyBulkUpdateOperator(
        task_id="update_products",
        resource="products",
        sql="SELECT sku AS source_id, title AS name, price_cents AS price, category FROM products",
        sql_conn_id="warehouse",
        wait_for_completion=False,
        fail_if={"failed_ratio": 0.5},
        on_failed_records_callback=mail("Voucherify: {{ voucherify_summary.refused }} products were refused"),
    )

    VoucherifyAsyncActionSensor(
        task_id="wait_for_products",
        async_action_ids=update_products.output["async_action_ids"],
        deferrable=True,
        fail_if={"failed_ratio": 0.5},
        report_path="{{ var.value.voucherify_reports }}/products/{{ run_id }}",
        on_failed_records_callback=mail("Voucherify: {{ voucherify_summary.failed }} products were not updated"),
    )
