"""
The outcome of the records of one async action.

Neither ``202`` nor ``DONE`` means success. Everything that Voucherify says is weighed together (``status``,
``operation_status``, the counts, ``errors[]``, the report), and if it contradicts itself the worse reading counts.
What it does not say is reported as unknown, never guessed:

* Only answers about ids that were sent count, as far as these are known, and each id counts once. If there are several
  answers about an id the worst counts: failed, then not updated, then updated.
* Only the report distinguishes ``updated`` and ``created``; without one they are None and ``succeeded`` has the sum,
  from the action's own count.
* A voucher is never created. In an older format an unknown code was counted as done (examples of 2023), so without the
  report ``updated`` is None for vouchers too.
* A record that was found, was not updated, and has no error is counted as ``not_updated``: the vendor's examples have
  such rows among the processed ones without explanation. If the action counts fewer records as done than
  that, the rest is ``not_reported``.
* Results of metadata updates may have no counts at all: a record that is neither counted, nor in ``errors[]``, nor in
  the report is ``not_reported``, even if the action as a whole says ``SUCCESS``.
* Counts that do not fit the number of records sent prove nothing: an action that counts more records as done than were
  sent is about other records.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.bulk_result import BulkResult
from airflow_provider_voucherify.models.endpoints import MAX_BODY_BYTES
from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.sync.results.report import Flags, ReportRows
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import WRITTEN, ActionOutcome

log = logging.getLogger(__name__)


MAX_RECORDS = MAX_BODY_BYTES // len('"a",')
"""Maximum number of records in a request; no more are kept of an action that another task has sent."""

ENTRIES_PER_RECORD = 10
"""Entries read from an answer's lists per record sent. If there are more errors, all records count as failed."""


class _Tally:
    """
    What an answer says, collected by id.

    :param ids: ids that were sent; None if unknown: then every id in the answer counts as one that was sent.
    :param records: number of records sent; None if that is unknown too.
    :param key: the endpoint's key, ``source_id`` or ``code``; None if unknown.
    """

    def __init__(
        self, action: AsyncAction, ids: Iterable[str] | None, records: int | None, key: str | None, *, upserts: bool
    ) -> None:
        self.answers: dict[str, str] = {} if ids is None else dict.fromkeys(ids, "")
        self.named: dict[str, Failure] = {}
        self.unnamed = 0
        self.reason: Failure | None = None
        self.has_report = False
        self.others = 0
        self.others_written = 0
        self._action, self._key, self.upserts = action, key, upserts
        self.knows_ids = ids is not None
        self._records = records
        self._max_records = MAX_RECORDS if records is None else max(records, len(self.answers))
        self._max_entries = max(1_000, ENTRIES_PER_RECORD * self._max_records)
        self._strangers: set[str] = set()
        self._only_in_errors: set[str] = set()
        self.too_many = False

    def take_errors(self, result: BulkResult) -> None:
        """Add the failures in the answer itself."""
        errors, rows = result.errors, result.failed
        for error in islice(errors, self._max_entries):
            reason = Failure("failed", None, error.key, error.message, error.details, self._action.id)
            self._fail(error.record_id(self._key, self._sent), reason)
        rows_seen: set[int] = set()
        for failed in islice(rows, self._max_entries):
            row = failed.row if failed.row is not None and 1 <= failed.row <= self._max_records else None
            if row in rows_seen:
                continue
            place = None if row is None else f"row {row} of the file"
            reason = Failure("failed", None, None, failed.reason, place, self._action.id, row)
            record_id = failed.record_id(self._key, self._sent)
            if row is not None:
                rows_seen.add(row)
            self._fail(record_id if record_id not in self.named else None, reason)
        self.too_many = next(errors, None) is not None or next(rows, None) is not None

    def take_report(self, rows: Iterable[ReportRows] | None) -> None:
        """
        Add the rows of a report.

        A report that breaks off confirms nothing, since its rest is unknown; what it says has failed counts as failed.
        """
        if rows is None:
            return
        try:
            self._take_rows(rows)
            self.has_report = True
        except VoucherifyReportError as error:
            log.warning("The report of %s confirms nothing: %s", self._action.id, error)
            self.believe_failures_only()

    def rows_in(self, result: BulkResult) -> Iterator[ReportRows] | None:
        """Return the rows that answers had instead of a report before August 2024; None for other answers."""
        if not result.has_results:
            return None
        return self._rows_of(result)

    def _rows_of(self, result: BulkResult) -> Iterator[ReportRows]:
        rows = result.results
        for row in islice(rows, self._max_entries):
            yield ReportRows([row.record_id(self._key, self._sent)], [(row.found, row.updated)])
        if next(rows, None) is not None:
            raise VoucherifyReportError(f"the answer has more than {self._max_entries:,} rows")

    def blame(self, records: int) -> int:
        """
        Attribute failures that the API counts without naming to records that were found and not written.

        A metadata update's errors have no id: such rows are all that its report says about them.

        :param records: number of unnamed failures.
        :returns: number of records that still count as not updated.
        """
        not_updated = [record_id for record_id, answer in self.answers.items() if answer == "not_updated"]
        if len(not_updated) > records:
            return len(not_updated) - records
        message = "Voucherify counts it as failed and names no reason for this record"
        reason = self.reason if self.unnamed == 1 and self.reason else Failure("failed", None, None, message)
        for record_id in not_updated:
            self.answers[record_id] = "failed"
            self.named[record_id] = replace(reason, id=record_id)
        return 0

    def believe_failures_only(self) -> None:
        """Discard everything that is said about records, except that they failed."""
        for record_id, answer in self.answers.items():
            if answer != "failed":
                self.answers[record_id] = ""

    @property
    def reported(self) -> int:
        """Number of ids in the report, if it is not known what was sent."""
        return len(self.answers) - len(self._only_in_errors)

    @property
    def _sent(self) -> Collection[str] | None:
        return self.answers if self.knows_ids else None

    def _fail(self, record_id: str | None, reason: Failure) -> None:
        if record_id is not None and self._is_ours(record_id):
            self.named.setdefault(record_id, replace(reason, id=record_id))
            self._only_in_errors.add(record_id)
            self.answers[record_id] = "failed"
        elif record_id is None or self._is_new_stranger(record_id):
            self.unnamed += 1
            self.reason = self.reason or reason

    def _is_ours(self, record_id: str) -> bool:
        return record_id in self.answers or (not self.knows_ids and len(self.answers) < self._max_records)

    def _is_new_stranger(self, record_id: str) -> bool:
        """Whether an id that was not sent appears for the first time: it may stand for a record that was sent."""
        if record_id in self._strangers:
            return False
        if len(self._strangers) < self._max_records:
            self._strangers.add(record_id)
        return True

    def _take_rows(self, rows: Iterable[ReportRows]) -> None:
        answers, status_of = self.answers, _STATUSES[self.upserts]
        for ids, flags in rows:
            statuses = list(map(status_of.__getitem__, flags))
            before: list[str | None] = list(map(answers.get, ids))  # type: ignore[arg-type]
            if before.count("") == len(ids) == len(set(ids)) and "failed" not in statuses:  # the usual case, made fast
                answers.update(zip(ids, statuses, strict=True))  # type: ignore[arg-type]
                continue
            for record_id, status in zip(ids, statuses, strict=True):
                self._take_row(record_id, status)

    def _take_row(self, record_id: str | None, status: str) -> None:
        if record_id is None or not self._is_ours(record_id):
            self.others += 1
            self.others_written += status in WRITTEN
            return
        self._only_in_errors.discard(record_id)
        before = self.answers.get(record_id, "")
        self.answers[record_id] = worse = _worse(before, status)
        if worse == "failed" != before:
            self.named[record_id] = _not_written(self._action, record_id, self.upserts)


def settle(
    action: AsyncAction,
    sent: int | None,
    *,
    upserts: bool,
    report: Iterable[ReportRows] | None = None,
    ids: Iterable[str] | None = None,
    key: str | None = None,
) -> ActionOutcome:
    """
    Return the outcome of a finished action's records.

    :param action: a finished action, as ``GET /v1/async-actions/{id}`` returns it.
    :param sent: number of records sent; None if the caller did not send them (a sensor): then the action's own count
        is used.
    :param upserts: whether unknown ids are created (customers and products).
    :param report: the rows of the action's report or reports, or None if there is none. Read once; iterating may raise
        ``VoucherifyReportError``.
    :param ids: of the records that were sent; None if unknown. Then every id in the answer counts as one that was sent,
        as long as there are not more of them than records.
    :param key: the member of an error that names the record, ``source_id`` or ``code``; None if unknown.
    """
    result = BulkResult.of(action)
    tally = _Tally(action, ids, sent, key, upserts=upserts)
    tally.take_errors(result)
    in_errors = len(tally.named) + tally.unnamed
    tally.take_report(tally.rows_in(result) if report is None else report)
    # An error without an id and a row of the report may be about the same record, so they are not added.
    failed = max(in_errors, len(tally.named), result.failed_count or 0)
    count = sent if sent is not None else _size(result, tally.reported, max(len(tally.answers), failed))
    if tally.too_many:
        failed = count
    as_a_whole = _failed_as_a_whole(action, result, failed, has_report=tally.has_report)
    if as_a_whole:
        done = result.done_count or 0 if action.status == "FAILED" else 0
        failed = max(failed, count - done if done < count else count)
        tally.unnamed += 1
        tally.reason = tally.reason or _whole(action)
        if failed == count:
            tally.believe_failures_only()
    answers = Counter(tally.answers.values())
    not_updated = answers["not_updated"]
    if not_updated and failed > len(tally.named):
        not_updated = tally.blame(failed - len(tally.named))
        answers = Counter(tally.answers.values())
    outcome = _balanced(count, failed, result.done_count, not_updated, answers, tally)
    outcome = replace(outcome, failed_as_a_whole=as_a_whole, others=0 if sent is None else tally.others)
    if ids is None:
        return outcome
    return replace(outcome, answers=tally.answers, verdicts=verdicts(answers, outcome))


def _failed_as_a_whole(action: AsyncAction, result: BulkResult, failed: int, *, has_report: bool) -> bool:
    """
    Say whether an action failed as a whole, or gives no evidence of success.

    That is so if it says ``FAILED``, as status or, if it names no failure, as operation status; if it has neither
    counts nor errors nor a report, and does not say ``SUCCESS`` either, though its description promises counts (a
    metadata update's does not); and if it counts nothing as done, whatever it says, unless it is a metadata update that
    says ``SUCCESS``.
    """
    if action.status == "FAILED":
        return True
    says_something = has_report or result.done_count is not None or result.failed_count is not None
    if action.operation_status == "FAILED":
        return failed == 0 or not says_something
    if failed:
        return False
    promises_counts = not (action.type or "").endswith(".METADATA_UPDATE")
    nothing_done = not has_report and result.done_count == 0
    is_open = action.operation_status != "SUCCESS"
    return (nothing_done and (promises_counts or is_open)) or (promises_counts and is_open and not says_something)


def _status(found: bool | None, updated: bool | None, *, upserts: bool) -> str:
    """
    Return what a row of the report says about its record.

    ``succeeded`` means that the record was written, whether it existed or not; an empty text that the row says nothing.
    """
    if updated and (upserts or found is not False):
        return {True: "updated", False: "created", None: "succeeded"}[found]
    if updated is False and found:
        return "not_updated"
    return "" if updated is None else "failed"


_TRUTHS = (True, False, None)
_STATUSES: dict[bool, dict[Flags, str]] = {
    upserts: {(found, updated): _status(found, updated, upserts=upserts) for found in _TRUTHS for updated in _TRUTHS}
    for upserts in (True, False)
}


def _worse(one: str, other: str) -> str:
    """Return the worse of two answers about a record; if both say written in different ways, just ``succeeded``."""
    for word in ("failed", "not_updated"):
        if word in (one, other):
            return word
    return "succeeded" if one and other and one != other else one or other


def verdicts(answers: Mapping[str, int], outcome: ActionOutcome) -> dict[str, str]:
    """
    Return the outcomes of single records, as far as the counts of their action allow.

    If errors and report together name more records as written than the action counts, it is unknown which of them were
    not written. Records that are not mentioned get an outcome only if it is true of all of them: they were written if
    all were, they failed if all did, and otherwise they are ``not_reported``.

    :param answers: number of records that errors and report name as ``failed``, ``updated`` and so on, and of those
        that they do not mention (an empty key).
    :param outcome: of the action.
    :returns: answer about a record to its outcome.
    """
    outcomes = {word: word for word in answers}
    written = sum(answers.get(word, 0) for word in WRITTEN)
    rest = {
        "succeeded": outcome.succeeded - written,
        "not_updated": outcome.not_updated - answers.get("not_updated", 0),
        "failed": outcome.failed - answers.get("failed", 0),
        "not_reported": outcome.not_reported,
    }
    if rest["succeeded"] < 0:
        outcomes |= dict.fromkeys(outcomes.keys() & WRITTEN, "not_reported")
    else:
        for word, counted in (("updated", outcome.updated), ("created", outcome.created)):
            if counted is not None and answers.get(word, 0) > counted:
                outcomes[word] = "succeeded"
    if rest["not_updated"] < 0:
        outcomes["not_updated"] = "not_reported"
    if answers.get(""):
        of_all = [word for word, count in rest.items() if count > 0]
        outcomes[""] = of_all[0] if len(of_all) == 1 and rest[of_all[0]] == answers[""] else "not_reported"
    return outcomes


def _not_written(action: AsyncAction, record_id: str | None, upserts: bool) -> Failure:
    message = "the report says that it was neither found nor written" if upserts else "there is no such voucher"
    return Failure("failed", record_id, "not_found", message, None, action.id)


def _whole(action: AsyncAction) -> Failure:
    why = f"the async action as a whole failed (status {action.status}, operation_status {action.operation_status})"
    return Failure("failed", None, "async_action_failed", why, None, action.id)


def _size(result: BulkResult, reported: int, named: int) -> int:
    """Return the number of records of an action of others: its own count, or what the report has if that is more."""
    counted = (result.done_count or 0) + (result.failed_count or 0)
    if counted and result.done_count is not None and result.failed_count is not None:
        return max(counted, reported)
    return max(counted, named)


def _balanced(
    count: int, failed: int, done: int | None, not_updated: int, answers: Counter[str], tally: _Tally
) -> ActionOutcome:
    """
    Make the parts add up to ``count``: failures first, then what was written; the rest is not reported.

    A report without a row about a record leaves it unreported, whatever the count says. Rows of the report about other
    records are subtracted from the count; if it is unknown which records were sent, rows that say written count as
    theirs.
    """
    failed = min(failed, count)
    room = count - failed  # what is left for everything that has not failed
    written = sum(answers[word] for word in WRITTEN)
    if done is not None and tally.knows_ids:
        done = max(0, done - tally.others_written)
    updated: int | None = None
    created: int | None = None
    if tally.has_report:
        # The smaller of what the rows say and what the action counts as done.
        certain = written if tally.knows_ids else max(0, written - tally.others_written)
        not_updated = min(not_updated, room if done is None else max(0, min(room, done - certain)))
        succeeded = min(certain if done is None else min(certain, done), room - not_updated)
        if not answers["succeeded"] and (succeeded == written or not (answers["updated"] and answers["created"])):
            updated, created = min(answers["updated"], succeeded), min(answers["created"], succeeded)
    else:
        # Without a report the count is all there is; one that cannot be about these records alone proves nothing.
        fits = done is not None and done <= count and not tally.others
        not_updated = min(not_updated, room, done or 0)
        succeeded = min((done or 0) - not_updated, room - not_updated) if fits else 0
    if succeeded == 0:
        updated = created = 0
    if not tally.upserts and created is None:
        created = 0
    return ActionOutcome(
        succeeded=succeeded,
        updated=updated,
        created=created,
        not_updated=not_updated,
        failed=failed,
        not_reported=room - succeeded - not_updated,
        failures=tally.named,
        unnamed_failures=max(0, failed - len(tally.named)),
        unnamed_reason=tally.reason,
    )
