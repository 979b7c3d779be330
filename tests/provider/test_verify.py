"""``verify=``: what was sent is read back, and counts for more than what Voucherify's answers say of it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, run_dag
from installed import needs_store

from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator


def sync(dag_id: str, records: Any, operator: Any = VoucherifyBulkUpdateOperator, **arguments: Any) -> DagRunResult:
    with DAG(dag_id, schedule=None) as dag:
        operator(task_id="sync", **{"resource": "customers", "records": records, **arguments})
    return run_dag(dag)


def counts(run: DagRunResult, *names: str) -> tuple[Any, ...]:
    summary = run.xcom("sync")
    return tuple(summary[name] for name in names)


def customers(number: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"source_id": f"c{one}", "name": "Ann", "segment": "gold", "score": one, **fields} for one in range(number)]


@pytest.mark.parametrize("verify", ["all", 5])
def test_what_was_sent_is_read_back(voucherify: LocalVoucherify, verify: Any) -> None:
    run = sync("verified", customers(8), read_back={"verify": verify})
    assert run.state == "success"
    assert counts(run, "verified", "differing", "missing") == (8 if verify == "all" else 5, 0, 0)
    exports = voucherify.requests("POST", "/v1/exports")
    assert len(exports) == (1 if verify == "all" else 0)


@pytest.mark.parametrize("resource", ["products", "vouchers"])
@pytest.mark.parametrize("verify", ["all", 2])
def test_products_and_vouchers_too(voucherify: LocalVoucherify, resource: str, verify: Any) -> None:
    key = "code" if resource == "vouchers" else "source_id"
    for code in ("v1", "v2"):
        voucherify.add_voucher(code)
    run = sync(
        "others", [{key: "v1", "tier": "a"}, {key: "v2", "tier": "b"}], resource=resource, read_back={"verify": verify}
    )
    assert counts(run, "verified", "differing", "missing") == (2, 0, 0)


def test_what_voucherify_only_says_to_have_written_fails_the_task(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify.next_actions(applies_records=False)
    run = sync("lied", customers(3), read_back={"verify": "all"}, report_path=str(tmp_path))

    assert run.task_state("sync") == "failed"
    assert counts(run, "succeeded", "verified", "missing") == (3, 0, 3)
    lines = [json.loads(line) for line in (tmp_path / "differences.jsonl").read_text().splitlines()]
    assert [(line["id"], line["change"]) for line in lines] == [("c0", "missing"), ("c1", "missing"), ("c2", "missing")]
    assert "3 of 3 records that were read back are not as they were sent" in run.xcom("sync")["warning"]


def test_a_limit_says_how_many_may_differ(voucherify: LocalVoucherify) -> None:
    voucherify.next_actions(applies_records=False)
    run = sync("allowed", customers(3), read_back={"verify": "all"}, fail_if={"differing": 3}, warn_if={"differing": 0})
    assert run.state == "success"
    assert "differing of warn_if is 0" in run.xcom("sync")["warning"]


def test_records_that_failed_are_not_looked_for(voucherify: LocalVoucherify) -> None:
    rows = [*customers(2), {"source_id": "c9", "name": "Ann", "birthdate": "1990-01-01", "vip": True}]
    schema = {"properties": {"vip": {"type": "string", "array": False}}, "allow_defined_only": False}
    voucherify.set_metadata_schema("customers", schema)
    run = sync("failed", rows, read_back={"verify": "all"}, fail_if={"failed": 1})
    assert counts(run, "failed", "verified", "missing") == (1, 2, 0)


def test_metadata_that_is_replaced_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns are sent, one by one: if the second request replaces the first, the first is gone."""
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, metadata_mode="replace") as server:
        connect(monkeypatch, server)
        assert sync("one", [{"source_id": "c1", "a": 1}], read_back={"verify": "all"}).state == "success"
        assert sync("two", [{"source_id": "c1", "b": 2}], read_back={"verify": "all"}).state == "success"
        run = sync("both", [{"source_id": "c1", "a": 1}], read_back={"compare": True}, dry_run=True)
        assert run.xcom("sync")["preview"][0]["fields"] == {"metadata.a": {"found": "", "sent": 1}}


@pytest.mark.parametrize("place", ["tables", "folder"])
def test_what_was_read_back_counts_for_the_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    """A voucher that is only counted as done need not exist, so it is never confirmed, unless it was read back."""
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "books.db")}))
    state = {"tables": {"conn_id": "books"}, "folder": {"path": f"{tmp_path}/state"}}[place] | {"sync_name": "one"}
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, missing_vouchers="done") as server:
        connect(monkeypatch, server)
        server.add_voucher("v1")
        server.next_actions(times=3, result_fields={"reports": []})
        rows = [{"code": "v1", "tier": "a"}, {"code": "v2", "tier": "a"}]
        arguments: dict[str, Any] = {"resource": "vouchers", "state": state, "fail_if": {"differing": 1}}
        first = sync("first", rows, read_back={"verify": "all"}, **arguments)
        assert counts(first, "submitted", "verified", "missing") == (2, 1, 1)
        second = sync("second", rows, read_back={"verify": "all"}, **arguments)
        assert counts(second, "unchanged", "submitted", "missing") == (1, 1, 1)


def test_a_deferred_task_reads_back_when_it_resumes(
    voucherify: LocalVoucherify, tmp_path: Path, defer_at_once: None
) -> None:
    voucherify.next_actions(seconds=1.0)
    run = sync("deferred", customers(4), read_back={"verify": "all"}, deferrable=True, report_path=str(tmp_path))
    assert run.deferred_tasks() == {"sync"}
    assert counts(run, "succeeded", "verified") == (4, 4)


def test_ids_that_share_metadata_are_read_back(voucherify: LocalVoucherify) -> None:
    run = sync(
        "shared",
        ["c1", "c2"],
        VoucherifyBulkMetadataOperator,
        metadata={"vip": True, "n": 1.5},
        read_back={"verify": "all"},
    )
    assert counts(run, "verified", "differing", "missing") == (2, 0, 0)


def test_an_export_that_fails_is_told(voucherify: LocalVoucherify) -> None:
    voucherify.next_exports(status="ERROR")
    run = sync("broken", customers(1), read_back={"verify": "all"})
    assert run.task_state("sync") == "failed"
    assert "export" in run.xcom("sync", "voucherify_error")["error_message"]


@needs_store
def test_a_retry_after_an_export_that_failed_sends_nothing_twice(voucherify: LocalVoucherify) -> None:
    voucherify.next_exports(status="ERROR")
    run = sync("again", customers(3), read_back={"verify": "all"}, retries=1, retry_delay=timedelta(0))
    assert run.state == "success"
    assert counts(run, "succeeded", "verified") == (3, 3)
    assert len(voucherify.requests("POST", "/v1/customers/bulk/async")) == 1


@needs_store
@pytest.mark.parametrize("verify", ["all", 20])
@pytest.mark.parametrize("is_put_right", [True, False])
def test_a_record_that_a_retry_sends_again_counts_once_though_its_first_report_is_gone(
    monkeypatch: pytest.MonkeyPatch, verify: Any, is_put_right: bool
) -> None:
    """Only that report tells which codes there were not: for the next try all of them may be what it has sent."""
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, missing_vouchers="done") as server:
        connect(monkeypatch, server)
        for code in ("v1", "v2"):
            server.add_voucher(code)

        def put_right(_: Any) -> None:
            if is_put_right:
                server.add_voucher("v3")

        server.misbehave("report", Status(404), after=2, times=1)
        run = sync(
            "again",
            [{"code": f"v{number}", "tier": "a"} for number in (1, 2, 3)],
            resource="vouchers",
            read_back={"verify": verify},
            on_retry="resend_failed",
            on_retry_callback=put_right,
            retries=1,
            retry_delay=timedelta(0),
        )

    assert len(server.requests("POST", "/v1/vouchers/bulk/async")) == 2
    assert counts(run, "submitted", "succeeded", "failed") == ((3, 3, 0) if is_put_right else (3, 2, 1))
    assert counts(run, "verified", "differing", "missing") == ((3, 0, 0) if is_put_right else (2, 0, 0))


def test_a_deferrable_task_needs_a_place_for_what_it_has_sent() -> None:
    with pytest.raises(VoucherifyConfigurationError, match="verify of read_back needs state="), DAG("w", schedule=None):
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=[], read_back={"verify": "all"}, deferrable=True
        )


def test_outcomes_are_kept_if_reading_back_fails(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify.next_exports(status="ERROR")
    state = {"path": f"{tmp_path}/state", "sync_name": "one"}
    assert sync("one", customers(3), read_back={"verify": "all"}, state=state).task_state("sync") == "failed"
    assert counts(sync("two", customers(3), state=state), "unchanged", "requests") == (3, 0)


def test_a_task_that_does_not_wait_cannot_verify() -> None:
    with (
        pytest.raises(VoucherifyConfigurationError, match="verify of read_back needs wait_for"),
        DAG("w", schedule=None),
    ):
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=[], read_back={"verify": "all"}, wait_for_completion=False
        )
