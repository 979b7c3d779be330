"""
What became of the records of one async action.

Neither ``202`` nor ``DONE`` means success. All that Voucherify says is weighed together (``status``,
``operation_status``, the counts, ``errors[]``, the report), and where it contradicts itself the worse reading counts.
What it does not say is reported as unknown, never guessed:

* ``updated`` and ``created`` can be told apart only by the report; without one they are None and ``succeeded`` has the
  sum that the action's own count gives.
* A voucher is never created. In an older format an unknown code was counted as done (examples of 2023), so without the
  report ``updated`` is None for vouchers too.
* A record that was found, was not updated, and has no error is counted as ``unchanged``: the vendor's examples have
  such rows among the processed ones and say nothing about them. Where the action counts fewer records as done than
  that, the rest is ``not_reported``.
* Results of metadata updates may have no counts at all: a record that is neither counted, nor in ``errors[]``, nor in
  the report is ``not_reported``, even if the action as a whole says ``SUCCESS``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from airflow_provider_voucherify.models.async_action import AsyncAction, BulkResult
from airflow_provider_voucherify.sync.failures import Failure
from airflow_provider_voucherify.sync.report import ReportRow


@dataclass(frozen=True)
class ActionOutcome:
    """
    The records of one action, counted.

    ``succeeded + unchanged + failed + not_reported`` is always the number of records sent.

    :param succeeded: written by Voucherify.
    :param updated: of these, the ones that existed before; None where the API does not tell.
    :param created: of these, the ones that were created (upserted); None where the API does not tell.
    :param unchanged: found and not written, without an error.
    :param not_reported: sent, and mentioned nowhere in the answer.
    :param failures: the failed records that the API names, by id.
    :param failed_as_a_whole: the action came to nothing, so that sending its batch again may help.
    :param written: the ids that the report says were written, where there are failures that nobody names.
    :param unnamed_failures: failed records that it does not name, and why where it says.
    """

    succeeded: int
    updated: int | None
    created: int | None
    unchanged: int
    failed: int
    not_reported: int
    failures: dict[str, Failure] = field(default_factory=dict)
    failed_as_a_whole: bool = False
    written: frozenset[str] = frozenset()
    unnamed_failures: int = 0
    unnamed_reason: Failure | None = None

    @property
    def records(self) -> int:
        """How many records the action was about."""
        return self.succeeded + self.unchanged + self.failed + self.not_reported

    @property
    def failures_by_key(self) -> Counter[str | None]:
        """Failed records by the key that Voucherify gives; None where it gives none."""
        counts = Counter(failure.key for failure in self.failures.values())
        if self.unnamed_failures:
            counts[self.unnamed_reason.key if self.unnamed_reason is not None else None] += self.unnamed_failures
        return counts

    def __add__(self, other: ActionOutcome) -> ActionOutcome:
        """Add counts up: one unknown part makes their sum unknown. Names and reasons are not kept."""
        return ActionOutcome(
            succeeded=self.succeeded + other.succeeded,
            updated=None if self.updated is None or other.updated is None else self.updated + other.updated,
            created=None if self.created is None or other.created is None else self.created + other.created,
            unchanged=self.unchanged + other.unchanged,
            failed=self.failed + other.failed,
            not_reported=self.not_reported + other.not_reported,
        )

    def reason_of_silent(self, told: str | None) -> Failure | None:
        """
        Return why records that are mentioned nowhere have not arrived, as far as that can be said of each.

        :param told: what ``told_of_records`` says of them.
        """
        if told == "failed":
            return self.unnamed_reason
        if told != "not_reported" or not self.unnamed_failures:
            return None
        message = f"{self.unnamed_failures:,} records of its request failed, and Voucherify does not say which"
        said = self.unnamed_reason.message if self.unnamed_reason is not None else None
        return Failure("failed", None, None, ": ".join(filter(None, (message, said))))


@dataclass
class _Tally:
    rows: int = 0
    updated: int = 0
    created: int = 0
    unclear: int = 0
    written_ids: list[str | None] = field(default_factory=list)
    unchanged: list[str | None] = field(default_factory=list)
    missing: list[str | None] = field(default_factory=list)

    @property
    def written(self) -> int:
        return self.updated + self.created + self.unclear

    def split(self, succeeded: int) -> tuple[int | None, int | None]:
        """Say how many of the successes were updated and created: unknown where some of the rows do not count."""
        if self.unclear or (succeeded < self.written and self.updated and self.created):
            return None, None
        return min(self.updated, succeeded), min(self.created, succeeded)


def settle(
    action: AsyncAction, sent: int | None, *, upserts: bool, report: Iterable[ReportRow] | None = None
) -> ActionOutcome:
    """
    Say what became of the records of a finished action.

    :param action: as ``GET /v1/async-actions/{id}`` gives it, finished.
    :param sent: how many records were sent; None where the caller did not send them (a sensor), and the action's own
        count is taken.
    :param upserts: whether unknown ids are created (customers and products).
    :param report: the rows of the action's report or reports, or None where there is none to be had.
        Read once.
    """
    result = BulkResult.model_validate(action.result or {})
    named, unnamed = _errors(action, result)
    in_errors = len(named) + len(unnamed)
    report = rows_in_answer(result) if report is None else report
    tally = _tally(report, named, upserts) if report is not None else None
    if tally is not None:
        for record_id in tally.missing:
            if record_id is not None:
                named.setdefault(record_id, _not_written(action, record_id, upserts))
    # An error without an id and a row of the report may be about the same record, so they are not added.
    in_report = len(named) + (tally.missing.count(None) if tally is not None else 0)
    failed = max(in_errors, in_report, result.failed_count or 0)
    count = sent if sent is not None else _count(result, tally, failed)
    as_a_whole = _failed_as_a_whole(action, result, tally, failed)
    if as_a_whole:
        done = result.done_count or 0 if action.status == "FAILED" else 0
        failed = max(failed, count - done)
        unnamed.append(_whole(action))
    if tally is not None:
        _name_silent_failures(tally, failed, named, unnamed)
    return replace(_balanced(count, failed, tally, result, upserts, named, unnamed), failed_as_a_whole=as_a_whole)


def _failed_as_a_whole(action: AsyncAction, result: BulkResult, tally: _Tally | None, failed: int) -> bool:
    """
    Say whether an action came to nothing, or to nothing that anybody can vouch for.

    That is so if it says ``FAILED`` and does not name what failed; if it gives neither counts nor errors nor a report,
    and does not say ``SUCCESS`` either; and if it counts nothing as done, whatever it says. A metadata update that says
    ``SUCCESS`` is taken at its word there, since its description promises no counts at all.
    """
    if action.status == "FAILED":
        return True
    told = tally is not None or result.done_count is not None or result.failed_count is not None
    if action.operation_status == "FAILED":
        return failed == 0 or not told
    if failed:
        return False
    promises_counts = not (action.type or "").endswith(".METADATA_UPDATE")
    nothing_done = tally is None and result.done_count == 0
    return (nothing_done and promises_counts) or ((nothing_done or not told) and action.operation_status != "SUCCESS")


def _name_silent_failures(tally: _Tally, failed: int, named: dict[str, Failure], unnamed: Sequence[Failure]) -> None:
    """
    Find the failures that the API counts without naming them among the rows that were found and not written.

    A metadata update's errors have no id: such rows are all that its report tells of them.
    """
    hidden = failed - len(named)
    if 0 < len(tally.unchanged) <= hidden:
        reason = unnamed[0] if len(unnamed) == 1 else None
        for record_id in filter(None, tally.unchanged):
            said = "Voucherify counts it as failed and names no reason for this record"
            named[record_id] = replace(reason, id=record_id) if reason else Failure("failed", record_id, None, said)
        tally.unchanged.clear()
    elif hidden > 0:
        del tally.unchanged[:hidden]


def _errors(action: AsyncAction, result: BulkResult) -> tuple[dict[str, Failure], list[Failure]]:
    named: dict[str, Failure] = {}
    unnamed: list[Failure] = []
    for error in result.errors:
        failure = Failure("failed", error.record_id, error.key, error.message, error.details, action.id)
        if error.record_id is None:
            unnamed.append(failure)
        else:
            named.setdefault(error.record_id, failure)
    for row in result.failed:
        place = None if row.row is None else f"row {row.row} of the file"
        failure = Failure("failed", row.record_id, None, row.reason, place, action.id, row.row)
        if row.record_id is None or row.record_id in named:
            unnamed.append(failure)
        else:
            named[row.record_id] = failure
    return named, unnamed


def _tally(report: Iterable[ReportRow], named: dict[str, Failure], upserts: bool) -> _Tally:
    tally = _Tally()
    for row in report:
        tally.rows += 1
        if row.record_id is not None and row.record_id in named:
            continue
        match status_in_report(row, upserts=upserts):
            case "unchanged":
                tally.unchanged.append(row.record_id)
            case "failed":
                tally.missing.append(row.record_id)
            case "updated" | "created" | "succeeded" as written:
                tally.written_ids.append(row.record_id)
                tally.created += written == "created"
                tally.updated += written == "updated"
                tally.unclear += written == "succeeded"
    return tally


def rows_in_answer(result: BulkResult) -> Iterator[ReportRow] | None:
    """Give the rows that answers of before August 2024 have instead of a report; None of other answers."""
    if not result.results:
        return None
    return (ReportRow(row.record_id, row.found, row.updated) for row in result.results)


def status_in_report(
    row: ReportRow, *, upserts: bool
) -> Literal["updated", "created", "succeeded", "unchanged", "failed"] | None:
    """
    Say what a row of the report says of its record.

    ``succeeded`` is a record that was written, whether it existed or not; None is a row that says nothing.
    """
    if row.updated and (upserts or row.found is not False):
        return {True: "updated", False: "created", None: "succeeded"}[row.found]  # type: ignore[return-value]
    if row.updated is False and row.found:
        return "unchanged"
    return None if row.updated is None else "failed"


def told_of_records(said: Mapping[str, int], outcome: ActionOutcome) -> dict[str, str]:
    """
    Say what may be told of single records, where the counts of their action are what they are.

    Never more than the counts allow: where errors and report together name more records as written than the action
    counts, nobody knows which of them were not. Of records that are mentioned nowhere only what is true of all of them
    is told: they were written if all were, they failed if all did, and else they are ``not_reported``.

    :param said: how many records errors and report name as ``failed``, ``updated`` and so on, and how many they do not
        mention (an empty key).
    :param outcome: of the action.
    :returns: by what was said of a record what is told of it.
    """
    told = {word: word for word in said}
    written = sum(said.get(word, 0) for word in ("updated", "created", "succeeded"))
    left = {
        "succeeded": outcome.succeeded - written,
        "unchanged": outcome.unchanged - said.get("unchanged", 0),
        "failed": outcome.failed - said.get("failed", 0),
        "not_reported": outcome.not_reported,
    }
    if left["succeeded"] < 0:
        told |= dict.fromkeys(told.keys() & {"updated", "created", "succeeded"}, "not_reported")
    else:
        for word, counted in (("updated", outcome.updated), ("created", outcome.created)):
            if counted is not None and said.get(word, 0) > counted:
                told[word] = "succeeded"
    if left["unchanged"] < 0:
        told["unchanged"] = "not_reported"
    if said.get(""):
        of_all = [word for word, count in left.items() if count > 0]
        told[""] = of_all[0] if len(of_all) == 1 and left[of_all[0]] == said[""] else "not_reported"
    return told


def _not_written(action: AsyncAction, record_id: str | None, upserts: bool) -> Failure:
    message = "the report says that it was neither found nor written" if upserts else "there is no such voucher"
    return Failure("failed", record_id, "not_found", message, None, action.id)


def _whole(action: AsyncAction) -> Failure:
    said = f"the async action as a whole failed (status {action.status}, operation_status {action.operation_status})"
    return Failure("failed", None, "async_action_failed", said, None, action.id)


def _count(result: BulkResult, tally: _Tally | None, failed: int) -> int:
    """How many records an action was about, where only its answer can tell."""
    counted = (result.done_count or 0) + (result.failed_count or 0)
    return max(counted, tally.rows if tally is not None else 0, failed)


def _balanced(
    count: int,
    failed: int,
    tally: _Tally | None,
    result: BulkResult,
    upserts: bool,
    named: dict[str, Failure],
    unnamed: list[Failure],
) -> ActionOutcome:
    """Make the parts add up to ``count``: failures first, then what was written, then what was not reported."""
    failed = min(failed, count)
    room = count - failed
    if tally is None:
        succeeded, unchanged = min(result.done_count or 0, room), 0
        updated = created = None
    else:
        unchanged = min(len(tally.unchanged), room)
        if result.done_count is not None:
            unchanged = min(unchanged, max(0, result.done_count - tally.written))
        counted = tally.written if result.done_count is None else min(tally.written, result.done_count)
        succeeded = min(counted, room - unchanged)
        updated, created = tally.split(succeeded)
    if succeeded == 0:
        updated = created = 0
    if not upserts and created is None:
        created = 0
    return ActionOutcome(
        succeeded=succeeded,
        updated=updated,
        created=created,
        unchanged=unchanged,
        failed=failed,
        not_reported=room - succeeded - unchanged,
        failures=named,
        written=frozenset(filter(None, tally.written_ids)) if tally and failed > len(named) else frozenset(),
        unnamed_failures=max(0, failed - len(named)),
        unnamed_reason=unnamed[0] if unnamed else None,
    )
