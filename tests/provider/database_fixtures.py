"""Fixtures of database servers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import database_servers
import pytest

from airflow_provider_voucherify.sync.state.record_state import RecordState
from airflow_provider_voucherify.warehouse.state_table import StateTable


def connection_of(request: pytest.FixtureRequest, folder: Path) -> str:
    """Return the connection, as JSON, of the database that a fixture's parameter names: a file, or a server."""
    if request.param == "duckdb":
        pytest.importorskip("duckdb_provider", reason="airflow-provider-duckdb is not installed")
    if request.param in ("sqlite", "duckdb"):
        return json.dumps({"conn_type": request.param, "host": str(folder / f"books.{request.param}")})
    server: str = request.getfixturevalue(request.param)
    return server


def states_in(table: StateTable) -> list[RecordState]:
    """Return the state of every record that a table gives, without its content."""
    return [RecordState(*state) for columns in table.states() for state in zip(*columns, strict=True)]


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
