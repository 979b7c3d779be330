"""
One metadata tag for many customers: everyone who bought in the last days belongs to a campaign's audience.

The query gives ids alone. All of them get the same metadata, through ``POST /v1/customers/metadata/async``.

Connections: ``voucherify_default`` and ``warehouse``.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator

with DAG(
    "constant_metadata_tag",
    schedule=None,
    params={
        "audience": Param("spring-2027", type="string"),
        "bought_since": Param("2026-10-01", type="string", format="date"),
    },
    tags=["voucherify"],
    doc_md=__doc__,
):
    VoucherifyBulkMetadataOperator(
        task_id="tag_audience",
        resource="customers",
        sql="SELECT DISTINCT customer_id AS source_id FROM orders WHERE ordered_on >= :since",
        sql_parameters={"since": "{{ params.bought_since }}"},
        sql_conn_id="warehouse",
        metadata={"audience": "{{ params.audience }}"},
        deferrable=True,
    )
