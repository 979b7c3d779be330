"""
Rows that Python computes: a function yields them, and they are sent as they come, without a stop in XCom.

A task is mapped over each country, and one sensor waits for what all of them have sent. A country without customers
sends nothing.

Connections: ``voucherify_default`` and ``warehouse``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, BaseHook, task

from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

SPENT = """
    SELECT customers.customer_id, COALESCE(SUM(orders.total_cents), 0)
    FROM customers LEFT JOIN orders ON orders.customer_id = customers.customer_id
    WHERE customers.country = ?
    GROUP BY customers.customer_id
"""

with DAG(
    "rows_from_a_function",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):

    @task.voucherify_bulk_update(resource="customers", wait_for_completion=False, fail_if={"failed_ratio": 0.1})
    def send_tiers(country: str) -> Iterator[dict[str, str]]:
        """Give each customer of a country a tier, by what they have spent."""
        with closing(BaseHook.get_hook("warehouse").get_conn()) as warehouse:
            for customer_id, cents in warehouse.execute(SPENT, (country,)):
                yield {"source_id": customer_id, "tier": "gold" if cents >= 100_000 else "basic"}

    sent = send_tiers.expand(country=["PL", "IE", "JP"])

    VoucherifyAsyncActionSensor(
        task_id="wait_for_all", async_action_ids=sent["async_action_ids"], deferrable=True, poke_interval=30
    )
