"""One run of an operator or of the sensor, as far as all of them are alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_voucherify.compat import pages
from airflow_provider_voucherify.links.async_action import (
    DASHBOARD_XCOM_KEY,
    PAGE_XCOM_KEY,
    REPORT_XCOM_KEY,
    report_url,
)
from airflow_provider_voucherify.task.completion import Completion, Deferral, Done
from airflow_provider_voucherify.task.conclusion import conclude
from airflow_provider_voucherify.task.metrics import Metrics

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.storage.report_folder import StorageReportFolder
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
    from airflow_provider_voucherify.task.history import TryRecord

IDS_XCOM_KEY = "async_action_ids"
ERROR_XCOM_KEY = "voucherify_error"
"""What a try has failed with, for the page of the run: Airflow itself keeps it in the log alone."""


class TaskRun:
    """
    What every run needs: the connection, the report folder, the links, the record of it, the end.

    A context manager: it closes the record.

    :param task: the operator or sensor, its templates rendered. Of its own parameters ``voucherify_conn_id``,
        ``report_path``, ``on_failed_records_callback`` and the thresholds are read.
    :param resource: what the batches update; None if only their actions can tell.
    """

    def __init__(self, task: Any, context: Context, resource: str | None = None) -> None:
        self.context = context
        self.resource = resource
        self._task = task
        self._log = task.log
        self._record: TryRecord | None = None
        self.metrics = self._metrics_of(resource)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._tell_why(error)
        if self._record is not None:
            self._record.close(error)

    def _tell_why(self, error: BaseException) -> None:
        """Put what the try has failed with into XCom."""
        from airflow_provider_voucherify.task.history import error_columns, is_failure

        if is_failure(error):
            with suppress(Exception):  # the error itself says more
                self.context["ti"].xcom_push(key=ERROR_XCOM_KEY, value=error_columns(error))

    def hook(self) -> VoucherifyHook:
        """Return a new hook, to be closed by the caller."""
        from airflow_provider_voucherify.task.metered_hook import MeteredHook

        return MeteredHook(
            self._task.voucherify_conn_id, self.metrics.calls_made, quotes_answers=not self._task.hide_values
        )

    @cached_property
    def folder(self) -> StorageReportFolder | None:
        """The folder of ``report_path``, of a mapped task that of its instance; None without."""
        from airflow_provider_voucherify.storage.paths import path_text
        from airflow_provider_voucherify.storage.report_folder import StorageReportFolder

        if not self._task.report_path:
            return None
        map_index = self.context["ti"].map_index
        path = path_text("report_path", self._task.report_path).rstrip("/")
        return StorageReportFolder(path if map_index is None or map_index < 0 else f"{path}/map_index={map_index}")

    def begin(self, *, stages: bool = False) -> None:
        """
        Record that the try begins, and forget what an earlier one has left in the task and its links.

        :param stages: whether what was sent is kept while the task is deferred.
        """
        from airflow_provider_voucherify.task.tracked_state import begun_record

        self._task.summary = None
        self.clear_links()
        record = begun_record(self._task, self.context, stages=stages)
        record.open()
        self._record = record

    def go_on(self) -> None:
        """Take up the record of a try that was deferred."""
        from airflow_provider_voucherify.task.tracked_state import try_record

        self._record = try_record(self._task, self.context)

    def clear_links(self) -> None:
        """
        Write empty XComs for links and sensor, so that Airflow does not log an error when nothing is sent; the page of
        the run is known from the beginning.
        """
        for key, nothing in ((IDS_XCOM_KEY, []), (DASHBOARD_XCOM_KEY, ""), (REPORT_XCOM_KEY, "")):
            self.context["ti"].xcom_push(key=key, value=nothing)
        if (page := pages(self.context).sync) is not None:
            self.context["ti"].xcom_push(key=PAGE_XCOM_KEY, value=page)

    def announce_links(self, hook: VoucherifyHook) -> None:
        """Put the links into XCom before sending or waiting, so that a task that is killed has them."""
        from airflow_provider_voucherify.models.endpoints import dashboard_url

        ti = self.context["ti"]
        ti.xcom_push(key=DASHBOARD_XCOM_KEY, value=dashboard_url(hook.get_conn().settings.base_url))
        ti.xcom_push(key=REPORT_XCOM_KEY, value=report_url(self.folder.uri) if self.folder is not None else "")

    def announce(self, hook: VoucherifyHook, async_action_ids: Sequence[str]) -> None:
        """Put the ids into XCom too."""
        self.context["ti"].xcom_push(key=IDS_XCOM_KEY, value=async_action_ids)
        self.announce_links(hook)

    def completion(
        self,
        hook: VoucherifyHook,
        sync: SubmittedSync,
        settle: Callable[..., SyncSummary],
        end_time: float,
        poll_interval: float | timedelta | None,
        **more: Any,
    ) -> Completion:
        """Return what waits for submitted actions as the task's parameters say."""
        task, client = self._task, hook.get_conn()
        more.update(deferrable=task.deferrable, conn_id=task.voucherify_conn_id, log=task.log)
        return Completion(sync, client, settle, end_time=end_time, poll_interval=poll_interval, **more)

    def finish(self, step: Done | Deferral) -> dict[str, Any]:
        """Do what a ``Completion`` says: conclude, or leave the worker."""
        if isinstance(step, Deferral):
            self._task.defer(trigger=step.trigger(), method_name="execute_complete")
            raise AssertionError("defer() has returned")
        self._metrics_of(step.summary.resource or self.resource).completion_waited(step.waited)
        return self.conclude(step.summary)

    def conclude(self, summary: SyncSummary) -> dict[str, Any]:
        """Return the summary as the task's result, or fail; see ``task.conclusion``."""
        metrics = self._metrics_of(summary.resource or self.resource)
        return conclude(self._task, self.context, summary, metrics, self.prepare_retry, self.folder)

    def prepare_retry(self, message: str) -> None:
        """Prepare a retry after a threshold was exceeded; nothing can be done better by that of a sensor."""

    def _metrics_of(self, resource: str | None) -> Metrics:
        return Metrics(resource=resource, dag_id=self._task.dag_id, task_id=self._task.task_id)
