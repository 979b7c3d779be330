"""``validate_metadata="schema"``: what the project's schema forbids is refused before it costs a request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.exceptions import VoucherifyConfigurationError
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator

TIERS = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold", "silver"]}}}
ROWS = [{"source_id": f"c{number}", "tier": "tin" if number == 7 else "gold"} for number in range(20)]


def run(operator: type = VoucherifyBulkUpdateOperator, **kwargs: Any) -> DagRunResult:
    with DAG("validated", schedule=None) as dag:
        operator(
            task_id="sync",
            **{"resource": "customers", "records": ROWS, "validate_metadata": "schema", "fail_if": {"failed": 5}}
            | kwargs,
        )
    return run_dag(dag)


def test_a_row_that_the_schema_forbids_is_refused_with_the_servers_words(voucherify: LocalVoucherify) -> None:
    voucherify.set_metadata_schema("customers", TIERS)

    refused = run().xcom("sync")
    told = run(validate_metadata=None).xcom("sync")

    assert (refused["created"], refused["refused"], refused["failed"]) == (19, 1, 0)
    assert (told["refused"], told["failed"]) == (0, 1)
    assert refused["failures"][0]["key"] == told["failures"][0]["key"] == "metadata_validation_failed"
    assert refused["failures"][0]["message"] == told["failures"][0]["details"]


def test_records_of_one_object_column_are_looked_at_too(voucherify: LocalVoucherify) -> None:
    voucherify.set_metadata_schema("customers", TIERS)
    rows = [{"source_id": row["source_id"], "metadata": {"tier": row["tier"]}} for row in ROWS]

    assert run(records=rows).xcom("sync")["refused"] == 1


@pytest.mark.usefixtures("voucherify")
def test_a_project_without_a_schema_refuses_nothing() -> None:
    assert run().xcom("sync")["created"] == 20


def test_one_metadata_for_all_ids_has_to_fit_the_schema(voucherify: LocalVoucherify) -> None:
    voucherify.set_metadata_schema("customers", TIERS)

    assert run(VoucherifyBulkMetadataOperator, records=["c1"], metadata={"tier": "tin"}).state == "failed"
    assert run(VoucherifyBulkMetadataOperator, records=["c1"], metadata={"tier": "gold"}).state == "success"
    assert [json.loads(r.body)["metadata"] for r in voucherify.received if r.method == "POST"] == [{"tier": "gold"}]


def test_other_ways_of_validating_are_not_known() -> None:
    with pytest.raises(VoucherifyConfigurationError, match="validate_metadata must be 'schema' or None"):
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=[], validate_metadata="strict")
