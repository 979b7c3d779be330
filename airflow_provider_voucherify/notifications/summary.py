"""Telling people what became of a sync, through any Airflow notifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import BaseNotifier

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context

SUMMARY_KEY = "voucherify_summary"
TEXT_KEY = "voucherify_text"


class VoucherifySummaryNotifier(BaseNotifier):
    """
    Adds a Voucherify task's summary to the context of another notifier, for Airflow's own callbacks.

    ``on_failed_records_callback=`` of the operators needs no wrapping: it has ``voucherify_summary`` and
    ``voucherify_text`` in its context already. This notifier brings the same two to ``on_success_callback=``,
    ``on_failure_callback=`` and the like, for a nightly "what arrived"::

        VoucherifyBulkUpdateOperator(
            ...,
            on_success_callback=VoucherifySummaryNotifier(SlackWebhookNotifier(text="{{ voucherify_text }}")),
        )

    :param notifier: any notifier, or a callable that takes the context. Its templates may use ``voucherify_text``
        (a few lines of text) and ``voucherify_summary`` (the dict that the task returns).
    :param task_id: the Voucherify task, where the callback belongs to another one (or to the DAG).
    """

    def __init__(self, notifier: Callable[[Any], Any], task_id: str | None = None) -> None:
        super().__init__()
        self.notifier = notifier
        self.task_id = task_id

    def notify(self, context: Context) -> None:
        """Read the summary from XCom and call the notifier."""
        self.notifier({**context, **self._told(context)})

    def _told(self, context: Context) -> dict[str, Any]:
        from airflow_provider_voucherify.sync.summary import SyncSummary

        ti = context["ti"]
        map_index = None if self.task_id else ti.map_index
        found = ti.xcom_pull(task_ids=self.task_id or ti.task_id, map_indexes=map_index)
        if not isinstance(found, dict):
            return {SUMMARY_KEY: {}, TEXT_KEY: f"Voucherify task {self.task_id or ti.task_id}: no summary"}
        return {SUMMARY_KEY: found, TEXT_KEY: SyncSummary.model_validate(found).text()}
