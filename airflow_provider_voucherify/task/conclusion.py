"""The end of a task whose summary is known: thresholds, log, metrics, callbacks, asset events, return value."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import events_of_outlets, fresh, pages, with_values
from airflow_provider_voucherify.models.errors import refuse_all
from airflow_provider_voucherify.notifications.texts import ready_texts
from airflow_provider_voucherify.policies import Limits
from airflow_provider_voucherify.sync.results.thresholds import (
    exceeded_limits,
    expected_failures,
    expected_keys,
    limit_warnings,
)
from airflow_provider_voucherify.sync.types.text import counted

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.storage.report_folder import StorageReportFolder
    from airflow_provider_voucherify.sync.results.export_summary import ExportSummary
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.task.metrics import Metrics

Callback = Callable[[Any], Any]


def limits_of(task: Any, parameter: str) -> Limits:
    """
    Return ``fail_if`` or ``warn_if`` of a task as a value.

    :raises VoucherifyConfigurationError: it is invalid, or has limits that this task cannot check (``checked_limits``).
    """
    limits = Limits.of(parameter, getattr(task, parameter))
    refuse_all(
        f"{name} of {parameter} cannot be checked by {type(task).__name__}"
        for name in limits.given
        if name not in task.checked_limits
    )
    return limits


def fail_limits(task: Any) -> Limits:
    """Return what makes a task fail, with the defaults of ``fail_if``."""
    return _limits_for(task, "fail_if", differing_of_report=None).to_fail


def warn_limits(task: Any) -> Limits:
    """Return what makes a task warn, with the defaults of ``warn_if``."""
    return _limits_for(task, "warn_if", differing_of_report=0).to_warn


def _limits_for(task: Any, parameter: str, *, differing_of_report: int | None) -> Limits:
    limits = limits_of(task, parameter)
    is_default = only_compares(task) and "differing" not in limits.given
    return replace(limits, differing=differing_of_report) if is_default else limits


def only_compares(task: Any) -> bool:
    """Say whether a task only says what differs, and sends nothing."""
    return getattr(task, "only_compares", False)


def expected_keys_of(task: Any) -> set[str]:
    """Return the keys of reasons for which rows may fail."""
    return expected_keys(fail_limits(task), warn_limits(task))


def with_warnings(task: Any, summary: SyncSummary) -> SyncSummary:
    """Return the summary with what of it is expected, and every limit that is exceeded or could not be checked."""
    expected = expected_failures(summary, expected_keys_of(task))
    summary = summary.model_copy(update={"expected_by_key": expected})
    return summary.with_warning(*limit_warnings(summary, fail_limits(task), warn_limits(task)))


def with_unasked(task: Any, summary: SyncSummary) -> SyncSummary:
    """Return the summary of an update of metadata alone, with a warning if it created records and none limits that."""
    created = summary.created_at_least if summary.created is None else summary.created
    if not created or any(limits_of(task, name).created is not None for name in ("fail_if", "warn_if")):
        return summary
    known = "at least " if summary.created is None else ""
    one = task.resource.removesuffix("s")
    new = counted(created, f"{one} did not exist and was", f"{task.resource} did not exist and were")
    return summary.with_warning(
        f"{known}{new} created with nothing but metadata; created of fail_if or warn_if says how many may be"
    )


def conclude(
    task: Any,
    context: Context,
    summary: SyncSummary,
    metrics: Metrics,
    prepare_retry: Callable[[str], None],
    folder: StorageReportFolder | None,
) -> dict[str, Any]:
    """
    Log what happened, call the callbacks, and return the summary, or fail if a threshold is exceeded.

    :param prepare_retry: given the message; if a retry can do better, it prepares that and raises an error that Airflow
        retries.
    :param folder: of ``report_path``, for the page about the run.
    :raises VoucherifyRecordsFailedError: a threshold is exceeded.
    """
    exceeded = exceeded_limits(summary, fail_limits(task), "fail_if")
    summary = with_link(summary, context)
    if folder is not None and not summary.dry_run:  # which leaves that of the last run
        _write_page(task, context, summary, exceeded, folder)
    keep_summary(task, context, summary)
    metrics.concluded(summary)
    text, value = summary.text(), summary.as_xcom()
    needs_attention = summary.unexpected or summary.not_reported or summary.warning
    task.log.log(logging.WARNING if needs_attention else logging.INFO, "%s", summary.text(None, link=False))
    if summary.page_url:
        task.log.info("Run: %s", summary.page_url)
    if summary.not_reported:
        task.log.warning("Voucherify's answers do not mention %d of the records that were sent", summary.not_reported)
    if needs_attention or summary.failed_async_action_ids:
        _call_back(task, context, value)
    if exceeded:
        from airflow_provider_voucherify.exceptions import VoucherifyRecordsFailedError

        if task.do_xcom_push:
            context["ti"].xcom_push(key="return_value", value=value)
        message = "\n".join([*exceeded, text])
        prepare_retry(message)
        raise VoucherifyRecordsFailedError(message, value)
    return value


def _write_page(
    task: Any, context: Context, summary: SyncSummary, exceeded: Sequence[str], folder: StorageReportFolder
) -> None:
    """Write a page about the run; that it cannot be written is no reason to fail."""
    from airflow_provider_voucherify.notifications.report_page import FILE_NAME, report_page

    ti: Any = context["ti"]
    mapped = {"map index": f"map index {ti.map_index}"} if ti.map_index is not None and ti.map_index >= 0 else {}
    about = {"task": f"{ti.dag_id}.{ti.task_id}", **mapped, "run": str(ti.run_id), "try": f"try {ti.try_number}"}
    try:
        with folder.write(FILE_NAME) as file:
            file.write(report_page(summary, about, exceeded).encode())
    except Exception:
        task.log.warning("The page %s cannot be written into the folder of report_path", FILE_NAME, exc_info=True)


def with_link(summary: SyncSummary, context: Context) -> SyncSummary:
    """Return the summary with the pages of the run and of the task's try in Airflow."""
    of_try = pages(context)
    return summary.model_copy(update={"log_url": of_try.log, "page_url": of_try.sync})


def keep_summary(task: Any, context: Context, summary: SyncSummary | ExportSummary) -> None:
    """
    Keep a task's summary for OpenLineage, and give it to the task's asset events (those of ``outlets=``) as extra.

    What names records is left out of the extra. Airflow sends the events if the task succeeds.
    """
    task.summary = summary
    for event in events_of_outlets(context, task.outlets):
        event.extra = {**event.extra, **summary.without_records()}


def _call_back(task: Any, context: Context, value: dict[str, Any]) -> None:
    for callback in as_list(task.on_failed_records_callback):
        try:
            fresh(callback)(with_values(context, ready_texts(value)))
        except Exception:
            task.log.exception("on_failed_records_callback failed; the task goes on")


def as_list(callbacks: Callback | Iterable[Callback] | None) -> Sequence[Callback]:
    """Return one callback or several as a list."""
    if callbacks is None:
        return []
    if callable(callbacks) or isinstance(callbacks, str) or not isinstance(callbacks, Iterable):
        return [callbacks]
    return list(callbacks)
