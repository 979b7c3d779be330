"""Airflow's API server alone, with its user interface, on the metadata database of the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from standalone import START_SECONDS, wait_until
from surroundings import free_port

PASSWORDS = {"admin": "of the admin", "viewer": "of the viewer"}


@contextmanager
def api_server(folder: Path, path: str = "") -> Iterator[str]:
    """
    Start it and give its base URL.

    :param folder: for its log and passwords.
    :param path: of the base URL, such as ``/airflow``.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}{path}"
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    environment = os.environ | {
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret for tests, " * 4,
        "AIRFLOW__API__SECRET_KEY": "another secret for tests",
        "AIRFLOW__CORE__AUTH_MANAGER": "one_dag_auth.OneDagAuthManager",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    command = [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "api-server.log").open("wb") as log:
        server = psutil.Popen([*command, "--workers", "1"], env=environment, stdout=log, stderr=subprocess.STDOUT)

    def answers() -> bool:
        assert server.poll() is None, (folder / "api-server.log").read_text()[-3000:]
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/api/v2/version").is_success
        return False

    try:
        wait_until(answers, START_SECONDS)
        yield url
    finally:
        processes = [server, *server.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(processes, timeout=10)
        for process in alive:
            process.kill()


def token(url: str, name: str) -> str:
    """Sign in, and return what proves it."""
    answer = httpx.post(f"{url}/auth/token", json={"username": name, "password": PASSWORDS[name]})
    answer.raise_for_status()
    return str(answer.json()["access_token"])
