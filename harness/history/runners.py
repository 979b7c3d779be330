"""Two ways of running the task ``sync`` of a DAG: Airflow's, and one that takes no time."""

from __future__ import annotations

import sys
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_voucherify.compat import AirflowFailException
from harness import ROOT
from harness.faults.task import Store, TaskInstance, forget_processes


class AirflowRunner:
    """Runs it with ``dag.test()``, as the tests do."""

    def __init__(self) -> None:
        sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "provider")]
        self._runs: dict[str, Any] = {}

    def run(self, dag: DAG, logical_date: datetime) -> None:
        """Run it once."""
        from dags import run_dag

        self._runs[dag.dag_id] = run_dag(dag, logical_date=logical_date)

    def clear(self, dag: DAG) -> None:
        """Clear its last run, and let it run again."""
        from dags import clear_and_run

        clear_and_run(dag, self._runs[dag.dag_id])


class QuickRunner:
    """Runs it with as little of Airflow around it as it needs, since ``dag.test()`` takes seconds for each run."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}

    def run(self, dag: DAG, logical_date: datetime) -> None:
        """Run it once."""
        self._runs[dag.dag_id] = _Run(dag, logical_date)
        self._runs[dag.dag_id].go_on(dag)

    def clear(self, dag: DAG) -> None:
        """Clear its last run, and let it run again."""
        run = self._runs[dag.dag_id]
        run.dag_run.clear_number += 1
        run.go_on(dag)


class _Run:
    """A run of a DAG, and what Airflow remembers of its task."""

    def __init__(self, dag: DAG, logical_date: datetime) -> None:
        run_id = f"manual__{logical_date.isoformat()}"
        self.dag_run = SimpleNamespace(run_id=run_id, run_type="manual", logical_date=logical_date, clear_number=0)
        self._instance = TaskInstance(0, dag_id=dag.dag_id, run_id=run_id)
        self._store = Store()

    def go_on(self, dag: DAG) -> None:
        """Run tries until one succeeds, or no more are allowed."""
        task: Any = dag.get_task("sync")
        instance = self._instance
        instance.max_tries = instance.try_number - 1 + task.retries
        while instance.try_number <= instance.max_tries + 1:
            forget_processes()
            context = {"ti": instance, "dag": dag, "dag_run": self.dag_run, "task_state_store": self._store}
            try:
                task.execute(context)
                error = None
            except Exception as failure:
                error = failure
            instance.try_number += 1
            if error is None or isinstance(error, AirflowFailException):
                break
