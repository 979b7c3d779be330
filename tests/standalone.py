"""``airflow standalone``: scheduler, triggerer, dag processor and API server, with a fresh home."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from surroundings import free_port

START_SECONDS = 120


class Standalone:
    """
    As a context manager: all components run, and none is left afterwards.

    :param home: becomes ``AIRFLOW_HOME``; its folder ``dags`` has the DAGs.
    :param environment: connections, variables and settings.
    """

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.log = home / "standalone.log"
        self._database = home / "airflow.db"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self._environment = inherited | environment
        self._environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self._database}",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        }

    def __enter__(self) -> Standalone:
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "airflow", "standalone"]
            self._process = psutil.Popen(command, env=self._environment, stdout=log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *_: object) -> None:
        """End the process tree, one by one: background processes of Airflow ignore SIGINT."""
        processes = [self._process, *self._process.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=10)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=10)

    def cli(self, *arguments: str) -> str:
        """Run a command of Airflow's CLI and return what it prints."""
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Query Airflow's metadata database; nothing while it is not there yet."""
        try:
            with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
                return database.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError:
            return []

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until scheduler and triggerer are alive and the dag processor has found a DAG."""
        alive = "SELECT 1 FROM job WHERE job_type IN ('SchedulerJob', 'TriggererJob') AND state = 'running'"
        found = "SELECT 1 FROM dag WHERE dag_id = ?"
        wait_until(lambda: len(self.rows(alive)) == 2 and bool(self.rows(found, dag_id)), START_SECONDS)

    def wait_for_api(self) -> None:
        """Wait until the API server, which also serves the user interface, answers."""

        def answers() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/api/v2/version").is_success
            return False

        wait_until(answers, START_SECONDS)


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.2)
