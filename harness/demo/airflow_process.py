"""Airflow in a process of its own, with its home and log in a folder, watched through its metadata database."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.2
LOG_LINES = 40

TASK_STATES = """
    SELECT task_id, CASE WHEN state = 'queued' AND next_method IS NOT NULL THEN 'deferred' ELSE state END
    FROM task_instance ORDER BY start_date
"""
"""``airflow dags test`` runs a deferred task's trigger itself and calls the task queued meanwhile."""


class Airflow:
    """
    An Airflow installation with a database of its own.

    :param folder: gets ``airflow`` (the home) and ``airflow.log``.
    :param dags_folder: where the DAGs are.
    :param environment: connections and variables, as ``AIRFLOW_CONN_…`` and ``AIRFLOW_VAR_…``.
    """

    def __init__(self, folder: Path, dags_folder: Path, environment: dict[str, str]) -> None:
        self._log = folder / "airflow.log"
        self.database = folder / "airflow" / "airflow.db"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self._environment = inherited | environment
        self._environment |= {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
        }

    def migrate(self) -> None:
        """Make the metadata database."""
        with self._started("db", "migrate") as process:
            if process.wait() != 0:
                raise SystemExit(f"Airflow's database could not be made:\n{self.log_tail()}")

    @contextmanager
    def running(self, dag_id: str) -> Iterator[DagRun]:
        """Run a DAG once; see ``DagRun.state_changes`` for how to follow it."""
        with self._started("dags", "test", dag_id) as process:
            try:
                yield DagRun(process, self.database)
            finally:
                process.kill()

    def log_tail(self) -> str:
        """Return the last lines that Airflow logged."""
        return "\n".join(self._log.read_text(encoding="utf-8").splitlines()[-LOG_LINES:])

    def _started(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "airflow", *arguments]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=subprocess.STDOUT)


class DagRun:
    """
    A DAG run in progress, and its results afterwards.

    :param process: runs it, and ends with it.
    :param database: Airflow's metadata database, which is only read.
    """

    def __init__(self, process: subprocess.Popen[bytes], database: Path) -> None:
        self._process = process
        self._database = database

    def state_changes(self) -> Iterator[tuple[str, str]]:
        """Give a task and its new state whenever one changes, until the run has ended."""
        shown: dict[str, str] = {}
        ended = False
        while not ended:
            ended = self._process.poll() is not None
            for task, state in self._query(TASK_STATES):
                if state and shown.get(task) != state:
                    shown[task] = state
                    yield task, state
            time.sleep(0 if ended else LOOK_SECONDS)

    @property
    def succeeded(self) -> bool:
        """Whether the run has ended well."""
        return self._query("SELECT state FROM dag_run") == [("success",)]

    def result(self, task: str) -> dict[str, Any]:
        """Return what a task returned."""
        ((value,),) = self._query("SELECT value FROM xcom WHERE task_id = ? AND key = 'return_value'", task)
        result: dict[str, Any] = json.loads(value)
        return result

    def _query(self, sql: str, *parameters: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
            return database.execute(sql, parameters).fetchall()
