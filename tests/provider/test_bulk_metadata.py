"""``VoucherifyBulkMetadataOperator``: one metadata for all ids, or metadata per row."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import DAG
from dags import DagRunResult, run_dag

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


def test_vouchers_are_found_or_reported_as_failed_never_created(voucherify: LocalVoucherify) -> None:
    voucherify.add_voucher("KNOWN", metadata={"old": 1})

    result = run(resource="vouchers", records=["KNOWN", "TYPO"], metadata={"lang": "en"}, max_failed_records=1)

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
def test_metadata_that_cannot_be_sent_is_refused_before_anything_is(voucherify: LocalVoucherify, metadata: Any) -> None:
    assert run(resource="customers", records=["c1"], metadata=metadata).state == "failed"
    assert voucherify.received == []


def test_a_row_without_metadata_is_refused(voucherify: LocalVoucherify) -> None:
    result = run(
        resource="vouchers", records=[{"code": "A", "tier": None}, {"code": "B", "tier": 1}], max_failed_records=None
    )

    assert result.xcom("tag")["failures"][0]["key"] == "nothing_to_send"
    assert bodies(voucherify)["/v1/vouchers/bulk/async"] == [{"code": "B", "metadata": {"tier": 1}}]
