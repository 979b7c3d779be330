"""From finished async actions to a summary: results fetched once, reports read, failures written down."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import IO, Any, BinaryIO, Protocol

from airflow_provider_voucherify.models.async_action import AsyncAction, BulkResult
from airflow_provider_voucherify.models.endpoints import METADATA_ENDPOINTS, UPDATE_ENDPOINTS, BulkEndpoint
from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.sync.failures import Failure, failure_line, records_of
from airflow_provider_voucherify.sync.plan import SAMPLE_SIZE
from airflow_provider_voucherify.sync.report import ReportRow, read_report
from airflow_provider_voucherify.sync.settlement import ActionOutcome, settle
from airflow_provider_voucherify.sync.summary import SyncSummary, add_up, first_samples

log = logging.getLogger(__name__)

MOST_ERRORS_REMEMBERED = 1_000
"""An action with more errors is fetched once more when its turn comes, so that memory stays bounded."""

ENDPOINTS_BY_ACTION_TYPE = {
    endpoint.action_type: endpoint for table in (UPDATE_ENDPOINTS, METADATA_ENDPOINTS) for endpoint in table.values()
}


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """
    A batch that Voucherify has taken.

    :param records: how many records it has; None where somebody else sent it.
    :param sent_again: how many of them were rejected and are in a later batch again, which says what became of them.
    """

    async_action_id: str
    records: int | None
    sent_again: int = 0


@dataclass(frozen=True, slots=True)
class SubmittedSync:
    """
    A sync whose batches are all submitted: the state that outlives a deferral, ids and numbers only.

    :param submitted_at: when the last batch was submitted, Unix epoch seconds.
    :param rows_read: None where somebody else read and sent the rows.
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
        """Return what ``from_json`` reads."""
        numbers = {name: getattr(self, name) for name in self.__slots__ if name != "batches"}
        return numbers | {
            "batches": [[batch.async_action_id, batch.records, batch.sent_again] for batch in self.batches]
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> SubmittedSync:
        """Read what ``to_json`` gave, possibly in another version of this package: unknown members are ignored."""
        known = {name: state[name] for name in cls.__slots__ if name in state and name != "batches"}
        batches = tuple(SubmittedBatch(*batch) for batch in state["batches"])
        return cls(batches=batches, **known)


class ActionsApi(Protocol):
    """The part of a Voucherify client that is needed here."""

    def get_async_action(self, async_action_id: str) -> AsyncAction:
        """Get one async action."""

    def download(self, url: str, file: BinaryIO) -> int:
        """Fetch a report into a file."""


class ReportFolder(Protocol):
    """A folder that keeps reports and failures."""

    @property
    def uri(self) -> str:
        """Where it is."""

    def write(self, name: str) -> IO[bytes]:
        """Open a file of the folder for writing, replacing it."""


class SentRecords(Protocol):
    """What was sent, and what was refused: kept until the outcome is known."""

    def body(self, number: int) -> bytes | None:
        """Return the body of the batch with a number (from 1), None where it is lost."""

    def refused_lines(self) -> Iterable[bytes]:
        """Return the refused rows as lines of ``failures.jsonl``."""


class UnfinishedActionsError(Exception):
    """
    An action has not finished, although a later one has: the queue's order is not what is documented.

    :param async_action_ids: the unfinished action and those after it that were not looked at.
    """

    def __init__(self, async_action_ids: Sequence[str]) -> None:
        self.async_action_ids = list(async_action_ids)
        super().__init__(f"{async_action_ids[0]} has not finished, although a later action has")


def collect_outcomes(
    sync: SubmittedSync,
    api: ActionsApi,
    *,
    endpoint: BulkEndpoint | None,
    refused_sample: Iterable[Mapping[str, Any]] = (),
    folder: ReportFolder | None = None,
    sent: SentRecords | None = None,
    seen: dict[str, AsyncAction] | None = None,
    on_outcome: Callable[[str, ActionOutcome], None] = lambda async_action_id, outcome: None,
) -> SyncSummary:
    """
    Fetch every action once, read its report, and say what became of every row.

    The reports are read even where no ``folder`` keeps them: only they tell created from updated records, and
    missing vouchers from updated ones. A report that cannot be had costs only that knowledge.

    :param endpoint: where the batches went; None to take it from the actions' types.
    :param refused_sample: what the summary shows of the refused rows.
    :param folder: keeps ``report-*.csv`` and ``failures.jsonl``.
    :param sent: what was sent; without it ``failures.jsonl`` names failed records by id alone.
    :param on_outcome: told of each action's outcome.
    :param seen: actions that are known to have finished and need not be fetched; finished ones are added.
    :raises UnfinishedActionsError: an action is not finished; nothing has been done then.
    """
    seen = {} if seen is None else seen
    _check_all_finished(sync, api, seen)
    outcomes: list[ActionOutcome] = []
    samples: list[dict[str, Any]] = []
    failed_ids: list[str] = []
    resources: set[str | None] = {endpoint.resource} if endpoint is not None else set()
    with tempfile.TemporaryFile(prefix="voucherify-") as failures:
        if sent is not None:
            failures.writelines(sent.refused_lines())
        for number, (batch, action) in enumerate(zip(sync.batches, _finished(sync, api, seen), strict=True), start=1):
            of_action = endpoint or ENDPOINTS_BY_ACTION_TYPE.get(action.type or "")
            with closing(_Reports(action, api, of_action, folder, number)) as reports:
                outcome = _without(_settle(action, batch.records, of_action, reports), batch.sent_again)
            on_outcome(action.id, outcome)
            resources.add(of_action.resource if of_action is not None else None)
            if outcome.failed_as_a_whole:
                failed_ids.append(action.id)
            outcomes.append(replace(outcome, failures={}, written=frozenset()))
            if len(samples) < SAMPLE_SIZE:
                samples += [failure.sample() for failure in _failures(outcome, SAMPLE_SIZE)]
            if outcome.failed:
                body = sent.body(number) if sent is not None else None
                failures.writelines(_failed_lines(outcome, of_action, body))
        if folder is not None:
            _copy(failures, folder, "failures.jsonl")
    summary = _summary(sync, resources, outcomes, folder, first_samples(refused_sample, samples))
    return summary.model_copy(update={"failed_async_action_ids": failed_ids})


def _check_all_finished(sync: SubmittedSync, api: ActionsApi, seen: dict[str, AsyncAction]) -> None:
    """Look at every action before anything is done with one, and remember those whose answer is small."""
    finished = set()
    for action_id in sync.async_action_ids:
        if action_id not in seen:
            action = api.get_async_action(action_id)
            if not action.is_finished:
                raise UnfinishedActionsError([i for i in sync.async_action_ids if i not in finished])
            if len((action.result or {}).get("errors") or ()) <= MOST_ERRORS_REMEMBERED:
                seen[action_id] = action
        finished.add(action_id)


def _finished(sync: SubmittedSync, api: ActionsApi, seen: Mapping[str, AsyncAction]) -> Iterator[AsyncAction]:
    for action_id in sync.async_action_ids:
        yield seen.get(action_id) or api.get_async_action(action_id)


def outcome_of(action: AsyncAction, records: int, endpoint: BulkEndpoint, api: ActionsApi) -> ActionOutcome:
    """Say what became of the records of one finished action, its report read."""
    with closing(_Reports(action, api, endpoint, None, 1)) as reports:
        return _settle(action, records, endpoint, reports)


def _without(outcome: ActionOutcome, sent_again: int) -> ActionOutcome:
    """Take failed records that are in a later batch out of an outcome."""
    if not sent_again:
        return outcome
    return replace(outcome, failed=max(0, outcome.failed - sent_again), failures={}, unnamed_failures=0)


def _settle(action: AsyncAction, sent: int | None, endpoint: BulkEndpoint | None, reports: _Reports) -> ActionOutcome:
    upserts = endpoint is None or endpoint.upserts
    if reports.fetched:
        try:
            return settle(action, sent, upserts=upserts, report=reports.rows())
        except VoucherifyReportError as error:
            log.warning("The report of %s tells nothing: %s", action.id, error)
    return settle(action, sent, upserts=upserts)


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
        self._files: list[BinaryIO] = []
        self.fetched = False
        urls = BulkResult.model_validate(action.result or {}).reports
        try:
            for part, url in enumerate(urls, start=1):
                file: Any = tempfile.TemporaryFile(prefix="voucherify-")  # noqa: SIM115
                self._files.append(file)
                api.download(url, file)
                if folder is not None:
                    _copy(file, folder, f"report-{number:05}" + (f"-{part}" if len(urls) > 1 else "") + ".csv")
            self.fetched = bool(urls)
        except VoucherifyReportError as error:
            log.warning("The report of %s cannot be had: %s", action.id, error)
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[ReportRow]:
        for file in self._files:
            yield from read_report(file, self._key)

    def close(self) -> None:
        for file in self._files:
            file.close()


def _copy(file: IO[bytes], folder: ReportFolder, name: str) -> None:
    file.seek(0)
    with folder.write(name) as copy:
        while piece := file.read(1024 * 1024):
            copy.write(piece)


def _failures(outcome: ActionOutcome, most: int) -> list[Failure]:
    named = list(outcome.failures.values())[:most]
    if outcome.unnamed_failures and outcome.unnamed_reason is not None:
        named.append(outcome.unnamed_reason)
    return named[:most]


def _failed_lines(outcome: ActionOutcome, endpoint: BulkEndpoint | None, body: bytes | None) -> Iterator[bytes]:
    """
    Give the lines of one action's failed records.

    Where the API counts more failures than it names, every record that is not known to have been written is given:
    all of them are safe to send again, and leaving the wrong one out is not.
    """
    reason = outcome.unnamed_reason or Failure("failed", None, None, "Voucherify does not say which records failed")
    if endpoint is None or body is None:
        key = endpoint.key if endpoint is not None else "source_id"
        for record_id, failure in outcome.failures.items():
            yield failure_line(failure, "id", {key: record_id})
        for _ in range(outcome.unnamed_failures if not outcome.failures else 0):
            yield failure_line(reason, "id", {})
        return
    found: set[str] = set()
    for record_id, record in records_of(body, endpoint):
        if record_id in outcome.failures:
            found.add(record_id)
            yield failure_line(outcome.failures[record_id], "record", record)
        elif outcome.unnamed_failures and record_id not in outcome.written:
            yield failure_line(replace(reason, id=record_id), "record", record)
    for record_id in outcome.failures.keys() - found:
        yield failure_line(outcome.failures[record_id], "id", {endpoint.key: record_id})


def _summary(
    sync: SubmittedSync,
    resources: Collection[str | None],
    outcomes: Sequence[ActionOutcome],
    folder: ReportFolder | None,
    samples: list[Any],
) -> SyncSummary:
    total = add_up(outcomes)
    unknown = any(outcome.failed_as_a_whole and not outcome.records for outcome in outcomes)
    return SyncSummary(
        resource=next(iter(resources)) if len(resources) == 1 else None,
        rows_read=sync.rows_read,
        submitted=None if unknown else total.records,
        succeeded=total.succeeded,
        updated=total.updated,
        created=total.created,
        unchanged=total.unchanged,
        failed=None if unknown else total.failed,
        refused=sync.refused,
        superseded=sync.superseded,
        not_reported=total.not_reported,
        async_action_ids=sync.async_action_ids,
        requests=sync.requests,
        bytes_sent=sync.bytes_sent,
        resubmitted=sync.resubmitted,
        report_uri=folder.uri if folder is not None else None,
        failures=samples,
    )
