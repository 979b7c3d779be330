"""
``python -m harness.scale_out.shared_budget``: what it would take to share one budget of calls between processes.

Two processes take calls at once from a budget that lies in a store, until each has taken its share: from Airflow's
asset state store, which can get and set and nothing else, and from a row of PostgreSQL, which can be updated on a
condition. Prints how long one call takes that way, and how many more calls than allowed were taken: those would be
answered with 429. The store is called in the process itself; a task gets to it by way of the supervisor and the API
server, which comes on top. Beside them the budget that a process keeps for itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2

from harness import ROOT
from harness.cluster import Cluster

PROCESSES = 2
CALLS = 200
"""How many calls each of them takes; the budget has as many as both."""

ASSET = 1


def main() -> int:
    """Measure each store and print."""
    with tempfile.TemporaryDirectory(prefix="voucherify-shared-budget-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        cluster = Cluster(folder, folder, {"PYTHONPATH": str(ROOT)})
        with cluster.running(()):
            asset = 'INSERT INTO asset (id, name, uri, "group", extra, created_at, updated_at) '
            cluster.execute(asset + "VALUES (%s, 'budget', 'x://budget', '', '{}', now(), now())", [(ASSET,)])
            cluster.execute("CREATE TABLE budget (id int PRIMARY KEY, remaining int NOT NULL)", [()])
            print("| where the budget is | ms for a call | calls taken beyond the budget |\n| --- | ---: | ---: |")
            for where in STORES:
                seconds, left = _measure(cluster, where)
                beyond = "" if left is None else f"{left} of {PROCESSES * CALLS}"
                print(f"| {where} | {1_000 * seconds:.2f} | {beyond} |", flush=True)
    return 0


def _measure(cluster: Cluster, where: str) -> tuple[float, int | None]:
    """Return how long one call took, and how many calls the budget still has though all of it was taken."""
    environment = cluster.environment | {"BUDGET_PORT": str(cluster.postgres_port)}
    command = [sys.executable, "-m", "harness.scale_out.shared_budget", where]
    subprocess.run([*command, "begin"], env=environment, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    taking = [
        subprocess.Popen([*command, str(time.time() + 15)], env=environment, cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(PROCESSES)
    ]
    answers = [json.loads(process.communicate()[0].splitlines()[-1]) for process in taking]
    known = [answer["left"] for answer in answers if answer["left"] is not None]
    return max(answer["seconds"] for answer in answers) / CALLS, min(known, default=None)


class AssetStateStore:
    """A budget in Airflow's asset state store: read, count, write."""

    def __init__(self) -> None:
        from airflow._shared.state import AssetScope
        from airflow.state.metastore import MetastoreBackend

        self._store, self._scope = MetastoreBackend(), AssetScope(asset_id=ASSET)

    def begin(self, calls: int) -> None:
        """Fill the budget."""
        self._store.set(self._scope, "remaining", str(calls))

    @property
    def left(self) -> int | None:
        """Calls left."""
        return int(self._store.get(self._scope, "remaining") or 0)

    def take(self) -> None:
        """Take a call."""
        self.begin((self.left or 0) - 1)


class Row:
    """A budget in a row of PostgreSQL: one conditional update."""

    def __init__(self) -> None:
        port = os.environ["BUDGET_PORT"]
        self._connection = psycopg2.connect(host="127.0.0.1", port=port, user="airflow", dbname="postgres")
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()

    def begin(self, calls: int) -> None:
        """Fill the budget."""
        self._cursor.execute("INSERT INTO budget VALUES (1, %s)", (calls,))

    @property
    def left(self) -> int | None:
        """Calls left."""
        self._cursor.execute("SELECT remaining FROM budget")
        return int(self._cursor.fetchall()[0][0])

    def take(self) -> None:
        """Take a call."""
        self._cursor.execute("UPDATE budget SET remaining = remaining - 1 WHERE remaining > 0 RETURNING remaining")


class OwnProcess:
    """The budget that a process keeps for itself."""

    left = None

    def __init__(self) -> None:
        from airflow_provider_voucherify.client.budgets import budgets_of
        from airflow_provider_voucherify.client.rate_limits import Bucket, CallLimit

        self._budgets = budgets_of("https://api.voucherify.io", "app")
        self._own: dict[Bucket, CallLimit | None] = {"api_calls": None, "bulk_api_calls": None}

    def begin(self, calls: int) -> None:
        """Do nothing: its answers tell."""

    def take(self) -> None:
        """Take a call and end it."""
        number = self._budgets.send("bulk_api_calls", self._own, time.time(), patient=True)
        assert isinstance(number, int)
        self._budgets.ended(number, "bulk_api_calls", self._own, time.time(), status=202)


STORES: dict[str, Callable[[], AssetStateStore | Row | OwnProcess]] = {
    "Airflow's asset state store": AssetStateStore,
    "a row of PostgreSQL": Row,
    "the process (today)": OwnProcess,
}


def _take(where: str, start: str) -> None:
    """Fill the budget, or take calls of it from a time on."""
    store = STORES[where]()
    if start == "begin":
        store.begin(PROCESSES * CALLS)
        return
    time.sleep(max(0.0, float(start) - time.time()))
    began = time.monotonic()
    for _ in range(CALLS):
        store.take()
    seconds = time.monotonic() - began
    time.sleep(1)
    print(json.dumps({"seconds": seconds, "left": store.left}))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _take(*sys.argv[1:])
    else:
        sys.exit(main())
