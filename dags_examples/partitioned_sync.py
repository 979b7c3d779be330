"""
A large table in parts, each a mapped task of its own, for any number of workers: CeleryExecutor, KubernetesExecutor.

The query takes a hash of the customer's id, so each customer is in one part, whatever becomes of the others. It has to
give its rows in the same order when a task is retried: then batches that were sent before the worker died are
recognised and not sent again. All parts share Voucherify's rate limit, so more workers do not help beyond it.

The hash is PostgreSQL's; elsewhere write ``ABS(HASH(customer_id)) % ...`` (Snowflake) or
``MOD(ABS(FARM_FINGERPRINT(customer_id)), ...)`` (BigQuery), with the database's way to name parameters.

Connections: ``voucherify_default`` and ``warehouse``, a PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

PARTITIONS = 8

with DAG(
    "partitioned_sync",
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["voucherify"],
    doc_md=__doc__,
):
    sync = VoucherifyBulkUpdateOperator.partial(
        task_id="sync_partition",
        resource="customers",
        sql="""
            SELECT customer_id, full_name, email, city, country, segment
            FROM customers
            WHERE mod(hashtext(customer_id) & 2147483647, %(partitions)s) = %(partition)s
            ORDER BY customer_id
        """,
        sql_conn_id="warehouse",
        mapping={
            "customer_id": "source_id",
            "full_name": "name",
            "email": "email",
            "city": "address.city",
            "country": "address.country",
            "segment": "metadata.segment",
        },
        deferrable=True,
        retries=2,
        retry_delay=timedelta(seconds=10),
    ).expand(sql_parameters=[{"partitions": PARTITIONS, "partition": number} for number in range(PARTITIONS)])

    @task
    def add_up(summaries: Iterable[dict[str, Any]]) -> dict[str, int]:
        """Add up what the parts say."""
        parts = list(summaries)
        counts = ("rows_read", "succeeded", "failed", "refused", "requests", "resubmitted")
        return {count: sum(part[count] for part in parts) for count in counts}

    add_up(sync.output)
