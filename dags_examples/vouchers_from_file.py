"""
Metadata of vouchers from a file that another system drops: CSV or JSON lines, local or in object storage.

The file's column ``code`` names the voucher, and every other column becomes metadata, which is all that a bulk update
of vouchers can change. Unknown codes are not created; they count as failed.

Connection: ``voucherify_default``.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

with DAG(
    "vouchers_from_file",
    schedule=None,
    params={"path": Param("s3://aws_default@incoming/vouchers.csv", type="string")},
    tags=["voucherify"],
    doc_md=__doc__,
):
    VoucherifyBulkUpdateOperator(
        task_id="update_vouchers",
        resource="vouchers",
        path="{{ params.path }}",
        deferrable=True,
    )
