"""
``python -m crash.run``: kill a sync at each of nine moments, let Airflow retry, and count.

``--kills N`` kills at each moment so many times (default 5). Prints a table for the provider's operator and one for
the obvious operator; exits with 1 where the provider lost a record or sent a batch twice without need.

What is counted at the local Voucherify: a record is *lost* if it never arrived, *repeated* if it was taken more than
once though no batch was in doubt. *Resubmitted* is what the operator itself says that it had to send again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_voucherify.local_voucherify import Exchange, LocalVoucherify
from crash.cluster import Cluster
from crash.dags import BATCHES_OF_A_RUN, RECORDS_OF_A_RUN

IN_THE_TRIGGERER = "in the triggerer while waiting"
ACCEPTED = "accepted, before the answer"
MOMENTS = (
    "before the first post",
    "between intent and post",
    ACCEPTED,
    "between answer and journal",
    "between batches",
    "just before deferring",
    IN_THE_TRIGGERER,
    "after the event",
    "while downloading the report",
)
IN_FLIGHT = 2
"""Batches that one kill may leave in doubt: the operator's ``max_in_flight``."""

SECONDS_FOR_ALL = 420
SECONDS_IN_THE_TRIGGERER = 0.4
"""How long an action takes while the triggerer is killed, so that the tasks are found waiting."""


@dataclass
class Run:
    """One DAG run that is killed once."""

    dag_id: str
    moment: str
    number: int
    folder: Path
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self.prefix = f"{self.dag_id}-{MOMENTS.index(self.moment)}-{self.number}"

    @property
    def marker(self) -> Path:
        """The file that says that the kill has been done."""
        return self.folder / f"{self.prefix}.killed"

    @property
    def conf(self) -> dict[str, str]:
        """What the DAG is told."""
        return {"moment": self.moment, "prefix": self.prefix, "marker": str(self.marker)}


class KillSender:
    """A fault of the local Voucherify: take the request, then kill the process that sent it, once for each run."""

    def __init__(self, voucherify: LocalVoucherify, runs: list[Run]) -> None:
        self._voucherify = voucherify
        self._runs = [run for run in runs if run.moment == ACCEPTED]
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
    parser.add_argument("--kills", type=int, default=5, help="how often to kill at each moment")
    parser.add_argument("--without-yardstick", action="store_true", help="leave the obvious operator out")
    arguments = parser.parse_args()
    dags = ["crash_durable"] if arguments.without_yardstick else ["crash_durable", "crash_obvious"]
    with tempfile.TemporaryDirectory(prefix="voucherify-crash-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        return _run(folder, dags, arguments.kills)


def _run(folder: Path, dags: list[str], kills: int) -> int:
    runs = [Run(dag, moment, n, folder) for dag in dags for moment in MOMENTS for n in range(kills)]
    with LocalVoucherify(app_id="app", secret_key="secret", keep_bodies=True, action_seconds=0.02) as voucherify:
        voucherify.misbehave("submit", KillSender(voucherify, runs), times=None)
        connection = {"conn_type": "voucherify", "host": voucherify.base_url, "login": "app", "password": "secret"}
        environment = {
            "AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps(connection),
            "PYTHONPATH": str(Path(__file__).parents[1]),
        }
        cluster = Cluster(folder, Path(__file__).parent / "dags", environment)
        with cluster.running():
            _follow(cluster, [run for run in runs if run.moment != IN_THE_TRIGGERER])
            deferred = [run for run in runs if run.moment == IN_THE_TRIGGERER]
            voucherify.next_actions(times=BATCHES_OF_A_RUN * len(deferred), seconds=SECONDS_IN_THE_TRIGGERER)
            _follow(cluster, deferred)
            good = _print_tables(cluster, voucherify, runs)
            good &= _print_clear(cluster, voucherify, runs[0])
    return 0 if good else 1


def _follow(cluster: Cluster, runs: list[Run]) -> None:
    """Start runs, kill the triggerer where that is the moment, and wait until all have ended."""
    for run in runs:
        cluster.trigger(run.dag_id, run.prefix, run.conf)
    _follow_to_the_end(cluster, {run.prefix: run for run in runs})


def _follow_to_the_end(cluster: Cluster, waiting: dict[str, Run]) -> None:
    deadline = time.monotonic() + SECONDS_FOR_ALL
    while waiting and time.monotonic() < deadline:
        states = dict(cluster.query("SELECT run_id, state FROM task_instance"))
        deferred = [run for run in waiting.values() if states.get(run.prefix) == "deferred"]
        to_kill = [run for run in deferred if run.moment == IN_THE_TRIGGERER and not run.marker.exists()]
        if to_kill:
            cluster.kill("triggerer")
            for run in to_kill:
                run.marker.touch()
            cluster.start("triggerer")
        waiting = {p: run for p, run in waiting.items() if states.get(p) not in ("success", "failed")}
        time.sleep(0.3)
    if waiting:
        print(f"not ended in {SECONDS_FOR_ALL} s: {', '.join(waiting)}", file=sys.stderr)


def _print_tables(cluster: Cluster, voucherify: LocalVoucherify, runs: list[Run]) -> bool:
    taken: Counter[str] = Counter()
    for request in voucherify.received:
        if request.method == "POST" and request.body:
            taken.update(record["source_id"] for record in json.loads(request.body))
    good = True
    for dag_id in dict.fromkeys(run.dag_id for run in runs):
        print(f"\n### {dag_id}\n")
        print("| moment of the kill | kills | succeeded | lost records | repeated batches | resubmitted | sums agree |")
        print("|---|---|---|---|---|---|---|")
        for moment in MOMENTS:
            of_moment = [run for run in runs if (run.dag_id, run.moment) == (dag_id, moment)]
            line = _judge(cluster, of_moment, taken, voucherify)
            print(f"| {moment} | " + " | ".join(str(value) for value in line.values()) + " |")
            if dag_id == "crash_durable":
                good &= line["kills"] == line["succeeded"] == line["agrees"] == len(of_moment)
                good &= line["lost"] == 0 and line["repeated"] <= line["resubmitted"] <= IN_FLIGHT * line["kills"]
    return good


def _print_clear(cluster: Cluster, voucherify: LocalVoucherify, run: Run) -> bool:
    """Clear a run that has succeeded, and see that it is done again and not taken for done."""

    def posts() -> int:
        return sum(request.method == "POST" for request in voucherify.received)

    before = posts()
    cluster.clear(run.dag_id, run.prefix)
    deadline = time.monotonic() + SECONDS_FOR_ALL
    while time.monotonic() < deadline and posts() < before + BATCHES_OF_A_RUN:
        time.sleep(0.5)
    _follow_to_the_end(cluster, {run.prefix: run})
    again = posts() - before
    print(f"\nCleared by a person after success: {again} of {BATCHES_OF_A_RUN} batches were sent again.")
    return again == BATCHES_OF_A_RUN


def _judge(cluster: Cluster, runs: list[Run], taken: Counter[str], voucherify: LocalVoucherify) -> dict[str, Any]:
    states = dict(cluster.query("SELECT run_id, state FROM task_instance"))
    summaries = dict(cluster.query("SELECT run_id, value FROM xcom WHERE key = 'return_value'"))
    ids = {run.prefix: [f"{run.prefix}-{i}" for i in range(RECORDS_OF_A_RUN)] for run in runs}
    return {
        "kills": sum(run.marker.exists() for run in runs),
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


def in_a_network_of_its_own(module: str) -> None:
    """
    Go on in a network namespace with nothing but loopback, where that is allowed: Airflow's log servers need it.

    :param module: what to run there, with this process's arguments.
    """
    if os.environ.get("CRASH_IN_NAMESPACE"):
        return
    again = f"ip link set lo up && exec {sys.executable} -m {module} {' '.join(sys.argv[1:])}"
    command = ["unshare", "--net", "--map-root-user", "sh", "-c", again]
    if os.getuid() == 0:
        command.remove("--map-root-user")
    if subprocess.run([*command[:-3], "true"], check=False, capture_output=True).returncode == 0:
        os.environ["CRASH_IN_NAMESPACE"] = "1"
        os.execvp(command[0], command)


if __name__ == "__main__":
    in_a_network_of_its_own("crash.run")
    sys.exit(main())
