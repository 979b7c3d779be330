"""Extra links of the operators and the sensor; both show what the task put into XCom, so they need no connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from airflow_provider_voucherify.compat import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import BaseOperator, TaskInstanceKey

DASHBOARD_XCOM_KEY = "voucherify_dashboard_url"
REPORT_XCOM_KEY = "voucherify_report_uri"


@attrs.define()
class VoucherifyAsyncActionsLink(BaseOperatorLink):
    """The Voucherify dashboard of the connection's region, whose audit log lists the async actions."""

    name: str = "Async actions in Voucherify"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, or an empty string before the task has submitted anything."""
        return XCom.get_value(ti_key=ti_key, key=DASHBOARD_XCOM_KEY) or ""


@attrs.define()
class VoucherifyReportLink(BaseOperatorLink):
    """The folder with the reports and ``failures.jsonl``."""

    name: str = "Report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the folder's URI, or an empty string where no ``report_path`` was given."""
        return XCom.get_value(ti_key=ti_key, key=REPORT_XCOM_KEY) or ""
