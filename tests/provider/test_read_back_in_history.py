"""What was read back is in the history: counts in the record of the try, and a line for what is not as sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseHook
from dags import DagRunResult, run_dag
from database_fixtures import connection_of

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.reconcile import VoucherifyReconcileOperator
from airflow_provider_voucherify.sync.types.outcome import RUN_COUNTS
from airflow_provider_voucherify.warehouse import schema
from airflow_provider_voucherify.warehouse.outcome_tables import OutcomeTables

Row = dict[str, Any]

READ_BACK = ("verified", "differing", "missing", "to_create", "not_in_source")


@dataclass(frozen=True)
class History:
    """What a test reads of the history, in whichever place it is."""

    state: dict[str, Any]
    runs: Callable[[], list[Row]]
    lines: Callable[[], list[Row]]

    def last_run(self) -> Row:
        return max(self.runs(), key=lambda row: str(row["started_at"]))

    def lines_of(self, *outcomes: str) -> list[tuple[Any, ...]]:
        names = ("source_row", "record_id", "outcome", "reason_key", "message", "details", "content")
        return [tuple(line[name] for name in names) for line in self.lines() if line["outcome"] in outcomes]


def select(statement: str) -> list[Row]:
    with closing(BaseHook.get_hook("history").get_conn()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def of_tables(**more: Any) -> History:
    table = f"h{time.time_ns()}"
    return History(
        {"conn_id": "history", "table": table, "sync_name": "one", **more},
        lambda: select(f"SELECT * FROM {table}_runs"),
        lambda: select(f"SELECT * FROM {table}_changelog ORDER BY written_at, entry_number"),
    )


def of_folder(place: Path, **more: Any) -> History:
    def runs() -> list[Row]:
        return [json.loads(file.read_bytes()) for file in place.rglob("runs/*/*.json") if ".running." not in file.name]

    def lines() -> Iterator[Row]:
        for file in sorted(place.rglob("outcomes/*/*"), key=lambda file: file.stat().st_mtime_ns):
            for row in read_outcomes(file):
                yield {**row, "source_row": row["row"], "record_id": row["id"], "reason_key": row["key"]}

    state = {"path": str(place), "outcomes": "jsonl", "sync_name": "one", **more}
    return History(state, runs, lambda: list(lines()))


def read_outcomes(file: Path) -> list[Row]:
    if file.suffix == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        rows: list[Row] = parquet.read_table(file).to_pylist()
        return rows
    return [json.loads(line) for line in file.read_bytes().splitlines()]


@pytest.fixture(params=["sqlite", "postgres", "mariadb", "duckdb", "jsonl", "parquet"])
def history(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    if request.param in ("jsonl", "parquet"):
        return of_folder(tmp_path / "state", outcomes=request.param)
    monkeypatch.setenv("AIRFLOW_CONN_HISTORY", connection_of(request, tmp_path))
    return of_tables()


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "history.db")}
    monkeypatch.setenv("AIRFLOW_CONN_HISTORY", json.dumps(connection))


def customer(number: int, segment: str = "gold") -> Row:
    return {"source_id": f"c{number}", "name": "Ann", "segment": segment}


def sync(dag_id: str, records: list[Row], state: Any = None, **arguments: Any) -> DagRunResult:
    with DAG(dag_id, schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=records, state=state, **{"full_refresh": True, **arguments}
        )
    return run_dag(dag)


ROWS = [{"name": "nobody"}, customer(0), customer(1), customer(2)]
"""One that is refused; of the others one is at Voucherify as it is here, one otherwise, and one is not there."""


@pytest.fixture
def lying(voucherify: LocalVoucherify) -> LocalVoucherify:
    """Give a Voucherify that says of ``ROWS`` that they have arrived."""
    assert sync("before", [customer(0), customer(1, "silver"), customer(9)]).state == "success"
    voucherify.next_actions(applies_records=False)
    return voucherify


def verified(history: History, **arguments: Any) -> DagRunResult:
    limits = {"fail_if": {"differing": 2, "failed": 1}, "warn_if": {"differing": 1}}
    run = sync("nightly", ROWS, history.state, read_back={"verify": "all"}, **{**limits, **arguments})
    assert run.state == "success"
    return run


def test_what_was_verified_is_in_the_record_of_the_try_and_in_the_changelog(
    lying: LocalVoucherify, history: History
) -> None:
    verified(history)

    row = history.last_run()
    assert [row[name] for name in READ_BACK] == [1, 1, 1, None, None]
    assert "differing of warn_if is 1" in row["warning"]
    lines = [
        line[:4] for line in history.lines_of("updated", "created", "succeeded", "refused", "differing", "missing")
    ]
    assert lines == [
        (1, None, "refused", "missing_key"),
        (2, "c0", "updated", None),
        (3, "c1", "updated", None),
        (3, "c1", "differing", None),
        (4, "c2", "created", None),
        (4, "c2", "missing", None),
    ]
    assert [line[4:] for line in history.lines_of("differing", "missing")] == [
        ("metadata.segment", None, None),
        (None, None, None),
    ]


def test_what_nobody_has_asked_for_is_unknown_and_not_nought(voucherify: LocalVoucherify, history: History) -> None:
    sync("nightly", [customer(0)], history.state)
    assert [history.last_run()[name] for name in READ_BACK] == [None] * len(READ_BACK)
    assert history.lines_of("verified", "differing", "missing") == []


def test_what_a_comparison_has_counted_is_there_too(voucherify: LocalVoucherify, history: History) -> None:
    sync("before", [customer(0), customer(1, "silver"), customer(9)])
    sync("nightly", ROWS[1:], history.state, read_back={"compare": True}, full_refresh=False)
    assert [history.last_run()[name] for name in READ_BACK] == [None, None, None, 1, 1]


@pytest.mark.parametrize("history", ["sqlite", "jsonl"], indirect=True)
def test_where_values_are_kept_a_line_has_what_was_sent_and_found(lying: LocalVoucherify, history: History) -> None:
    history.state["keep_values"] = True
    verified(history)

    differing, missing = history.lines_of("differing", "missing")
    assert json.loads(differing[5]) == {"metadata.segment": {"found": "silver", "sent": "gold"}}
    assert (missing[5], differing[6], missing[6]) == (None, None, None)
    assert [json.loads(line[6])["source_id"] for line in history.lines_of("updated", "created")] == ["c0", "c1", "c2"]


@pytest.mark.parametrize("history", ["sqlite", "jsonl"], indirect=True)
def test_hidden_values_are_in_no_line(lying: LocalVoucherify, history: History) -> None:
    verified(history, hide_values=True)

    differing, missing = history.lines_of("differing", "missing")
    assert differing[4:] == ("metadata.segment", None, None)
    assert not {"silver", "gold", "c1", "c2"} & {*differing, *missing}
    assert {line[1] for line in history.lines_of("updated")} >= {differing[1]}


def test_a_sample_that_was_read_back_and_records_marked_as_removed_have_lines(
    voucherify: LocalVoucherify, sqlite: None
) -> None:
    history = of_tables(on_removed={"metadata": {"gone": True}}, max_removed_ratio=None)
    sync("first", [customer(number) for number in range(3)], history.state)
    voucherify.next_actions(applies_records=False, times=2)
    limits = {"fail_if": {"differing": 3}}
    sync("second", [customer(0, "new"), customer(1)], history.state, read_back={"verify": 9}, **limits)

    assert [line[:3] for line in history.lines_of("differing", "missing")] == [
        (1, "c0", "differing"),
        (None, "c2", "differing"),
    ]


def test_a_task_that_was_deferred_has_them_as_well(lying: LocalVoucherify, sqlite: None, defer_at_once: None) -> None:
    history = of_tables(keep_values=True)
    run = verified(history, deferrable=True)

    assert run.deferred_tasks() == {"sync"}
    assert history.last_run()["differing"] == 1
    assert '"found":"silver"' in history.lines_of("differing")[0][5]


@pytest.fixture
def of_earlier_version(history: History, monkeypatch: pytest.MonkeyPatch) -> Row:
    """Give the record of a night that an earlier version has left, whose tables had no columns for these counts."""
    earlier = tuple(name for name in RUN_COUNTS if name not in READ_BACK)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "RUN_COUNTS", earlier)
        assert sync("before", [customer(0)], history.state).state == "success"
    row = history.last_run()
    assert not row.keys() & {*READ_BACK}
    return row


@pytest.mark.parametrize("history", ["sqlite", "postgres", "mariadb", "duckdb"], indirect=True)
def test_tables_of_an_earlier_version_get_the_columns_and_lose_nothing(
    voucherify: LocalVoucherify, history: History, of_earlier_version: Row
) -> None:
    sync("nightly", [customer(0)], history.state, read_back={"verify": "all"})

    assert history.last_run()["verified"] == 1
    (first,) = (row for row in history.runs() if row["try_id"] == of_earlier_version["try_id"])
    assert first == {**of_earlier_version, **dict.fromkeys(READ_BACK)}


@pytest.mark.parametrize("history", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", [{"dry_run": True}, {"deferrable": True}], ids=str)
def test_tables_of_an_earlier_version_take_what_they_have_columns_for(
    voucherify: LocalVoucherify,
    history: History,
    of_earlier_version: Row,
    defer_at_once: None,
    monkeypatch: pytest.MonkeyPatch,
    how: Any,
) -> None:
    """A dry run makes no columns, and neither does a task that resumes and was deferred before the upgrade."""
    monkeypatch.setattr(OutcomeTables, "create", lambda self: None)

    assert sync("nightly", [customer(0)], history.state, **how).state == "success"

    row = history.last_run()
    assert (row["status"], row["rows_read"], "verified" in row) == ("success", 1, False)
    tables = OutcomeTables("history", history.state["table"], "one", "customers")
    (shown,) = tables.history.tries(row["run_key"])
    assert (shown["status"], shown["verified"], shown["rows_read"]) == ("success", None, 1)


def reconcile(dag_id: str, records: list[Row], run_conf: Any = None, **arguments: Any) -> DagRunResult:
    with DAG(dag_id, schedule=None) as dag:
        VoucherifyReconcileOperator(
            task_id="reconcile", resource="customers", records=records, fail_if={"failed": 1}, **arguments
        )
    run = run_dag(dag, run_conf)
    assert run.state == "success"
    return run


@pytest.fixture
def drifted(voucherify: LocalVoucherify) -> LocalVoucherify:
    """Give a Voucherify of whose customers ``ROWS`` has one as it is there and one otherwise, and not the third."""
    assert sync("before", [customer(0), customer(1, "silver"), customer(9)]).state == "success"
    return voucherify


DRIFT = [(3, "c1", "differing"), (4, "c2", "missing"), (None, "c9", "not_in_source")]


def test_a_drift_report_has_the_same_history(drifted: LocalVoucherify, history: History) -> None:
    for _ in range(2):
        reconcile("drift", [*ROWS, customer(0)], state=history.state)

    assert [row["status"] for row in history.runs()] == ["success"] * 2
    row = history.last_run()
    assert [row[name] for name in READ_BACK] == [1, 1, 1, None, 1]
    assert [row[name] for name in ("succeeded", "submitted", "requests", "refused", "superseded")] == [None, 0, 0, 1, 1]
    assert "differing of warn_if is 0" in row["warning"]
    both = history.lines_of("refused", "superseded", "differing", "missing", "not_in_source")
    assert [line[:3] for line in both] == [(1, None, "refused"), (2, "c0", "superseded"), *DRIFT] * 2
    assert [line[4:] for line in both if line[1] == "c1"] == [("metadata.segment", None, None)] * 2
    assert {line[1] for line in history.lines_of("verified")} == ({"c0"} if "path" in history.state else set())


@pytest.mark.parametrize("history", ["sqlite", "jsonl"], indirect=True)
def test_what_a_report_keeps_was_not_sent(drifted: LocalVoucherify, history: History) -> None:
    reconcile("drift", ROWS, state={**history.state, "keep_values": True})

    (differing,) = history.lines_of("differing")
    assert json.loads(differing[5]) == {"metadata.segment": {"found": "silver", "sent": "gold"}}
    assert {line[6] for line in history.lines_of("differing", "missing", "not_in_source", "refused")} == {None}


@pytest.mark.parametrize("history", ["sqlite", "jsonl"], indirect=True)
def test_a_report_leaves_what_a_sync_of_the_same_name_has_confirmed(
    voucherify: LocalVoucherify, history: History
) -> None:
    rows = [customer(0), customer(1)]
    sync("nightly", rows, history.state, full_refresh=False)
    sync("by_hand", [customer(1, "silver")])
    reconcile("drift", rows, state=history.state)

    again = sync("nightly", rows, history.state, full_refresh=False).xcom("sync")
    assert (again["unchanged"], again["submitted"], again["warning"]) == (2, 0, None)


def test_a_report_and_its_repair_are_one_history(drifted: LocalVoucherify, sqlite: None) -> None:
    """Since when does it drift, and until when did it."""
    history = of_tables()
    how: Row = {"state": history.state, "repair": "{{ params.get('repair', False) }}"}
    for run_conf in (None, {"repair": True}, None):
        reconcile("drift", ROWS, run_conf, **how)

    counts = [[row[name] for name in ("verified", "differing", "updated")] for row in history.runs()]
    assert counts == [[1, 1, None], [None, None, 1], [3, 0, None]]
    assert [line[:3] for line in history.lines_of("differing", "updated", "created", "missing")] == [
        *DRIFT[:2],
        (3, "c1", "updated"),
        (4, "c2", "created"),
    ]
    table = history.state["table"]
    assert len(select(f"SELECT 1 FROM {table}_runs WHERE sync_key IN (SELECT sync_key FROM {table}_changelog)")) == 3


def test_hidden_values_are_in_no_line_of_a_report(drifted: LocalVoucherify, sqlite: None) -> None:
    history = of_tables()
    reconcile("drift", ROWS, state=history.state, hide_values=True)

    lines = history.lines_of("differing", "missing", "not_in_source")
    assert [line[4:] for line in lines] == [("metadata.segment", None, None), (None, None, None), (None, None, None)]
    assert all(line[1].startswith("#") for line in lines)
