"""
``VoucherifyBulkUpdateOperator`` under ``dag.test()``, from SQLite to the summary, against a local Voucherify.

``python -m harness.benchmarks.operator_run '{"rows": [100000, 1000000], ...}'`` runs one size after the other in one
process, after a small one; ``base_mb`` is the memory after that.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from harness import process
from harness.benchmarks import provider


def main() -> None:
    """Measure and print."""
    job = process.job()
    os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps({"conn_type": "sqlite", "host": job["warehouse"]})
    with process.serving(
        *("airflow_provider_voucherify.local_voucherify", "--host", "127.0.0.1", "--port", "0"),
        *("--app-id", "app", "--secret-key", "secret", "--no-store-records", "--seconds-per-record", "0"),
    ) as url:
        os.environ[f"AIRFLOW_CONN_{provider.CONNECTION_ID.upper()}"] = json.dumps(provider.connection(url))
        _run(1_000)
        base = process.resident_mb()
        print(json.dumps([{"base_mb": base, **_run(rows)} for rows in job["rows"]]))


def _run(rows: int) -> dict[str, Any]:
    from airflow.sdk import DAG

    with DAG(f"update_{rows}", schedule=None) as dag:
        provider.operator(f"SELECT * FROM customers LIMIT {rows}", "warehouse")
    process.forget_peak()
    cpu, wall = time.process_time(), time.monotonic()
    summary = provider.run_dag(dag).xcom("sync")
    return {
        "rows": rows,
        "cpu": time.process_time() - cpu,
        "wall": time.monotonic() - wall,
        "peak_mb": process.peak_mb(),
        "written": (summary["updated"] or 0) + (summary["created"] or 0),
        "requests": summary["requests"],
        "bytes": summary["bytes_sent"],
    }


if __name__ == "__main__":
    main()
