"""
Send the failed records of an earlier run again, after what was wrong has been put right.

``failures.jsonl`` has records that Voucherify refused as they were sent, and rows that were refused before sending as
they came from the source. ``path=`` reads both; the mapping is the one of the task that refused the rows. Records that
fail again are in the ``failures.jsonl`` of this run.

Connection: ``voucherify_default``. Variable: ``voucherify_reports``, a local folder or an object-storage URI.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

with DAG(
    "redrive_failures",
    schedule=None,
    params={"failures": Param("/var/reports/customers/failures.jsonl", type="string")},
    tags=["voucherify"],
    doc_md=__doc__,
):
    VoucherifyBulkUpdateOperator(
        task_id="send_again",
        resource="customers",
        path="{{ params.failures }}",
        mapping={
            "customer_id": "source_id",
            "full_name": "name",
            "email": "email",
            "phone": "phone",
            "birthdate": "birthdate",
            "street": "address.line_1",
            "city": "address.city",
            "country": "address.country",
            "segment": "metadata.segment",
        },
        report_path="{{ var.value.voucherify_reports }}/redriven/{{ run_id }}",
        fail_if={"failed": None},
        deferrable=True,
    )
