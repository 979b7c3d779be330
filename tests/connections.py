"""The Airflow connection that leads to a local Voucherify."""

from __future__ import annotations

import json

import pytest

from airflow_provider_voucherify.local_voucherify import LocalVoucherify

APP_ID = "app-0c5547cc5e17"
SECRET_KEY = "secret-f7e4-8d21-do-not-print"


def connect(monkeypatch: pytest.MonkeyPatch, server: LocalVoucherify, **extra: object) -> None:
    """Make ``voucherify_default`` lead to a server; tests look at actions every 0.02 s."""
    connection = {
        "conn_type": "voucherify",
        "host": server.base_url,
        "login": APP_ID,
        "password": SECRET_KEY,
        "extra": {"poll_interval": 0.02, **extra},
    }
    monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json.dumps(connection))
