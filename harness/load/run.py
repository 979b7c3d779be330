"""
``python -m harness.load.run``: 2,000 deferred tasks wait ten minutes in one triggerer, and none may hold up another.

A real triggerer with PostgreSQL and a local Voucherify. The task instances and their triggers are written into the
metadata database as a worker would leave them; a heartbeat trigger (``harness.load.heartbeat``) in the same event loop
measures. A third of the actions finish one after the other, a fifth of the tasks run out of time at the same moment,
the rest wait to the end.

Before that as many triggers that only sleep start, and as many of them end at once: what the triggerer itself does.
The target is about what this provider does, so it is judged by where the loop was found while it was late, without the
time in which it had no processor.

``--seconds N`` measures for another time, ``--quick`` for 40 seconds, ``--write`` writes ``docs/load.md``. Exits with 1
where a target is missed (``--quick``: missed by far, for a machine that does other things meanwhile).
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from harness import ROOT
from harness.cluster import Cluster
from harness.load import INSTANCES
from harness.process import busy

WAITING = INSTANCES - 1
ENDING = WAITING // 3
LATE = WAITING // 5
RUN = "run"
POLL_INTERVAL = 60.0
MAX_BLOCKED = 0.1
"""Seconds for which this provider may block the loop."""

FLOOR_SECONDS = 40.0
"""For how long triggers that only sleep are measured."""

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
        ms = [1_000 * self.worst(what) for what in ("blocked", "cpu", "collected", "ours")]
        usual = 1_000 * statistics.median([beat["blocked"] for beat in self.beats] or [0.0])
        mb = [beat["mb"] for beat in self.beats] or [0.0]
        return (
            f"| {self.name} | {len(self.beats)} s | {' | '.join(f'{each:.0f} ms' for each in ms)} | {usual:.1f} ms "
            f"| {mb[0]:.0f} to {mb[-1]:.0f} MB |"
        )


@dataclass(frozen=True)
class Measured:
    """
    One run.

    :param running_at: when the triggerer had taken all triggers, Unix epoch seconds.
    :param late: the stacks of the loop's thread when it was late after that.
    :param ended: number of waits that ended.
    :param gets: number of GETs after the start; ``all_gets`` has those before.
    """

    phases: tuple[Phase, Phase, Phase, Phase]
    running_at: float
    late: list[list[str]]
    ended: int
    gets: int
    all_gets: int


HEADER = (
    "| phase | length | longest blocking | CPU at most | garbage collector at most | in this provider at most "
    "| blocking in a usual second | memory of the triggerer's process |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    seconds = 40.0 if arguments.quick else arguments.seconds
    factor = FACTOR_IF_QUICK if arguments.quick else 1
    floor = _in_a_folder(lambda folder: _measure(folder, FLOOR_SECONDS, floor=True))
    measured = _in_a_folder(lambda folder: _measure(folder, seconds, floor=False))
    lines, misses = _judge(measured, floor, factor)
    print("\n".join(lines))
    for miss in misses:
        print(f"MISSED: {miss}", file=sys.stderr)
    if arguments.write:
        _write([*lines, *(f"- **Missed**: {miss}." for miss in misses)])
    return 1 if misses else 0


def _in_a_folder(measure: Callable[[Path], Measured]) -> Measured:
    with tempfile.TemporaryDirectory(prefix="voucherify-load-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        return measure(folder)


def _measure(folder: Path, seconds: float, *, floor: bool) -> Measured:
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
    phases = (
        Phase("all triggers start", [beat for beat in beats if beat["at"] < running_at]),
        Phase("waiting, actions finish", [b for b in beats if running_at <= b["at"] < end_time - 2]),
        Phase(f"{LATE} run out of time at once", [b for b in beats if end_time - 2 <= b["at"] < end_time + 12]),
        Phase("waiting", [b for b in beats if b["at"] >= end_time + 12]),
    )
    late = [stack["stack"] for stack in stacks if stack["at"] >= running_at]
    return Measured(phases, running_at, late, ended, gets - gets_before, gets)


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
        ends = end_time if number >= WAITING - LATE else now + 36_000
        if not ids:
            triggers.append(("harness.load.heartbeat.SleepingTrigger", {"until": ends}))
            continue
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


def _judge(measured: Measured, floor: Measured, factor: float) -> tuple[list[str], list[str]]:
    start, waits, ends, after = measured.phases
    asleep = {0: "as many that only sleep start", 2: f"{LATE} that only sleep end at once"}
    rows = [replace(floor.phases[at], name=name).row() for at, name in asleep.items()]
    lines = [HEADER, start.row(), rows[0], waits.row(), ends.row(), rows[1], after.row(), ""]
    counted = [beat for phase in measured.phases for beat in phase.beats if beat["at"] >= measured.running_at]
    third = len(counted) // 3
    growth = statistics.median(b["mb"] for b in counted[-third:]) - statistics.median(
        b["mb"] for b in counted[third : 2 * third]
    )
    length = counted[-1]["at"] - counted[0]["at"]
    budget = 2 * (measured.ended + 1) + length / POLL_INTERVAL
    lines += [
        f"- Waits that ended: {measured.ended:,} of {WAITING:,}.",
        f"- GETs while waiting: {measured.gets:,}, the budget is {budget:,.0f} (two for each end, one each "
        f"{POLL_INTERVAL:.0f} s); {measured.all_gets:,} with those while the triggers started.",
        f"- Memory in the last third beside the second: {growth:+.1f} MB.",
        busy(),
    ]
    if measured.late:
        late = Counter(map(_place, measured.late))
        places = "; ".join(f"{place} ({count})" for place, count in late.most_common(5))
        lines.append(f"- Where the loop was when it was more than 50 ms late while tasks waited: {places}.")
    misses = []
    for phase in measured.phases:
        if phase.worst("ours") > MAX_BLOCKED * factor:
            misses.append(f"{phase.name}: this provider blocked for {1_000 * phase.worst('ours'):.0f} ms")
    if growth > MAX_GROWTH_MB * factor:
        misses.append(f"memory grew by {growth:.1f} MB")
    if measured.gets > budget * factor:
        misses.append(f"{measured.gets} GETs")
    if measured.ended < LATE:
        misses.append(f"only {measured.ended} waits ended")
    if not misses:
        lines.append(f"- **Met**: this provider never blocked the loop for more than {1_000 * MAX_BLOCKED:.0f} ms.")
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
        "for how long the loop did not come back to it, and a thread looks where it is meanwhile. `make load` makes\n"
        "this page; the target is that this provider blocks the loop for 100 ms at most. What Airflow itself does is\n"
        "in the lines of as many triggers that only sleep: it reads and writes messages for all of them at once, and\n"
        "writes log lines in the loop. Python's garbage collector goes through all that Airflow has loaded.\n\n"
    )
    (ROOT / "docs" / "load.md").write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
