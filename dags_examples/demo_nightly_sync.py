"""
The demo of ``make demo``: a nightly customer sync that waits without holding a worker slot.

1. ``sync_customers`` queries the warehouse, refuses the rows that cannot be valid, sends the others and ends.
2. ``wait_for_voucherify`` is deferred to the triggerer until Voucherify has worked all of them off.
3. ``alert`` prints what arrived and what did not.

Connections: ``voucherify_default`` and ``warehouse``. Variable: ``voucherify_reports``, a folder (local or object
storage) for Voucherify's reports and the list of failed records.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_voucherify.notifications.texts import ready_texts
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

with DAG("demo_nightly_sync", schedule=None, tags=["voucherify"], doc_md=__doc__):
    sync_customers = VoucherifyBulkUpdateOperator(
        task_id="sync_customers",
        resource="customers",
        sql="SELECT * FROM customers",
        sql_conn_id="warehouse",
        mapping={
            "customer_id": "source_id",
            "full_name": "name",
            "email": "email",
            "birthdate": "birthdate",
            "city": "address.city",
            "country": "address.country",
            "segment": "metadata.segment",
            "lifetime_value": "metadata.lifetime_value",
        },
        fail_if={"failed_ratio": 0.01},
        requests={"max_records": 1_000},
        report_path="{{ var.value.voucherify_reports }}/refused",
        wait_for_completion=False,
    )

    wait_for_voucherify = VoucherifyAsyncActionSensor(
        task_id="wait_for_voucherify",
        async_action_ids=sync_customers.output["async_action_ids"],
        deferrable=True,
        poke_interval=5,
        fail_if={"failed_ratio": 0.01},
        report_path="{{ var.value.voucherify_reports }}",
    )

    @task
    def alert(sent: dict[str, Any], arrived: dict[str, Any]) -> None:
        for summary in (sent, arrived):
            print(ready_texts(summary)["voucherify_text"])

    alert(sync_customers.output, wait_for_voucherify.output)
