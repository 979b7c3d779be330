"""
Rows from SQLite through ``VoucherifyBulkUpdateOperator`` under ``dag.test()``: how full bodies are, how much memory.

``python benchmarks/million_rows.py`` runs 100,000 and 1,000,000 rows, each in a process of its own against a local
Voucherify in another process, and prints one line for each; it exits with 1 where a claim of the README does not hold.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = (100_000, 1_000_000)
MAX_GROWTH_MB = 10
MIN_FILL = 0.97


def build_warehouse(path: Path, rows: int) -> None:
    """Fill a SQLite table with customers of about 275 bytes each as JSON."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE customers (source_id TEXT, name TEXT, email TEXT, address_line_1 TEXT, address_city TEXT, "
            "address_state TEXT, address_country TEXT, address_postal_code TEXT, segment TEXT, lifetime_value REAL, "
            "orders INTEGER, vip INTEGER, last_order TEXT)"
        )
        connection.executemany(
            f"INSERT INTO customers VALUES ({', '.join('?' * 13)})",
            (
                (
                    f"crm-{i:08}",
                    f"Zoë Müller {i}",
                    f"zoe.muller.{i}@example.com",
                    f"{i % 997} Rue de l'Église",
                    "Montréal",
                    "QC",
                    "Canada",
                    f"H{i % 10}Z {i % 9}X9",
                    ("bronze", "silver", "gold")[i % 3],
                    (i % 100_000) / 100,
                    i % 50,
                    i % 2,
                    f"2026-{i % 12 + 1:02}-{i % 28 + 1:02}",
                )
                for i in range(rows)
            ),
        )


def run_one(rows: int, folder: Path) -> None:
    """Run one sync in this process and print what it took as JSON."""
    warehouse = folder / f"warehouse-{rows}.sqlite"
    build_warehouse(warehouse, rows)
    os.environ |= {
        "AIRFLOW_HOME": str(folder / f"airflow-{rows}"),
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(warehouse)}),
    }
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "airflow_provider_voucherify.local_voucherify"),
            *("--host", "127.0.0.1", "--port", "0", "--app-id", "app", "--secret-key", "secret"),
            *("--no-store-records", "--seconds-per-record", "0"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            base_url = re.findall(r"http://[\w.:]+", server.stdout.readline())[0]
            os.environ["AIRFLOW_CONN_VOUCHERIFY_DEFAULT"] = json.dumps(
                {"conn_type": "voucherify", "host": base_url, "login": "app", "password": "secret"}
            )
            sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "provider"))
            from airflow.sdk import DAG
            from dags import run_dag  # type: ignore[import-not-found]

            from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

            def sync(dag_id: str, limit: int) -> dict[str, int]:
                with DAG(dag_id, schedule=None) as dag:
                    VoucherifyBulkUpdateOperator(
                        task_id="sync",
                        resource="customers",
                        sql=f"SELECT * FROM customers LIMIT {limit}",
                        sql_conn_id="warehouse",
                        poll_interval=1,
                    )
                summary: dict[str, int] = run_dag(dag).xcom("sync")
                return summary

            sync("warm_up", 100)
            base, before, started = peak_mb(), time.process_time(), time.monotonic()
            summary = sync("million_rows", rows)
            wall, cpu = time.monotonic() - started, time.process_time() - before
        finally:
            server.terminate()
    last = summary["bytes_sent"] % 10_485_760
    fill = (summary["bytes_sent"] - last) / ((summary["requests"] - 1) * 10_485_760) if summary["requests"] > 1 else 1
    print(
        json.dumps(
            {
                "rows": rows,
                "updated": summary["updated"],
                "created": summary["created"],
                "requests": summary["requests"],
                "bytes": summary["bytes_sent"],
                "fill": fill,
                "cpu": cpu,
                "wall": wall,
                "base_mb": base,
                "peak_mb": peak_mb(),
            }
        )
    )


def peak_mb() -> float:
    """Return this process's highest resident memory so far, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024 / 1e6


def main() -> int:
    """Run all sizes and judge them."""
    print("| rows | requests | bytes | fill of all but the last | CPU s | wall s | MB before | peak MB |")
    print("|---|---|---|---|---|---|---|---|")
    peaks = []
    failed = False
    for rows in ROWS:
        with tempfile.TemporaryDirectory(prefix="voucherify-bench-") as folder:
            done = subprocess.run(
                [sys.executable, __file__, str(rows), folder], check=True, capture_output=True, text=True
            )
        got = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"| {rows:,} | {got['requests']} | {got['bytes']:,} | {got['fill']:.2%} | {got['cpu']:.1f} | "
            f"{got['wall']:.1f} | {got['base_mb']:.0f} | {got['peak_mb']:.0f} |"
        )
        failed |= got["fill"] < MIN_FILL or (got["updated"] + got["created"]) != rows
        peaks.append(got["peak_mb"])
    growth = peaks[-1] - peaks[0]
    print(f"\nPeak memory grows by {growth:.1f} MB from {ROWS[0]:,} to {ROWS[-1]:,} rows (at most {MAX_GROWTH_MB}).")
    return int(failed or growth > MAX_GROWTH_MB)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        run_one(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        sys.exit(main())
