"""What came of the syncs: asked of Airflow and the local Voucherify, judged, and written down."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from harness.cluster import Cluster

DAG_ID, MAPPED_TASK, LAST_TASK = "partitioned_sync", "sync_partition", "add_up"

PERIOD = 10.0
"""Seconds of the local Voucherify's rate limit."""

HEARTBEAT_TIMEOUT = 20
"""Seconds without a sign of life after which Airflow takes a task for dead."""


@dataclass(frozen=True)
class Size:
    """
    How much is synced, and against what limit.

    :param rows: customers in the table.
    :param batch_records: most customers in a request.
    :param bulk_calls: bulk calls that the local Voucherify takes in each period.
    """

    rows: int
    batch_records: int
    bulk_calls: int


@dataclass(frozen=True)
class Case:
    """One sync: the workers it has, and whether one of them is killed."""

    workers: int
    killed: bool = False

    @property
    def run_id(self) -> str:
        """The id of its DAG run."""
        return f"{self.workers}-workers{'-one-killed' if self.killed else ''}"

    def __str__(self) -> str:
        return f"{self.workers}, one killed" if self.killed else str(self.workers)


@dataclass(frozen=True)
class Result:
    """
    What came of a sync.

    :param seconds: from the start of the DAG run to its end.
    :param arrived: customers that Voucherify has.
    :param taken: customers in all bulk requests that Voucherify has taken.
    :param bulk_calls: bulk requests that were taken.
    :param refused_calls: requests that were answered 429.
    :param processes: tries of tasks, each of which learns of the limit anew.
    :param retried: tasks that needed a second try.
    :param cores_busy: how many cores were at work, on average, whoever's work it was.
    :param totals: what the last task added up, empty if it did not run.
    """

    case: Case
    state: str
    seconds: float
    arrived: int
    taken: int
    bulk_calls: int
    refused_calls: int
    processes: int
    retried: int
    cores_busy: float
    totals: dict[str, int]

    @classmethod
    def of(cls, case: Case, cluster: Cluster, server: LocalVoucherify, cores_busy: float) -> Result:
        """Ask Airflow and the local Voucherify."""
        [(state, seconds)] = cluster.query(
            "SELECT state, extract(epoch FROM end_date - start_date) FROM dag_run WHERE run_id = %s", case.run_id
        )
        tries = [
            number
            for (number,) in cluster.query(
                "SELECT try_number FROM task_instance WHERE run_id = %s AND task_id = %s", case.run_id, MAPPED_TASK
            )
        ]
        totals = cluster.query(
            "SELECT value FROM xcom WHERE run_id = %s AND task_id = %s AND key = 'return_value'", case.run_id, LAST_TASK
        )
        actions = server.actions.values()
        return cls(
            case,
            state=state,
            seconds=float(seconds),
            arrived=len(server.customers),
            taken=sum(action.record_count for action in actions),
            bulk_calls=len(actions),
            refused_calls=sum(request.status == 429 for request in server.received),
            processes=sum(tries),
            retried=sum(number > 1 for number in tries),
            cores_busy=cores_busy,
            totals=totals[0][0] if totals else {},
        )

    @property
    def resubmitted(self) -> int:
        """Bulk requests that were sent again since it could not be found out whether Voucherify had them."""
        return self.totals.get("resubmitted", 0)

    @property
    def of_killed_try(self) -> int:
        """Bulk requests that a killed try had sent; those of the last tries are in their summaries."""
        return self.bulk_calls - self.totals.get("requests", 0)

    def refused_at_most(self) -> int:
        """Return how many calls may be refused: one for each worker in each period, and one for each new process."""
        return self.case.workers * int(self.seconds / PERIOD + 1) + self.processes

    def problems(self, size: Size) -> list[str]:
        """Say what is not as it should be."""
        repeated = self.taken - self.arrived
        checks = {
            f"the DAG run is {self.state}": self.state == "success",
            f"{self.arrived:,} customers arrived, not {size.rows:,}": self.arrived == size.rows,
            f"{repeated:,} customers were taken twice": 0 <= repeated <= self.resubmitted * size.batch_records,
            f"the tasks say {self.totals}": self.totals.get("succeeded") == size.rows,
            f"{self.refused_calls} calls were refused": self.refused_calls <= self.refused_at_most(),
            f"the killed try had sent {self.of_killed_try} calls": (self.of_killed_try > 0) == self.case.killed,
            f"{self.retried} tasks were retried": self.retried == int(self.case.killed),
        }
        return [problem for problem, fine in checks.items() if not fine]


PAGE = """# Scale-out

The example [`partitioned_sync.py`](../dags_examples/partitioned_sync.py) fans one sync out: eight mapped tasks, each
with the customers of one hash partition. `make scale-out` runs it on Airflow {airflow} with the CeleryExecutor (Celery
{celery}), PostgreSQL and Redis: on one worker, on two, and on two of which one is killed with SIGKILL while Voucherify
works on one of its requests. Every worker has one process for tasks.

{rows:,} customers in PostgreSQL, {batch:,} in a request. The local Voucherify takes {calls} bulk calls in {period:g} s,
together from all workers, and answers 429 to more. What `{command}` printed on {date}, on {cores} cores:

| workers | seconds | rows/s | cores busy | calls | 429s | at most | arrived | twice | by the killed | resubmitted |
|---|---|---|---|---|---|---|---|---|---|---|
{table}

{gain}The rate limit alone makes this sync last {fastest:.0f} s, however many workers there are.

- Seconds are those of the DAG run. Workers, PostgreSQL, Airflow and the local Voucherify ran on the same cores: "cores
  busy" says how many of the {cores} were at work on average, so how much was left for a second worker to gain. Workers
  on machines of their own have more.
- "Calls" are bulk calls that were taken, "429s" those that were refused. "At most" is what the run allows: a process
  knows what the others have sent only from its own next answer, so one call for each worker in each period, and one
  for each process.
- "Twice" are customers that came in two calls. "By the killed" are calls that the killed task had sent, which its
  retry does not send again; "resubmitted" those whose answer was lost, which the retry sends again.
- Airflow notices the killed worker when its task has given no sign of life for {timeout} s (`[scheduler]
  task_instance_heartbeat_timeout`). The worker is not started again: the other one does the rest alone.
"""


def page_of(size: Size, results: list[Result], command: str) -> str:
    """Return the page with the table of all runs."""
    lines = [
        f"| {result.case} | {result.seconds:.0f} | {size.rows / result.seconds:,.0f}"
        f" | {result.cores_busy:.1f} | {result.bulk_calls}"
        f" | {result.refused_calls} | {result.refused_at_most()} | {result.arrived:,}"
        f" | {result.taken - result.arrived:,} | {result.of_killed_try} | {result.resubmitted} |"
        for result in results
    ]
    seconds = {result.case: result.seconds for result in results}
    one, two = seconds.get(Case(1)), seconds.get(Case(2))
    return PAGE.format(
        airflow=version("apache-airflow"),
        celery=version("celery"),
        rows=size.rows,
        batch=size.batch_records,
        calls=size.bulk_calls,
        period=PERIOD,
        command=command,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        cores=os.cpu_count(),
        table="\n".join(lines),
        gain=f"Two workers took {two / one:.2f} of the time of one. " if one and two else "",
        fastest=size.rows / size.batch_records / size.bulk_calls * PERIOD,
        timeout=HEARTBEAT_TIMEOUT,
    )
