"""The demo's DAG on a real scheduler and triggerer: it is deferred, it succeeds, and nothing is sent twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from example_dags import EXAMPLES
from standalone import Standalone, wait_until

from airflow_provider_voucherify import __version__
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from harness.demo import warehouse

pytestmark = pytest.mark.cluster

DAG_ID = "demo_nightly_sync"
BATCHES = 4
ACTION_SECONDS = 7
"""Four of them take 28 s: well beyond the seconds for which a task looks from its worker before it is deferred."""


def test_the_demo_is_deferred_and_succeeds(tmp_path: Path) -> None:
    (tmp_path / "dags").mkdir()
    shutil.copy(EXAMPLES / f"{DAG_ID}.py", tmp_path / "dags")
    rows = warehouse.build(tmp_path / "warehouse.sqlite")
    options = {"action_seconds": ACTION_SECONDS, "metadata_schemas": warehouse.METADATA_SCHEMAS}
    with LocalVoucherify(**options) as voucherify, Standalone(tmp_path, _connections(voucherify, tmp_path)) as airflow:
        listed = {provider["package_name"] for provider in json.loads(airflow.cli("providers", "list", "-o", "json"))}
        assert "airflow-provider-voucherify" in listed
        (provider,) = json.loads(airflow.cli("providers", "get", "airflow-provider-voucherify", "-o", "json"))
        assert provider["Version"] == __version__
        airflow.wait_for_dag(DAG_ID)

        airflow.cli("dags", "trigger", DAG_ID)

        state = "SELECT state FROM task_instance WHERE task_id = 'wait_for_voucherify'"
        wait_until(lambda: airflow.rows(state) == [("deferred",)], 90)
        triggers = airflow.rows("SELECT classpath FROM trigger")
        assert triggers == [("airflow_provider_voucherify.triggers.async_action.VoucherifyAsyncActionTrigger",)]
        wait_until(lambda: airflow.rows("SELECT state FROM dag_run") in ([("success",)], [("failed",)]), 120)

        assert airflow.rows("SELECT task_id, state, try_number FROM task_instance ORDER BY end_date") == [
            ("sync_customers", "success", 1),
            ("wait_for_voucherify", "success", 1),
            ("alert", "success", 1),
        ]
        sent, arrived = (
            json.loads(airflow.rows("SELECT value FROM xcom WHERE task_id = ? AND key = 'return_value'", task)[0][0])
            for task in ("sync_customers", "wait_for_voucherify")
        )
        assert (sent["rows_read"], sent["refused"], sent["superseded"]) == (rows, 6, 5)
        assert (arrived["created"], arrived["updated"], arrived["failed"]) == (warehouse.CUSTOMERS, 0, 6)
        assert len(voucherify.requests("POST", "/v1/customers/bulk/async")) == BATCHES == len(voucherify.actions)
        assert len(voucherify.customers) == warehouse.CUSTOMERS


def _connections(voucherify: LocalVoucherify, folder: Path) -> dict[str, str]:
    keys = {"login": voucherify.options.app_id, "password": voucherify.options.secret_key}
    return {
        "AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps({"conn_type": "voucherify", "host": voucherify.base_url, **keys}),
        "AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(folder / "warehouse.sqlite")}),
        "AIRFLOW_VAR_VOUCHERIFY_REPORTS": str(folder / "reports"),
    }
