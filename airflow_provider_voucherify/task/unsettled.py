"""What is known before anything is settled: about a plan, and about a sync that does not wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.sync.types.text import counted

if TYPE_CHECKING:
    from airflow_provider_voucherify.storage.report_folder import StorageReportFolder
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync


def log_plan(plan: Plan, log: Any) -> None:
    """Log what was read, what of it is refused, and what is to be sent."""
    log.info(
        "Read %s: %s refused, %s superseded by a later row, %s unchanged",
        counted(plan.rows_read, "row"),
        f"{plan.refused:,}",
        f"{plan.superseded:,}",
        f"{plan.unchanged:,}",
    )
    if plan.blank_rows:
        log.info("Skipped %s without any value", counted(plan.blank_rows, "row"))
    log.info(
        "To send: %s in %s (%s bytes) to %s",
        counted(sum(batch.records for batch in plan.batches), "record"),
        counted(len(plan.batches), "request"),
        f"{plan.bytes_to_send:,}",
        " and ".join(f"{path} ({count:,})" for path, count in plan.requests_by_endpoint.items()) or "nowhere",
    )
    for key, count in plan.refused_by_key.items():
        log.warning("%s refused: %s", counted(count, "row"), key)
    if not plan.batches:
        log.info("There is nothing to send")


def planned_summary(plan: Plan, resource: str) -> SyncSummary:
    """Return the summary of a sync that sends nothing."""
    from airflow_provider_voucherify.sync.results.summary import SyncSummary, joined
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync

    planned = SubmittedSync((), time.time(), plan.counts, len(plan.batches), plan.bytes_to_send)
    warning = joined(plan.warnings)
    return SyncSummary(
        **planned.as_summary(),
        **what_is_refused(plan),
        resource=resource,
        submitted=None,
        warning=warning,
        dry_run=True,
    )


def unsettled_summary(
    sync: SubmittedSync, resource: str, plan: Plan | None = None, folder: StorageReportFolder | None = None
) -> SyncSummary:
    """
    Return the summary of a sync that does not wait for its outcome.

    :param plan: what was sent, if there are rows that were not.
    :param folder: has them.
    """
    from airflow_provider_voucherify.sync.results.summary import SyncSummary, joined

    return SyncSummary(
        **sync.as_summary(),
        **({} if plan is None else what_is_refused(plan)),
        resource=resource,
        submitted=sync.submitted,
        report_uri=None if folder is None else folder.uri,
        warning=joined(sync.warnings),
    )


def write_unsent(plan: Plan, folder: StorageReportFolder) -> None:
    """Record the rows that were not sent, for a sync that does not wait for the others."""
    from airflow_provider_voucherify.sync.results.failure_files import remove_reports

    for name, lines in (("failures.jsonl", plan.refused_lines()), ("set_aside.jsonl", plan.set_aside_lines())):
        with folder.write(name) as file:
            file.writelines(lines)
    remove_reports(folder)


def what_is_refused(plan: Plan) -> dict[str, Any]:
    """Return what a summary says about the refused rows, by its members' names."""
    from airflow_provider_voucherify.sync.results.summary import most_frequent

    return {
        "failures_by_key": most_frequent(plan.refused_by_key),
        "failures": [failure.sample() for failure in plan.refused_sample],
        "reasons": plan.refused_reasons,
    }
