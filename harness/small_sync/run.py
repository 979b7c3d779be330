"""
``python -m harness.small_sync.run``: where each second of a sync of 1,000 rows goes, on a real Airflow.

Airflow with PostgreSQL and the LocalExecutor, a local Voucherify whose action takes 2 seconds (15 for the task that is
to be deferred). Beside them a task that sleeps for as long on the worker and in the triggerer, and does nothing else:
what Airflow itself needs for a deferral. Prints a table; ``--write`` writes ``docs/small-syncs.md``. Exits with 1 where
the sync on the worker takes more than 5 seconds from its start, or the deferral more than Airflow's own and a second.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_voucherify.local_voucherify import Action, LocalVoucherify
from harness import ROOT
from harness.benchmarks.rows import write_sqlite
from harness.cluster import Cluster
from harness.process import busy

ROWS = 1_000
ROUNDS = 3
ACTION_SECONDS = {"on_worker": 2.0, "deferrable": 2.0, "deferred": 15.0, "sleeps": 0.0}
NAMES = {
    "on_worker": "waiting on the worker, 2 s",
    "deferrable": "`deferrable=True`, 2 s",
    "deferred": "`deferrable=True`, 15 s",
    "sleeps": "only sleeps",
}
MAX_SECONDS = 5.0
MAX_ADDED = 1.0
MAX_WAIT = 180.0


@dataclass(frozen=True)
class Run:
    """
    When the moments of one run were, Unix epoch seconds.

    :param times: what the task noted: ``execute``, ``left``, ``resume``, ``done``.
    :param started: when Airflow says that the task started, ``ended`` when it ended.
    :param queued: when the action was there, and ``finished`` when it had ended; None for the task that only sleeps.
    :param found: when a poll found it finished.
    """

    times: dict[str, float]
    started: float
    ended: float
    queued: float | None
    finished: float
    found: float

    @property
    def parts(self) -> dict[str, float | None]:
        """Return what took how long, in the order in which it happened."""
        resumed = self.times.get("resume")
        return {
            "Airflow starts a process and loads the DAG": self.times["execute"] - self.started,
            "imports, connection, reading and checking the rows, sending": self._since(self.queued, "execute"),
            "Voucherify's action": None if self.queued is None else self.finished - self.queued,
            "until a poll finds it finished": None if self.queued is None else self.found - self.finished,
            "Airflow resumes the task": None if resumed is None else resumed - self.found,
            "reading the result, summary": self._end - (self.found if resumed is None else resumed),
            "Airflow ends the task": self.ended - self._end,
        }

    @property
    def resumed_after(self) -> float:
        """Seconds from what was waited for to the task's going on."""
        return self.times["resume"] - self.found

    @property
    def _end(self) -> float:
        return self.times.get("done", self.times["left"])

    def _since(self, at: float | None, what: str) -> float | None:
        return None if at is None else at - self.times[what]


def main() -> int:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voucherify-small-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        runs = _measure(folder)
    lines = _table(runs)
    seconds = _median(runs["on_worker"], lambda run: run.ended - run.started)
    added = _median(runs["deferred"], lambda run: run.resumed_after) - _median(
        runs["sleeps"], lambda run: run.resumed_after
    )
    judged = [
        _target("from the start on the worker to the end", seconds, MAX_SECONDS),
        _target("what a deferral adds to Airflow's own", added, MAX_ADDED),
    ]
    lines += ["", *(line for line, _ in judged), busy()]
    print("\n".join(lines))
    if arguments.write:
        _write(lines)
    return int(not all(met for _, met in judged))


def _target(name: str, seconds: float, bound: float) -> tuple[str, bool]:
    met = seconds <= bound
    return f"- **{'met' if met else 'missed'}**: {name}: {seconds:.1f} s (at most {bound:.0f} s)", met


def _median(runs: Sequence[Run], of: Callable[[Run], float]) -> float:
    return statistics.median(map(of, runs))


def _table(runs: dict[str, list[Run]]) -> list[str]:
    lines = [f"| seconds | {' | '.join(NAMES.values())} |", "| --- |" + " ---: |" * len(NAMES)]
    for part in runs["on_worker"][0].parts:
        cells = []
        for name in NAMES:
            known = [seconds for run in runs[name] if (seconds := run.parts[part]) is not None]
            cells.append(f"{statistics.median(known):.1f}" if known else "")
        lines.append(f"| {part} | {' | '.join(cells)} |")
    whole = [f"**{_median(runs[name], lambda run: run.ended - run.started):.1f}**" for name in NAMES]
    return [*lines, f"| **from start to end** | {' | '.join(whole)} |"]


def _measure(folder: Path) -> dict[str, list[Run]]:
    warehouse, times = folder / "customers.sqlite", folder / "times.jsonl"
    write_sqlite(warehouse, ROWS)
    found: dict[str, float] = {}

    def show(action: Action, wire: dict[str, Any]) -> dict[str, Any]:
        if wire["status"] == "DONE":
            found.setdefault(action.id, time.time())
        return wire

    with LocalVoucherify(app_id="app", secret_key="secret-of-small-syncs", seconds_per_record=0) as voucherify:
        voucherify.script_action(show)
        connection = {"conn_type": "voucherify", "host": voucherify.base_url, "login": "app"}
        connection |= {"password": voucherify.options.secret_key}
        environment = {
            "AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps(connection),
            "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(warehouse)}),
            "SMALL_SYNC_TIMES": str(times),
            "PYTHONPATH": str(ROOT),
        }
        cluster = Cluster(folder, ROOT / "harness" / "small_sync" / "dags", environment)
        with cluster.running():
            runs: dict[str, list[Run]] = {name: [] for name in NAMES}
            for number in range(ROUNDS + 1):
                for name in NAMES:
                    if ACTION_SECONDS[name]:
                        voucherify.next_actions(times=1, seconds=ACTION_SECONDS[name])
                    times.unlink(missing_ok=True)
                    started, ended = _run(cluster, f"small_{name}", f"round-{number}")
                    noted = {line["what"]: line["at"] for line in map(json.loads, times.read_text().splitlines())}
                    action = list(voucherify.actions.values())[-1] if ACTION_SECONDS[name] else None
                    run = _of(noted, started, ended, action, found)
                    print(f"{name} {number}: {ended - started:.1f} s", file=sys.stderr, flush=True)
                    if number:  # the first one writes bytecode
                        runs[name].append(run)
            return runs


def _of(noted: dict[str, float], started: float, ended: float, action: Action | None, found: dict[str, float]) -> Run:
    if action is None:
        from harness.small_sync.dags.small_sync_dag import ASLEEP_SECONDS

        until = noted["left"] + ASLEEP_SECONDS
        return Run(noted, started, ended, None, until, until)
    return Run(noted, started, ended, action.created_at, action.finished_at, found[action.id])


def _run(cluster: Cluster, dag_id: str, run_id: str) -> tuple[float, float]:
    """Run a DAG and return when its task started and ended."""
    began: float | None = None
    cluster.trigger(dag_id, run_id, {})
    latest = time.monotonic() + MAX_WAIT
    sql = "SELECT state, extract(epoch FROM start_date), extract(epoch FROM end_date) FROM task_instance "
    while time.monotonic() < latest:
        rows = cluster.query(sql + "WHERE dag_id = %s AND run_id = %s", dag_id, run_id)
        for state, started, ended in rows:
            if began is None and started is not None:
                began = float(started)  # a task that is resumed gets another
            if state == "success" and began is not None:
                return began, float(ended)
            if state in ("failed", "upstream_failed"):
                raise SystemExit(f"{dag_id} has failed; see {cluster.log_of('scheduler')}")
        time.sleep(0.2)
    raise SystemExit(f"{dag_id} has not ended in {MAX_WAIT:.0f} s")


def _write(lines: Sequence[str]) -> None:
    text = (
        "# Where the seconds of a small sync go\n\n"
        f"A sync of {ROWS:,} rows from SQLite on a real Airflow (PostgreSQL, LocalExecutor), against the local\n"
        "Voucherify, whose action takes 2 or 15 seconds; medians of three. `make small-syncs` makes this page.\n\n"
    )
    after = (
        "\n- Polls come 1, 2, 4 and 8 seconds after sending: one is late by at most as long as the action took.\n"
        "  Each is an API call; [how waiting works](trigger.md) says what follows.\n"
        "- A deferrable task waits on its worker for ten seconds first, so it is not deferred for a short action.\n"
        '- "Only sleeps" is a task that sleeps on its worker and then in the triggerer: what Airflow needs to resume\n'
        "  any task. Airflow 3.3.2 fails a task whose trigger fires while its worker's exit has not been noticed yet.\n"
        "  So a trigger of this provider fires at the earliest 1.6 times `[workers] min_heartbeat_interval` after the\n"
        "  task was deferred: 8 seconds with Airflow's default of 5, and 1.6 seconds here.\n"
    )
    (ROOT / "docs" / "small-syncs.md").write_text(text + "\n".join(lines) + after, encoding="utf-8")


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
