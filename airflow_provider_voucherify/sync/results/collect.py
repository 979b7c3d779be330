"""From finished async actions to a summary: fetches each result once, reads the reports, and records failures."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, Protocol

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.bulk_result import BulkResult
from airflow_provider_voucherify.models.endpoints import BulkEndpoint
from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.sync.results.failure_files import (
    FailureLines,
    HiddenFailures,
    ReportFolder,
    SentRecords,
    copy_into,
    remove_reports,
)
from airflow_provider_voucherify.sync.results.finished import ActionGetter, settle_all
from airflow_provider_voucherify.sync.results.report import Flags, ReportRows, read_report
from airflow_provider_voucherify.sync.results.settlement import settle
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.results.totals import Totals
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.hiding import Hiding
from airflow_provider_voucherify.sync.types.outcome import ActionOutcome
from airflow_provider_voucherify.sync.types.settled import Listener, Settled, Shown
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync
from airflow_provider_voucherify.sync.types.text import counted

log = logging.getLogger(__name__)

MAX_REPORT_FILES = 100
"""Maximum number of report files of one action."""


class ActionsApi(ActionGetter, Protocol):
    """The part of a Voucherify client that collecting outcomes needs."""

    def download(self, url: str, file: BinaryIO) -> int:
        """Fetch a report into a file."""


def collect_outcomes(
    sync: SubmittedSync,
    api: ActionsApi,
    *,
    resource: str | None = None,
    refused_sample: Iterable[Mapping[str, Any]] = (),
    refused_reasons: Iterable[Mapping[str, Any]] = (),
    folder: ReportFolder | None = None,
    sent: SentRecords | None = None,
    ledger: Ledger | None = None,
    max_attempts: int | None = None,
    listeners: Iterable[Listener] = (),
    seen: dict[str, AsyncAction] | None = None,
    on_all_finished: Callable[[], None] = lambda: None,
    hiding: Hiding | None = None,
) -> SyncSummary:
    """
    Fetch every action once, read its report, and return the summary.

    The reports are read even if no ``folder`` keeps them: only they distinguish created from updated records, and
    missing vouchers from updated ones. If a report is missing only that knowledge is lost.

    :param resource: what the batches update; None to take it from the actions.
    :param refused_sample: what the summary shows of the refused rows.
    :param refused_reasons: how many were refused, by what the reason says.
    :param folder: keeps ``report-*.csv``, ``failures.jsonl`` and, if it is known what was ``sent``,
        ``set_aside.jsonl``. Files of an earlier sync are removed.
    :param sent: what was sent; without it ``failures.jsonl`` names failed records by id only.
    :param ledger: gets every record's outcome; needs ``sent``.
    :param max_attempts: records that have failed this often go into ``set_aside.jsonl`` instead of ``failures.jsonl``.
    :param hiding: leaves ids and values out of the summary, the ledger's reasons and the folder, which then keeps no
        reports; None to tell all.
    :param listeners: get each settled batch too.
    :param seen: see ``settle_all``, also for ``on_all_finished`` and the errors.
    """
    totals = Totals(sync, refused_sample, refused_reasons)
    kept: set[str] = set()

    def judge(number: int, batch: SubmittedBatch, action: AsyncAction) -> Settled:
        endpoint = batch.endpoint(action)
        body = partial(sent.body, number) if sent is not None else None
        ids = sent.ids(number) if sent is not None and endpoint is not None else None
        reports_folder = folder if hiding is None else None
        with closing(_Reports(action, api, endpoint, reports_folder, number, resubmitted=batch.resubmitted)) as reports:
            kept.update(reports.kept)
            whole = _settle(action, batch.records, endpoint, reports, ids, hiding)
        outcome = whole.without(batch.sent_again)
        unnamed = outcome.unnamed_reason if outcome.unnamed_failures else None
        return Settled(action.id, number, whole, outcome, outcome.failures.values(), unnamed, endpoint, body)

    with (
        tempfile.TemporaryFile(prefix="voucherify-") as failures,
        tempfile.TemporaryFile(prefix="voucherify-") as set_aside,
    ):
        lines: Listener
        if hiding is None:
            lines = FailureLines(failures, set_aside, sent, ledger, max_attempts)
        else:
            lines = HiddenFailures(failures, sent, set_aside)
        first = () if ledger is None else (ledger,)
        shown = [Shown(one, hiding) for one in (*listeners, totals, lines)]
        settle_all(sync, api, judge, [*first, *shown], seen=seen, on_all_finished=on_all_finished)
        if folder is not None:
            copy_into(folder, "failures.jsonl", failures)
            if sent is not None:
                copy_into(folder, "set_aside.jsonl", set_aside)
            remove_reports(folder, but=kept)
    summary = totals.summary(resource, folder)
    if ledger is None:
        return summary
    newly_failed = ledger.failing.newly_failed()
    if hiding is not None and newly_failed is not None:
        newly_failed = replace(newly_failed, ids=[hiding.id(record_id) for record_id in newly_failed.ids])
    return summary.with_values_not_cleared(ledger.fields.not_cleared()).with_newly_failed(newly_failed)


def outcome_of(
    action: AsyncAction, records: int, endpoint: BulkEndpoint, api: ActionsApi, ids: Iterable[str] | None = None
) -> ActionOutcome:
    """
    Return the outcome of one finished action's records, after reading its report.

    :param ids: of the records; without them failures in the answer may be about other records.
    """
    with closing(_Reports(action, api, endpoint, None, 1)) as reports:
        return _settle(action, records, endpoint, reports, ids)


def _settle(
    action: AsyncAction,
    sent: int | None,
    endpoint: BulkEndpoint | None,
    reports: _Reports,
    ids: Iterable[str] | None,
    hiding: Hiding | None = None,
) -> ActionOutcome:
    upserts = endpoint is None or endpoint.upserts
    key = endpoint.key if endpoint is not None else None
    outcome = settle(action, sent, upserts=upserts, report=reports.rows(quotes=hiding is None), ids=ids, key=key)
    if outcome.others:
        log.warning(
            "The report of %s names %s besides those that were sent; that counts for nothing",
            action.id,
            counted(outcome.others, "record"),
        )
    return outcome if hiding is None else hiding.action(outcome)


def _without_quotes(rows: Iterator[ReportRows]) -> Iterator[ReportRows]:
    """Give the rows of reports; an error about them quotes nothing."""
    try:
        yield from rows
    except VoucherifyReportError:
        raise VoucherifyReportError("it cannot be read; hide_values leaves out why, as that may quote values") from None


class _Reports:
    """The report files of one action, fetched to local disk."""

    def __init__(
        self,
        action: AsyncAction,
        api: ActionsApi,
        endpoint: BulkEndpoint | None,
        folder: ReportFolder | None,
        number: int,
        *,
        resubmitted: bool = False,
    ) -> None:
        self._resubmitted = resubmitted and (endpoint is None or endpoint.upserts)
        self._key = endpoint.key if endpoint is not None else None
        self.kept: list[str] = []
        self._files: list[BinaryIO] = []
        self._missing: VoucherifyReportError | None = None
        urls = list(islice(BulkResult.of(action).reports, MAX_REPORT_FILES + 1))
        try:
            if len(urls) > MAX_REPORT_FILES:
                raise VoucherifyReportError(f"it is in more than {MAX_REPORT_FILES} files")
            for part, url in enumerate(urls, start=1):
                file: Any = tempfile.TemporaryFile(prefix="voucherify-")  # noqa: SIM115
                with ExitStack() as undo:
                    undo.callback(file.close)
                    api.download(url, file)
                    undo.pop_all()
                self._files.append(file)
                if folder is not None:
                    name = f"report-{number:05}" + (f"-{part}" if len(urls) > 1 else "") + ".csv"
                    copy_into(folder, name, file)
                    self.kept.append(name)
        except VoucherifyReportError as error:
            self._missing = error
        except BaseException:
            self.close()
            raise

    def rows(self, *, quotes: bool = True) -> Iterator[ReportRows] | None:
        """
        Return the rows of all reports; None if there are none.

        If a report cannot be fetched, ``VoucherifyReportError`` is raised after the rows of those before it. No report
        says whether a record of a batch that was sent twice existed before the first request.
        """
        if not self._files and self._missing is None:
            return None
        rows = self._rows() if quotes else _without_quotes(self._rows())
        if not self._resubmitted:
            return rows
        unsure: dict[Flags, Flags] = {(True, True): (None, True)}
        return (some._replace(flags=[unsure.get(flags, flags) for flags in some.flags]) for some in rows)

    def _rows(self) -> Iterator[ReportRows]:
        for file in self._files:
            yield from read_report(file, self._key)
        if self._missing is not None:
            raise self._missing

    def close(self) -> None:
        for file in self._files:
            file.close()
