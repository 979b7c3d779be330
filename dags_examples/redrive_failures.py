"""
Send the failed records of an earlier run again, after what was wrong has been put right.

``failures.jsonl`` has records that Voucherify refused as they were sent, and rows that were refused before sending as
they came from the source. ``path=`` reads both. Records that fail again are in the ``failures.jsonl`` of this run.

Connection: ``voucherify_default``. Variable: ``voucherify_reports``, a local folder or an object-storage URI.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

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
        report_path="{{ var.value.voucherify_reports }}/redriven/{{ run_id }}",
        max_failed_records=None,
        deferrable=True,
    )
