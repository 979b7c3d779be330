"""The steps of a bulk operator's run, after its rows are planned."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import AirflowNotFoundException
from airflow_provider_voucherify.models.errors import (
    VoucherifyActionFailedError,
    VoucherifyConfigurationError,
    VoucherifyError,
    VoucherifyRecordsRejectedError,
)
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.task.bulk_parameters import read_back_of, requests_of
from airflow_provider_voucherify.task.conclusion import keep_summary, with_warnings
from airflow_provider_voucherify.task.hidden_values import hiding_of
from airflow_provider_voucherify.task.parameters import needed_to_send
from airflow_provider_voucherify.task.tracked_state import row_tracking
from airflow_provider_voucherify.task.unsettled import planned_summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.models.endpoints import BulkEndpoint
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.comparison.differences import Differences
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.results.verification import Verification
    from airflow_provider_voucherify.sync.state.ledger import Ledger
    from airflow_provider_voucherify.sync.types.hiding import Hiding
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
    from airflow_provider_voucherify.task.operator_run import OperatorRun
    from airflow_provider_voucherify.task.staging import PlannedRecords, StagedRecords

DIFFERENCES_FILE = "differences.jsonl"
"""Records that were read back and are not as they were sent, in the report folder."""

PREVIEW_FILE = "preview.jsonl"
"""What a dry run that compares with Voucherify would change, in the report folder."""

REFUSED_XCOM_KEY = "voucherify_refused_rows"
"""XCom with what the summary says about refused rows, for the worker that resumes the task."""


def prepare(task: Any, run: OperatorRun) -> None:
    """Find the source files, make sure that results can be kept, and remove what an earlier try has staged."""
    from airflow_provider_voucherify.storage.paths import source_files
    from airflow_provider_voucherify.task.staging import StagedRecords, remove_forgotten

    if task.path is not None:
        task.source_files = source_files(task.path)
    folder = run.folder
    for path in task.source_files:
        if folder is not None and any(folder.has(path, name) for name in ("failures.jsonl", "set_aside.jsonl")):
            raise VoucherifyConfigurationError(
                f"path {path!r} is the file that this task would replace; give another report_path"
            )
    if task.is_dry_run:
        return
    if folder is not None:
        folder.prepare()
    for staging in dict.fromkeys(filter(None, (run.staging, folder))):
        StagedRecords(staging, run.staged_name).remove()
        try:
            remove_forgotten(staging)
        except Exception:
            task.log.warning("What was kept for tasks that ended long ago cannot be removed", exc_info=True)


def submit(task: Any, run: OperatorRun, plan: Plan, hook: VoucherifyHook) -> SubmittedSync:
    """Send the batches of a plan that no earlier try has sent."""
    from airflow_provider_voucherify.sync.sending.rejected import add_rejected
    from airflow_provider_voucherify.sync.sending.submission import Submission

    run.warn_without_store()
    task.log.info("::group::Sending %s", counted(len(plan.batches), "request"))
    try:
        journal = run.journal_to_go_on(hook)
        client = hook.get_conn()
        submission = Submission(
            plan,
            client,
            journal,
            requests_of(task).max_in_flight,
            killed=run.is_killed,
            add_rejected=partial(add_rejected, plan, client),
        )
        if (ledger := plan.ledger) is not None:
            tracking = row_tracking(task, run.context)
            if any(journal):
                tracking.note_overtaken(ledger)
                if ledger.has_overtaken:
                    submission.doubt(lambda batch: ledger.is_overtaken(batch.ids()))
            tracking.before_sending(ledger)
        return submission.run()
    finally:
        task.log.info("::endgroup::")


def settle(
    task: Any,
    run: OperatorRun,
    sent: PlannedRecords | StagedRecords | None,
    sync: SubmittedSync,
    client: VoucherifyClient,
    **how: Any,
) -> SyncSummary:
    """Settle the rows and record their outcomes; the port of ``Completion``."""
    from airflow_provider_voucherify.sync.results.collect import collect_outcomes

    ti = run.context["ti"]
    refused = ti.xcom_pull(task_ids=ti.task_id, key=REFUSED_XCOM_KEY, map_indexes=ti.map_index) or {}
    with ExitStack() as stack:
        ledger = stack.enter_context(sent.ledger()) if sent is not None else None
        hiding = hiding_of(task, client.settings)
        if ledger is not None:
            ledger.hiding = hiding
        verification = _verification(task, run, sent, sync, client, ledger, hiding)
        if verification is not None:
            stack.callback(verification.close)
        summary = collect_outcomes(
            sync,
            client,
            resource=task.resource,
            refused_sample=refused.get("failures", ()),
            refused_reasons=refused.get("reasons", ()),
            folder=run.folder,
            sent=sent,
            ledger=ledger,
            max_attempts=requests_of(task).max_attempts,
            listeners=run.listeners if verification is None else [*run.listeners, verification],
            hiding=hiding,
            **how,
        )
        if verification is not None:
            verification.finish()
            update = {**verification.counts(), "preview": verification.differences.first}
            summary = summary.model_copy(update=update).with_warning(*verification.warnings())
            if run.folder is not None:
                with run.folder.write(DIFFERENCES_FILE) as file:
                    file.writelines(verification.differences.lines())
        written: SyncSummary = task._keep_rows(run.context, ledger, with_warnings(task, summary))
        if verification is not None and verification.error is not None:
            raise verification.error
    return written


def _verification(
    task: Any,
    run: OperatorRun,
    sent: PlannedRecords | StagedRecords | None,
    sync: SubmittedSync,
    client: VoucherifyClient,
    ledger: Ledger | None,
    hiding: Hiding | None,
) -> Verification | None:
    """Return what reads back the records that were sent; None if nobody wants that, or nobody knows what was sent."""
    from airflow_provider_voucherify.sync.comparison.differences import Differences
    from airflow_provider_voucherify.sync.results.verification import VerificationOfAll, VerificationOfSome
    from airflow_provider_voucherify.sync.types.submitted import ENDPOINTS_BY_ACTION_TYPE
    from airflow_provider_voucherify.task.read_back import stored_record

    verify = read_back_of(task).verify
    if verify is None or not sync.batches:
        return None
    if sent is None:
        raise VoucherifyError("what was sent is not known any more, so it cannot be verified; a retry knows it")
    differences = Differences(hiding)
    if verify != "all":
        return VerificationOfSome(differences, ledger, verify, partial(stored_record, client, task.resource))

    def bodies() -> Iterator[tuple[bytes, BulkEndpoint]]:
        for number, batch in enumerate(sync.batches, start=1):
            if (endpoint := ENDPOINTS_BY_ACTION_TYPE.get(batch.action_type or "")) is not None:
                yield sent.body(number), endpoint

    return VerificationOfAll(differences, ledger, bodies, run.reader(client).fetch)


def prepare_retry(task: Any, run: OperatorRun, message: str) -> None:
    """
    Let the next try resend what failed as a whole, or, with ``on_retry="resend_failed"``, what was rejected.

    If Voucherify does not say which records it rejected, the whole batch is sent again.
    """
    has_whole_batches = run.reject_whole_batches()
    if task.on_retry == "resend_failed":
        journal = run.journal()
        for action_id, outcome in run.failed_outcomes.items():
            if not outcome.failed_as_a_whole:
                journal.rejected(action_id, None if outcome.unnamed_failures else outcome.failed)
    if has_whole_batches:
        raise VoucherifyActionFailedError(message)
    if task.on_retry == "resend_failed" and run.failed_outcomes:
        raise VoucherifyRecordsRejectedError(message)


def _show_preview(task: Any, run: OperatorRun, differences: Differences) -> None:
    """Log what would change, and write more of it into the report folder."""
    from airflow_provider_voucherify.sync.comparison.differences import as_table

    if differences.first:
        task.log.info("What would change:\n%s", as_table(differences.first, differences.number))
    if run.folder is not None:
        run.folder.prepare()
        with run.folder.write(PREVIEW_FILE) as file:
            file.writelines(differences.lines())


def _reads(task: Any, plan: Plan) -> Counter[str]:
    """Return about how many calls read back what Voucherify has, by path."""
    from airflow_provider_voucherify.models.endpoints import ASYNC_ACTIONS_PATH, EXPORTS_PATH
    from airflow_provider_voucherify.sync.batches.compared_plan import ComparedPlan
    from airflow_provider_voucherify.task.read_back import CALLS_PER_EXPORT

    reads: Counter[str] = Counter()
    if isinstance(plan, ComparedPlan) and plan.rows_read:
        reads.update({ASYNC_ACTIONS_PATH: 1, EXPORTS_PATH: CALLS_PER_EXPORT})
    if records := sum(batch.records for batch in plan.batches):
        verify = read_back_of(task).verify
        if verify == "all":
            reads[EXPORTS_PATH] += CALLS_PER_EXPORT
        elif verify is not None:
            reads[f"/v1/{task.resource}/…"] = min(verify, records)
    return reads


def dry_run(task: Any, run: OperatorRun, plan: Plan) -> dict[str, Any]:
    """Log what would be sent and what it would cost, and return it; this needs no connection."""
    from airflow_provider_voucherify.sync.batches.estimate import estimate

    try:
        with run.hook() as hook:
            extra = hook.settings.extra
        limits = (extra.rate_limit, extra.bulk_rate_limit)
    except AirflowNotFoundException:
        limits = (None, None)
    requests, waits = plan.requests_by_endpoint, task.wait_for_completion
    cost = estimate(requests, plan.bytes_to_send, *limits, waits=waits, reads=_reads(task, plan))
    summary = planned_summary(plan, task.resource).model_copy(update=cost.as_summary_fields())
    differences = getattr(plan, "differences", None)
    if differences is not None:
        summary = summary.model_copy(update={"preview": differences.first})
        _show_preview(task, run, differences)
    summary = summary.with_warning(*(f"without dry_run: {why}" for why in needed_to_send(task)))
    keep_summary(task, run.context, summary)
    task.log.info("%s", summary.text())
    task.log.info("%s", cost.text())
    if task.sample is not None and task.hide_values:
        task.log.info("The JSON is not shown, as hide_values says")
    elif task.sample is not None:
        for batch in plan.batches:
            task.log.info("%s:\n%s", batch.destination.endpoint.path, b"".join(batch.body()).decode())
    return summary.as_xcom()
