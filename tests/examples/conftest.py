"""Fixtures of the example DAGs."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from surroundings import always_defer_at_once, fill_warehouse, mailbox, reports, slack

from harness.cluster import free_port, postgres, postgres_programs

__all__ = ["always_defer_at_once", "fill_warehouse", "mailbox", "reports", "slack"]


@pytest.fixture
def postgres_warehouse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a connection to a PostgreSQL of its own, to which the connection ``warehouse`` leads."""
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed on this machine")
    folder, port = Path(tempfile.mkdtemp()), free_port()
    folder.chmod(0o755)
    server = {"host": "127.0.0.1", "port": port}
    connection = {**server, "conn_type": "postgres", "login": "airflow", "schema": "postgres"}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
    try:
        with postgres(folder, port), closing(psycopg2.connect(**server, user="airflow", dbname="postgres")) as opened:
            opened.autocommit = True
            yield opened
    finally:
        shutil.rmtree(folder)
