"""
CSV imports: parts sent once each, and their results counted row by row.

The result of an import has no report. It counts rows as done and failed and names the failed ones by their number in
the file, so ``updated`` and ``created`` cannot be told apart. Rows that it does not count are ``not_reported``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Protocol, TypeVar

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.csv_imports import csv_import
from airflow_provider_voucherify.models.async_action import AsyncAction, BulkResult
from airflow_provider_voucherify.models.errors import VoucherifyError, VoucherifyNoAnswerError, was_not_taken
from airflow_provider_voucherify.sync.csv_file import CsvFile, CsvPart
from airflow_provider_voucherify.sync.failures import Failure, failure_line
from airflow_provider_voucherify.sync.journal import Journal, JournalEntry
from airflow_provider_voucherify.sync.outcomes import SubmittedBatch, SubmittedSync, UnfinishedActionsError, fetched
from airflow_provider_voucherify.sync.plan import SAMPLE_SIZE
from airflow_provider_voucherify.sync.settlement import ActionOutcome, settle
from airflow_provider_voucherify.sync.summary import SyncSummary, add_up, first_samples

log = logging.getLogger(__name__)

T = TypeVar("T")


class ImportApi(Protocol):
    """The part of a Voucherify client that is needed here."""

    def send(self, call: Call[T]) -> T:
        """Carry out a call."""

    def get_async_action(self, async_action_id: str) -> AsyncAction:
        """Get one async action."""


class ImportFolder(Protocol):
    """A folder that keeps failures."""

    @property
    def uri(self) -> str:
        """Where it is."""

    def write(self, name: str) -> IO[bytes]:
        """Open a file of the folder for writing, replacing it."""


@dataclass
class CsvSubmission:
    """
    Posts the parts of a file that no earlier try has posted.

    A part whose answer was lost is posted again if all its rows name their records, since importing them twice changes
    nothing; it is counted as ``resubmitted``. There is no report that could tell its action from another one's. If some
    name none, a second import would make second records, so it is left to a person.

    :param file: read.
    :param api: where to post.
    :param journal: what earlier tries have posted.
    """

    file: CsvFile
    api: ImportApi
    journal: Journal
    clock: Callable[[], float] = field(default=time.time, repr=False)
    _reattached: int = field(default=0, init=False)
    _posted_bytes: int = field(default=0, init=False)

    def run(self) -> SubmittedSync:
        """
        Post what is to be posted, in order.

        :raises VoucherifyError: a post failed. What was posted until then is in the journal.
        """
        digests = [self.file.digest(part) for part in self.file.parts]
        if outdated := self.journal.outdate_all_but(set(digests)):
            log.warning("%d parts that an earlier try has sent are not in the file any more", outdated)
        batches = [
            SubmittedBatch(self._submit(part, digest), part.rows)
            for part, digest in zip(self.file.parts, digests, strict=True)
        ]
        return SubmittedSync(
            tuple(batches),
            submitted_at=self.clock(),
            rows_read=self.file.rows,
            requests=len(batches) - self._reattached,
            bytes_sent=self._posted_bytes,
            reattached=self._reattached,
            resubmitted=sum(entry.resubmitted for digest in digests if (entry := self.journal.find(digest))),
        )

    def _submit(self, part: CsvPart, digest: str) -> str:
        entry = self.journal.find(digest)
        if entry is not None and entry.async_action_id is not None and not entry.failed:
            self._reattached += 1
            log.info("Rows from %d on were sent by an earlier try: %s", part.first_row, entry.async_action_id)
            return entry.async_action_id
        if entry is not None and not part.has_ids:
            became = "its answer was lost" if entry.async_action_id is None else f"{entry.async_action_id} failed"
            raise VoucherifyNoAnswerError(
                f"an earlier try has sent rows from {part.first_row} on and {became}. Some of them have no source_id, "
                "so sending them again may create them twice: look into Voucherify, and clear the task to send them "
                "again"
            )
        return self._post(part, digest)

    def _post(self, part: CsvPart, digest: str) -> str:
        size = self.file.size(part)
        call = csv_import(self.file.endpoint, size, lambda: self.file.content(part))
        before = self.journal.find(digest)
        self.journal.intend(JournalEntry(digest, part.rows, self.clock()))
        try:
            action_id = self.api.send(call)
        except VoucherifyError as error:
            if was_not_taken(error) and before is not None:
                self.journal.restore(before)
            elif was_not_taken(error):
                self.journal.withdraw(digest)
            raise
        self.journal.posted(digest, action_id)
        self._posted_bytes += size
        log.info("Rows from %d on: %s rows, %s bytes, async action %s", part.first_row, part.rows, size, action_id)
        return action_id


def collect_import_outcomes(
    sync: SubmittedSync,
    api: ImportApi,
    *,
    resource: str,
    folder: ImportFolder | None = None,
    file: Callable[[], CsvFile | None] = lambda: None,
    seen: dict[str, AsyncAction] | None = None,
    on_outcome: Callable[[str, ActionOutcome], None] = lambda async_action_id, outcome: None,
) -> SyncSummary:
    """
    Fetch every action once and say what became of every row.

    :param folder: gets ``failures.jsonl``.
    :param file: gives what was sent, so that ``failures.jsonl`` has whole rows; None where it cannot be had any more.
    :param seen: actions that are known to have finished and need not be fetched; finished ones are added.
    :param on_outcome: told of each action's outcome.
    :raises UnfinishedActionsError: an action is not finished; nothing has been done then.
    :raises HeldBackError: it could not be found out whether all are finished; nothing has been done then.
    """
    actions = _all_finished(sync, api, {} if seen is None else seen)
    outcomes = [
        settle(action, batch.records, upserts=True) for action, batch in zip(actions, sync.batches, strict=True)
    ]
    failures = _Failures(sync.batches, actions, outcomes)
    for action, outcome in zip(actions, outcomes, strict=True):
        on_outcome(action.id, outcome)
    if folder is not None:
        with folder.write("failures.jsonl") as lines:
            lines.writelines(failures.lines(file() if any(outcome.failed for outcome in outcomes) else None))
    total = add_up(outcomes)
    return SyncSummary(
        resource=resource,
        rows_read=sync.rows_read,
        submitted=total.records,
        succeeded=total.succeeded,
        updated=total.updated,
        created=total.created,
        unchanged=total.unchanged,
        failed=total.failed,
        refused=sync.refused,
        superseded=sync.superseded,
        not_reported=total.not_reported,
        async_action_ids=sync.async_action_ids,
        failed_async_action_ids=[
            action.id for action, outcome in zip(actions, outcomes, strict=True) if outcome.failed_as_a_whole
        ],
        requests=sync.requests,
        bytes_sent=sync.bytes_sent,
        resubmitted=sync.resubmitted,
        report_uri=folder.uri if folder is not None else None,
        failures=first_samples(failure.sample() for failure in failures.named()),
    )


def _all_finished(sync: SubmittedSync, api: ImportApi, seen: dict[str, AsyncAction]) -> list[AsyncAction]:
    calls = 0
    for place, action_id in enumerate(sync.async_action_ids):
        if action_id not in seen:
            action = fetched(action_id, api.get_async_action, calls)
            calls += 1
            if not action.is_finished:
                raise UnfinishedActionsError(sync.async_action_ids[place:])
            seen[action_id] = action
    return [seen[action_id] for action_id in sync.async_action_ids]


@dataclass(frozen=True)
class _Failures:
    """The failed rows of all parts, with their numbers in the whole file."""

    batches: Sequence[SubmittedBatch]
    actions: Sequence[AsyncAction]
    outcomes: Sequence[ActionOutcome]

    def named(self, most: int = SAMPLE_SIZE) -> Iterator[Failure]:
        """Give the failures that Voucherify gives a reason for."""
        for number, outcome in enumerate(self.outcomes):
            found = self._of_part(number)
            yield from list(found.values())[:most]
            if len(found) < outcome.failed:
                yield self._unnamed(number)

    def lines(self, file: CsvFile | None) -> Iterator[bytes]:
        """
        Give the lines of ``failures.jsonl``.

        Where Voucherify counts more failures than it names, every row of the part that it does not name is given.
        """
        for number, outcome in enumerate(self.outcomes):
            found = self._of_part(number)
            hidden = outcome.failed - len(found)
            if file is None:
                for failure in found.values():
                    yield failure_line(failure, "id", {} if failure.id is None else {"source_id": failure.id})
                if hidden > 0:
                    yield failure_line(self._unnamed(number), "id", {})
            elif outcome.failed:
                part = file.parts[number]
                wanted = range(part.first_row, part.first_row + part.rows) if hidden > 0 else found.keys()
                for row, values in file.values(part, wanted):
                    yield failure_line(found.get(row) or replace(self._unnamed(number), row=row), "row", values)

    def _of_part(self, number: int) -> dict[int, Failure]:
        """Return the failures of a part that have a row number, by their row in the whole file."""
        offset = sum(batch.records or 0 for batch in self.batches[:number])
        action = self.actions[number]
        found: dict[int, Failure] = {}
        for told in BulkResult.model_validate(action.result or {}).failed:
            if told.row is not None and 1 <= told.row <= (self.batches[number].records or 0):
                row = offset + told.row
                place = f"row {row} of the file"
                found[row] = Failure("failed", told.record_id, None, told.reason, place, action.id, row)
        return found

    def _unnamed(self, number: int) -> Failure:
        reason = self.outcomes[number].unnamed_reason
        if reason is not None and reason.row is None:
            return reason
        said = "Voucherify does not say which rows failed"
        return Failure("failed", None, None, said, None, self.actions[number].id)
