"""What the page "Voucherify syncs" is told: what has run, to those alone who may see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import DagRunResult, run_dag
from installed import AIRFLOW

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

pytestmark = pytest.mark.needs_airflow("3.1", "user interfaces of plugins came with it")

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The API server as it is, with what the installed package adds to it."""
    from airflow.api_fastapi.app import create_app, purge_cached_app
    from fastapi.testclient import TestClient

    with patch.dict(os.environ, AIRFLOW__API_AUTH__JWT_SECRET="a secret for tests, " * 4):
        purge_cached_app()
        with TestClient(create_app(apps="core")) as client:
            yield client
        purge_cached_app()


def headers(role: str = "ADMIN", name: str = "somebody") -> dict[str, str]:
    """Sign in."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    manager: Any = get_auth_manager()
    token = manager.generate_jwt(SimpleAuthManagerUser(username=name, role=role))
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def only_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let a viewer see the DAG ``mine`` alone, and of ``without_xcoms`` all but its XComs, as an auth manager with rights
    for each DAG does.
    """
    from airflow.api_fastapi.app import get_auth_manager

    manager: Any = type(get_auth_manager())
    may = manager.is_authorized_dag

    def is_authorized_dag(self: Any, *, method: str, user: Any, access_entity: Any = None, details: Any = None) -> bool:
        allowed = may(self, method=method, user=user, access_entity=access_entity, details=details)
        dag_id = None if details is None else details.id
        is_open = dag_id == "mine" or (dag_id == "without_xcoms" and access_entity is None)
        return allowed and (user.role != "VIEWER" or is_open)

    monkeypatch.setattr(manager, "is_authorized_dag", is_authorized_dag)


def sync(dag_id: str, rows: list[dict[str, Any]], **arguments: Any) -> DagRunResult:
    with DAG(dag_id, schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=rows, **arguments)
    return run_dag(dag)


def syncs_of(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {one["dag_id"]: one for one in answer.json()}


def test_the_list_has_the_last_runs_of_each_sync(api: Any, voucherify: LocalVoucherify) -> None:
    for rows in ([{"source_id": "c1"}], [{"source_id": "c1"}, {"name": HOSTILE}]):
        run = sync("listed", rows, fail_if={"failed": None})

    one = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["listed"]

    assert (one["task_id"], one["map_index"], len(one["runs"])) == ("sync", -1, 2)
    last, before = one["runs"]
    assert (last["run_id"], last["state"]) == (run.dag_run.run_id, "success")
    assert (last["summary"]["rows_read"], last["summary"]["refused"], before["summary"]["created"]) == (2, 1, 1)
    assert "reasons" not in last["summary"], "the list is brief"


def test_a_sync_has_all_that_its_runs_have_returned_and_what_to_do(api: Any, voucherify: LocalVoucherify) -> None:
    run = sync("whole", [{"source_id": "c1"}, {"name": HOSTILE}])
    assert run.state == "failed"

    answer = api.get("/voucherify/api/sync", params={"dag_id": "whole", "task_id": "sync"}, headers=headers())

    (one,) = answer.json()
    assert one["state"] == "failed"
    assert one["summary"]["reasons"] == run.xcom("sync")["reasons"]
    assert any("To do: fix 1 row" in line for line in one["summary"]["what_now"])


def test_a_run_without_a_summary_is_there_without_one(
    api: Any, voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync("no_connection", [{"source_id": "c1"}], voucherify_conn_id="is_not_there")

    one = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["no_connection"]
    assert [(run["state"], run["summary"]) for run in one["runs"]] == [("failed", None)]


def test_a_record_is_told_from_the_tables_of_the_state(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f'{{"conn_type": "sqlite", "host": "{tmp_path}/books.db"}}')
    state = {"conn_id": "books", "keep_values": True}
    for name in ("Ann", HOSTILE):
        sync("recorded", [{"source_id": "c1", "name": name}, {"source_id": "c2"}], state=state)
    of_task = {"dag_id": "recorded", "task_id": "sync", "resource": "customers"}

    known = api.get("/voucherify/api/record", params={**of_task, "record_id": "c1"}, headers=headers()).json()
    nobody = api.get("/voucherify/api/record", params={**of_task, "record_id": "c9"}, headers=headers()).json()

    assert [line["outcome"] for line in known["lines"]] == ["updated", "created"]
    assert HOSTILE in known["lines"][0]["content"]
    assert (known["state"]["outcome"], known["state"]["is_certain"]) == ("updated", True)
    assert nobody == {"state": None, "lines": []}

    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", '{"conn_type": "sqlite", "host": "/nowhere/at.all"}')
    away = api.get("/voucherify/api/record", params={**of_task, "record_id": "c1"}, headers=headers())
    assert (away.status_code, "nowhere" in away.text) == (503, False)


def test_without_tables_it_says_that_nobody_can_tell(api: Any, voucherify: LocalVoucherify, tmp_path: Path) -> None:
    sync("in_a_folder", [{"source_id": "c1"}], state={"path": str(tmp_path)})
    params = {"dag_id": "in_a_folder", "task_id": "sync", "resource": "customers", "record_id": "c1"}

    answer = api.get("/voucherify/api/record", params=params, headers=headers())

    assert (answer.status_code, "not in a database" in answer.json()["detail"]) == (404, True)


PATHS = ["syncs", "sync?dag_id=mine&task_id=sync", "record?dag_id=mine&task_id=sync&resource=customers&record_id=c1"]


@pytest.mark.parametrize("path", PATHS)
def test_nobody_is_told_anything_without_signing_in(api: Any, path: str) -> None:
    for wrong in ({}, {"Authorization": "Bearer nonsense"}):
        answer = api.get(f"/voucherify/api/{path}", headers=wrong)
        assert (answer.status_code, "mine" in answer.text) in {(401, False), (403, False)}


def test_a_viewer_of_one_dag_sees_that_one_alone(api: Any, voucherify: LocalVoucherify, only_mine: None) -> None:
    for dag_id in ("mine", "theirs", "without_xcoms"):
        sync(dag_id, [{"source_id": "c1"}])
    viewer = headers("VIEWER", "viewer")

    listed = syncs_of(api.get("/voucherify/api/syncs", headers=viewer))
    theirs = {"dag_id": "theirs", "task_id": "sync", "resource": "customers", "record_id": "c1"}
    refused = [
        api.get(f"/voucherify/api/{name}", params=theirs, headers=viewer).status_code for name in ("sync", "record")
    ]

    assert set(listed) == {"mine"}
    assert refused == [403, 403]
    assert {"mine", "theirs"} <= set(syncs_of(api.get("/voucherify/api/syncs", headers=headers())))


def test_the_script_of_the_page_is_served_and_names_no_other_host(api: Any) -> None:
    answer = api.get("/voucherify/static/syncs.js")

    assert (answer.status_code, "javascript" in answer.headers["content-type"]) == (200, True)
    assert "innerHTML" not in answer.text
    assert "http://" not in answer.text.replace("https?://", "")
    assert "https://" not in answer.text


@pytest.mark.parametrize("lazy", ["True", "False"])
def test_airflow_lists_the_plugin_once_and_other_components_import_nothing_for_it(lazy: str) -> None:
    script = """
import json, sys
from airflow import plugins_manager
names = [plugin.name for plugin in plugins_manager._get_plugins()[0]]
assert names.count("voucherify_syncs") == 1, names
heavy = [name for name in sys.modules if name.startswith("airflow_provider_voucherify.")]
print(json.dumps(heavy))
"""
    if AIRFLOW < (3, 2):
        script = script.replace("plugins_manager._get_plugins()[0]", "load(plugins_manager)").replace(
            "names =", "def load(manager):\n    manager.ensure_plugins_loaded()\n    return manager.plugins\nnames ="
        )
    environment = {"AIRFLOW__CORE__LAZY_DISCOVER_PROVIDERS": lazy}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    package = "airflow_provider_voucherify"
    of_discovery = {f"{package}.{name}" for name in ("connection", "connection.form", "get_provider_info")}
    if lazy == "True":
        assert set(json.loads(last)) - of_discovery == {f"{package}.plugins", f"{package}.plugins.syncs"}
