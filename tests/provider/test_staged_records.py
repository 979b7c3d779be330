"""What was sent is kept while a task is deferred, and not a moment longer."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseHook
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.exceptions import VoucherifyError
from airflow_provider_voucherify.local_voucherify import Action, LocalVoucherify, Status
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.task.staging import staged_name

pytestmark = pytest.mark.usefixtures("defer_at_once")


def sync(reports: Path, **kwargs: Any) -> DagRunResult:
    two = [{"source_id": "c1"}, {"source_id": "c2"}]
    defaults = {"records": two, "requests": {"max_records": 1, "max_in_flight": 1}, "retry_delay": timedelta(0)}
    with DAG("staged", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            report_path=str(reports),
            deferrable=True,
            **{**defaults, **kwargs},
        )
    return run_dag(dag)


def staged(reports: Path) -> list[Path]:
    return sorted(reports.glob("**/staged-*"))


def note_staged(voucherify: LocalVoucherify, reports: Path) -> list[list[str]]:
    """Note the files that are staged whenever an action is looked at."""
    seen: list[list[str]] = []

    def look(action: Action, wire: dict[str, Any]) -> dict[str, Any]:
        seen.append([str(file.relative_to(reports)) for folder in staged(reports) for file in folder.iterdir()])
        return wire

    voucherify.script_action(look)
    return seen


def test_nothing_is_left_by_a_task_that_fails_when_it_is_resumed(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    seen = note_staged(voucherify, tmp_path / "reports")
    (tmp_path / "reports" / "failures.jsonl").mkdir(parents=True)  # cannot be replaced

    run = sync(tmp_path / "reports", retries=1)

    assert run.state == "failed"
    assert any(seen), "nothing was staged"
    assert staged(tmp_path / "reports") == []


def test_nothing_is_left_by_a_task_whose_time_is_up(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify.next_actions(times=2, stuck="ENQUEUED")
    seen = note_staged(voucherify, tmp_path)

    run = sync(tmp_path, completion_timeout=2)

    assert run.state == "failed"
    assert any(seen), "nothing was staged"
    assert staged(tmp_path) == []


def test_a_try_removes_what_the_one_before_has_left(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    """As one that was cleared while it was deferred, or whose trigger failed."""
    reports, copy = tmp_path / "reports", tmp_path / "copy"
    (reports / "failures.jsonl").mkdir(parents=True)

    def look(action: Action, wire: dict[str, Any]) -> dict[str, Any]:
        for folder in staged(reports):
            shutil.copytree(folder, copy / folder.name, dirs_exist_ok=True)
        return wire

    def leave(context: Any) -> None:
        shutil.copytree(copy, reports, dirs_exist_ok=True)
        (staged(reports)[0] / "00009.json").write_text("[]")
        (reports / "failures.jsonl").rmdir()

    voucherify.script_action(look)

    run = sync(
        reports,
        retries=1,
        on_retry_callback=leave,
    )

    assert run.state == "success"
    assert len(list(copy.iterdir())) == 1, "the second try did not find what the first one had left"
    assert staged(reports) == []


def test_what_is_staged_is_kept_while_the_task_waits_again(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    """The first action seems finished to the trigger, and is found unfinished by the worker."""
    shown: list[str] = []

    def show(action: Action, wire: dict[str, Any]) -> dict[str, Any]:
        shown.append(action.id)
        if action.id == next(iter(voucherify.actions)) and shown.count(action.id) == 1:
            return {name: wire[name] for name in wire if name != "result"} | {"status": "IN_PROGRESS", "progress": 50}
        if action.id == next(iter(voucherify.actions)):
            return {**wire, "operation_status": "FAILED", "status": "FAILED", "result": None}
        return wire

    voucherify.misbehave("list", Status(403), times=None)
    voucherify.script_action(show)

    run = sync(tmp_path, fail_if={"failed": None})

    assert run.state == "success"
    [line] = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert (line["source_id"], line["_failure"]["form"]) == ("c1", "record")
    assert staged(tmp_path) == []


def test_an_event_that_cannot_be_read_leaves_nothing(tmp_path: Path) -> None:
    class TaskInstance:
        dag_id, task_id, run_id, map_index = "d", "sync", "r", -1

    folder = tmp_path / f"staged-{staged_name('d', 'sync', 'r', -1)}"
    folder.mkdir()
    (folder / "00001.json").write_text("[]")
    operator = VoucherifyBulkUpdateOperator(
        task_id="sync", resource="customers", records=[], report_path=str(tmp_path), on_retry="restart"
    )

    with pytest.raises(VoucherifyError, match="version 99"):
        operator.execute_complete({"ti": TaskInstance()}, {"version": 99, "status": "finished", "state": {}})  # type: ignore[typeddict-item]

    assert staged(tmp_path) == []


def test_names_tell_task_instances_apart_and_are_safe_in_a_path() -> None:
    instances = [
        ("d", "t", "scheduled__2026-01-01T00:00:00+00:00", -1),
        ("d", "t", "scheduled__2026-01-02T00:00:00+00:00", -1),
        ("d", "t", "../../r", 0),
        ("d", "t", "../../r", 1),
        ("d-t", "x", "r", None),
        ("d", "t-x", "r", None),
        ("ż" * 200, "group.task", "r", None),
    ]

    names = [staged_name(*instance) for instance in instances]

    assert len(set(names)) == len(names)
    assert all(len(name) < 80 and set(name) <= set(map(chr, range(45, 123))) - set("/.") for name in names)
    assert staged_name("d", "t", "r", None) == staged_name("d", "t", "r", -1)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_deferred_task_needs_no_other_place_than_its_state(
    request: pytest.FixtureRequest,
    voucherify: LocalVoucherify,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    database: str,
) -> None:
    sqlite = json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "state.db")})
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", sqlite if database == "sqlite" else request.getfixturevalue("postgres"))
    hook = BaseHook.get_hook("books")
    rows = [{"source_id": f"c{number}", "name": "Zoë \0 " * 9} for number in range(3_000)]
    pieces: list[int] = []

    def look(action: Action, wire: dict[str, Any]) -> dict[str, Any]:
        pieces.append(hook.get_first("SELECT count(*) FROM staged_once_staged")[0])
        return wire

    def night(rows: list[dict[str, Any]]) -> DagRunResult:
        with DAG("staged_in_tables", schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id="sync",
                resource="customers",
                records=rows,
                state={"conn_id": "books", "table": "staged_once"},
                requests={"max_records": 1_000},
                deferrable=True,
            )
        return run_dag(dag)

    voucherify.script_action(look)
    first, second = night(rows), night([*rows[1:], {"source_id": "c0", "name": "Ann"}])

    assert (first.deferred_tasks(), second.deferred_tasks()) == ({"sync"}, {"sync"})
    assert (first.xcom("sync")["created"], first.xcom("sync")["warning"]) == (3_000, None)
    assert (second.xcom("sync")["updated"], second.xcom("sync")["unchanged"]) == (1, 2_999)
    assert max(pieces) > 3, "nothing was staged"
    assert hook.get_first("SELECT count(*) FROM staged_once_staged")[0] == 0
    assert hook.get_first("SELECT count(*) FROM staged_once_changelog")[0] == 3_001
