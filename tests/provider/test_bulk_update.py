"""``VoucherifyBulkUpdateOperator`` in a DAG: from rows to what is in Voucherify, and the summary."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task
from connections import connect
from dags import run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator

CUSTOMERS = [
    {"source_id": "c1", "name": "Zoë", "address_city": "Łódź", "segment": "vip"},
    {"source_id": "c2", "name": "佐藤", "segment": None},
]


def update(**kwargs: Any) -> DAG:
    with DAG("bulk_update", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", **{"resource": "customers", **kwargs})
    return dag


def sent(voucherify: LocalVoucherify, method: str) -> list[str]:
    return [request.path for request in voucherify.received if request.method == method]


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def test_records_arrive_and_the_summary_counts_them(voucherify: LocalVoucherify) -> None:
    run = run_dag(update(records=CUSTOMERS))

    assert run.state == "success"
    assert voucherify.customers["c1"]["name"] == "Zoë"
    assert voucherify.customers["c1"]["address"]["city"] == "Łódź"
    assert voucherify.customers["c1"]["metadata"] == {"segment": "vip"}
    assert voucherify.customers["c2"]["name"] == "佐藤"
    summary = run.xcom("sync")
    assert summary["rows_read"] == summary["submitted"] == summary["created"] == 2
    assert summary["updated"] == summary["failed"] == summary["refused"] == summary["not_reported"] == 0
    assert summary["requests"] == 1
    assert summary["async_action_ids"] == run.xcom("sync", "async_action_ids")


def test_an_upstream_task_gives_the_records(voucherify: LocalVoucherify) -> None:
    with DAG("from_xcom", schedule=None) as dag:

        @task
        def customers() -> list[dict[str, Any]]:
            return CUSTOMERS

        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=customers())

    assert run_dag(dag).xcom("sync")["created"] == 2
    assert "c2" in voucherify.customers


def test_a_query_gives_the_records_with_its_parameters(
    voucherify: LocalVoucherify, warehouse: sqlite3.Connection
) -> None:
    warehouse.execute("CREATE TABLE tracks (TrackId INTEGER, Name TEXT, UnitPrice NUMERIC, Genre TEXT)")
    warehouse.executemany(
        "INSERT INTO tracks VALUES (?, ?, ?, ?)", [(i, f"Track {i}", 99 + i, "Rock") for i in range(10)]
    )

    run = run_dag(
        update(
            resource="products",
            sql="SELECT * FROM tracks WHERE TrackId < ?",
            sql_conn_id="warehouse",
            sql_parameters=[5],
            mapping={"TrackId": "source_id", "Name": "name", "UnitPrice": "price", "Genre": "metadata.genre"},
        )
    )

    assert run.xcom("sync")["created"] == 5
    assert voucherify.products["4"]["price"] == 103
    assert voucherify.products["4"]["metadata"] == {"genre": "Rock"}


def test_a_file_gives_the_records(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text('source_id,name,segment\nc1,"Ann\nLee",vip\nc2,,\n', encoding="utf-8")

    run = run_dag(update(path=str(file)))

    assert run.xcom("sync")["created"] == 2
    assert voucherify.customers["c1"]["name"] == "Ann\nLee"
    [request] = voucherify.requests("POST", "/v1/customers/bulk/async")
    assert {"source_id": "c2"} in json.loads(request.body)


def test_everything_that_a_user_would_template_is_templated(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    (tmp_path / "2026.jsonl").write_text('{"id": "c1"}\n')

    run = run_dag(
        update(
            path=str(tmp_path) + "/{{ params.year }}.jsonl",
            mapping={"id": "{{ params.key }}"},
            voucherify_conn_id="voucherify_{{ params.which }}",
            report_path=str(tmp_path) + "/{{ params.year }}",
            params={"year": "2026", "key": "source_id", "which": "default"},
        )
    )

    assert run.state == "success"
    assert run.xcom("sync")["report_uri"] == str(tmp_path / "2026")
    assert (tmp_path / "2026" / "report-00001.csv").read_text().splitlines()[1] == "c1,false,true"


@pytest.mark.parametrize("operator", [VoucherifyBulkUpdateOperator, VoucherifyBulkMetadataOperator])
@pytest.mark.parametrize("is_mapped", [False, True], ids=["plain", "mapped"])
def test_sql_may_name_a_file_and_nothing_else_does(
    voucherify: LocalVoucherify, warehouse: sqlite3.Connection, tmp_path: Path, operator: type[Any], is_mapped: bool
) -> None:
    (tmp_path / "customers.sql").write_text("SELECT '{{ params.id }}' AS id, 'SELECT 1' AS query")
    (tmp_path / "metadata.sql").write_text("this is no field")
    (tmp_path / "c2.sql").write_text("this is no id")
    query: dict[str, Any] = {"task_id": "query", "sql": "customers.sql", "sql_conn_id": "warehouse"}
    query["mapping"] = {"id": "source_id", "query": "metadata.sql"}
    ids: dict[str, Any] = {
        "task_id": "ids",
        "records": [{"source_id": "c2.sql"}, {"source_id": "{{ params.id }}3.sql"}],
    }
    if operator is VoucherifyBulkMetadataOperator:
        ids["metadata"] = {"file": "c2.sql"}
    with DAG("files", schedule=None, template_searchpath=str(tmp_path), params={"id": "c"}) as dag:
        for kwargs in (query, ids):
            if is_mapped:
                operator.partial(resource="customers", **kwargs).expand(null_policy=["omit"])
            else:
                operator(resource="customers", **kwargs)

    run = run_dag(dag)

    assert run.state == "success"
    assert sorted(voucherify.customers) == ["c", "c2.sql", "c3.sql"]
    assert voucherify.customers["c"]["metadata"] == {"sql": "SELECT 1"}
    assert voucherify.customers["c2.sql"].get("metadata", {}) == ids.get("metadata", {})


def test_a_deferrable_task_waits_in_a_trigger(voucherify: LocalVoucherify, defer_at_once: None) -> None:
    run = run_dag(update(records=[*CUSTOMERS, {"name": "no id"}], deferrable=True, fail_if={"failed": 1}))

    assert run.state == "success"
    summary = run.xcom("sync")
    assert (summary["rows_read"], summary["created"], summary["refused"]) == (3, 2, 1)
    assert summary["failures"][0]["message"] == "source_id is missing"
    assert len(sent(voucherify, "POST")) == 1


def test_more_actions_than_a_trigger_can_hold_are_waited_for_on_the_worker(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, defer_at_once: None, task_log: Callable[[], str]
) -> None:
    from airflow_provider_voucherify.triggers import async_action

    monkeypatch.setattr(async_action, "MAX_STORED_BYTES", 2_000)
    voucherify.next_actions(times=60, seconds=0.02)

    few = run_dag(
        update(records=[{"source_id": f"c{n}"} for n in range(20)], requests={"max_records": 1}, deferrable=True)
    )
    many = run_dag(
        update(records=[{"source_id": f"c{n}"} for n in range(60)], requests={"max_records": 1}, deferrable=True)
    )

    assert (few.deferred_tasks(), few.xcom("sync")["created"]) == ({"sync"}, 20)
    assert (many.deferred_tasks(), many.xcom("sync")["submitted"]) == (set(), 60)
    assert "Airflow may not be able to store a trigger with 60 async actions" in task_log()


def test_what_was_sent_outlives_the_deferral_for_the_failures_file(
    monkeypatch: pytest.MonkeyPatch, defer_at_once: None, tmp_path: Path
) -> None:
    schema = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold"]}}}
    with LocalVoucherify(
        app_id="app-0c5547cc5e17", secret_key="secret-f7e4-8d21-do-not-print", metadata_schemas={"customer": schema}
    ) as server:
        connect(monkeypatch, server)
        rows = [
            {"source_id": "good", "tier": "gold"},
            {"source_id": "bad", "tier": "tin", "name": "Bo"},
            {"source_id": None},
        ]
        run = run_dag(update(records=rows, deferrable=True, report_path=str(tmp_path), fail_if={"failed": 2}))

        assert run.state == "success"
        lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
        refused, failed = lines
        assert refused["_failure"]["outcome"] == "refused"
        assert failed["_failure"]["key"] == "metadata_validation_failed"
        assert {**failed, "_failure": None} == {
            "source_id": "bad",
            "name": "Bo",
            "metadata": {"tier": "tin"},
            "_failure": None,
        }
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["failures.jsonl", "report-00001.csv", "report.html", "set_aside.jsonl"]


@pytest.mark.parametrize("waits", [True, False])
def test_the_report_folder_has_nothing_of_the_run_before(
    voucherify: LocalVoucherify, tmp_path: Path, waits: bool
) -> None:
    reports = {"report_path": str(tmp_path), "requests": {"max_records": 1}}
    run_dag(update(records=[{"source_id": "c1"}, {"source_id": "c2"}, {"source_id": "c3"}], **reports))
    (tmp_path / "set_aside.jsonl").write_text('{"source_id": "c9"}\n')

    run_dag(update(records=[{"source_id": "c1"}], wait_for_completion=waits, **reports))

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["failures.jsonl", *(["report-00001.csv"] if waits else []), "report.html", "set_aside.jsonl"]
    assert (tmp_path / "set_aside.jsonl").read_bytes() == b""


@pytest.mark.parametrize("spelling", ["{}", "file://{}", "{}/../reports"])
@pytest.mark.parametrize("name", ["failures.jsonl", "set_aside.jsonl"])
def test_a_file_that_the_task_would_replace_is_not_read(
    voucherify: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str], name: str, spelling: str
) -> None:
    tmp_path = tmp_path / "reports"
    tmp_path.mkdir()
    (tmp_path / name).write_text('{"source_id": "c1", "_failure": {"form": "record", "outcome": "failed"}}\n')

    run = run_dag(update(path=str(tmp_path / name), report_path=spelling.format(tmp_path)))

    assert run.state == "failed"
    assert "is the file that this task would replace" in task_log()
    assert "c1" in (tmp_path / name).read_text()


def test_failures_are_sent_again_by_the_same_operator(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    failures = tmp_path / "failures.jsonl"
    lines = [
        {"source_id": "c1", "name": "Zoë", "_failure": {"form": "record", "outcome": "failed"}},
        {"CustomerId": "c2", "FullName": "Bo", "_failure": {"form": "row", "outcome": "refused"}},
    ]
    failures.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    run = run_dag(update(path=str(failures), mapping={"CustomerId": "source_id", "FullName": "name"}))

    assert run.xcom("sync")["created"] == 2
    assert voucherify.customers["c1"]["name"] == "Zoë"
    assert voucherify.customers["c2"]["name"] == "Bo"
    assert "_failure" not in voucherify.customers["c1"].get("metadata", {})


def test_more_failures_than_allowed_fail_the_task_without_a_retry(voucherify: LocalVoucherify) -> None:
    told: list[dict[str, Any]] = []

    run = run_dag(
        update(
            records=[{"source_id": "c1"}, {"source_id": "c2", "birthdate": "soon"}],
            retries=3,
            retry_delay=timedelta(0),
            on_failed_records_callback=told.append,
        )
    )

    assert run.task_state("sync") == "failed"
    assert len(sent(voucherify, "POST")) == 1, "the task was retried"
    assert run.xcom("sync")["refused"] == 1, "the summary is there for downstream tasks all the same"
    assert told[0]["voucherify_summary"]["refused"] == 1
    assert "birthdate must be a date" in told[0]["voucherify_text"]


def test_a_callback_that_fails_does_not_fail_the_task(voucherify: LocalVoucherify) -> None:
    def broken(context: Any) -> None:
        raise RuntimeError("no network")

    run = run_dag(update(records=[{"source_id": ""}], fail_if={"failed": 1}, on_failed_records_callback=broken))

    assert run.state == "success"


def test_no_rows_succeed_and_send_nothing(voucherify: LocalVoucherify) -> None:
    run = run_dag(update(records=[]))

    assert run.state == "success"
    assert run.xcom("sync")["rows_read"] == run.xcom("sync")["requests"] == run.xcom("sync")["failed"] == 0
    assert voucherify.received == []


def test_a_dry_run_sends_nothing_and_tells_the_plan(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT")

    run = run_dag(update(records=[*CUSTOMERS, {"name": "no id"}], dry_run=True, requests={"max_records": 1}))

    summary = run.xcom("sync")
    assert (summary["rows_read"], summary["refused"], summary["requests"]) == (3, 1, 2)
    assert summary["dry_run"] is True
    assert summary["updated"] is None
    assert summary["requests_by_endpoint"]["/v1/customers/bulk/async"] == 2
    assert voucherify.received == []


def test_a_dry_run_tells_its_cost_at_the_connections_limits(
    voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    connect(monkeypatch, voucherify, rate_limit="10/minute", bulk_rate_limit="1/hour")

    run = run_dag(update(records=CUSTOMERS, dry_run=True, requests={"max_records": 1}))

    summary = run.xcom("sync")
    assert summary["requests_by_endpoint"] == {"/v1/customers/bulk/async": 2, "/v1/async-actions": 8}
    assert (summary["quota_share"], summary["estimated_minutes"]) == (2.0, 60.0)
    assert "200% of one period's quota, at 10/minute API calls and 1/hour bulk calls" in task_log()
    assert voucherify.received == []


@pytest.mark.parametrize(
    ("books", "warning"),
    [
        (None, None),
        (
            "state",
            "there is no connection to_be_made, so the state of earlier syncs is not read, and every row counts as one "
            "to send",
        ),
    ],
)
def test_a_dry_run_needs_no_connection(tmp_path: Path, books: str | None, warning: str | None) -> None:
    kept = {} if books is None else {books: str(tmp_path / "kept")}

    run = run_dag(update(records=CUSTOMERS, dry_run=True, voucherify_conn_id="to_be_made", **kept))

    assert run.state == "success"
    summary = run.xcom("sync")
    assert (summary["rows_read"], summary["requests"], summary["warning"]) == (2, 1, warning)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_that_would_not_wait_would_not_look(voucherify: LocalVoucherify) -> None:
    run = run_dag(update(records=CUSTOMERS, dry_run=True, wait_for_completion=False))

    assert run.xcom("sync")["requests_by_endpoint"] == {"/v1/customers/bulk/async": 1}


def test_a_sync_that_is_sent_estimates_nothing(voucherify: LocalVoucherify) -> None:
    summary = run_dag(update(records=CUSTOMERS)).xcom("sync")

    assert summary["requests_by_endpoint"] is summary["quota_share"] is summary["estimated_minutes"] is None


def test_not_waiting_returns_the_ids_and_claims_nothing(voucherify: LocalVoucherify) -> None:
    summary = run_dag(update(records=CUSTOMERS, wait_for_completion=False)).xcom("sync")

    assert summary["submitted"] == 2
    assert summary["updated"] is summary["created"] is summary["failed"] is None
    assert sent(voucherify, "GET") == []
    assert len(summary["async_action_ids"]) == 1


def test_a_timeout_says_that_the_action_goes_on(voucherify: LocalVoucherify, caplog: pytest.LogCaptureFixture) -> None:
    voucherify.next_actions(stuck="IN_PROGRESS")

    run = run_dag(update(records=CUSTOMERS, completion_timeout=0.1))

    assert run.task_state("sync") == "failed"
    assert run.xcom("sync", "async_action_ids"), "a task that is killed still has its ids"


def test_an_action_that_failed_as_a_whole_fails_all_its_records(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify.next_actions(status="FAILED")

    run = run_dag(update(records=CUSTOMERS, report_path=str(tmp_path)))

    assert run.task_state("sync") == "failed"
    assert run.xcom("sync")["failed"] == 2
    assert len((tmp_path / "failures.jsonl").read_text().splitlines()) == 2


def test_rows_do_not_go_into_the_metadata_database(voucherify: LocalVoucherify) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    run = run_dag(update(records=[{"source_id": "c1", "name": "do-not-store"}]))

    with create_session() as session:
        rendered = session.query(RenderedTaskInstanceFields).filter_by(run_id=run.dag_run.run_id).one()
        assert "do-not-store" not in json.dumps(rendered.rendered_fields)
        assert rendered.rendered_fields["records"] == "<1 record, not shown>"
