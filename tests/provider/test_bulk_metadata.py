"""``VoucherifyBulkMetadataOperator``: one metadata for all ids, or metadata per row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.exceptions import VoucherifyConfigurationError
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator


def run(**kwargs: Any) -> DagRunResult:
    with DAG("bulk_metadata", schedule=None) as dag:
        VoucherifyBulkMetadataOperator(task_id="tag", **kwargs)
    return run_dag(dag)


def bodies(voucherify: LocalVoucherify) -> dict[str, Any]:
    return {r.path: json.loads(r.body) for r in voucherify.received if r.method == "POST"}


@pytest.mark.parametrize(("resource", "ids_field"), [("customers", "source_ids"), ("products", "source_ids")])
def test_one_metadata_for_all_ids(voucherify: LocalVoucherify, resource: str, ids_field: str) -> None:
    result = run(resource=resource, records=["a", "b"], metadata={"season": "{{ params.s }}"}, params={"s": "winter"})

    assert bodies(voucherify) == {
        f"/v1/{resource}/metadata/async": {ids_field: ["a", "b"], "metadata": {"season": "winter"}}
    }
    assert result.xcom("tag")["created"] == 2
    said = f"2 {resource} did not exist and were created with nothing but metadata; created of fail_if"
    assert said in result.xcom("tag")["warning"]


def test_one_that_did_not_exist_is_told_in_the_singular(voucherify: LocalVoucherify) -> None:
    result = run(resource="customers", records=["a"], metadata={"season": "winter"})

    said = "1 customer did not exist and was created with nothing but metadata; created of fail_if or warn_if"
    assert result.xcom("tag")["warning"].startswith(said)


def test_vouchers_are_found_or_reported_as_failed_never_created(voucherify: LocalVoucherify) -> None:
    voucherify.add_voucher("KNOWN", metadata={"old": 1})

    result = run(resource="vouchers", records=["KNOWN", "TYPO"], metadata={"lang": "en"}, fail_if={"failed": 1})

    summary = result.xcom("tag")
    assert (summary["updated"], summary["created"], summary["failed"]) == (1, 0, 1)
    assert summary["failures"][0]["id"] == "TYPO"
    assert voucherify.vouchers["KNOWN"]["metadata"]["lang"] == "en"
    assert bodies(voucherify)["/v1/vouchers/metadata/async"]["codes"] == ["KNOWN", "TYPO"]


def test_metadata_per_row_goes_into_one_request(voucherify: LocalVoucherify) -> None:
    rows = [{"source_id": f"c{i}", "name": f"stays metadata {i}", "score": i} for i in range(50)]

    result = run(resource="customers", records=rows)

    [records] = [bodies(voucherify)["/v1/customers/bulk/async"]]
    assert records[7] == {"source_id": "c7", "metadata": {"name": "stays metadata 7", "score": 7}}
    assert result.xcom("tag")["requests"] == 1


def test_with_one_metadata_the_other_columns_are_not_read(voucherify: LocalVoucherify) -> None:
    run(resource="customers", records=[{"source_id": "c1", "email": "x@y.z", "score": float("nan")}], metadata={"a": 1})

    assert bodies(voucherify)["/v1/customers/metadata/async"] == {"source_ids": ["c1"], "metadata": {"a": 1}}


@pytest.mark.parametrize("metadata", ["text", {}, {"bad": float("nan")}])
def test_metadata_that_cannot_be_sent_is_refused_when_the_dag_is_parsed(metadata: Any) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="task 'tag': metadata "):
        run(resource="customers", records=["c1"], metadata=metadata)


def test_a_row_without_metadata_is_refused(voucherify: LocalVoucherify) -> None:
    result = run(
        resource="vouchers", records=[{"code": "A", "tier": None}, {"code": "B", "tier": 1}], fail_if={"failed": None}
    )

    assert result.xcom("tag")["failures"][0]["key"] == "nothing_to_send"
    assert bodies(voucherify)["/v1/vouchers/bulk/async"] == [{"code": "B", "metadata": {"tier": 1}}]


def test_few_distinct_metadata_go_as_lists_of_ids_where_that_saves_requests(voucherify: LocalVoucherify) -> None:
    """Five requests of at most 2,000 bytes hold the records; one request for each tier holds all of its ids."""
    rows = [{"source_id": f"c{i:03}", "tier": "gold" if i % 2 else "silver"} for i in range(160)]

    result = run(resource="customers", records=rows, requests={"max_bytes": 2_000})

    sent = [json.loads(r.body) for r in voucherify.received if r.method == "POST"]
    assert {r.path for r in voucherify.received if r.method == "POST"} == {"/v1/customers/metadata/async"}
    assert [
        (len(body["source_ids"]), body["metadata"]) for body in sorted(sent, key=lambda body: body["source_ids"])
    ] == [
        (80, {"tier": "silver"}),
        (80, {"tier": "gold"}),
    ]
    assert {name: customer["metadata"]["tier"] for name, customer in voucherify.customers.items()} == {
        row["source_id"]: row["tier"] for row in rows
    }
    summary = result.xcom("tag")
    assert (summary["created"], summary["requests"], summary["resource"]) == (160, 2, "customers")


def test_large_groups_leave_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows = [{"source_id": f"c{i:03}", "note": "the same" * 10 if i % 4 else f"{i}"} for i in range(200)]
    rows[6]["note"] = "x" * 300
    schema = {"properties": {"note": {"type": "string", "maxLength": 200, "optional": True}}}
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, metadata_schemas={"customer": schema}) as server:
        connect(monkeypatch, server)
        result = run(
            resource="customers",
            records=rows,
            fail_if={"failed": 1},
            requests={"max_bytes": 4_000},
            report_path=str(tmp_path),
        )
        paths = sorted(r.path for r in server.received if r.method == "POST")

    assert paths == ["/v1/customers/bulk/async", "/v1/customers/metadata/async"]
    summary = result.xcom("tag")
    assert (summary["created"], summary["failed"], summary["not_reported"]) == (199, 1, 0)
    [line] = (tmp_path / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["metadata"] == {"note": "x" * 300}


@pytest.mark.parametrize(
    ("plan", "paths"),
    [("bulk", ["/v1/vouchers/bulk/async"]), ("metadata", ["/v1/vouchers/metadata/async"] * 3)],
)
def test_a_plan_can_be_chosen(voucherify: LocalVoucherify, plan: str, paths: list[str]) -> None:
    for i in range(9):
        voucherify.add_voucher(f"V{i}")

    result = run(resource="vouchers", records=[{"code": f"V{i}", "batch": i % 3} for i in range(9)], plan=plan)

    assert [r.path for r in voucherify.received if r.method == "POST"] == paths
    assert [voucherify.vouchers[f"V{i}"]["metadata"]["batch"] for i in range(9)] == [i % 3 for i in range(9)]
    assert result.xcom("tag")["updated"] == 9


def test_too_many_distinct_metadata_are_no_plan_for_lists_of_ids(voucherify: LocalVoucherify) -> None:
    rows = [{"source_id": f"c{i}", "n": i} for i in range(1_001)]

    assert run(resource="customers", records=rows, plan="metadata").state == "failed"
    assert voucherify.received == []


@pytest.mark.parametrize("wrong", [{"plan": "best"}, {"plan": "bulk", "metadata": {"a": 1}}])
def test_plans_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="plan"):
        VoucherifyBulkMetadataOperator(task_id="tag", resource="customers", records=["c1"], **wrong)
