"""Fixtures of all tests. Airflow reads its configuration when it is first imported, so its home is set here, before."""

from __future__ import annotations

import os
import tempfile

_HOME = tempfile.mkdtemp(prefix="airflow-home-")
os.environ.update(
    AIRFLOW_HOME=_HOME,
    AIRFLOW__CORE__UNIT_TEST_MODE="True",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DAGS_FOLDER=os.path.join(_HOME, "dags"),
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_HOME}/airflow.db",
    AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL="0",
)

import shutil  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import openapi  # noqa: E402
import pytest  # noqa: E402

from airflow_provider_voucherify.local_voucherify import LocalVoucherify  # noqa: E402

APP_ID = "app-0c5547cc5e17"
SECRET_KEY = "secret-f7e4-8d21-do-not-print"


def pytest_sessionfinish() -> None:
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests look at async actions more often than a second apart."""
    from airflow_provider_voucherify.sync import waiting

    monkeypatch.setattr(waiting, "SHORTEST_PAUSE", 0.01)


@pytest.fixture
def voucherify(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVoucherify]:
    """
    A local Voucherify, with the connection ``voucherify_default`` leading to it.

    Afterwards every request that it received is checked against the vendor's API description, where that is at hand.
    """
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, keep_bodies=True) as server:
        connect(monkeypatch, server)
        yield server
        if openapi.openapi_available():
            openapi.assert_valid_requests(server.received)


def connect(monkeypatch: pytest.MonkeyPatch, server: LocalVoucherify, **extra: object) -> None:
    """Make ``voucherify_default`` lead to a server; tests look at actions every 0.02 s."""
    import json

    connection = {
        "conn_type": "voucherify",
        "host": server.base_url,
        "login": APP_ID,
        "password": SECRET_KEY,
        "extra": {"poll_interval": 0.02, **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json.dumps(connection))
