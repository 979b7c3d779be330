"""
Change detection under ``dag.test()``: the same rows twice, of which one in a hundred has changed in between.

``python -m harness.benchmarks.changes '{"rows": [100000, 1000000], ...}'`` measures both syncs of each size, and beside
the second what reading the same query costs in the same process. The state is kept in a file, or in the tables of
``books``, an Airflow connection.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from harness import process
from harness.benchmarks import provider
from harness.benchmarks.rows import COLUMNS

CHANGED_OF_A_HUNDRED = 1


def main() -> None:
    """Measure and print."""
    job = process.job()
    os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps({"conn_type": "sqlite", "host": job["warehouse"]})
    os.environ["AIRFLOW_CONN_BOOKS"] = json.dumps(job.get("books"))
    with (
        tempfile.TemporaryDirectory(prefix="voucherify-bench-") as folder,
        process.serving(
            *("airflow_provider_voucherify.local_voucherify", "--host", "127.0.0.1", "--port", "0"),
            *("--app-id", "app", "--secret-key", "secret", "--no-store-records", "--seconds-per-record", "0"),
        ) as url,
    ):
        os.environ[f"AIRFLOW_CONN_{provider.CONNECTION_ID.upper()}"] = json.dumps(provider.connection(url))
        place = None if job.get("books") else Path(folder)
        _two_nights(1_000, job["warehouse"], place)
        base = process.resident_mb()
        measured = [_two_nights(rows, job["warehouse"], place) for rows in job["rows"]]
        print(json.dumps([{"base_mb": base, **figures} for figures in measured]))


def _two_nights(rows: int, warehouse: str, folder: Path | None) -> dict[str, Any]:
    """
    Sync twice.

    :param folder: for the state; None for tables.
    """
    state = {"conn_id": "books", "table": f"rows_{rows}"} if folder is None else {"path": str(folder / f"{rows}")}
    first = _night(rows, state, 0)
    cpu = time.process_time()
    _read(warehouse, _select(rows, 1))
    reading = time.process_time() - cpu
    second = _night(rows, state, 1)
    files = [] if folder is None else (folder / f"{rows}").rglob("state")
    return {
        "rows": rows,
        "first": first,
        **second,
        "reading_cpu": reading,
        "state_bytes": sum(file.stat().st_size for file in files),
    }


def _night(rows: int, state: dict[str, Any], night: int) -> dict[str, Any]:
    from airflow.sdk import DAG

    with DAG(f"changes_{rows}_{night}", schedule=None) as dag:
        provider.changes_operator(_select(rows, night), "warehouse", state)
    process.forget_peak()
    began, cpu = time.monotonic(), time.process_time()
    summary: dict[str, Any] = provider.run_dag(dag).xcom("sync")
    return {
        "wall": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "peak_mb": process.peak_mb(),
        "unchanged": summary["unchanged"],
        "written": (summary["updated"] or 0) + (summary["created"] or 0),
        "requests": summary["requests"],
    }


def _select(rows: int, night: int) -> str:
    orders = f"orders + {night} * (rowid % 100 < {CHANGED_OF_A_HUNDRED}) AS orders"
    columns = ", ".join(orders if name == "orders" else name for name in COLUMNS)
    return f"SELECT {columns} FROM customers LIMIT {rows}"


def _read(warehouse: str, select: str) -> None:
    with closing(sqlite3.connect(warehouse)) as connection:
        cursor = connection.execute(select)
        while cursor.fetchmany(1_000):
            pass


if __name__ == "__main__":
    main()
