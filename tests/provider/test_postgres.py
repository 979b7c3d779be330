"""PostgreSQL: the driver would fetch the whole result at once; we do not let it."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pytest

from airflow_provider_voucherify.hooks.warehouse import query
from airflow_provider_voucherify.sync.sources import Chunk

PG_CTL = shutil.which("pg_ctl") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), None)

pytestmark = pytest.mark.skipif(PG_CTL is None, reason="PostgreSQL is not installed on this machine")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own, on a free port of 127.0.0.1; run by ``nobody`` where the tests are run by root."""
    assert PG_CTL is not None
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    shutil.chown(folder, user)

    def run(*command: str) -> None:
        subprocess.run(command, check=True, user=user, stdout=subprocess.DEVNULL, cwd="/")

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run(str(Path(PG_CTL).with_name("initdb")), "-D", f"{folder}/data", "-U", "airflow", "-A", "trust")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run(PG_CTL, "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
    try:
        yield json.dumps(
            {"conn_type": "postgres", "host": "127.0.0.1", "port": port, "login": "airflow", "schema": "postgres"}
        )
    finally:
        run(PG_CTL, "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _warehouse(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PG", postgres)


def resident_mb() -> float:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def test_a_large_result_is_streamed() -> None:
    before = resident_mb()

    with query("pg", "SELECT i, repeat('x', 200) FROM generate_series(1, %(n)s) i", {"n": 1_000_000}) as rows:
        read = [chunk.rows[0][0] for chunk in islice(rows, 50) if isinstance(chunk, Chunk)]

    assert read[:3] == [1, 1001, 2001]
    assert resident_mb() - before < 40, "a client-side cursor would hold some 250 MB"


def test_columns_are_known_even_without_rows() -> None:
    with query("pg", "SELECT 1 AS source_id, 2.50 AS price WHERE false") as rows:
        assert list(rows) == []


def test_values_keep_their_types() -> None:
    with query("pg", "SELECT 1.50::numeric AS price, DATE '2026-01-02' AS day, NULL AS nothing") as rows:
        [chunk] = list(rows)

    assert isinstance(chunk, Chunk)
    assert chunk.columns == ("price", "day", "nothing")
    assert chunk.rows[0][0] == Decimal("1.50")
    assert chunk.rows[0][2] is None
