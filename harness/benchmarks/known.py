"""
What this provider, and what people use or write today, know of their rows afterwards, beside what is true.

Each sends 10,000 rows in requests of 1,000 to the local stand-in, which knows what arrived:

* ``wrong``: of these rows 100 break the project's metadata schema and 20 have no id;
* ``refused``: one row is wrong, and the API refuses its whole request;
* ``killed``: the process is killed when the sixth request has been taken and not yet answered, and then run again,
  with whatever it has kept: its folder, or Airflow's task state store.

``python -m harness.benchmarks.known '{"variant": "dlt", ...}'`` sends once and prints what the variant says.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import process
from harness.benchmarks.rows import Source, write_sqlite
from harness.benchmarks.tables import Judged, Table, Target

if TYPE_CHECKING:
    from airflow_provider_voucherify.local_voucherify import Exchange, LocalVoucherify

Figures = dict[str, Any]

ROWS, CHUNK = 10_000, 1_000
SCHEMAS = {"customers": {"properties": {"tier": {"type": "string", "eq": ["bronze", "silver", "gold"]}}}}
WRONG_TIER = "UPDATE customers SET tier = 'platinum' WHERE rowid % {} = 7"
FLAWS = {
    "wrong": (WRONG_TIER.format(100), "UPDATE customers SET source_id = NULL WHERE rowid % 500 = 3"),
    "refused": (f"{WRONG_TIER.format(ROWS)} + {CHUNK} * 5",),
    "killed": (),
}
WRONG = 120

NAMES = {
    "ours": "**this provider**",
    "http_operator": "HttpOperator-like",
    "sdk_largest": "official SDK",
    "dlt": "dlt, a custom destination",
    "airbyte": "Airbyte's CDK, a destination",
}
AFTERWARDS = (
    f"{ROWS:,} rows in requests of {CHUNK:,} to the local stand-in, where {WRONG} fail: 100 violate the project's "
    "metadata schema, 20 have no id. Counted is what each says itself: the summary and outcomes of this provider, the "
    "trace of dlt, the records before the states that an Airbyte destination gives back; – if it says nothing. What "
    "only posts has ids of async actions, whose results somebody else must read. dlt and Airbyte take an accepted "
    "request for rows that have arrived; a destination as their docs write it returns no ids."
)
INTERRUPTED = (
    f"{ROWS:,} rows again. First, one of them is wrong and the API answers its request with 400, which the present "
    "description of bulk calls no longer has: everybody stops there, once the requests under way have ended. Second, "
    "all rows are right; the process is killed when its sixth request has been taken but not answered, and then run "
    "again. It finds what it has kept: this provider its journal in Airflow's task state store, dlt its folder (lost "
    "with the worker), Airbyte the last state, from which its source must be able to go on."
)
INTERRUPTED_HEADER = ["", "rows arrived, 400", "rows lost, killed", "rows received twice, killed", "requests, killed"]


def known(
    variants: Sequence[str], peers_python: str, folder: Path, say: Callable[[str], None]
) -> dict[str, dict[str, Figures]]:
    """Let every variant send in every scene: by variant and scene, what it says, and what is true."""
    measured: dict[str, dict[str, Figures]] = {variant: {} for variant in variants}
    for scene, flaws in FLAWS.items():
        warehouse = folder / f"known-{scene}.sqlite"
        write_sqlite(warehouse, ROWS)
        with closing(sqlite3.connect(warehouse)) as database, database:
            for flaw in flaws:
                database.execute(flaw)
        for variant in variants:
            say(f"known, {variant}, {scene}")
            kept = folder / f"known-{scene}-{variant}"
            kept.mkdir()
            job = {"variant": variant, "source": asdict(Source("sqlite", str(warehouse), ROWS)), "folder": str(kept)}
            measured[variant][scene] = play(scene, job, sys.executable if variant == "ours" else peers_python)
    return measured


def play(scene: str, job: Figures, python: str) -> Figures:
    """Let one variant send in a scene; return what it says and what is true."""
    from airflow_provider_voucherify.local_voucherify import LocalVoucherify

    refuses = "refused" if scene == "refused" else "failed"
    options: Figures = {"metadata_schemas": SCHEMAS, "wrong_record": refuses}
    with LocalVoucherify(app_id="app", secret_key="secret", **options) as voucherify:
        job |= {"url": voucherify.base_url, "try": 1}
        if scene == "killed":
            killing = _Killing(Path(job["folder"]) / "pid")
            voucherify.misbehave("submit", killing, after=5)
            with suppress(process.MeasurementError):
                process.measured("known", job, python=python)
            if killing.pid_file.exists():
                raise process.MeasurementError(f"{job['variant']} was not killed")
            job["try"] = 2
        said = process.measured("known", job, python=python)
        return said | _truth(voucherify)


def _truth(voucherify: LocalVoucherify) -> Figures:
    times: Counter[str] = Counter()
    for action in voucherify.actions.values():
        times.update(filter(None, action.outcome.report.ids))  # type: ignore[union-attr]
    return {
        "true_arrived": len(voucherify.customers),
        "twice": sum(number > 1 for number in times.values()),
        "posts": len([one for one in voucherify.received if one.method == "POST"]),
    }


@dataclass(frozen=True, slots=True)
class _Killing:
    """The request is processed, and its sender killed before it has an answer."""

    pid_file: Path

    async def play(self, exchange: Exchange) -> None:
        async def to_nobody(message: Any) -> None:
            pass

        await exchange.process(to_nobody)
        pid = int(self.pid_file.read_text())
        self.pid_file.unlink()
        os.kill(pid, signal.SIGKILL)
        await exchange.close_connection()


def main() -> None:
    """Send once, and print what is said."""
    job = process.job()
    (Path(job["folder"]) / "pid").write_text(str(os.getpid()))
    print(json.dumps(_ours(job) if job["variant"] == "ours" else _peer(job)))


def _peer(job: Figures) -> Figures:
    from harness.benchmarks import peers

    send = peers.sender(job["variant"], Path(job["folder"]), CHUNK)
    try:
        return {"ends": "success", **(send(Source(**job["source"]), job["url"]) or {})}
    except Exception:
        return {"ends": "failed"}


def _ours(job: Figures) -> Figures:
    from harness.benchmarks.provider import connection
    from harness.faults.task import Store, Task

    class FileStore(Store):
        """A store that outlives the process, as Airflow's does."""

        file = Path(job["folder"]) / "store.json"

        def __init__(self) -> None:
            self._values = json.loads(self.file.read_text()) if self.file.exists() else {}

        def set(self, key: str, value: Any, retention: Any = None) -> None:
            super().set(key, value)
            self.file.write_text(json.dumps(self._values))

    os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps({"conn_type": "sqlite", "host": job["source"]["where"]})
    settings = {
        "sql": "SELECT * FROM customers",
        "sql_conn_id": "warehouse",
        "poll_interval": 1,
        "requests": {"max_records": CHUNK},
    }
    task = Task(Path(job["folder"]), connection(job["url"]), settings, FileStore(), try_number=job["try"])
    ended = task.run(1)
    summary = ended.summary
    if summary is None:
        return {"ends": ended.state}
    failed = [row for row in ended.rows or () if row["outcome"] in ("failed", "refused")]
    return {
        "ends": ended.state,
        "actions": len(summary["async_action_ids"]),
        "read": summary["rows_read"],
        "arrived": summary["succeeded"],
        "failed": summary["failed"] + summary["refused"],
        "named": sum(row.get("message") is not None for row in failed),
    }


def table(measured: Mapping[str, Mapping[str, Figures]]) -> Judged:
    """Set beside each other what each says and what is true, and judge this provider."""
    header = ["", "task ends", "rows read", "arrived", "failed", "of these with a reason", "not known", "async actions"]
    truth = ["**in truth**, as the server has it", "–", f"{ROWS:,}", f"{ROWS - WRONG:,}", f"{WRONG:,}", "–", "–", "–"]
    afterwards, interrupted = [[*header, "said to have arrived, but did not"], [*truth, "–"]], [INTERRUPTED_HEADER]
    for variant, scenes in measured.items():
        wrong, refused, killed = (scenes[scene] for scene in FLAWS)
        known = [wrong.get(name) for name in ("read", "arrived", "failed", "named")]
        unknown = ROWS - wrong.get("arrived", 0) - wrong.get("failed", 0)
        untrue = max(0, wrong.get("arrived", 0) - wrong["true_arrived"])
        counts = [*known, unknown, wrong.get("actions"), untrue]
        afterwards.append([NAMES[variant], wrong["ends"], *("–" if n is None else f"{n:,}" for n in counts)])
        lost = ROWS - killed["true_arrived"]
        counts = [refused["true_arrived"], lost, killed["twice"], killed["posts"]]
        interrupted.append([NAMES[variant], *(f"{n:,}" for n in counts)])
    wrong, killed = measured["ours"]["wrong"], measured["ours"]["killed"]
    untrue = abs(wrong["arrived"] - wrong["true_arrived"]) + abs(wrong["failed"] - WRONG) + WRONG - wrong["named"]
    return Judged(
        [
            Table("What each knows afterwards", AFTERWARDS, afterwards),
            Table("After a refused request, and after a kill", INTERRUPTED, interrupted),
        ],
        [
            Target("rows whose outcome this provider gets wrong, or tells without a reason", untrue, 0),
            Target("rows that this provider loses if its process is killed", ROWS - killed["true_arrived"], 0),
            Target("rows that it then sends twice (two requests had no answer)", killed["twice"], 2 * CHUNK),
        ],
    )


if __name__ == "__main__":
    main()
