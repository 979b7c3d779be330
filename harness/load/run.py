"""
``python -m harness.load.run``: 2,000 deferred tasks wait ten minutes in one triggerer, and none may hold up another.

A real triggerer with PostgreSQL and a local Voucherify. The task instances and their triggers are written into the
metadata database as a worker would leave them; a heartbeat trigger (``harness.load.heartbeat``) in the same event loop
measures. A third of the actions finish one after the other, a fifth of the tasks run out of time at the same moment,
the rest wait to the end.

``--seconds N`` measures for another time, ``--quick`` for 40 seconds, ``--write`` writes ``docs/load.md``, ``--floor``
measures as many triggers that only sleep, for what the triggerer itself does. Exits with 1 where a target is missed
(``--quick``: missed by far while tasks wait or end, for a machine that does other things meanwhile; the start of all
triggers, of which Airflow makes 50 a second, is shown and not judged then).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from harness import ROOT
from harness.cluster import Cluster
from harness.load import INSTANCES

WAITING = INSTANCES - 1
ENDING = WAITING // 3
LATE = WAITING // 5
RUN = "run"
POLL_INTERVAL = 60.0
MAX_BLOCKED = 0.1
"""Seconds for which the loop may be blocked."""

MAX_GROWTH_MB = 10.0
"""How much more memory there may be in the last third of the waiting than in the second."""

FACTOR_IF_QUICK = 4
START_SECONDS = 300.0
CLASS = "airflow_provider_voucherify.triggers.async_action.VoucherifyAsyncActionTrigger"


@dataclass(frozen=True)
class Phase:
    """What the heartbeat says of a part of the time."""

    name: str
    beats: Sequence[dict[str, float]]

    def worst(self, what: str) -> float:
        """Return the largest value of a figure."""
        return max((beat[what] for beat in self.beats), default=0.0)

    def row(self) -> str:
        """Return a line of the table."""
        ms = [1_000 * self.worst(what) for what in ("blocked", "cpu")]
        usual = 1_000 * statistics.median([beat["blocked"] for beat in self.beats] or [0.0])
        mb = [beat["mb"] for beat in self.beats] or [0.0]
        return (
            f"| {self.name} | {len(self.beats)} s | {ms[0]:.0f} ms | {ms[1]:.0f} ms | {usual:.1f} ms "
            f"| {mb[0]:.0f} to {mb[-1]:.0f} MB |"
        )


HEADER = (
    "| phase | length | longest blocking | of it CPU | in a usual second | memory of the triggerer's process |\n"
    "|---|---|---|---|---|---|"
)


def main() -> int:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--floor", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    seconds = 40.0 if arguments.quick else arguments.seconds
    with tempfile.TemporaryDirectory(prefix="voucherify-load-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        lines, misses = _measure(folder, seconds, FACTOR_IF_QUICK if arguments.quick else 1, arguments.floor)
    print("\n".join(lines))
    for miss in misses:
        print(f"MISSED: {miss}", file=sys.stderr)
    if arguments.write:
        _write([*lines, *(f"- **Missed**: {miss}." for miss in misses)])
    return 1 if misses else 0


def _measure(folder: Path, seconds: float, factor: float, floor: bool) -> tuple[list[str], list[str]]:
    beats_file = folder / "beats.jsonl"
    key = Fernet.generate_key()
    with LocalVoucherify(app_id="app", secret_key="secret-of-load", action_seconds=36_000) as voucherify:
        connection = {"conn_type": "voucherify", "host": voucherify.base_url, "login": "app"}
        connection |= {"password": voucherify.options.secret_key}
        environment = {
            "AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__FERNET_KEY": key.decode(),
            "AIRFLOW__CORE__MAX_MAP_LENGTH": str(INSTANCES),
            "AIRFLOW__TRIGGERER__CAPACITY": str(INSTANCES),
            "PYTHONPATH": str(ROOT),
        }
        cluster = Cluster(folder, ROOT / "harness" / "load" / "dags", environment)
        with cluster.running(("api-server", "dag-processor")):
            cluster.trigger("load", RUN, {})
            voucherify.next_actions(times=ENDING, seconds=seconds / 2 / ENDING)
            began = time.time()
            ids = [] if floor else _submit(voucherify)
            ended_before = began + START_SECONDS
            end_time = time.time() + seconds * 0.8 + _seconds_to_start()
            _defer(cluster, ids, end_time, str(beats_file), Fernet(key))
            cluster.start("triggerer")
            running_at = _wait_until_running(cluster, beats_file, ended_before)
            gets_before = _gets(voucherify)
            time.sleep(max(0.0, end_time - seconds * 0.8 + seconds - time.time()))
            ended = WAITING - _deferred(cluster) + 1
            gets = _gets(voucherify)
    beats = [json.loads(line) for line in beats_file.read_text().splitlines()]
    stacks = [json.loads(line) for line in Path(f"{beats_file}.stacks").read_text().splitlines()]
    return _judge(beats, stacks, running_at, end_time, ended, gets - gets_before, gets, factor, floor)


def _seconds_to_start() -> float:
    """Return how long the triggerer takes for all, of which it starts 50 a second."""
    return WAITING / 50 * 1.5 + 15


def _submit(voucherify: LocalVoucherify) -> list[str]:
    settings = ConnectionSettings.build(
        application_id="app", secret_key=voucherify.options.secret_key, host=voucherify.base_url
    )
    with VoucherifyClient(settings) as client:
        return [client.bulk_update("customers", [{"source_id": f"c{number}"}]) for number in range(WAITING)]


def _defer(cluster: Cluster, ids: list[str], end_time: float, beats: str, fernet: Fernet) -> None:
    """Write the triggers into the database, and let the task instances wait for them."""
    now = time.time()
    triggers: list[tuple[str, dict[str, Any]]] = [("harness.load.heartbeat.HeartbeatTrigger", {"path": beats})]
    for number in range(WAITING):
        if not ids:
            triggers.append(("harness.load.heartbeat.SleepingTrigger", {}))
            continue
        ends = end_time if number >= WAITING - LATE else now + 36_000
        kwargs = {
            "voucherify_conn_id": "voucherify_default",
            "async_action_ids": [ids[number]],
            "submitted_at": now - 1 + number / WAITING,
            "end_time": ends,
            "poll_interval": POLL_INTERVAL,
        }
        triggers.append((CLASS, kwargs))
    rows = [
        (number + 1, classpath, fernet.encrypt(json.dumps(kwargs).encode()).decode())
        for number, (classpath, kwargs) in enumerate(triggers)
    ]
    cluster.execute("INSERT INTO trigger (id, classpath, kwargs, created_date) VALUES (%s, %s, %s, now())", rows)
    cluster.execute(
        "UPDATE task_instance SET state = 'deferred', trigger_id = map_index + 1, start_date = now(), try_number = 1, "
        "next_method = 'execute_complete' WHERE run_id = %s",
        [(RUN,)],
    )


def _wait_until_running(cluster: Cluster, beats: Path, latest: float) -> float:
    """Return when the triggerer had taken all triggers."""
    while time.time() < latest:
        (taken,) = cluster.query("SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL")[0]
        if taken >= INSTANCES - ENDING and beats.exists() and _all_are_taken(cluster):
            return time.time() + 5
        time.sleep(1)
    raise SystemExit(f"the triggerer took only {taken} triggers in {START_SECONDS:.0f} s")


def _all_are_taken(cluster: Cluster) -> bool:
    return bool(cluster.query("SELECT count(*) FROM trigger WHERE triggerer_id IS NULL")[0][0] == 0)


def _deferred(cluster: Cluster) -> int:
    count: int = cluster.query("SELECT count(*) FROM task_instance WHERE state = 'deferred'")[0][0]
    return count


def _gets(voucherify: LocalVoucherify) -> int:
    return sum(request.method == "GET" for request in voucherify.received)


def _judge(
    beats: list[dict[str, float]],
    stacks: list[dict[str, Any]],
    running_at: float,
    end_time: float,
    ended: int,
    gets: int,
    all_gets: int,
    factor: float,
    floor: bool,
) -> tuple[list[str], list[str]]:
    phases = [
        Phase("all triggers start", [beat for beat in beats if beat["at"] < running_at]),
        Phase("waiting, actions finish", [b for b in beats if running_at <= b["at"] < end_time - 2]),
        Phase(f"{LATE} run out of time at once", [b for b in beats if end_time - 2 <= b["at"] < end_time + 12]),
        Phase("waiting", [b for b in beats if b["at"] >= end_time + 12]),
    ]
    lines = [HEADER, *(phase.row() for phase in phases), ""]
    counted = [beat for beat in beats if beat["at"] >= running_at]
    third = len(counted) // 3
    growth = statistics.median(b["mb"] for b in counted[-third:]) - statistics.median(
        b["mb"] for b in counted[third : 2 * third]
    )
    length = counted[-1]["at"] - counted[0]["at"]
    budget = 2 * (ended + 1) + length / POLL_INTERVAL
    lines += [
        f"- Waits that ended: {ended:,} of {WAITING:,}.",
        f"- GETs while waiting: {gets:,}, the budget is {budget:,.0f} (two for each end, one each {POLL_INTERVAL:.0f} "
        f"s); {all_gets:,} with those while the triggers started.",
        f"- Memory in the last third beside the second: {growth:+.1f} MB.",
    ]
    late = Counter(_place(stack["stack"]) for stack in stacks if stack["at"] >= running_at)
    if late:
        places = "; ".join(f"{place} ({count})" for place, count in late.most_common(5))
        lines.append(f"- Where the loop was when it was more than 50 ms late: {places}.")
    misses = []
    judged = () if floor else phases[1:] if factor > 1 else phases
    for phase in judged:
        if phase.worst("blocked") > MAX_BLOCKED * factor and phase.worst("cpu") > MAX_BLOCKED * factor / 2:
            misses.append(f"{phase.name}: blocked for {1_000 * phase.worst('blocked'):.0f} ms")
    if growth > MAX_GROWTH_MB * factor:
        misses.append(f"memory grew by {growth:.1f} MB")
    if gets > budget * factor and not floor:
        misses.append(f"{gets} GETs")
    if ended < LATE and not floor:
        misses.append(f"only {ended} waits ended")
    return lines, misses


def _place(stack: list[str]) -> str:
    """Return the innermost frame of a stack that tells something: of this provider, else of anything."""
    ours = [f for f in stack if f.startswith(("queue_watch", "poller", "waits", "async_action", "http.py", "protocol"))]
    return (ours or stack)[-1]


def _write(lines: list[str]) -> None:
    text = (
        "# Load\n\n"
        f"{WAITING:,} deferred tasks of this provider wait in one real triggerer (PostgreSQL, one process, one\n"
        "event loop) for ten minutes, against the local Voucherify. A heartbeat trigger in the same loop measures\n"
        "for how long the loop did not come back to it. `make load` makes this page; the target is 100 ms.\n\n"
    )
    (ROOT / "docs" / "load.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
