"""Database servers and an object store for the tests that need one."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import database_servers
import object_store
import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Give the connection, as JSON, of a PostgreSQL server of its own."""
    if database_servers.PG_CTL is None:
        pytest.skip("PostgreSQL is not installed on this machine")
    with database_servers.postgres_server() as connection:
        yield json.dumps(connection)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[str]:
    """Give the connection, as JSON, of a MariaDB server of its own."""
    if database_servers.MARIADBD is None:
        pytest.skip("MariaDB is not installed on this machine")
    if importlib.util.find_spec("airflow.providers.mysql") is None:
        pytest.skip("Airflow's MySQL provider is not installed (make test-drivers does it)")
    with database_servers.mariadb_server() as connection:
        yield json.dumps(connection)


@pytest.fixture(scope="session")
def s3() -> Iterator[object_store.S3]:
    """Give an S3 server."""
    with object_store.s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: object_store.S3) -> str:
    """Give the URI of a bucket of its own, e.g. ``s3://lake@bucket-1``."""
    return s3.bucket()


@pytest.fixture
def growth_mb() -> Callable[[], float]:
    """Give a function that returns by how many MB this process's memory has grown since the test began."""
    before = _resident_mb()
    return lambda: _resident_mb() - before


def _resident_mb() -> float:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
