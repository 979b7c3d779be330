"""
Database servers for the tests and benchmarks that need one.

Each has a folder of its own in the system's temporary folder and listens on a free port of 127.0.0.1. It is run by
``nobody`` where the tests are run by root.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PG_CTL = shutil.which("pg_ctl") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), None)
MARIADBD = shutil.which("mariadbd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
USER = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[dict[str, Any]]:
    """
    Start a PostgreSQL server; give its Airflow connection.

    :param durable: whether a commit waits for the disk, as it does outside of tests.
    """
    assert PG_CTL is not None
    with _folder() as folder:
        port = free_port()
        _run(Path(PG_CTL).with_name("initdb"), "-D", f"{folder}/data", "-U", "airflow", "-A", "trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync={durable}"
        _run(PG_CTL, "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield {"conn_type": "postgres", "host": "127.0.0.1", "port": port, "login": "airflow", "schema": "postgres"}
        finally:
            _run(PG_CTL, "-D", f"{folder}/data", "-m", "immediate", "stop")


@contextmanager
def mariadb_server(*, durable: bool = False) -> Iterator[dict[str, Any]]:
    """
    Start a MariaDB server, which speaks the protocol of MySQL; give its Airflow connection.

    :param durable: as ``postgres_server`` has it.
    """
    assert MARIADBD is not None
    with _folder() as folder:
        port, data, ready = free_port(), f"--datadir={folder}/data", folder / "ready.sock"
        first = folder / "first.sql"
        first.write_text(
            "CREATE DATABASE airflow;\nCREATE USER airflow@'127.0.0.1';\n"
            "GRANT ALL ON *.* TO airflow@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        first.chmod(0o644)
        installation = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        _run("mariadb-install-db", "--no-defaults", data, *installation)
        server = subprocess.Popen(
            [MARIADBD, "--no-defaults", data, "--bind-address=127.0.0.1", f"--port={port}", f"--init-file={first}",
             f"--socket={ready}", f"--log-error={folder}/log", f"--pid-file={folder}/pid", "--skip-name-resolve",
             f"--innodb-flush-log-at-trx-commit={int(durable)}"],
            user=USER, cwd="/",
        )  # fmt: skip
        try:
            while server.poll() is None and not ready.exists():
                time.sleep(0.05)
            assert server.poll() is None, (folder / "log").read_text()
            yield {"conn_type": "mysql", "host": "127.0.0.1", "port": port, "login": "airflow", "schema": "airflow"}
        finally:
            server.kill()
            server.wait()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="database-", dir="/tmp"))
    shutil.chown(folder, USER)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, user=USER, stdout=subprocess.DEVNULL, cwd="/")
