"""
``python -m harness.crash.run``: interrupt a sync at each moment of ``harness.crash.moments``, let Airflow retry, and
count.

``--kills N`` interrupts at each moment N times (default 5). Prints a table for the provider's operator and one for
the obvious operator; exits with 1 if the provider lost a record, or sent a batch twice without need.

What is counted at the local Voucherify: a record is *lost* if it never arrived, a batch *repeated* if it was taken more
than once. *Resubmitted* is what the operator itself says that it had to send again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_voucherify.local_voucherify import Exchange, LocalVoucherify
from harness import ROOT
from harness.cluster import Cluster
from harness.crash import moments
from harness.crash.dags import BATCHES_OF_A_RUN, RECORDS_OF_A_RUN, RETRIES, RETRIES_FILE

MOMENTS = (*moments.KILLS, *moments.OUTAGES, *moments.CLEARS)
IN_FLIGHT = 2
"""Batches that one kill may leave in doubt: the operator's ``max_in_flight``."""

SECONDS_FOR_ALL = 420
SECONDS_OF_WAITING = 0.4
"""How long an action takes while a waiting task is interrupted, so that the tasks are found waiting."""

SECONDS_OF_A_RESET = 60
"""How long a scheduler may take until it has noticed that another one's tasks have nobody who minds them."""


@dataclass
class Run:
    """One DAG run that is interrupted once."""

    dag_id: str
    moment: str
    number: int
    folder: Path
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = f"{self.dag_id}-{MOMENTS.index(self.moment)}-{self.number}"

    @property
    def of_the_provider(self) -> bool:
        """Whether the provider's operator is at work."""
        return self.dag_id != "crash_obvious"

    @property
    def marker(self) -> Path:
        """The file that says that the interruption has been done."""
        return self.folder / f"{self.prefix}.killed"

    @property
    def conf(self) -> dict[str, str]:
        """What the DAG is told."""
        return {"moment": self.moment, "prefix": self.prefix, "marker": str(self.marker)}


class KillSender:
    """A fault of the local Voucherify: take the request, then kill the process that sent it, once for each run."""

    def __init__(self, voucherify: LocalVoucherify, runs: list[Run]) -> None:
        self._voucherify = voucherify
        self._runs = [run for run in runs if run.moment == moments.ACCEPTED]
        self._read = 0
        self._batches: Counter[str] = Counter()

    async def play(self, exchange: Exchange) -> None:
        """Process the request, kill who is to be killed now, and answer."""
        answer: list[Any] = []

        async def keep(message: Any) -> None:
            answer.append(message)

        await exchange.process(keep)
        for run in self._due():
            run.marker.touch()
            os.kill(int(run.marker.with_suffix(".pid").read_text()), signal.SIGKILL)
            await asyncio.sleep(0.1)
        for message in answer:
            await exchange.send(message)

    def _due(self) -> list[Run]:
        """Return the runs of which half of the batches have now arrived."""
        received = self._voucherify.received
        for request in received[self._read :]:
            if request.method == "POST" and request.body:
                self._batches[json.loads(request.body)[0]["source_id"].rpartition("-")[0]] += 1
        self._read = len(received)
        half = BATCHES_OF_A_RUN // 2
        return [run for run in self._runs if self._batches[run.prefix] == half and not run.marker.exists()]


def main() -> int:
    """Run everything and judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5, help="how often to interrupt at each moment")
    parser.add_argument("--without-yardstick", action="store_true", help="leave the obvious operator out")
    arguments = parser.parse_args()
    dags = ["crash_durable"] if arguments.without_yardstick else ["crash_durable", "crash_obvious"]
    with tempfile.TemporaryDirectory(prefix="voucherify-crash-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        return _run(folder, dags, arguments.kills)


def _run(folder: Path, dags: list[str], kills: int) -> int:
    runs = [
        Run(dag, moment, number, folder)
        for dag in dags
        for moment in (MOMENTS if dag == "crash_durable" else moments.KILLS)
        for number in range(kills)
        if moment != moments.CLEARED_WITH_FEWER_RETRIES
    ]
    runs += [Run("crash_lowered", moments.CLEARED_WITH_FEWER_RETRIES, number, folder) for number in range(kills)]
    (folder / "retries").write_text(str(RETRIES))
    with LocalVoucherify(app_id="app", secret_key="secret", keep_bodies=True, action_seconds=0.02) as voucherify:
        voucherify.misbehave("submit", KillSender(voucherify, runs), times=None)
        connection = {"conn_type": "voucherify", "host": voucherify.base_url, "login": "app", "password": "secret"}
        environment = {
            "AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps(connection),
            "PYTHONPATH": str(ROOT),
            RETRIES_FILE: str(folder / "retries"),
        }
        cluster = Cluster(folder, Path(__file__).parent / "dags", environment)
        with cluster.running():
            for group in _groups(runs):
                if group[0].moment in moments.STATES:
                    voucherify.next_actions(times=2 * BATCHES_OF_A_RUN * len(group), seconds=SECONDS_OF_WAITING)
                _follow(cluster, group)
                voucherify.next_actions(times=0)
            good = _print_tables(cluster, voucherify, runs)
    return 0 if good else 1


def _groups(runs: list[Run]) -> Iterable[list[Run]]:
    """Give the runs that go on at the same time: what the whole cluster suffers from must not hit the others."""
    apart = (moments.IN_THE_TRIGGERER, *moments.OUTAGES, moments.CLEARED_WITH_FEWER_RETRIES)
    waiting = {name for name, state in moments.STATES.items() if state == "deferred"}
    together = [run for run in runs if run.moment not in apart and run.moment not in waiting]
    yield together
    for moment in (*apart, *(waiting - set(apart))):
        if group := [run for run in runs if run.moment == moment]:
            yield group


def _follow(cluster: Cluster, runs: list[Run]) -> None:
    """Start runs, interrupt each when its moment has come, and wait until all have ended."""
    for run in runs:
        cluster.trigger(run.dag_id, run.prefix, run.conf)
    waiting = {run.prefix: run for run in runs}
    deadline = time.monotonic() + SECONDS_FOR_ALL
    while waiting and time.monotonic() < deadline:
        cluster.restart_what_has_ended()
        states = dict(cluster.query("SELECT run_id, state FROM task_instance"))
        ended = {
            run_id for (run_id,) in cluster.query("SELECT run_id FROM dag_run WHERE state IN ('success', 'failed')")
        }
        due = [
            run for run in waiting.values() if not run.marker.exists() and _is_due(run, states.get(run.prefix), ended)
        ]
        for moment in dict.fromkeys(run.moment for run in due):
            _interrupt(cluster, [run for run in due if run.moment == moment])
        waiting = {
            prefix: run
            for prefix, run in waiting.items()
            if prefix not in ended or prefix in {run.prefix for run in due}
        }
        time.sleep(0.3)
    if waiting:
        print(f"not ended in {SECONDS_FOR_ALL} s: {', '.join(waiting)}", file=sys.stderr)


def _is_due(run: Run, state: str | None, ended: set[str]) -> bool:
    """
    Say whether the moment has come at which a run is interrupted from here.

    A task that has ended is left alone until its run has: a scheduler that ends a run at the moment in which a person
    clears it wins, and the task is never started again.
    """
    if state in ("success", "failed") and run.prefix not in ended:
        return False
    if run.moment in moments.PAUSED:
        return run.marker.with_suffix(".paused").exists()
    return state is not None and moments.STATES.get(run.moment) == state


def _interrupt(cluster: Cluster, runs: list[Run]) -> None:
    """Do to the cluster what the moment of some runs says, and mark them."""
    moment = runs[0].moment
    if moment == moments.SCHEDULER_WHILE_SENDING:
        cluster.kill_alone("scheduler")
        cluster.start("scheduler")
        _wait_until_reset(cluster, runs)
    elif moment in (moments.DATABASE_WHILE_SENDING, moments.DATABASE_WHILE_WAITING):
        cluster.restart_database()
    elif moment == moments.IN_THE_TRIGGERER:
        cluster.kill("triggerer")
    elif moment in moments.CLEARS:
        if moment == moments.CLEARED_WITH_FEWER_RETRIES:
            _lower_retries(cluster, runs[0])
        for run in runs:
            cluster.clear(run.dag_id, run.prefix)
    for run in runs:
        run.marker.touch()
    if moment == moments.IN_THE_TRIGGERER:
        cluster.start("triggerer")


def _lower_retries(cluster: Cluster, run: Run) -> None:
    """Take away one retry for the one try that was made: a clear then gives the task the ``max_tries`` that it had."""
    (run.folder / "retries").write_text(str(RETRIES - 1))
    deadline = time.monotonic() + SECONDS_FOR_ALL
    versions = "SELECT count(*) FROM dag_version WHERE dag_id = %s"
    while time.monotonic() < deadline and cluster.query(versions, run.dag_id) < [(2,)]:
        time.sleep(0.5)


def _wait_until_reset(cluster: Cluster, runs: list[Run]) -> None:
    """Wait until the new scheduler has taken the tasks of the dead one away from whoever runs them, if it does."""
    tries = "SELECT run_id, state, start_date FROM task_instance"
    before = {run_id: rest for run_id, *rest in cluster.query(tries)}
    deadline = time.monotonic() + SECONDS_OF_A_RESET
    while time.monotonic() < deadline:
        now = {run_id: rest for run_id, *rest in cluster.query(tries)}
        if all(now[run.prefix] != before[run.prefix] for run in runs):
            return
        time.sleep(0.5)


def _print_tables(cluster: Cluster, voucherify: LocalVoucherify, runs: list[Run]) -> bool:
    taken: Counter[str] = Counter()
    for request in voucherify.received:
        if request.method == "POST" and request.body:
            taken.update(record["source_id"] for record in json.loads(request.body))
    good = True
    for by_provider in sorted({run.of_the_provider for run in runs}, reverse=True):
        print("\nThe provider's operator:\n" if by_provider else "\nThe obvious operator:\n")
        print("| moment | interruptions | succeeded | lost records | repeated batches | resubmitted | sums agree |")
        print("|---|---|---|---|---|---|---|")
        for moment in dict.fromkeys(run.moment for run in runs if run.of_the_provider == by_provider):
            of_moment = [run for run in runs if (run.of_the_provider, run.moment) == (by_provider, moment)]
            line = _judge(cluster, of_moment, taken, voucherify)
            print(f"| {moment} | " + " | ".join(str(value) for value in line.values()) + " |")
            good &= not by_provider or _is_good(moment, line, len(of_moment))
    return good


def _is_good(moment: str, line: dict[str, int], runs: int) -> bool:
    """Say whether nothing was lost, and nothing sent twice that had not to be; after a clear everything has to be."""
    if not (line["interruptions"] == line["succeeded"] == line["agrees"] == runs and line["lost"] == 0):
        return False
    if moment in moments.CLEARS:
        sent_before = BATCHES_OF_A_RUN if moment in moments.CLEARED_WHEN_ALL_WAS_SENT else BATCHES_OF_A_RUN // 2
        return line["repeated"] >= sent_before * runs
    return line["repeated"] <= line["resubmitted"] <= IN_FLIGHT * runs


def _judge(cluster: Cluster, runs: list[Run], taken: Counter[str], voucherify: LocalVoucherify) -> dict[str, Any]:
    states = dict(cluster.query("SELECT run_id, state FROM task_instance"))
    summaries = dict(cluster.query("SELECT run_id, value FROM xcom WHERE key = 'return_value'"))
    ids = {run.prefix: [f"{run.prefix}-{i}" for i in range(RECORDS_OF_A_RUN)] for run in runs}
    return {
        "interruptions": sum(run.marker.exists() for run in runs),
        "succeeded": sum(states.get(run.prefix) == "success" for run in runs),
        "lost": sum(record_id not in voucherify.customers for each in ids.values() for record_id in each),
        "repeated": sum(taken[record_id] - 1 for each in ids.values() for record_id in each if taken[record_id])
        // (RECORDS_OF_A_RUN // BATCHES_OF_A_RUN),
        "resubmitted": sum((summaries.get(run.prefix) or {}).get("resubmitted", 0) for run in runs),
        "agrees": sum(_agrees(summaries.get(run.prefix)) for run in runs),
    }


def _agrees(summary: dict[str, Any] | None) -> bool:
    written = (summary or {}).get("succeeded")
    return written == RECORDS_OF_A_RUN and not (summary or {}).get("failed")


if __name__ == "__main__":
    sys.exit(main())
