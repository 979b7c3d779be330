"""From finished async actions to a summary: results fetched once, reports read, failures written down."""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby, repeat
from typing import IO, Any, BinaryIO, Literal, Protocol

from airflow_provider_voucherify.client.budgets import held_until
from airflow_provider_voucherify.models.async_action import AsyncAction, BulkResult
from airflow_provider_voucherify.models.endpoints import METADATA_ENDPOINTS, UPDATE_ENDPOINTS, BulkEndpoint
from airflow_provider_voucherify.models.errors import VoucherifyRateLimitError, VoucherifyReportError
from airflow_provider_voucherify.sync.failures import (
    Attempts,
    EarlierFailures,
    Failure,
    failure_line,
    ids_of,
    records_of,
)
from airflow_provider_voucherify.sync.ledger import Ledger
from airflow_provider_voucherify.sync.plan import SAMPLE_SIZE
from airflow_provider_voucherify.sync.report import ReportRow, read_report
from airflow_provider_voucherify.sync.settlement import ActionOutcome, rows_in_answer, settle
from airflow_provider_voucherify.sync.summary import SyncSummary, add_up, first_samples

log = logging.getLogger(__name__)

MOST_ERRORS_REMEMBERED = 10_000
"""
Errors of all actions together that are kept until it is their turn, about a kilobyte each. An action that would make it
more is fetched once more then.
"""

_REPORT_NAME = re.compile(r"report-\d{5,}(-\d+)?\.csv")

ENDPOINTS_BY_ACTION_TYPE = {
    endpoint.action_type: endpoint for table in (UPDATE_ENDPOINTS, METADATA_ENDPOINTS) for endpoint in table.values()
}


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """
    A batch that Voucherify has taken.

    :param records: how many records it has; None where somebody else sent it.
    :param sent_again: how many of them were rejected and are in a later batch again, which says what became of them.
    :param action_type: type of the action, which tells the endpoint; None where somebody else sent it.
    """

    async_action_id: str
    records: int | None
    sent_again: int = 0
    action_type: str | None = None

    def endpoint(self, action: AsyncAction) -> BulkEndpoint | None:
        """Return where the batch went; None if not even its action tells."""
        return ENDPOINTS_BY_ACTION_TYPE.get(self.action_type or action.type or "")


@dataclass(frozen=True, slots=True)
class SubmittedSync:
    """
    A sync whose batches are all submitted: the state that outlives a deferral, ids and numbers only.

    :param submitted_at: when the last batch was submitted, Unix epoch seconds.
    :param rows_read: None where somebody else read and sent the rows.
    :param unchanged: rows that were not sent, because Voucherify has them already.
    :param removed: records that left the source; ``removed_to_mark`` of them are in the batches.
    :param warnings: what of the plan deserves a look.
    :param requests: batches that this try posted; ``bytes_sent`` are theirs.
    :param reattached: batches that an earlier try had posted.
    :param resubmitted: batches that this try posted although an earlier one may have: it could not be found out.
    """

    batches: tuple[SubmittedBatch, ...]
    submitted_at: float
    rows_read: int | None = None
    refused: int = 0
    superseded: int = 0
    requests: int = 0
    bytes_sent: int = 0
    reattached: int = 0
    resubmitted: int = 0
    unchanged: int = 0
    removed: int = 0
    removed_to_mark: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def async_action_ids(self) -> list[str]:
        """The ids in the order of submission."""
        return [batch.async_action_id for batch in self.batches]

    @property
    def submitted(self) -> int | None:
        """Records sent, None where somebody else sent them."""
        counts = [batch.records - batch.sent_again for batch in self.batches if batch.records is not None]
        return sum(counts) if len(counts) == len(self.batches) else None

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads, which is all but the ids: whoever waits has them already."""
        numbers = {name: getattr(self, name) for name in self.__slots__ if name not in ("batches", "warnings")}
        columns = {name: _folded(getattr(batch, name) for batch in self.batches) for name in _COLUMNS}
        return numbers | {"columns": columns, "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, state: Mapping[str, Any], async_action_ids: Sequence[str]) -> SubmittedSync:
        """
        Read what ``to_json`` gave, possibly in another version of this package: unknown members are ignored.

        :param async_action_ids: in the order of submission; an earlier version has them in its state.
        :raises ValueError: they are not as many as the state is about.
        """
        known = {name: state[name] for name in cls.__slots__ if name in state and name not in ("batches", "warnings")}
        if "batches" in state:
            rows: Iterable[Sequence[Any]] = state["batches"]
        else:
            columns = (_unfolded(state["columns"][name]) for name in _COLUMNS)
            rows = zip(async_action_ids, *columns, strict=True)
        batches = tuple(SubmittedBatch(*row) for row in rows)
        return cls(batches=batches, warnings=tuple(state.get("warnings", ())), **known)


_COLUMNS = ("records", "sent_again", "action_type")


def _folded(values: Iterable[Any]) -> list[Any]:
    """Write neighbours that are equal as one list of the value and how often it comes."""
    runs = ((value, sum(1 for _ in equal)) for value, equal in groupby(values))
    return [value if times == 1 else [value, times] for value, times in runs]


def _unfolded(folded: Iterable[Any]) -> Iterator[Any]:
    for item in folded:
        value, times = item if isinstance(item, list) else (item, 1)
        yield from repeat(value, times)


class ActionsLookedAt(Protocol):
    """The part of a Voucherify client that tells whether actions have finished."""

    def get_async_action(self, async_action_id: str) -> AsyncAction:
        """Get one async action."""


class ActionsApi(ActionsLookedAt, Protocol):
    """The part of a Voucherify client that is needed here."""

    def download(self, url: str, file: BinaryIO) -> int:
        """Fetch a report into a file."""


class FailuresFolder(Protocol):
    """A folder that keeps failures."""

    @property
    def uri(self) -> str:
        """Where it is."""

    def write(self, name: str) -> IO[bytes]:
        """Open a file of the folder for writing, replacing it."""


class ReportFolder(FailuresFolder, Protocol):
    """A folder that keeps reports and failures."""

    def names(self) -> Iterable[str]:
        """Return the names of the files in it."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


class SentRecords(Protocol):
    """What was sent, and what was refused: kept until the outcome is known."""

    def body(self, number: int) -> bytes | None:
        """Return the body of the batch with a number (from 1), None where it is lost."""

    def refused_lines(self) -> Iterable[bytes]:
        """Return the refused rows as lines of ``failures.jsonl``."""

    def set_aside_lines(self) -> Iterable[bytes]:
        """Return the records that were not sent because they have failed too often, as lines of ``set_aside.jsonl``."""

    @property
    def failed_before(self) -> EarlierFailures:
        """What an earlier sync's ``failures.jsonl`` says of records that were sent again."""


class UnfinishedActionsError(Exception):
    """
    An action has not finished, although a later one has: the queue's order is not what is documented.

    :param async_action_ids: the unfinished action and those after it that were not looked at.
    """

    def __init__(self, async_action_ids: Sequence[str]) -> None:
        self.async_action_ids = list(async_action_ids)
        super().__init__(f"{async_action_ids[0]} has not finished, although a later action has")

    @property
    def to_wait_for(self) -> list[str]:
        """The same actions, the one that is known to be unfinished last: whoever waits looks at the last one first."""
        return [*self.async_action_ids[1:], self.async_action_ids[0]]


class HeldBackError(Exception):
    """
    A rate limit holds back what became of finished actions, and nothing has been done with what is known.

    :param error: what the call for the first action that is held back ended with.
    :param until: when such calls are allowed again, Unix epoch seconds.
    :param fetched: how many actions were fetched before.
    """

    def __init__(self, error: VoucherifyRateLimitError, until: float, fetched: int) -> None:
        self.error = error
        self.until = until
        self.fetched = fetched
        super().__init__(str(error))


def collect_outcomes(
    sync: SubmittedSync,
    api: ActionsApi,
    *,
    resource: str | None = None,
    refused_sample: Iterable[Mapping[str, Any]] = (),
    folder: ReportFolder | None = None,
    sent: SentRecords | None = None,
    ledger: Ledger | None = None,
    max_attempts: int | None = None,
    seen: dict[str, AsyncAction] | None = None,
    on_all_finished: Callable[[], None] = lambda: None,
    on_outcome: Callable[[str, ActionOutcome], None] = lambda async_action_id, outcome: None,
) -> SyncSummary:
    """
    Fetch every action once, read its report, and say what became of every row.

    The reports are read even where no ``folder`` keeps them: only they tell created from updated records, and
    missing vouchers from updated ones. A report that cannot be had costs only that knowledge.

    :param resource: what the batches update; None to take it from the actions.
    :param refused_sample: what the summary shows of the refused rows.
    :param folder: keeps ``report-*.csv``, ``failures.jsonl`` and, if it is known what was ``sent``,
        ``set_aside.jsonl``. Of an earlier sync nothing is left in it.
    :param sent: what was sent; without it ``failures.jsonl`` names failed records by id alone.
    :param ledger: is told of every record's outcome; needs ``sent``.
    :param max_attempts: records that have failed so often go into ``set_aside.jsonl`` instead of ``failures.jsonl``.
    :param on_all_finished: called when every action is known to have finished, and before anything is done.
    :param on_outcome: told of each action's outcome.
    :param seen: actions that are known to have finished and need not be fetched; each is taken out at its turn.
    :raises UnfinishedActionsError: an action is not finished; nothing has been done then.
    :raises HeldBackError: it could not be found out whether all are finished; nothing has been done then.
    """
    seen = {} if seen is None else seen
    check_all_finished(sync, api, seen)
    on_all_finished()
    outcomes: list[ActionOutcome] = []
    samples: list[dict[str, Any]] = []
    failed_ids: list[str] = []
    kept: set[str] = set()
    resources: set[str | None] = {resource} if resource is not None else set()
    with (
        tempfile.TemporaryFile(prefix="voucherify-") as failures,
        tempfile.TemporaryFile(prefix="voucherify-") as set_aside,
    ):
        lines = _FailureLines(failures, set_aside, sent, ledger, max_attempts)
        actions = finished_actions(sync, api, seen)
        for number, (batch, action) in enumerate(zip(sync.batches, actions, strict=True), start=1):
            of_action = batch.endpoint(action)
            with closing(_Reports(action, api, of_action, folder, number)) as reports:
                kept.update(reports.kept)
                whole, report_read = _settle(action, batch.records, of_action, reports, ledger)
            body = sent.body(number) if sent is not None and (ledger is not None or whole.failed) else None
            if ledger is not None and body is not None and of_action is not None:
                ids = ids_of(body, of_action)
                ledger.settle(action.id, ids, whole, report_read=report_read, upserts=of_action.upserts)
            outcome = _without(whole, batch.sent_again)
            on_outcome(action.id, outcome)
            if resource is None:
                resources.add(of_action.resource if of_action is not None else None)
            if outcome.failed_as_a_whole:
                failed_ids.append(action.id)
            outcomes.append(replace(outcome, failures={}, written=frozenset()))
            if len(samples) < SAMPLE_SIZE:
                samples += [failure.sample() for failure in _failures(outcome, SAMPLE_SIZE)]
            if outcome.failed:
                lines.write(outcome, of_action, body)
        if folder is not None:
            copy_into(folder, "failures.jsonl", failures)
            if sent is not None:
                copy_into(folder, "set_aside.jsonl", set_aside)
            remove_reports(folder, but=kept)
    summary = summary_of(sync, resources, outcomes, folder, first_samples(refused_sample, samples))
    return summary.model_copy(update={"failed_async_action_ids": failed_ids})


def check_all_finished(sync: SubmittedSync, api: ActionsLookedAt, seen: dict[str, AsyncAction]) -> None:
    """
    Look at every action before anything is done with one.

    :param seen: actions that are known to have finished; afterwards those that ``MOST_ERRORS_REMEMBERED`` allows.
    :raises UnfinishedActionsError: an action is not finished.
    :raises HeldBackError: a rate limit forbids to find it out, for longer than the client waits.
    """
    ids = sync.async_action_ids
    remembered = calls = 0
    for place, action_id in enumerate(ids):
        if action_id in seen:
            action = seen.pop(action_id)
        else:
            action = _fetched(action_id, api, calls)
            calls += 1
        if not action.is_finished:
            raise UnfinishedActionsError(ids[place:])
        if remembered + (errors := _errors_in(action)) <= MOST_ERRORS_REMEMBERED:
            seen[action_id] = action
            remembered += errors


def _fetched(async_action_id: str, api: ActionsLookedAt, before: int) -> AsyncAction:
    """
    Get an action while nothing has been done yet.

    :param before: how many were got before.
    """
    try:
        return api.get_async_action(async_action_id)
    except VoucherifyRateLimitError as error:
        if (until := held_until(error, time.time())) is None:
            raise
        raise HeldBackError(error, until, before) from error


def finished_actions(sync: SubmittedSync, api: ActionsLookedAt, seen: dict[str, AsyncAction]) -> Iterator[AsyncAction]:
    """Give the actions in order, after ``check_all_finished``; one that was given is not kept in ``seen``."""
    for action_id in sync.async_action_ids:
        yield seen.pop(action_id) if action_id in seen else api.get_async_action(action_id)


def _errors_in(action: AsyncAction) -> int:
    """Return how many records or rows an action's answer has entries of."""
    lists = ((action.result or {}).get(name) for name in ("errors", "failed", "results"))
    return sum(len(entries) for entries in lists if isinstance(entries, list))


def outcome_of(action: AsyncAction, records: int, endpoint: BulkEndpoint, api: ActionsApi) -> ActionOutcome:
    """Say what became of the records of one finished action, its report read."""
    with closing(_Reports(action, api, endpoint, None, 1)) as reports:
        return _settle(action, records, endpoint, reports)[0]


def _without(outcome: ActionOutcome, sent_again: int) -> ActionOutcome:
    """Take failed records that are in a later batch out of an outcome."""
    if not sent_again:
        return outcome
    return replace(outcome, failed=max(0, outcome.failed - sent_again), failures={}, unnamed_failures=0)


def _settle(
    action: AsyncAction,
    sent: int | None,
    endpoint: BulkEndpoint | None,
    reports: _Reports,
    ledger: Ledger | None = None,
) -> tuple[ActionOutcome, bool]:
    """Return what became of an action's records, and whether its report was read to the end."""
    upserts = endpoint is None or endpoint.upserts
    rows = reports.rows()
    if rows is not None:
        try:
            passing = rows if ledger is None else ledger.reporting(rows, upserts=upserts)
            return settle(action, sent, upserts=upserts, report=passing), True
        except VoucherifyReportError as error:
            log.warning("The report of %s tells nothing: %s", action.id, error)
    return settle(action, sent, upserts=upserts), False


class _Reports:
    """The report files of one action, fetched to local disk."""

    def __init__(
        self,
        action: AsyncAction,
        api: ActionsApi,
        endpoint: BulkEndpoint | None,
        folder: ReportFolder | None,
        number: int,
    ) -> None:
        self._key = endpoint.key if endpoint is not None else "source_id"
        self.kept: list[str] = []
        self._files: list[BinaryIO] = []
        self._fetched = False
        result = BulkResult.model_validate(action.result or {})
        self._in_answer = rows_in_answer(result)
        try:
            for part, url in enumerate(result.reports, start=1):
                file: Any = tempfile.TemporaryFile(prefix="voucherify-")  # noqa: SIM115
                self._files.append(file)
                api.download(url, file)
                if folder is not None:
                    name = f"report-{number:05}" + (f"-{part}" if len(result.reports) > 1 else "") + ".csv"
                    copy_into(folder, name, file)
                    self.kept.append(name)
            self._fetched = bool(result.reports)
        except VoucherifyReportError as error:
            log.warning("The report of %s cannot be had: %s", action.id, error)
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[ReportRow] | None:
        """Return the rows of all reports, or of the answer itself where they are in there; None without either."""
        if self._fetched:
            return (row for file in self._files for row in read_report(file, self._key))
        return self._in_answer

    def close(self) -> None:
        for file in self._files:
            file.close()


def remove_reports(folder: ReportFolder, *, but: Collection[str] = ()) -> None:
    """Remove the reports of an earlier sync, which would pass for this one's."""
    for name in list(folder.names()):
        if _REPORT_NAME.fullmatch(name) and name not in but:
            folder.remove(name)


def copy_into(folder: FailuresFolder, name: str, file: IO[bytes]) -> None:
    """Write a local file's whole content into a file of a folder."""
    file.seek(0)
    with folder.write(name) as copy:
        while piece := file.read(1024 * 1024):
            copy.write(piece)


def _failures(outcome: ActionOutcome, most: int) -> list[Failure]:
    named = list(outcome.failures.values())[:most]
    if outcome.unnamed_failures and outcome.unnamed_reason is not None:
        named.append(outcome.unnamed_reason)
    return named[:most]


class _FailureLines:
    """Writes failed records down: those that may be tried again apart from those that have failed too often."""

    def __init__(
        self,
        failures: IO[bytes],
        set_aside: IO[bytes],
        sent: SentRecords | None,
        ledger: Ledger | None,
        max_attempts: int | None,
    ) -> None:
        self._failures = failures
        self._set_aside = set_aside
        self._before = sent.failed_before if sent is not None else None
        self._ledger = ledger
        self._max_attempts = max_attempts
        if sent is not None:
            failures.writelines(sent.refused_lines())
            set_aside.writelines(sent.set_aside_lines())

    def write(self, outcome: ActionOutcome, endpoint: BulkEndpoint | None, body: bytes | None) -> None:
        """
        Write one action's failed records.

        Where the API counts more failures than it names, every record that is not known to have been written is given:
        all of them are safe to send again, and leaving the wrong one out is not.
        """
        unnamed = outcome.unnamed_reason
        reason = unnamed or Failure("failed", None, None, "Voucherify does not say which records failed")
        if endpoint is None or body is None:
            key = endpoint.key if endpoint is not None else "source_id"
            for record_id, failure in outcome.failures.items():
                self._line(failure, "id", {key: record_id})
            for _ in range(outcome.unnamed_failures if not outcome.failures else 0):
                self._line(reason, "id", {})
            return
        silent = outcome.records - len(outcome.failures) - len(outcome.written)
        counts = not outcome.failed_as_a_whole and outcome.unnamed_failures >= silent
        found: set[str] = set()
        for record_id, record in records_of(body, endpoint):
            if record_id in outcome.failures:
                found.add(record_id)
                self._line(outcome.failures[record_id], "record", record)
            elif outcome.unnamed_failures and record_id not in outcome.written:
                self._line(replace(reason, id=record_id), "record", record, counts=counts)
        for record_id in outcome.failures.keys() - found:
            self._line(outcome.failures[record_id], "id", {endpoint.key: record_id})

    def _line(
        self, failure: Failure, form: Literal["record", "id"], content: Mapping[str, Any], *, counts: bool = True
    ) -> None:
        attempts = self._earlier(failure.id).again(time.time(), counts=counts)
        too_often = self._max_attempts is not None and attempts.number >= self._max_attempts
        file = self._set_aside if too_often else self._failures
        file.write(failure_line(failure, form, content, attempts))

    def _earlier(self, record_id: str | None) -> Attempts:
        """Return what the file that the record came from, or else the state, knows of its failures."""
        known = [Attempts(0, 0.0)]
        if record_id is not None and self._before is not None:
            known.append(self._before.find(record_id))
        if record_id is not None and self._ledger is not None:
            known.append(self._ledger.attempts(record_id))
        return max(known, key=lambda attempts: (attempts.number, len(attempts.history)))


def summary_of(
    sync: SubmittedSync,
    resources: Collection[str | None],
    outcomes: Sequence[ActionOutcome],
    folder: FailuresFolder | None,
    samples: list[Any],
) -> SyncSummary:
    """Add up the outcomes of all actions."""
    total = add_up(outcomes)
    unknown = any(outcome.failed_as_a_whole and not outcome.records for outcome in outcomes)
    return SyncSummary(
        resource=next(iter(resources)) if len(resources) == 1 else None,
        rows_read=sync.rows_read,
        submitted=None if unknown else total.records,
        succeeded=total.succeeded,
        updated=total.updated,
        created=total.created,
        created_at_least=sum(outcome.created or 0 for outcome in outcomes),
        unchanged=total.unchanged + sync.unchanged,
        removed=sync.removed,
        removed_to_mark=sync.removed_to_mark,
        failed=None if unknown else total.failed,
        refused=sync.refused,
        superseded=sync.superseded,
        not_reported=total.not_reported,
        async_action_ids=sync.async_action_ids,
        requests=sync.requests,
        bytes_sent=sync.bytes_sent,
        resubmitted=sync.resubmitted,
        warning="; ".join(sync.warnings) or None,
        report_uri=folder.uri if folder is not None else None,
        failures=samples,
    )
