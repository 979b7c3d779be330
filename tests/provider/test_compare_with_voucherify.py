"""A sync that is compared with what Voucherify has: only what differs is sent, and what is not sent is there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator

BULK = "/v1/customers/bulk/async"
PARTS = ("succeeded", "unchanged", "not_updated", "failed", "refused", "superseded", "not_reported")


def sync(dag_id: str, records: Any, operator: Any = VoucherifyBulkUpdateOperator, **arguments: Any) -> DagRunResult:
    with DAG(dag_id, schedule=None) as dag:
        operator(task_id="sync", **{"resource": "customers", "records": records, **arguments})
    return run_dag(dag)


def compare(dag_id: str, records: Any, **arguments: Any) -> dict[str, Any]:
    """Run a sync that compares, and return its summary, after checking that it accounts for every row."""
    run = sync(dag_id, records, read_back={"compare": True}, **arguments)
    assert run.state == "success"
    summary: dict[str, Any] = run.xcom("sync")
    if not summary["dry_run"]:
        assert summary["rows_read"] + summary["removed_to_mark"] == sum(summary[name] for name in PARTS)
    return summary


def counts(summary: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(summary[name] for name in names)


def customer(number: int, **fields: Any) -> dict[str, Any]:
    return {"source_id": f"c{number}", "name": f"Customer {number}", "segment": "gold", "score": number, **fields}


def sent_ids(voucherify: LocalVoucherify) -> list[str]:
    bodies = [json.loads(request.body) for request in voucherify.requests("POST", BULK)]
    return [record["source_id"] for body in bodies for record in body]


@pytest.fixture
def stocked(voucherify: LocalVoucherify) -> LocalVoucherify:
    """Voucherify with ten customers, as a sync has left them."""
    assert sync("stock", [customer(number) for number in range(10)]).state == "success"
    voucherify.behave()
    return voucherify


def received_after(voucherify: LocalVoucherify, start: int) -> list[tuple[str, str]]:
    return [(request.method, request.path) for request in voucherify.received[start:]]


def test_only_what_differs_is_sent(stocked: LocalVoucherify) -> None:
    start = len(stocked.received)
    rows = [customer(number) for number in range(12)]
    rows[3]["segment"] = "silver"
    summary = compare("differs", rows)

    assert counts(summary, "updated", "created", "unchanged", "to_create") == (1, 2, 9, 2)
    assert sent_ids(stocked)[10:] == ["c3", "c10", "c11"]
    assert stocked.customers["c3"]["metadata"] == {"segment": "silver", "score": 3}
    calls = received_after(stocked, start)
    assert len([call for call in calls if call[0] == "POST"]) == 2
    assert len([call for call in calls if "/exports" in call[1]]) <= 4


def test_what_was_changed_by_hand_is_set_right(stocked: LocalVoucherify) -> None:
    with VoucherifyHook() as hook:
        hook.update_customer("c4", {"name": "Changed in the dashboard"})
    summary = compare("drift", [customer(number) for number in range(10)])

    assert counts(summary, "updated", "created", "unchanged") == (1, 0, 9)
    assert stocked.customers["c4"]["name"] == "Customer 4"


def test_nothing_is_sent_if_nothing_differs(stocked: LocalVoucherify) -> None:
    summary = compare("same", [customer(number) for number in range(10)])

    assert counts(summary, "unchanged", "requests", "not_in_source") == (10, 0, 0)
    assert len(sent_ids(stocked)) == 10


def test_the_records_that_the_source_does_not_have_are_counted(stocked: LocalVoucherify) -> None:
    summary = compare("fewer", [customer(number) for number in range(4)])
    assert counts(summary, "unchanged", "not_in_source") == (4, 6)


def test_what_is_created_is_known_even_if_no_report_says_so(stocked: LocalVoucherify) -> None:
    stocked.next_actions(result_fields={"reports": []})
    summary = compare("no_report", [customer(number, segment="tin") for number in range(8, 12)])
    assert counts(summary, "updated", "created", "succeeded") == (2, 2, 4)


def test_what_is_created_is_not_claimed_of_records_that_are_marked(stocked: LocalVoucherify, tmp_path: Path) -> None:
    """A mark creates a record anew that was deleted at Voucherify."""
    state = {"path": f"{tmp_path}/state", "sync_name": "one", "on_removed": {"metadata": {"left": True}}}
    compare("all", [customer(number) for number in range(3)], state=state)
    stocked.customers.remove("c2")
    stocked.next_actions(times=2, result_fields={"reports": []})
    summary = compare("fewer", [customer(0), customer(1), customer(11)], state=state)
    assert counts(summary, "removed_to_mark", "submitted", "to_create", "created") == (1, 2, 1, None)


def test_a_sample_of_rows_without_values_and_duplicates_adds_up(stocked: LocalVoucherify) -> None:
    rows = [
        customer(1, segment="tin"),
        customer(1),
        customer(2),
        customer(2, segment="tin"),
        {"name": "nobody"},
        customer(3, segment=None),
    ]
    summary = compare("mixed", rows, fail_if={"failed": None})

    assert counts(summary, "updated", "unchanged", "superseded", "refused") == (1, 2, 2, 1)
    assert sent_ids(stocked)[10:] == ["c2"]


@pytest.mark.parametrize("place", ["tables", "folder"])
def test_with_a_state_the_next_sync_knows_what_was_found(
    stocked: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "books.db")}))
    state = {"tables": {"conn_id": "books"}, "folder": {"path": f"{tmp_path}/state"}}[place] | {"sync_name": "one"}
    rows = [customer(number) for number in range(11)]
    first = compare("first", rows, state=state)
    assert counts(first, "created", "unchanged") == (1, 10)

    run = sync("second", rows, state=state)
    assert counts(run.xcom("sync"), "unchanged", "requests") == (11, 0)


def test_a_full_refresh_compares_nothing(stocked: LocalVoucherify) -> None:
    summary = compare("refresh", [customer(number) for number in range(10)], full_refresh=True)
    assert counts(summary, "updated", "unchanged", "to_create") == (10, 0, None)
    assert not stocked.requests("POST", "/v1/exports")


def test_update_refuses_records_that_voucherify_does_not_have(stocked: LocalVoucherify, tmp_path: Path) -> None:
    rows = [customer(number, segment="tin") for number in (1, 20, 2, 21)]
    run = sync("update", rows, read_back={"sync_mode": "update"}, fail_if={"failed": 2}, report_path=str(tmp_path))
    summary = run.xcom("sync")

    assert counts(summary, "updated", "created", "refused") == (2, 0, 2)
    assert summary["failures_by_key"] == {"not_found": 2}
    assert "c20" not in stocked.customers
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert [(line["source_id"], line["_failure"]["form"]) for line in lines] == [("c20", "record"), ("c21", "record")]
    again = sync("again", None, path=str(tmp_path / "failures.jsonl"))
    assert again.xcom("sync")["created"] == 2


def test_create_refuses_records_that_voucherify_has(stocked: LocalVoucherify) -> None:
    run = sync(
        "create", [customer(1, name="X"), customer(30)], read_back={"sync_mode": "create"}, fail_if={"failed": 1}
    )
    summary = run.xcom("sync")

    assert counts(summary, "updated", "created", "refused") == (0, 1, 1)
    assert summary["failures_by_key"] == {"already_exists": 1}
    assert stocked.customers["c1"]["name"] == "Customer 1"


def test_a_dry_run_says_what_would_change(
    stocked: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    rows = [customer(1), customer(2, segment="silver"), customer(40)]
    start = len(stocked.received)
    task_log()
    summary = compare("preview", rows, dry_run=True, report_path=str(tmp_path))

    assert counts(summary, "unchanged", "to_create", "requests") == (1, 1, 1)
    changed, created = summary["preview"]
    assert changed == {
        "id": "c2",
        "change": "update",
        "fields": {"metadata.segment": {"found": "gold", "sent": "silver"}},
    }
    assert (created["id"], created["change"], len(created["fields"])) == ("c40", "create", 3)
    assert [json.loads(line) for line in (tmp_path / "preview.jsonl").read_text().splitlines()] == summary["preview"]
    log = task_log()
    assert "What would change" in log
    assert re.search(r"^c2 +update +metadata.segment +gold +silver$", log, re.MULTILINE)
    assert [call for call in received_after(stocked, start) if call[0] == "POST"] == [("POST", "/v1/exports")]


@pytest.mark.parametrize(
    ("read_back", "segments", "options"),
    [
        ({"compare": True, "verify": "all"}, ["silver", "silver"], {}),
        ({"compare": True, "verify": "all"}, ["gold", "gold"], {}),
        ({"compare": True, "verify": "all"}, [], {}),
        ({"compare": True}, ["silver", "gold"], {"full_refresh": True}),
        ({"sync_mode": "update", "verify": 1}, ["silver", "silver"], {}),
        ({"verify": 9}, ["silver", "gold"], {}),
    ],
    ids=str,
)
def test_a_dry_run_counts_the_calls_that_read_back(
    stocked: LocalVoucherify,
    read_back: dict[str, Any],
    segments: list[str],
    options: dict[str, Any],
    task_log: Callable[[], str],
) -> None:
    rows = [customer(number, segment=segment) for number, segment in enumerate(segments, start=2)]
    task_log()
    counted = sync("counted", rows, read_back=read_back, dry_run=True, **options).xcom("sync")["requests_by_endpoint"]
    told = task_log()
    start = len(stocked.received)

    sync("made", rows, read_back=read_back, **options)

    made = [path for _, path in received_after(stocked, start)]
    if not any("/bulk" in path for path in made):  # so that no action is polled
        assert counted.get("/v1/async-actions", 0) == made.count("/v1/async-actions")
    assert counted.get("/v1/exports", 0) == sum(path.startswith("/v1/exports") for path in made)
    assert counted.get("/v1/customers/…", 0) == sum(path.startswith("/v1/customers/c") for path in made)
    assert ("reading back from" in told) is any(path.startswith(("/v1/exports", "/v1/customers/c")) for path in made)


def test_a_dry_run_with_hidden_values_shows_none(stocked: LocalVoucherify, task_log: Callable[[], str]) -> None:
    task_log()
    summary = compare("hidden", [customer(2, segment="silver")], dry_run=True, hide_values=True)
    shown = json.dumps(summary["preview"]) + task_log()
    assert summary["preview"][0]["change"] == "update"
    assert "silver" not in shown
    assert '"c2"' not in shown


def test_ids_that_share_metadata_are_compared_too(stocked: LocalVoucherify) -> None:
    assert sync("vip", ["c1", "c2"], VoucherifyBulkMetadataOperator, metadata={"vip": True}).state == "success"
    run = sync(
        "vips",
        ["c1", "c2", "c3"],
        VoucherifyBulkMetadataOperator,
        metadata={"vip": True},
        read_back={"compare": True},
    )
    assert counts(run.xcom("sync"), "unchanged", "submitted") == (2, 1)
    assert stocked.customers["c3"]["metadata"]["vip"] is True


@pytest.mark.parametrize("resource", ["products", "vouchers"])
def test_products_and_vouchers_are_compared_too(voucherify: LocalVoucherify, resource: str) -> None:
    key = "code" if resource == "vouchers" else "source_id"
    for code in ("v1", "v2"):
        voucherify.add_voucher(code, metadata={"tier": "old"})
    rows = [{key: "v1", "tier": "new"}, {key: "v2", "tier": "old"}]
    assert sync("before", rows, resource=resource).state == "success"
    summary = compare("after", [rows[0], rows[1] | {"tier": "new"}], resource=resource)
    assert counts(summary, "unchanged", "submitted") == (1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"export_header": "titles"},
        {"export_metadata_names": "bare"},
        {"export_header": "titles", "export_metadata_names": "bare"},
        {"export_lists": "json"},
        {"export_metadata_columns": "schema"},
        {"export_metadata_columns": "one"},
        {"export_updated_at": "created_at"},
        {"exports_need_auth": False},
    ],
    ids=str,
)
def test_it_holds_under_every_reading_of_the_format(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, keep_bodies=True, **options) as server:
        connect(monkeypatch, server)
        rows = [customer(number, address_city="Łódź, PL", birthdate="1990-01-31") for number in range(5)]
        assert sync("stock", rows).state == "success"
        rows[2]["segment"] = "silver"
        rows[3]["address_city"] = "Radom"
        assert counts(compare("compared", rows), "updated", "unchanged") == (2, 3)
        assert sent_ids(server)[5:] == ["c2", "c3"]


@pytest.mark.needs_airflow("3.3", "the task state store came with it")
def test_a_retry_waits_for_what_the_try_before_has_sent(stocked: LocalVoucherify) -> None:
    """Otherwise it would see what Voucherify had before, and send everything again."""
    stocked.next_actions(seconds=1.0)
    rows = [customer(number, segment="tin") for number in range(3)]
    run = sync(
        "retried",
        rows,
        read_back={"compare": True},
        completion_timeout=0.3,
        retries=3,
        retry_delay=timedelta(0),
    )
    assert run.state == "success"
    assert sent_ids(stocked)[10:] == ["c0", "c1", "c2"]
    assert counts(run.xcom("sync"), "unchanged", "submitted") == (3, 0)


def retried(stocked: LocalVoucherify, dag_id: str, first: int, read_back: dict[str, Any], **arguments: Any) -> Any:
    """Run a sync of two new customers whose first try has sent them, and cannot read them back; return its summary."""
    stocked.next_exports(times=1, status="DONE")
    stocked.next_exports(times=1, status="ERROR")
    retries: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(0)}
    rows = [customer(first), customer(first + 1)]
    run = sync(dag_id, rows, read_back={**read_back, "verify": "all"}, **retries, **arguments)
    assert run.state == "success"
    return run.xcom("sync")


@pytest.mark.parametrize("on_retry", ["resume", "restart"])
def test_a_retry_does_not_claim_to_know_what_its_run_has_created(stocked: LocalVoucherify, on_retry: str) -> None:
    """Nor does one that has no journal, as below Airflow 3.3."""
    summary = retried(stocked, "again", 50, {"compare": True}, fail_if={"created": 0}, on_retry=on_retry)
    assert counts(summary, "unchanged", "created", "updated") == (2, None, None)
    assert "created of fail_if was not checked" in summary["warning"]


def test_a_retry_takes_what_its_run_has_created_for_unchanged(stocked: LocalVoucherify) -> None:
    summary = retried(stocked, "created", 60, {"sync_mode": "create"})
    assert counts(summary, "unchanged", "refused") == (2, 0)


def test_what_another_run_has_queued_is_waited_for(stocked: LocalVoucherify) -> None:
    stocked.next_actions(seconds=1.0)
    queued = sync("other", [customer(1, segment="tin")], wait_for_completion=False)
    assert queued.state == "success"
    assert counts(compare("compared", [customer(1)]), "updated", "unchanged") == (1, 0)
    assert stocked.customers["c1"]["metadata"]["segment"] == "gold"


def test_what_the_state_holds_back_is_not_counted_as_created(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    schema = {"properties": {"tier": {"type": "number", "array": False}}, "allow_defined_only": False}
    voucherify.set_metadata_schema("customers", schema)
    state = {"path": f"{tmp_path}/state", "sync_name": "one"}
    arguments: dict[str, Any] = {"state": state, "fail_if": {"failed": None}, "requests": {"max_attempts": 1}}
    rows = [{"source_id": "bad", "tier": "x"}, {"source_id": "good", "tier": 1}]
    compare("first", rows, **arguments)
    second = compare("second", [rows[0], {"source_id": "good", "tier": 2}], **arguments)
    assert counts(second, "refused", "to_create", "created", "updated") == (1, 0, 0, 1)


def test_a_record_that_left_is_found_although_another_came_that_voucherify_had(
    stocked: LocalVoucherify, tmp_path: Path
) -> None:
    state = {"path": f"{tmp_path}/state", "sync_name": "one", "on_removed": "report"}
    compare("first", [customer(0), customer(1)], state=state)
    assert counts(compare("second", [customer(0), customer(2)], state=state), "removed") == (1,)


def test_wrong_values_are_told_when_the_dag_is_parsed() -> None:
    with pytest.raises(VoucherifyConfigurationError) as error, DAG("wrong", schedule=None):
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[],
            read_back={"compare": "voucherify", "sync_mode": "insert", "verify": 0},
        )
    for word in ("compare", "sync_mode", "verify"):
        assert word in str(error.value)
