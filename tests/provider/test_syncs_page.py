"""What the page "Voucherify syncs" is told: what has run, to those alone who may see it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import pytest
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.providers.common.compat.sdk import DAG, Asset
from airflow.utils.session import create_session
from dags import DagRunResult, clear_and_run, run_dag
from installed import AIRFLOW

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.reconcile import VoucherifyReconcileOperator

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
    return {one["dag_id"]: one for one in answer.json()["syncs"]}


def run_page(api: Any, run: DagRunResult, part: str = "run", **more: Any) -> dict[str, Any]:
    """Return what the page of a run is told."""
    place = {"dag_id": run.dag_run.dag_id, "task_id": "sync", "run_id": run.dag_run.run_id}
    answer = api.get(f"/voucherify/api/{part}", params={**place, **more}, headers=headers())
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_the_list_has_the_last_runs_of_each_sync(api: Any, voucherify: LocalVoucherify) -> None:
    for rows in ([{"source_id": "c1"}], [{"source_id": "c1"}, {"name": HOSTILE}]):
        run = sync("listed", rows, fail_if={"failed": None})

    one = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["listed"]

    assert (one["task_id"], one["attention"]) == ("sync", [3, 0])
    last = one["last"]
    assert (last["run_id"], last["state"], one["resources"]) == (run.dag_run.run_id, "success", ["customers"])
    assert (last["parts"], last["reasons"]) == ({"updated": 1, "refused": 1}, {"missing_key": 1})
    assert "summary" not in last, "the list is brief"


def test_a_sync_has_the_parts_of_each_of_its_runs(api: Any, voucherify: LocalVoucherify) -> None:
    for rows in ([{"source_id": "c1"}], [{"source_id": "c1"}, {"source_id": "c1"}]):
        sync("parts_of_runs", rows)

    answer = api.get("/voucherify/api/sync", params={"dag_id": "parts_of_runs", "task_id": "sync"}, headers=headers())

    runs = answer.json()["runs"]
    assert [one["parts"] for one in runs] == [{"updated": 1, "superseded": 1}, {"created": 1}]
    assert [one["attention"] for one in runs] == [2, 0], "one has a warning"


def test_a_sync_that_was_not_waited_for_has_its_rows_queued(api: Any, voucherify: LocalVoucherify) -> None:
    sync("queued", [{"source_id": "c1"}], wait_for_completion=False)

    one = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["queued"]
    assert one["last"]["parts"] == {"queued": 1}


def test_a_run_has_its_whole_summary_what_it_means_and_what_to_do(api: Any, voucherify: LocalVoucherify) -> None:
    run = sync("whole", [{"source_id": "c1"}, {"name": HOSTILE}])
    assert run.state == "failed"

    told = run_page(api, run)

    assert (told["instance"]["state"], told["instances"]) == ("failed", [])
    assert told["summary"]["reasons"] == run.xcom("sync")["reasons"]
    assert ["rows_read", "2", "rows of the source; None for a sensor, which does not read it."] in told["numbers"]
    texts = [text for text, _ in told["next_steps"]]
    assert any("To do: fix 1 row" in text for text in texts)
    assert any("clear the task in Airflow" in text for text in texts)


def test_a_drift_report_shows_what_differs_and_tells_nobody_to_send_again(
    api: Any, voucherify: LocalVoucherify
) -> None:
    sync("before_the_report", [{"source_id": "c1", "name": "Ann"}, {"source_id": "c2", "name": "Bo"}])
    with DAG("drifted", schedule=None) as dag:
        rows = [{"source_id": "c1", "name": "Ann"}, {"source_id": "c2", "name": HOSTILE}, {"source_id": "c3"}]
        VoucherifyReconcileOperator(
            task_id="sync", resource="customers", records=rows, fail_if={"differing": 1, "failed": None}
        )
    run = run_dag(dag)

    told = run_page(api, run)

    assert told["instance"]["parts"] == {"verified": 1, "differing": 1, "missing": 1}
    assert told["differences"] == [["c2", "differing", "name", "Bo", HOSTILE], ["c3", "missing", "", "", ""]]
    assert told["read_back"] == "At Voucherify: 1 as in the source, 1 different, 1 missing"
    assert not [name for name, *_ in told["numbers"] if name == "preview"]
    assert told["next_steps"] == [
        ["Send what is different or missing, and nothing else: run the task with", "repair=True"],
        ["Run it again: clear the task in Airflow; it compares anew, and sends nothing", None],
    ]
    assert syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["drifted"]["attention"] == [4]


@pytest.mark.parametrize("limits", [{}, {"fail_if": {"differing": None}, "warn_if": {"differing": 0}}], ids=str)
def test_a_run_shows_what_was_read_back_and_that_it_needs_attention(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, limits: dict[str, Any]
) -> None:
    state = {"path": f"{tmp_path}/state", "outcomes": "jsonl"}
    sync("read_back", [{"source_id": "c1", "name": "Ann"}], state=state)
    voucherify.next_actions(applies_records=False)
    rows = [{"source_id": "c1", "name": HOSTILE}, {"source_id": "c2"}]
    run = sync("read_back", rows, state=state, read_back={"verify": "all"}, **limits)

    told = run_page(api, run)

    numbers = {name: (number, meaning) for name, number, meaning in told["numbers"]}
    assert [numbers[name][0] for name in ("verified", "differing", "missing")] == ["0", "1", "1"]
    assert numbers["missing"][1] == "records that were not there when they were to be read back."
    assert told["differences"] == [["c1", "differing", "name", "Ann", HOSTILE], ["c2", "missing", "", "", ""]]
    assert "2 of 2 records that were read back are not as they were sent" in told["summary"]["warning"]
    assert told["instance"]["attention"] == (2 if limits else 4)
    (one,) = run_page(api, run, "tries")["tries"]
    assert [one[name] for name in ("verified", "differing", "missing")] == [0, 1, 1]
    assert bool(one["exceeded"]) is not bool(limits)
    lines = run_page(api, run, "record", record_id="c1")["lines"]
    assert [line["outcome"] for line in lines] == ["updated", "differing", "created"]


def test_after_a_run_in_which_nothing_went_wrong_there_is_nothing_to_do(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    run = sync("in_order", [{"source_id": "c1"}], state={"path": str(tmp_path)})
    assert run_page(api, run)["next_steps"] == []


def test_the_line_for_a_full_refresh_works_with_and_without_it(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    told = run_page(api, sync("refreshed", [{"name": "?"}], state={"path": str(tmp_path)}))
    (line,) = (lines for _, lines in told["next_steps"] if lines and lines.startswith("full_refresh"))

    template = line.removeprefix("full_refresh=").strip('"')
    rows = [{"source_id": "c1"}]
    with DAG("refreshes", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=rows, state={"path": str(tmp_path)}, full_refresh=template
        )
    unchanged = [run_dag(dag, conf).xcom("sync")["unchanged"] for conf in (None, None, {"full_refresh": True})]
    assert unchanged == [0, 1, 0]


def test_a_run_leads_to_its_report_its_actions_and_its_assets(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    run = sync(
        "leads", [{"source_id": "c1"}, {"name": "?"}], report_path=str(tmp_path), outlets=[Asset("their_segments")]
    )
    told = run_page(api, run)
    assert told["assets"] == [], "a task that failed sends no event"
    (alone,) = (lines for text, lines in told["next_steps"] if text.startswith("Send the failed records alone"))
    assert f'path="{tmp_path}/failures.jsonl"' in alone

    told = run_page(api, sync("leads", [{"source_id": "c1"}], outlets=[Asset("their_segments")]))
    assert told["dashboard_url"].startswith("http")
    assert [one["name"] for one in told["assets"]] == ["their_segments"]


def test_a_night_that_failed_early_says_why_by_its_history(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f'{{"conn_type": "sqlite", "host": "{tmp_path}/books.db"}}')
    for place in ({"conn_id": "books"}, {"path": str(tmp_path)}):
        dag_id = f"early_{'_'.join(place)}"
        run = sync(dag_id, [{"source_id": "c1"}], voucherify_conn_id="is_not_there", state=place)

        one = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))[dag_id]
        told = run_page(api, run)

        assert (one["last"]["state"], one["last"]["parts"], one["last"]["attention"]) == ("failed", None, 4)
        assert told["summary"] is None
        (recorded,) = run_page(api, run, "tries")["tries"]
        assert (recorded["status"], recorded["try_number"]) == ("failed", 1)
        assert "is_not_there" in recorded["error_message"]
        assert any("full_refresh" in (lines or "") for _, lines in told["next_steps"])


def test_tries_before_a_clear_are_told_apart(api: Any, voucherify: LocalVoucherify) -> None:
    with DAG("cleared", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=[{"name": "?"}])
    run = run_dag(dag)
    clear_and_run(dag, run)

    told = run_page(api, run)
    assert [(one["try_number"], one["status"]) for one in told["tries"]] == [(1, "failed"), (2, "failed")]


def test_a_mapped_task_is_one_sync_with_its_instances(api: Any, voucherify: LocalVoucherify) -> None:
    with DAG("mapped_page", schedule=None) as dag:
        parts = [[{"source_id": "c1"}], [{"source_id": "c2"}, {"name": HOSTILE}]]
        VoucherifyBulkUpdateOperator.partial(task_id="sync", resource="customers").expand(records=parts)
    run = run_dag(dag)

    one = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["mapped_page"]
    last = one["last"]
    assert (last["instances"], last["state"], last["parts"]) == (2, "failed", {"created": 2, "refused": 1})
    told = run_page(api, run)
    assert [(each["map_index"], each["state"]) for each in told["instances"]] == [(1, "failed"), (0, "success")]
    assert "instance" not in told
    of_second = run_page(api, run, map_index=1)["summary"]
    assert of_second["refused"] == 1
    assert parse_qs(urlsplit(of_second["page_url"]).query)["map"] == ["1"], "its address leads to the instance"


def test_without_a_state_the_last_try_says_why_it_failed(api: Any, voucherify: LocalVoucherify) -> None:
    told = run_page(api, sync("no_state", [{"source_id": "c1"}], voucherify_conn_id="is_not_there"))

    (one,) = told["tries"]
    assert (one["status"], one["error_type"]) == ("failed", "AirflowNotFoundException")
    assert "is_not_there" in one["error_message"]
    assert told["has_records"] is False


def test_a_task_that_waits_for_its_next_try_is_listed_once(api: Any, voucherify: LocalVoucherify) -> None:
    run = sync("retried", [{"name": "?"}], retries=1, retry_delay=timedelta(hours=1))
    with create_session() as session:
        session.query(TaskInstance).filter_by(dag_id="retried").one().prepare_db_for_next_try(session)

    assert [one["try_number"] for one in run_page(api, run)["tries"]] == [1]


def test_what_was_cleared_is_not_taken_for_what_was_before(api: Any, voucherify: LocalVoucherify) -> None:
    sync("cleared_all", [{"source_id": "c1"}])
    with create_session() as session:
        clear_task_instances(session.query(TaskInstance).filter_by(dag_id="cleared_all").all(), session)

    last = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["cleared_all"]["last"]
    assert (last["state"], last["attention"]) == (None, 1)


def test_a_mapped_task_is_as_far_as_the_one_that_is_furthest_behind(api: Any, voucherify: LocalVoucherify) -> None:
    with DAG("furthest", schedule=None) as dag:
        parts = [[{"source_id": f"c{number}"}] for number in range(3)]
        VoucherifyBulkUpdateOperator.partial(task_id="sync", resource="customers").expand(records=parts)
    run_dag(dag)

    for states, state, attention in (
        (("success", "scheduled", "success"), "scheduled", 1),
        (("scheduled", "success", "success"), "scheduled", 1),
        ((None, "success", "success"), None, 1),
        (("success", "skipped", "success"), "success", 0),
        (("success", "failed", "running"), "failed", 4),
    ):
        with create_session() as session:
            for index, one in enumerate(states):
                session.query(TaskInstance).filter_by(dag_id="furthest", map_index=index).update({"state": one})
        last = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["furthest"]["last"]
        assert (last["state"], last["attention"]) == (state, attention)


def test_a_dry_run_does_not_hide_the_night_before_it(api: Any, voucherify: LocalVoucherify) -> None:
    night = sync("then_dry", [{"name": "?"}])
    sync("then_dry", [{"source_id": "c1"}], dry_run=True)

    one = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["then_dry"]

    assert (one["last"]["run_id"], one["last"]["attention"]) == (night.dag_run.run_id, 4)
    assert one["since"]["state"] == "success"


def test_a_backfill_of_old_dates_does_not_hide_the_night_before_it(api: Any, voucherify: LocalVoucherify) -> None:
    night = sync("then_old", [{"name": "?"}])
    old = sync("then_old", [{"source_id": "c1"}])
    with create_session() as session:
        session.query(DagRun).filter_by(dag_id="then_old", run_id=old.dag_run.run_id).update({"run_type": "backfill"})

    one = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["then_old"]
    assert (one["last"]["run_id"], one["last"]["attention"]) == (night.dag_run.run_id, 4)


@pytest.mark.parametrize(("hours", "is_paused", "is_overdue"), [(3, False, True), (3, True, False), (-3, False, False)])
def test_a_night_that_has_not_begun_is_overdue(
    api: Any, voucherify: LocalVoucherify, hours: int, is_paused: bool, is_overdue: bool
) -> None:
    sync("late", [{"source_id": "c1"}])
    due = datetime.now(UTC) - timedelta(hours=hours)
    with create_session() as session:
        late = session.query(DagModel).filter_by(dag_id="late")
        late.update({"next_dagrun_create_after": due, "is_paused": is_paused})

    assert syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["late"]["is_overdue"] is is_overdue


def test_a_run_of_which_there_is_no_room_for_all_instances_is_left_out(
    api: Any, voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_voucherify.plugins import runs

    with DAG("too_many", schedule=None) as dag:
        parts = [[{"source_id": f"c{number}"}] for number in range(3)]
        VoucherifyBulkUpdateOperator.partial(task_id="sync", resource="customers").expand(records=parts)
    for _ in range(2):
        run_dag(dag)
    monkeypatch.setattr(runs, "MAX_INSTANCES", 5)

    of_task = {"dag_id": "too_many", "task_id": "sync"}
    told = api.get("/voucherify/api/sync", params=of_task, headers=headers()).json()["runs"]
    assert [one["instances"] for one in told] == [3]


def test_who_asks_while_too_many_wait_for_a_state_is_told_so(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_voucherify.plugins import app

    run = sync("busy", [{"source_id": "c1"}], state={"path": str(tmp_path), "outcomes": "jsonl"})
    monkeypatch.setattr(app, "SECONDS_FOR_A_TURN", 0.01)
    place = {"dag_id": "busy", "task_id": "sync", "run_id": run.dag_run.run_id, "record_id": "c1"}

    def statuses() -> list[int]:
        answers = (api.get(f"/voucherify/api/{part}", params=place, headers=headers()) for part in ("tries", "record"))
        return [answer.status_code for answer in answers]

    with ExitStack() as turns:
        for _ in range(app.TURNS):
            turns.enter_context(app._ASKING)
        assert statuses() == [503, 503]
    assert statuses() == [200, 200]


def test_tries_take_the_right_to_logs_and_assets_that_to_assets(
    api: Any, voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity

    run = sync("rights", [{"source_id": "c1"}], outlets=[Asset("named_secretly")])
    manager: Any = type(get_auth_manager())
    may = manager.is_authorized_dag
    place = {"dag_id": "rights", "task_id": "sync", "run_id": run.dag_run.run_id}

    def without(entity: Any) -> None:
        monkeypatch.setattr(
            manager,
            "is_authorized_dag",
            lambda self, **asked: asked.get("access_entity") is not entity and may(self, **asked),
        )

    def status(part: str) -> int:
        return int(api.get(f"/voucherify/api/{part}", params=place, headers=headers()).status_code)

    without(DagAccessEntity.TASK_LOGS)
    assert (status("tries"), status("run")) == (403, 200)
    without(DagAccessEntity.TASK_INSTANCE)
    assert (status("tries"), status("run")) == (200, 403)
    monkeypatch.setattr(manager, "is_authorized_dag", may)
    monkeypatch.setattr(manager, "is_authorized_asset", lambda self, **asked: False)
    assert "named_secretly" not in json.dumps(run_page(api, run))


def test_what_a_try_failed_with_quotes_no_values_that_are_to_be_hidden(api: Any, voucherify: LocalVoucherify) -> None:
    rows = [{"source_id": "secret-id", "name": "?"}, {"name": "Secret Name"}]
    run = sync("hidden", rows, hide_values=True)
    told = run_page(api, run)

    assert told["tries"][-1]["error_type"] == "VoucherifyRecordsFailedError"
    assert "secret" not in json.dumps(told).lower()


def test_a_dag_that_is_gone_is_not_listed(api: Any, voucherify: LocalVoucherify) -> None:
    sync("gone", [{"source_id": "c1"}])
    assert "gone" in syncs_of(api.get("/voucherify/api/syncs", headers=headers()))
    with create_session() as session:
        session.query(DagModel).filter_by(dag_id="gone").update({"is_stale": True})

    assert "gone" not in syncs_of(api.get("/voucherify/api/syncs", headers=headers()))


def test_a_task_behind_one_that_failed_is_a_night_that_did_not_run(api: Any, voucherify: LocalVoucherify) -> None:
    with DAG("behind", schedule=None) as dag:
        before = VoucherifyBulkUpdateOperator(task_id="before", resource="customers", records=[{"name": "?"}])
        before >> VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=[{"source_id": "c1"}])
    run_dag(dag)

    listed = api.get("/voucherify/api/syncs", headers=headers()).json()["syncs"]
    (one,) = (one for one in listed if (one["dag_id"], one["task_id"]) == ("behind", "sync"))
    assert (one["last"]["state"], one["last"]["parts"], one["last"]["attention"]) == ("upstream_failed", None, 4)


def test_what_is_no_summary_is_none(api: Any, voucherify: LocalVoucherify) -> None:
    from airflow.models.xcom import XComModel

    run = sync("no_summary", [{"source_id": "c1"}])
    returned = run.xcom("sync")

    def shown_for(value: Any) -> tuple[Any, Any]:
        with create_session() as session:
            returned = session.query(XComModel).filter_by(dag_id="no_summary", key="return_value")
            returned.update({"value": value})
        last = syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["no_summary"]["last"]
        return last["parts"], run_page(api, run)["summary"]

    for value in ("a reference of a backend", {"rows_read": "many"}, [1], 5):
        assert shown_for(value) == shown_for(json.dumps(value)) == (None, None)
    assert shown_for(returned) == shown_for(json.dumps(returned)) == ({"created": 1}, returned)


def test_an_answer_asks_the_database_for_the_same_few_things_however_many_syncs_there_are(
    api: Any, voucherify: LocalVoucherify
) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def statements() -> int:
        asked: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            asked.append(statement)

        event.listen(Engine, "before_cursor_execute", note)
        try:
            assert syncs_of(api.get("/voucherify/api/syncs", headers=headers()))
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        return len(asked)

    sync("counted_0", [{"source_id": "c1"}])
    with_one = statements()
    for number in range(1, 4):
        sync(f"counted_{number}", [{"source_id": "c1"}])
    assert statements() == with_one < 8


def test_a_record_is_told_from_the_tables_of_the_state(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f'{{"conn_type": "sqlite", "host": "{tmp_path}/books.db"}}')
    state = {"conn_id": "books", "keep_values": True}
    for name in ("Ann", HOSTILE):
        sync("recorded", [{"source_id": "c1", "name": name}, {"source_id": "c2"}], state=state)
    of_task = {"dag_id": "recorded", "task_id": "sync"}

    known = api.get("/voucherify/api/record", params={**of_task, "record_id": "c1"}, headers=headers()).json()
    nobody = api.get("/voucherify/api/record", params={**of_task, "record_id": "c9"}, headers=headers()).json()

    assert [line["outcome"] for line in known["lines"]] == ["updated", "created"]
    assert HOSTILE in known["lines"][0]["content"]
    assert (known["state"]["outcome"], known["state"]["is_certain"]) == ("updated", True)
    assert nobody == {"state": None, "lines": [], "runs_searched": None}

    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", '{"conn_type": "sqlite", "host": "/nowhere/at.all"}')
    away = api.get("/voucherify/api/record", params={**of_task, "record_id": "c1"}, headers=headers())
    assert (away.status_code, "nowhere" in away.text) == (503, False)


def test_a_record_that_has_not_changed_for_long_is_still_known(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f'{{"conn_type": "sqlite", "host": "{tmp_path}/books.db"}}')
    sync("long_ago", [{"source_id": "c1"}], state="books")
    with closing(sqlite3.connect(tmp_path / "books.db")) as books, books:
        books.execute("delete from voucherify_changelog")

    params = {"dag_id": "long_ago", "task_id": "sync", "record_id": "c1"}
    known = api.get("/voucherify/api/record", params=params, headers=headers()).json()

    assert (known["state"]["outcome"], known["lines"]) == ("created", [])


def test_a_record_is_known_after_a_night_in_which_the_task_did_not_begin(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f'{{"conn_type": "sqlite", "host": "{tmp_path}/books.db"}}')
    for rows in ([{"source_id": "x"}], [{"name": "?"}]):
        with DAG("did_not_begin", schedule=None) as dag:
            before = VoucherifyBulkUpdateOperator(task_id="before", resource="customers", records=rows)
            records = [{"source_id": "c1"}]
            before >> VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=records, state="books")
        run_dag(dag)

    params = {"dag_id": "did_not_begin", "task_id": "sync", "record_id": "c1"}
    answer = api.get("/voucherify/api/record", params=params, headers=headers())
    assert answer.json()["state"]["outcome"] == "created"


def test_each_instance_of_a_mapped_task_has_records_of_its_own_resource(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f'{{"conn_type": "sqlite", "host": "{tmp_path}/books.db"}}')
    parts = [{"resource": name, "records": [{"source_id": f"of {name}"}]} for name in ("customers", "products")]
    with DAG("by_resource", schedule=None) as dag:
        VoucherifyBulkUpdateOperator.partial(task_id="sync", state="books").expand_kwargs(parts)
    run_dag(dag)

    assert syncs_of(api.get("/voucherify/api/syncs", headers=headers()))["by_resource"]["resources"] == [
        "customers",
        "products",
    ]
    for map_index, name in enumerate(("customers", "products")):
        params = {"dag_id": "by_resource", "task_id": "sync", "record_id": f"of {name}", "map_index": map_index}
        known = api.get("/voucherify/api/record", params=params, headers=headers()).json()
        assert known["state"]["outcome"] == "created"


def test_a_shared_state_shows_nothing_that_a_dag_has_written_which_the_viewer_may_not_see(
    api: Any,
    voucherify: LocalVoucherify,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    only_mine: None,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", f'{{"conn_type": "sqlite", "host": "{tmp_path}/books.db"}}')
    state = {"conn_id": "books", "sync_name": "of both", "keep_values": True}
    sync("mine", [{"source_id": "c1"}], state=state)
    sync("theirs", [{"source_id": "c1", "name": "Secret"}], state=state)

    params = {"dag_id": "mine", "task_id": "sync", "record_id": "c1"}
    viewer = api.get("/voucherify/api/record", params=params, headers=headers("VIEWER", "viewer"))
    admin = api.get("/voucherify/api/record", params=params, headers=headers())

    assert ("Secret" in viewer.text, "Secret" in admin.text) == (False, True)
    assert [line["dag_id"] for line in viewer.json()["lines"]] == ["mine"]
    assert viewer.json()["state"] is None


def test_the_files_of_a_folder_are_searched_for_a_limited_time(
    api: Any, voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_voucherify.plugins import memory

    sync("searched", [{"source_id": "c1"}], state={"path": str(tmp_path), "outcomes": "jsonl"})
    monkeypatch.setattr(memory, "SECONDS_FOR_FILES", -1.0)

    params = {"dag_id": "searched", "task_id": "sync", "record_id": "c1"}
    found = api.get("/voucherify/api/record", params=params, headers=headers()).json()
    assert found == {"state": None, "lines": [], "runs_searched": 0}


def test_a_record_is_found_in_the_files_of_a_folder(api: Any, voucherify: LocalVoucherify, tmp_path: Path) -> None:
    state = {"path": str(tmp_path), "outcomes": "jsonl"}
    for rows in ([{"source_id": "c1"}], [{"source_id": "c1", "name": "Ann"}, {"source_id": "c11"}, {"name": "c1"}]):
        run = sync("in_files", rows, state=state, fail_if={"failed": None})

    params = {"dag_id": "in_files", "task_id": "sync", "record_id": "c1"}
    found = api.get("/voucherify/api/record", params=params, headers=headers()).json()

    assert (found["state"], found["runs_searched"]) == (None, 2)
    assert [(line["outcome"], line["try_number"]) for line in found["lines"]] == [("updated", 1), ("created", 1)]
    assert found["lines"][0]["run_id"] == run.dag_run.run_id


def test_without_outcomes_it_says_what_that_takes(api: Any, voucherify: LocalVoucherify, tmp_path: Path) -> None:
    sync("in_a_folder", [{"source_id": "c1"}], state={"path": str(tmp_path)})
    params = {"dag_id": "in_a_folder", "task_id": "sync", "record_id": "c1"}

    answer = api.get("/voucherify/api/record", params=params, headers=headers())

    assert (answer.status_code, "Nothing is known of single records" in answer.json()["detail"]) == (404, True)


OF_MINE = "dag_id=mine&task_id=sync"
PATHS = [
    "syncs",
    f"sync?{OF_MINE}",
    f"run?{OF_MINE}&run_id=r",
    f"tries?{OF_MINE}&run_id=r",
    f"record?{OF_MINE}&record_id=c1",
]


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
    theirs = {"dag_id": "theirs", "task_id": "sync", "run_id": "r", "record_id": "c1"}
    of_one_dag = ("sync", "run", "tries", "record")
    refused = [api.get(f"/voucherify/api/{name}", params=theirs, headers=viewer).status_code for name in of_one_dag]

    assert set(listed) == {"mine"}
    assert refused == [403] * 4
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
