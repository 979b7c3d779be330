"""A real Airflow on PostgreSQL, each component a process of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg2
from psycopg2.extras import execute_batch

COMPONENTS = ("api-server", "dag-processor", "scheduler", "triggerer")


def postgres_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, None where it is not installed."""
    found = shutil.which("pg_ctl")
    if found is not None:
        return Path(found).parent
    return next((path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), None)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def postgres(folder: Path, port: int) -> Iterator[Callable[[], None]]:
    """
    Run PostgreSQL, which refuses to be root, with the superuser ``airflow`` and its data in a folder.

    Gives a function that restarts it as after a crash: every connection breaks, and what was committed is there.
    """
    programs = postgres_programs()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    data = folder / "postgres"
    data.mkdir()
    shutil.chown(data, user)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", f"{data}/data", *arguments]
        subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL)

    run("initdb", "-U", "airflow", "-A", "trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data}"
    run("pg_ctl", "-o", options, "-l", f"{data}/log", "-w", "start")
    try:
        yield lambda: run("pg_ctl", "-m", "immediate", "-l", f"{data}/log", "-w", "restart")
    finally:
        run("pg_ctl", "-m", "immediate", "stop")


class Cluster:
    """
    Airflow's components, each of which can be killed and started again.

    :param folder: for the home, the database and the logs.
    :param dags_folder: where the DAGs are.
    :param environment: connections and configuration.
    """

    def __init__(self, folder: Path, dags_folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self.postgres_port, api_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{api_port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._orphans: list[psutil.Process] = []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
        self.environment = inherited | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": (
                f"postgresql+psycopg2://airflow@127.0.0.1:{self.postgres_port}/postgres"
            ),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "6",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(api_port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-this-run-of-the-crash-test-0123456789",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            **environment,
        }

    @contextmanager
    def running(self, components: Sequence[str] = COMPONENTS) -> Iterator[Cluster]:
        """Run the database and some components, by default all, and end everything by pid afterwards."""
        with ExitStack() as stack:
            self.restart_database = stack.enter_context(postgres(self._folder, self.postgres_port))
            self.airflow("db", "migrate")
            stack.callback(self._kill_all)
            for component in components:
                self.start(component)
            yield self

    def start(self, component: str, *command: str) -> None:
        """Start a component: the Airflow command of that name, or another command under that name."""
        with self.log_of(component).open("ab") as log:
            self._processes[component] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *(command or (component,))],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, component: str) -> None:
        """SIGKILL a component and all its processes, of which tasks have a process group of their own."""
        process = self._processes.pop(component)
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            children = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, signal.SIGKILL)
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.wait()

    def kill_alone(self, component: str) -> None:
        """SIGKILL a component and none of its processes, which live on as orphans."""
        process = self._processes.pop(component)
        self._orphans += psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()

    def restart_what_has_ended(self) -> None:
        """
        Start components again that have ended by themselves, as systemd or Kubernetes does.

        A scheduler that meets its database in the moment of a restart ends with an error.
        """
        for component in [name for name, process in self._processes.items() if process.poll() is not None]:
            print(f"{component} has ended by itself and is started again", file=sys.stderr)
            self._orphans += _processes_of_group(self._processes.pop(component).pid)
            self.start(component)

    def wait_for_api(self) -> None:
        """Wait until the API server answers."""
        for _ in range(240):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/api/v2/version").is_success:
                    return
            time.sleep(0.5)
        raise SystemExit(f"the API server does not answer; see {self._folder}")

    def log_of(self, component: str) -> Path:
        """Return the file that a component writes its log into."""
        return self._folder / f"{component}.log"

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
        """Start a DAG run; waits until the DAG is known."""
        self._ask(f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})

    def clear(self, dag_id: str, run_id: str) -> None:
        """Clear all tasks of a run, as a person does to have it done again."""
        self._ask(
            f"dags/{dag_id}/clearTaskInstances",
            {"dag_run_id": run_id, "dry_run": False, "only_failed": False, "reset_dag_runs": True},
        )

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Ask Airflow's metadata database."""
        connection = psycopg2.connect(host="127.0.0.1", port=self.postgres_port, user="airflow", dbname="postgres")
        with contextlib.closing(connection), connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows

    def execute(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement in Airflow's metadata database for each row of parameters."""
        connection = psycopg2.connect(host="127.0.0.1", port=self.postgres_port, user="airflow", dbname="postgres")
        with contextlib.closing(connection), connection, connection.cursor() as cursor:
            execute_batch(cursor, sql, rows)

    def _ask(self, path: str, body: dict[str, Any]) -> None:
        """Post until it is taken; a conflict says that it was, though the answer to an earlier post did not come."""
        for _ in range(120):
            with contextlib.suppress(httpx.TransportError):
                token = httpx.get(f"{self.url}/auth/token").json().get("access_token")
                headers = {"Authorization": f"Bearer {token}"}
                answer = httpx.post(f"{self.url}/api/v2/{path}", headers=headers, json=body, timeout=60)
                if answer.is_success or answer.status_code == httpx.codes.CONFLICT:
                    return
            time.sleep(1)
        raise SystemExit(f"{path} was refused; see {self._folder}")

    def airflow(self, *arguments: str) -> None:
        """Run a command of Airflow's CLI."""
        with (self._folder / "commands.log").open("ab") as log:
            command = [sys.executable, "-m", "airflow", *arguments]
            subprocess.run(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, check=True)

    def _kill_all(self) -> None:
        for component in list(self._processes):
            self.kill(component)
        for orphan in self._orphans:
            with contextlib.suppress(psutil.NoSuchProcess):
                orphan.kill()


def _processes_of_group(group: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == group:
                found.append(process)
    return found
