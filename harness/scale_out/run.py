"""
``python -m harness.scale_out.run``: the example DAG ``partitioned_sync`` on one and on two Celery workers.

It starts PostgreSQL, which also holds the table that is synced, Redis, Airflow with the CeleryExecutor and a local
Voucherify with a rate limit on bulk calls. The sync runs on one worker, on two, and on two of which one is killed in
the middle of a request. A table says what came of each; exits with 1 where a customer did not arrive, one was sent
twice without need, or calls were refused more often than each process has to learn from.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2

from airflow_provider_voucherify.local_voucherify import Exchange, LocalVoucherify
from harness import ROOT
from harness.cluster import Cluster, free_port
from harness.scale_out.results import DAG_ID, HEARTBEAT_TIMEOUT, PERIOD, Case, Result, Size, page_of

WORKERS = ("worker-1", "worker-2")
SECONDS_FOR_A_RUN = 900

CUSTOMERS = """
    CREATE TABLE customers AS
    SELECT 'crm-' || lpad(i::text, 9, '0') AS customer_id, 'Łucja Nowak ' || i AS full_name,
           'customer-' || i || '@example.com' AS email, (ARRAY['Kraków', 'Łódź', 'Cork'])[1 + i %% 3] AS city,
           (ARRAY['PL', 'PL', 'IE'])[1 + i %% 3] AS country, (ARRAY['new', 'regular', 'vip'])[1 + i %% 3] AS segment
    FROM generate_series(1, %s) AS i
"""

FULL = Size(rows=2_000_000, batch_records=5_000, bulk_calls=100)
QUICK = Size(rows=100_000, batch_records=1_000, bulk_calls=20)


class KillWorker:
    """
    A fault of the local Voucherify: take requests, and kill a worker before it has the answers.

    A worker has two requests in flight at most, so of the three that are held back one is surely of the worker that is
    killed; where rate limits let no third one come, the kill is not waited for any longer. The other worker has its
    answers then.
    """

    HELD = 3
    SECONDS = 12.0

    def __init__(self, cluster: Cluster, worker: str) -> None:
        self._cluster, self._worker = cluster, worker
        self._held = 0
        self._killed = asyncio.Event()

    async def play(self, exchange: Exchange) -> None:
        """Process the request, wait for the kill, and answer."""
        answer: list[Any] = []

        async def keep(message: Any) -> None:
            answer.append(message)

        await exchange.process(keep)
        self._held += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(self.SECONDS if self._held < self.HELD else 0.0):
                await self._killed.wait()
        if not self._killed.is_set():
            self._killed.set()
            self._cluster.kill(self._worker)
        for message in answer:
            await exchange.send(message)


@contextmanager
def redis(folder: Path, port: int) -> Iterator[None]:
    """Run Redis, which keeps nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("Redis is not installed (apt-get install redis-server)")
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([*command, "--dir", str(folder)], stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> int:
    """Run everything and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK.rows:,} rows, without the run on two workers")
    parser.add_argument("--write", action="store_true", help="write docs/scale-out.md")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    cases = [Case(1), Case(2), Case(2, killed=True)]
    if arguments.quick:
        cases.remove(Case(2))
    with tempfile.TemporaryDirectory(prefix="voucherify-scale-out-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        results = _run(folder, size, cases)
    page = page_of(size, results, "make scale-out-quick" if arguments.quick else "make scale-out")
    print(f"\n{page}")
    if arguments.write:
        (ROOT / "docs" / "scale-out.md").write_text(page, encoding="utf-8")
    problems = [f"{result.case.run_id}: {problem}" for result in results for problem in result.problems(size)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _run(folder: Path, size: Size, cases: list[Case]) -> list[Result]:
    (folder / "dags").mkdir()
    shutil.copy(ROOT / "dags_examples" / f"{DAG_ID}.py", folder / "dags")
    redis_port, voucherify_port = free_port(), free_port()
    voucherify = {
        "conn_type": "voucherify",
        "host": f"http://127.0.0.1:{voucherify_port}",
        "login": "app",
        "password": "secret",
        "extra": {"poll_interval": 5},
    }
    environment = {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": "16",
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{redis_port}/0",
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "False",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
        "AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps(voucherify),
        "SCALE_OUT_BATCH_RECORDS": str(size.batch_records),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'harness' / 'scale_out' / 'settings'}",
    }
    cluster = Cluster(folder, folder / "dags", environment)
    warehouse = {
        "conn_type": "postgres",
        "host": "127.0.0.1",
        "port": cluster.postgres_port,
        "login": "airflow",
        "schema": "warehouse",
    }
    cluster.environment["AIRFLOW_CONN_WAREHOUSE"] = json.dumps(warehouse)
    results: list[Result] = []
    with redis(folder, redis_port), cluster.running():
        _fill_warehouse(cluster.postgres_port, size.rows)
        started = 0
        for case in cases:
            for worker in WORKERS[started : case.workers]:
                _start_worker(cluster, worker)
            started = case.workers
            with LocalVoucherify(
                port=voucherify_port,
                app_id="app",
                secret_key="secret",
                bulk_api_calls=(size.bulk_calls, PERIOD),
                store_records=False,
            ) as server:
                if case.killed:
                    killer = KillWorker(cluster, WORKERS[-1])
                    third = size.rows // size.batch_records // 3
                    server.misbehave("submit", killer, times=KillWorker.HELD, after=third)
                cluster.trigger(DAG_ID, case.run_id, {})
                psutil.cpu_percent()
                _follow(cluster, case, server)
                cores_busy = psutil.cpu_percent() / 100 * (os.cpu_count() or 1)
                results.append(Result.of(case, cluster, server, cores_busy))
            print(f"{case.run_id}: {results[-1]}", flush=True)
    return results


def _fill_warehouse(port: int, rows: int) -> None:
    server = {"host": "127.0.0.1", "port": port, "user": "airflow"}
    with contextlib.closing(psycopg2.connect(dbname="postgres", **server)) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE warehouse")
    with contextlib.closing(psycopg2.connect(dbname="warehouse", **server)) as connection, connection:
        connection.cursor().execute(CUSTOMERS, (rows,))


def _start_worker(cluster: Cluster, name: str) -> None:
    """Start a Celery worker that has one process for tasks, and wait until it takes them."""
    command = ["celery", "worker", "--concurrency", "1", "--celery-hostname", f"{name}@%h", "--skip-serve-logs"]
    cluster.start(name, *command, "--without-mingle", "--without-gossip")
    for _ in range(240):
        if b" ready." in cluster.log_of(name).read_bytes():
            return
        time.sleep(0.5)
    raise SystemExit(f"{name} does not start: {cluster.log_of(name).read_text(errors='replace')[-2_000:]}")


def _follow(cluster: Cluster, case: Case, server: LocalVoucherify) -> None:
    deadline = time.monotonic() + SECONDS_FOR_A_RUN
    shown = 0.0
    while time.monotonic() < deadline:
        [(state,)] = cluster.query("SELECT state FROM dag_run WHERE run_id = %s", case.run_id)
        if state in ("success", "failed"):
            return
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            print(f"{case.run_id}: {len(server.customers):,} customers have arrived", flush=True)
        time.sleep(0.5)
    raise SystemExit(f"{case.run_id} has not ended in {SECONDS_FOR_A_RUN} s")


if __name__ == "__main__":
    sys.exit(main())
