"""
``python -m harness.syncs_page.run``: fill Airflow's database with runs, and open the page "Voucherify syncs".

Prints how long the list takes in a browser and at the API server, for 200 DAGs of 50 runs, for half and twice as many,
and beside a million task instances of other operators; ``--write`` puts it into ``docs/syncs-page.md``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from airflow_provider_voucherify.sync.results.summary import FailureReason, FailureSample, SyncSummary
from harness.cluster import Cluster

PAGE = Path(__file__).resolve().parents[2] / "docs" / "syncs-page.md"
BEGIN, END = "<!-- times: begin -->", "<!-- times: end -->"

OTHERS = 1_000_000

SIZES = ((100, 50, 0), (200, 50, 0), (200, 100, 0), (200, 100, OTHERS))
"""DAGs, runs of each, and task instances of other operators."""

TIMES = 5

SECONDS_FOR_THE_LIST = 2.0
"""What 200 DAGs of 50 runs may take in a browser."""

_DAG = """
insert into dag(dag_id, is_paused, is_stale, bundle_name, timetable_type, partition_mapper_info, max_active_tasks,
    max_consecutive_failed_dag_runs, has_task_concurrency_limits)
select %s || number, false, false, 'dags-folder', '', '{}', 16, 0, false from generate_series(%s, %s) number
"""
_RUN = """
insert into dag_run(dag_id, run_id, run_type, run_after, logical_date, state)
select %s || dag, 'nightly ' || night, 'scheduled', now() - (%s - night) * interval '1 day', null, 'success'
from generate_series(%s, %s) dag, generate_series(%s, %s) night
"""
_TASK = """
insert into task_instance(id, task_id, dag_id, run_id, try_number, pool, pool_slots, map_index, operator, state,
    start_date, end_date)
select gen_random_uuid(), 'task' || task, run.dag_id, run.run_id, 1, 'default_pool', 1, -1, %s,
    case when run.id %% 17 = 0 then 'failed' else 'success' end, run.run_after, run.run_after + interval '40 seconds'
from dag_run run, generate_series(1, %s) task where run.dag_id like %s
    and not exists (select 1 from task_instance ti where ti.dag_id = run.dag_id and ti.run_id = run.run_id)
"""
_XCOM = """
insert into xcom(dag_run_id, task_id, key, dag_id, run_id, map_index, timestamp, value)
select run.id, 'task1', 'return_value', run.dag_id, run.run_id, -1, now(), %s
from dag_run run where run.dag_id like 'sync%%'
    and not exists (select 1 from xcom where xcom.dag_id = run.dag_id and xcom.run_id = run.run_id)
"""


def summary() -> SyncSummary:
    """Return what a night with failures returns."""
    reasons = [
        FailureReason(outcome="failed", key=f"key_{number}", message="Invalid payload", count=9, ids=["c1", "c2", "c3"])
        for number in range(5)
    ]
    counts: Any = {"rows_read": 20_000, "submitted": 1_955, "succeeded": 1_910, "updated": 1_900, "created": 10}
    return SyncSummary(
        resource="customers",
        **counts,
        unchanged=18_000,
        failed=45,
        refused=40,
        superseded=5,
        async_action_ids=[f"aa_{number:018}" for number in range(40)],
        requests=40,
        bytes_sent=4_000_000,
        failures_by_key={reason.key or "": reason.count for reason in reasons},
        reasons=reasons,
        failures=[FailureSample(outcome="failed", id=f"c{number}", message="Invalid payload") for number in range(10)],
        report_uri="s3://aws@reports/nightly",
    )


def fill(cluster: Cluster, dags: int, runs: int) -> None:
    """Add runs until there are so many of so many DAGs."""
    have_dags, have_runs = cluster.query(
        "select count(*), (select coalesce(max(night), 0) from (select count(*) night from dag_run "
        "where dag_id like 'sync%%' group by dag_id) counted) from dag where dag_id like 'sync%%'"
    )[0]
    cluster.execute("insert into dag_bundle(name, active) values ('dags-folder', true) on conflict do nothing", [()])
    cluster.execute(_DAG, [("sync", have_dags + 1, dags)])
    cluster.execute(
        _RUN, [("sync", runs, have_dags + 1, dags, 1, have_runs), ("sync", runs, 1, dags, have_runs + 1, runs)]
    )
    cluster.execute(_TASK, [("VoucherifyBulkUpdateOperator", 1, "sync%")])
    cluster.execute(_XCOM, [(json.dumps(summary().as_xcom()),)])
    cluster.execute("analyze", [()])


def fill_others(cluster: Cluster) -> None:
    """Add the runs of other DAGs."""
    cluster.execute(_DAG, [("other", 1, 100)])
    cluster.execute(_RUN, [("other", 1_000, 1, 100, 1, 1_000)])
    cluster.execute(_TASK, [("PythonOperator", OTHERS // 100_000, "other%")])
    cluster.execute("analyze", [()])


def seconds_at_server(cluster: Cluster) -> float:
    """Return how long the API server takes for the list, the median of a few times."""
    token = httpx.get(f"{cluster.url}/auth/token").json()["access_token"]
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=300) as client:

        def once() -> float:
            begin = time.perf_counter()
            client.get(f"{cluster.url}/voucherify/api/syncs").raise_for_status()
            return time.perf_counter() - begin

        once()
        return statistics.median(once() for _ in range(TIMES))


@contextmanager
def browser_page() -> Iterator[Any]:
    """Give a page of a browser; None where Playwright is not installed."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        yield None
        return
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=chromium) as browser:
        yield browser.new_page()


def in_browser(cluster: Cluster, page: Any, dags: int) -> tuple[float, int]:
    """Return how long the list takes to appear, from the click on, and how often the page asks for something."""
    calls: list[str] = []
    page.on("request", lambda request: calls.append(request.url) if "/voucherify/api/" in request.url else None)

    def once() -> float:
        page.goto(cluster.url)
        page.get_by_role("button", name="Browse").click()
        begin = time.perf_counter()
        page.get_by_text("Voucherify syncs").click()
        page.get_by_text(f"{dags} syncs").wait_for()
        page.get_by_role("row").nth(dags).wait_for()
        return time.perf_counter() - begin

    once()
    calls.clear()
    seconds = statistics.median(once() for _ in range(TIMES))
    return seconds, len(calls) // TIMES


def main() -> int:
    """Measure, print and, if asked to, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the times into docs/syncs-page.md")
    write = parser.parse_args().write
    lines = [
        "| DAGs × runs | other task instances | seconds in a browser | calls of the page | seconds at the API server |",
        "|---|---|---|---|---|",
    ]
    shown = None
    with tempfile.TemporaryDirectory(prefix="voucherify-page-") as name, browser_page() as page:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "dags").mkdir()
        cluster = Cluster(folder, folder / "dags", {})
        with cluster.running(("api-server",)):
            cluster.wait_for_api()
            for dags, runs, others in SIZES:
                fill(cluster, dags, runs)
                if others:
                    fill_others(cluster)
                server = seconds_at_server(cluster)
                seconds, calls = (0.0, 0) if page is None else in_browser(cluster, page, dags)
                if (dags, runs, others) == (200, 50, 0):
                    shown = seconds
                browser = f"{seconds:.2f} | {calls}" if page is not None else "not measured |"
                lines.append(f"| {dags} × {runs} | {others:,} | {browser} | {server:.2f} |")
                print(lines[-1], flush=True)
    if write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(
            before + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + rest.partition(END)[2], encoding="utf-8"
        )
    return int(shown is not None and shown > SECONDS_FOR_THE_LIST)


if __name__ == "__main__":
    sys.exit(main())
