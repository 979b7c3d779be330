"""The parts of a CSV import, each sent once: what an earlier try has sent is waited for instead."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.csv_imports import csv_import
from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyPayloadTooLargeError,
    VoucherifyTaskKilledError,
    certainly_not_accepted,
)
from airflow_provider_voucherify.sync.batches.csv_file import CsvFile, CsvPart
from airflow_provider_voucherify.sync.results.finished import ActionsLookedAt
from airflow_provider_voucherify.sync.sending.journal import Journal, JournalEntry
from airflow_provider_voucherify.sync.types.counts import Counts
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync, resubmission_warning

log = logging.getLogger(__name__)

T = TypeVar("T")


class ImportApi(ActionsLookedAt, Protocol):
    """The part of a Voucherify client that is needed here."""

    def send(self, call: Call[T]) -> T:
        """Carry out a call."""


class RowsWithoutIdsError(VoucherifyError):
    """Rows without ids may have been sent, and would be created twice if they were sent again."""


@dataclass
class CsvSubmission:
    """
    Posts the parts of a file that no earlier try has posted.

    A part whose answer was lost is posted again if all its rows name their records, since importing them twice changes
    nothing; it is counted as ``resubmitted``. If some name none, a second import would make second records, so it is
    left to a person.

    A part that turns out to be too large (413: the limit may shrink) is sent in two halves of its rows, and so is every
    later one of its size; ``file`` has the halves in its place then.

    :param file: read.
    :param api: where to post.
    :param journal: what earlier tries have posted.
    :param killed: says whether to stop.
    """

    file: CsvFile
    api: ImportApi
    journal: Journal
    killed: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = field(default=time.time, repr=False)
    _digests: list[str] = field(default_factory=list, init=False)
    _split: list[str] = field(default_factory=list, init=False)
    _same_content: dict[str, int] = field(default_factory=dict, init=False)
    _too_large: float = field(default=math.inf, init=False)
    _reattached: int = field(default=0, init=False)
    _posted_bytes: int = field(default=0, init=False)

    def run(self) -> SubmittedSync:
        """
        Post what is to be posted, in order.

        :raises RowsWithoutIdsError: nothing more is sent, lest rows without ids be created twice.
        :raises VoucherifyTaskKilledError: the task was told to end.
        :raises VoucherifyError: a post failed. What was posted until then is in the journal.
        """
        self._digests = [self._digest(part) for part in self.file.parts]
        self._split_as_before()
        known = {*self._digests, *self._split}
        gone = sum(entry.digest not in known for entry in self.journal)
        if gone and not self.file.has_ids:
            raise RowsWithoutIdsError(
                f"{gone} parts that an earlier try has sent are not in the file any more, or are cut otherwise, so "
                "nothing tells which of its rows were sent"
            )
        if gone:
            log.warning("%d parts that an earlier try has sent are not in the file any more", gone)
            self.journal.forget_all_but(known)
        batches: list[SubmittedBatch] = []
        while len(batches) < len(self.file.parts):  # which grow by halves
            if self.killed():
                raise VoucherifyTaskKilledError(f"when {len(batches)} requests had been answered")
            place = len(batches)
            part = self.file.parts[place]
            action_id = self._submit(part, self._digests[place])
            if action_id is None:
                self._split_at(place)
            else:
                again = self._times_resubmitted([self._digests[place]])
                batches.append(SubmittedBatch(action_id, part.rows, resubmitted=bool(again)))
        warning = resubmission_warning("parts of the file", "rows", batches)
        return SubmittedSync(
            tuple(batches),
            submitted_at=self.clock(),
            counts=Counts(self.file.rows, self.file.blank_rows),
            requests=len(batches) - self._reattached,
            bytes_sent=self._posted_bytes,
            reattached=self._reattached,
            resubmitted=self._times_resubmitted([*self._digests, *self._split]),
            warnings=tuple(filter(None, [warning])),
        )

    def _times_resubmitted(self, digests: Iterable[str]) -> int:
        return sum(entry.resubmitted for digest in digests if (entry := self.journal.find(digest)) is not None)

    def _split_as_before(self) -> None:
        """Cut what an earlier try found too large, which has sent the halves instead."""
        place = 0
        while place < len(self._digests):
            entry = self.journal.find(self._digests[place])
            if entry is not None and entry.split:
                self._split_at(place)
            else:
                place += 1

    def _split_at(self, place: int) -> None:
        part = self.file.parts[place]
        self._split.append(self._digests[place])
        self._too_large = min(self._too_large, self.file.size(part))
        self.file.split(part)
        self._digests[place : place + 1] = [self._digest(half) for half in self.file.parts[place : place + 2]]

    def _digest(self, part: CsvPart) -> str:
        """Return what tells a part from any other: its content, numbered where several have the same."""
        content = self.file.digest(part)
        number = self._same_content[content] = self._same_content.get(content, 0) + 1
        return content if number == 1 else f"{content}-{number}"

    def _submit(self, part: CsvPart, digest: str) -> str | None:
        """Return the action of a part; None where it is too large, and its entry in the journal says so."""
        entry = self.journal.find(digest)
        if entry is not None and entry.async_action_id is not None and not entry.failed:
            self._reattached += 1
            log.info("Rows from %d on were sent by an earlier try: %s", part.first_row, entry.async_action_id)
            return entry.async_action_id
        if entry is not None and not part.has_ids:
            lost = "its answer was lost, or Voucherify does not know its action"
            became = lost if entry.async_action_id is None else f"{entry.async_action_id} failed"
            raise RowsWithoutIdsError(f"an earlier try has sent rows from {part.first_row} on and {became}")
        return self._post(part, digest)

    def _post(self, part: CsvPart, digest: str) -> str | None:
        size = self.file.size(part)
        call = csv_import(self.file.endpoint, size, lambda: self.file.content(part))
        before = self.journal.find(digest)
        self.journal.intend(JournalEntry(digest, part.rows))
        if size >= self._too_large and part.rows > 1:
            self.journal.was_split(digest)
            return None
        try:
            action_id = self.api.send(call)
        except VoucherifyError as error:
            if isinstance(error, VoucherifyPayloadTooLargeError):
                what = f"{part.rows:,} rows from {part.first_row} on ({size:,} bytes)"
                log.warning("%s are too large: %s", what, error)
                if part.rows > 1:
                    self.journal.was_split(digest)
                    return None
            if certainly_not_accepted(error) and before is not None:
                self.journal.restore(before)
            elif certainly_not_accepted(error):
                self.journal.withdraw(digest)
            raise
        self.journal.posted(digest, action_id)
        self._posted_bytes += size
        log.info("Rows from %d on: %s rows, %s bytes, async action %s", part.first_row, part.rows, size, action_id)
        return action_id
