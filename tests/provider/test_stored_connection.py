"""A connection in Airflow's database: the worker and the trigger find it, in ``airflow dags test`` too."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from airflow.models import Connection
from airflow.providers.common.compat.sdk import DAG
from airflow.utils.session import create_session
from dags import run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator


@pytest.fixture
def stored(voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The id of a connection that is in the database, and not in the environment."""
    run_dag(DAG("makes_the_database", schedule=None))
    connection = Connection(conn_id="voucherify_stored", **_parts(os.environ["AIRFLOW_CONN_VOUCHERIFY_DEFAULT"]))
    monkeypatch.delenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT")
    with create_session() as session:
        session.add(connection)
    yield "voucherify_stored"
    with create_session() as session:
        session.query(Connection).filter_by(conn_id="voucherify_stored").delete()


def _parts(json: str) -> dict[str, object]:
    given = Connection.from_json(json)
    return {name: getattr(given, name) for name in ("conn_type", "host", "login", "password", "port", "extra")}


def test_a_deferred_task_finds_it(voucherify: LocalVoucherify, stored: str, defer_at_once: None) -> None:
    with DAG("stored_connection", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c1"}],
            voucherify_conn_id=stored,
            deferrable=True,
        )

    run = run_dag(dag)

    assert (run.state, run.deferred_tasks()) == ("success", {"sync"})
    assert list(voucherify.customers) == ["c1"]
