"""The run of a task that compares a source with what Voucherify has, and sends nothing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.task.bulk_run import DIFFERENCES_FILE, prepare
from airflow_provider_voucherify.task.conclusion import with_warnings
from airflow_provider_voucherify.task.hidden_values import errors_without_values, hiding_of
from airflow_provider_voucherify.task.parameters import check
from airflow_provider_voucherify.task.planning import make_plan
from airflow_provider_voucherify.task.tracked_state import row_tracking
from airflow_provider_voucherify.task.unsettled import planned_summary, write_unsent

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.batches.compared_plan import ComparedPlan
    from airflow_provider_voucherify.sync.batches.drift import Drift
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.comparison.differences import Differences
    from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.task.operator_run import OperatorRun


def report_drift(task: Any, run: OperatorRun) -> dict[str, Any]:
    """
    Read the rows of a bulk operator and what Voucherify has, and return the summary of what differs.

    :raises VoucherifyRecordsFailedError: a limit of ``fail_if`` is exceeded.
    """
    from airflow_provider_voucherify.sync.batches.drift import find_drift
    from airflow_provider_voucherify.sync.comparison.differences import Differences

    drifts: list[Drift] = []
    with ExitStack() as stack:
        stack.enter_context(run)
        run.begin()
        stack.enter_context(errors_without_values(task))
        check(task, rendered=True)
        prepare(task, run)
        hook = stack.enter_context(run.hook())
        client = hook.get_conn()
        if run.folder is not None:
            run.announce_links(hook)
        differences = Differences(hiding_of(task, client.settings))
        stack.callback(differences.close)

        def compare(plan: ComparedPlan, found: FoundRecords) -> None:
            names_others = task.sample is None
            drifts.append(find_drift(plan.compared(found), found, differences, plan.ledger, names_others=names_others))

        plan = stack.enter_context(make_plan(task, run.context, hook, run, compare))
        run.metrics.source_read(plan.rows_read, plan.refused_by_key)
        summary = _summary(task, plan, drifts[0], differences)
        if not plan.rows_read:
            summary = summary.with_warning("the source has no rows at all, so there is nothing to compare")
        _log_differences(task, summary)
        if run.folder is not None:
            write_unsent(plan, run.folder)
            with run.folder.write(DIFFERENCES_FILE) as file:
                file.writelines(differences.lines())
            summary = summary.model_copy(update={"report_uri": run.folder.uri})
        summary = with_warnings(task, summary)
        if plan.ledger is not None:
            summary = summary.with_warning(*row_tracking(task, run.context).write_compared(plan.ledger, run.context))
        return run.conclude(summary)


def _summary(task: Any, plan: Plan, drift: Drift, differences: Differences) -> SyncSummary:
    return planned_summary(plan, task.resource).model_copy(
        update={
            "dry_run": False,
            "submitted": 0,
            "to_create": None,
            "verified": drift.verified,
            "differing": drift.differing,
            "missing": drift.missing,
            "not_in_source": None if task.sample is not None else drift.not_in_source,
            "preview": differences.first,
        }
    )


def _log_differences(task: Any, summary: SyncSummary) -> None:
    from airflow_provider_voucherify.sync.comparison.differences import as_table

    if summary.preview:
        number = summary.not_as_sent + (summary.not_in_source or 0)
        task.log.info("What differs:\n%s", as_table(summary.preview, number))
