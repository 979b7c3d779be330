"""
Extra links of the operators and the sensor. They need no connection: tasks put the URLs into XCom before they wait.

Airflow 3 stores a link when a task's process ends, so a process that was killed has none. These links are read from the
keys that the tasks write, so they exist from then on, whatever happens to the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow_provider_voucherify.compat import BaseOperatorLink, XCom, has_plugin_pages

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import BaseOperator, TaskInstanceKey

DASHBOARD_XCOM_KEY = "voucherify_dashboard_url"
REPORT_XCOM_KEY = "voucherify_report_url"
PAGE_XCOM_KEY = "voucherify_page_url"
FILE_XCOM_KEY = "voucherify_file_url"

_CONSOLES = {
    "s3": "https://console.aws.amazon.com/s3/buckets/{bucket}?prefix={path}/",
    "gs": "https://console.cloud.google.com/storage/browser/{bucket}/{path}",
}
"""Web pages that show a folder of a bucket."""


class _LinkInXCom(BaseOperatorLink):
    """A link that the task itself puts into XCom under ``xcom_key``."""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, or an empty string if there is none, or none yet."""
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""


class VoucherifyAsyncActionsLink(_LinkInXCom):
    """The Voucherify dashboard of the connection's region, whose audit log lists the async actions."""

    name = "Async actions in Voucherify"
    xcom_key = DASHBOARD_XCOM_KEY


class VoucherifyReportLink(_LinkInXCom):
    """The folder with the reports and ``failures.jsonl``, in the console of its bucket; see ``report_url``."""

    name = "Report"
    xcom_key = REPORT_XCOM_KEY


class VoucherifyRunPageLink(_LinkInXCom):
    """The page of the run in "Voucherify syncs", which Airflow has from 3.1 on."""

    name = "Voucherify sync"
    xcom_key = PAGE_XCOM_KEY


class VoucherifyDashboardLink(_LinkInXCom):
    """The Voucherify dashboard of the connection's region."""

    name = "Voucherify dashboard"
    xcom_key = DASHBOARD_XCOM_KEY


class VoucherifyExportedFileLink(_LinkInXCom):
    """The folder of an exported file, in the console of its bucket; see ``report_url``."""

    name = "Exported file"
    xcom_key = FILE_XCOM_KEY


EXTRA_LINKS = (
    VoucherifyAsyncActionsLink(),
    VoucherifyReportLink(),
    *([VoucherifyRunPageLink()] if has_plugin_pages() else []),
)
"""The links of every task that sends, or waits for what was sent."""

EXPORT_LINKS = (VoucherifyDashboardLink(), VoucherifyExportedFileLink())
"""The links of a task that exports."""

UI_COLOR = "#f4ecff"
"""The colour of all tasks of this package."""


def report_url(uri: str) -> str:
    """
    Return the web page that shows a report folder, or an empty string if no browser can show it.

    Airflow's user interface shows only links to web pages, so a link to a local folder, or to storage without a web
    console, would not appear or lead nowhere. The task's log and summary name the folder.

    :param uri: the folder, e.g. ``s3://conn_id@bucket/voucherify``.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return uri
    if (console := _CONSOLES.get(parts.scheme)) is None:
        return ""
    return console.format(bucket=parts.netloc.rpartition("@")[2], path=quote(parts.path.strip("/")))
