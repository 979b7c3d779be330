"""Sending the batches of a plan, each once: what an earlier try has sent is waited for instead."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from airflow_provider_voucherify.client.calls import Body
from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.endpoints import BulkEndpoint
from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyPayloadTooLargeError,
    VoucherifyTaskKilledError,
    certainly_not_accepted,
)
from airflow_provider_voucherify.sync.batches.bodies import ids_of
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.batches.spool import Batch
from airflow_provider_voucherify.sync.results.collect import outcome_of
from airflow_provider_voucherify.sync.sending.journal import Journal, JournalEntry
from airflow_provider_voucherify.sync.state.ledger import Ledger
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync, resubmission_warning

log = logging.getLogger(__name__)

NOTICE_SECONDS = 1.0
"""Seconds after which it is noticed at the latest, while posts are under way, that the task was told to end."""

LAST_SECONDS = 3.0
"""Seconds for the answers to what was sent then: Airflow kills a task that was marked after 5 s."""


class SubmissionApi(Protocol):
    """The part of a Voucherify client that is needed here."""

    @property
    def bulk_calls_must_wait(self) -> bool:
        """Whether a post would have to wait for a rate limit until a time that is known."""

    def bulk(self, endpoint: BulkEndpoint, body: Body) -> str:
        """Post a body and return the ``async_action_id``."""

    def get_async_action(self, async_action_id: str) -> AsyncAction:
        """Get one async action."""

    def download(self, url: str, file: BinaryIO) -> int:
        """Fetch a report into a file."""


@dataclass
class Submission:
    """
    Posts the batches of a plan that no earlier try has posted.

    A batch whose answer was lost, whose action Voucherify does not know any more, or whose records another run of the
    sync may have sent since, is posted again: that costs a request and tells Voucherify the same values twice, and
    nothing in its list of actions could prove that one of them is this batch's, since other tasks and runs send the
    same ids. It is counted as ``resubmitted``.

    :param plan: read.
    :param api: where to post.
    :param journal: what earlier tries have posted.
    :param max_in_flight: the most bodies that are sent at the same time, at least 1. Every id is in one body only, so
        their order does not matter. While a rate limit holds bulk calls back only one is made to wait.
    :param killed: says whether to stop.
    """

    plan: Plan
    api: SubmissionApi
    journal: Journal
    max_in_flight: int = 2
    killed: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = field(default=time.time, repr=False)
    _digests: list[str] = field(default_factory=list, init=False)
    _were_split: set[str] = field(default_factory=set, init=False)
    _sent_again: list[int] = field(default_factory=list, init=False)
    _waiting: deque[Batch] = field(default_factory=deque, init=False)
    _too_large: float = field(default=math.inf, init=False)
    _reattached: int = field(default=0, init=False)
    _in_doubt: dict[str, JournalEntry] = field(default_factory=dict, init=False)
    _posted_bytes: int = field(default=0, init=False)

    def doubt_overtaken(self, ledger: Ledger) -> None:
        """Let the batches be sent again whose records another run of the sync may have sent since an earlier try."""
        if not ledger.has_overtaken:
            return
        self._find_in_journal()
        for batch, digest in zip(self.plan.batches, self._digests, strict=True):
            entry = self.journal.find(digest)
            if entry is not None and entry.async_action_id is not None and ledger.is_overtaken(self._ids_of(batch)):
                log.warning("Batch %d may not be the last that Voucherify was told of its records", batch.number)
                self.journal.doubt_action(entry.async_action_id)

    def run(self) -> SubmittedSync:
        """
        Post what is to be posted, in order.

        A batch that turns out to be too large (413: the limit may shrink) is sent in halves, and so is every later one
        of its size; a single record that is too large is an error.

        :raises VoucherifyTaskKilledError: the task was told to end.
        :raises VoucherifyError: a post failed. What was posted until then is in the journal.
        """
        self._find_in_journal()
        for batch in self.plan.batches:  # grows by the batches of records that are sent again
            self._sent_again.append(self._plan_again(batch))
            self._find_in_journal()
        if changed := self.journal.forget_all_but(self._were_split.union(self._digests)):
            log.warning(
                "%d batches that an earlier try has sent are not the same any more, and are sent again as they are now:"
                " the source has changed, or gives its rows in another order",
                changed,
            )
        ids = self._submitted_ids()
        times = [entry.resubmitted if (entry := self.journal.find(digest)) else 0 for digest in self._digests]
        batches = [
            SubmittedBatch(action_id, batch.records, again, batch.destination.endpoint.action_type, bool(resubmitted))
            for action_id, batch, again, resubmitted in zip(
                ids, self.plan.batches, self._sent_again, times, strict=True
            )
        ]
        warning = resubmission_warning("batches", "records", batches)
        if warning is not None:
            log.warning("%s", warning)
        return SubmittedSync(
            tuple(batches),
            submitted_at=self.clock(),
            counts=self.plan.counts,
            warnings=(*self.plan.warnings, *filter(None, [warning])),
            requests=len(batches) - self._reattached,
            bytes_sent=self._posted_bytes,
            reattached=self._reattached,
            resubmitted=sum(times),
        )

    def _find_in_journal(self) -> None:
        """Digest the batches that are new in the plan; one that an earlier try has sent in halves becomes these."""
        while len(self._digests) < len(self.plan.batches):
            self._digests.append(self._digest_unless_split(self.plan.batches[len(self._digests)]))

    def _digest_unless_split(self, batch: Batch) -> str:
        digest = self._digest(batch)
        while (entry := self.journal.find(digest)) is not None and entry.split:
            self._were_split.add(digest)
            batch, _ = self.plan.split(batch)
            digest = self._digest(batch)
        return digest

    def _plan_again(self, batch: Batch) -> int:
        """
        Add a batch of the records that Voucherify has rejected of this one, where the journal asks for it.

        If it cannot be told any more which those are (the report is gone), the whole batch is sent again.
        """
        entry = self.journal.find(self._digests[batch.number - 1])
        if entry is None or entry.async_action_id is None or not entry.failed:
            return 0
        action = self.api.get_async_action(entry.async_action_id)
        failures = outcome_of(action, batch.records, batch.destination.endpoint, self.api, self._ids_of(batch)).failures
        again = self.plan.add_subset(batch, failures) if entry.failed <= len(failures) < batch.records else None
        if again is None:
            self.journal.withdraw(entry.digest)
            log.info("Batch %d had rejected records and is sent again as a whole", batch.number)
            return 0
        log.info("%d records of batch %d were rejected and are sent again", again.records, batch.number)
        return again.records

    def _submitted_ids(self) -> list[str]:
        """Submit every batch, at most ``max_in_flight`` at a time, and return the ids of their actions in order."""
        ids: dict[int, str] = {}
        in_flight: dict[Future[str], Batch] = {}
        waiting = self._waiting
        waiting.extend(self.plan.batches)
        try:
            while waiting or in_flight:
                self._go_on()
                if not waiting or len(in_flight) >= self.max_in_flight or (in_flight and self.api.bulk_calls_must_wait):
                    self._note_answers(in_flight, ids, FIRST_COMPLETED, NOTICE_SECONDS)
                    continue
                batch = waiting.popleft()
                if (known := self._known_id(batch)) is not None:
                    ids[batch.number] = known
                elif batch.length >= self._too_large and batch.records > 1:
                    self.journal.intend(JournalEntry(self._digests[batch.number - 1], batch.records))
                    self._split(batch)
                else:
                    in_flight[self._post(batch)] = batch
        except VoucherifyError as error:
            at_most = LAST_SECONDS if isinstance(error, VoucherifyTaskKilledError) else None
            self._note_answers(in_flight, ids, ALL_COMPLETED, at_most, or_raise=False)
            raise
        return [ids[batch.number] for batch in self.plan.batches]

    def _known_id(self, batch: Batch) -> str | None:
        """Return the action of a batch that an earlier try has sent."""
        entry = self.journal.find(self._digests[batch.number - 1])
        if entry is None:
            return None
        if entry.async_action_id is None:
            log.warning("Batch %d of %d is in doubt and is sent again", batch.number, len(self.plan.batches))
            self._in_doubt[entry.digest] = entry
        else:
            self._reattached += 1
            log.info(
                "Batch %d of %d was sent by an earlier try: %s",
                batch.number,
                len(self.plan.batches),
                entry.async_action_id,
            )
        return entry.async_action_id

    def _go_on(self) -> None:
        if self.killed():
            answered = sum(entry.async_action_id is not None for entry in self.journal)
            raise VoucherifyTaskKilledError(f"when {answered} of {len(self.plan.batches)} requests had been answered")

    def _post(self, batch: Batch) -> Future[str]:
        self.journal.intend(JournalEntry(self._digests[batch.number - 1], batch.records))
        return _in_thread(lambda: self.api.bulk(batch.destination.endpoint, Body(batch.length, batch.body)))

    def _note_answers(
        self,
        in_flight: dict[Future[str], Batch],
        ids: dict[int, str],
        until: str,
        at_most: float | None,
        *,
        or_raise: bool = True,
    ) -> None:
        """Wait for posts, so many seconds at most; write their answers into the journal, then raise the first error."""
        first: VoucherifyError | None = None
        for future in wait(in_flight, at_most, until).done:
            batch = in_flight.pop(future)
            try:
                ids[batch.number] = self._answered(batch, future)
            except VoucherifyPayloadTooLargeError as error:
                self._too_large = min(self._too_large, batch.length)
                if batch.records == 1 or not or_raise:
                    self._not_posted(self._digests[batch.number - 1])
                    first = first or error
                else:
                    log.warning(
                        "Batch %d of %s bytes is too large for Voucherify: %s", batch.number, f"{batch.length:,}", error
                    )
                    self._split(batch)
            except VoucherifyError as error:
                first = first or error
        if first is not None and or_raise:
            raise first

    def _answered(self, batch: Batch, future: Future[str]) -> str:
        digest = self._digests[batch.number - 1]
        try:
            action_id = future.result()
        except VoucherifyError as error:
            if certainly_not_accepted(error) and not isinstance(error, VoucherifyPayloadTooLargeError):
                self._not_posted(digest)
            raise
        self.journal.posted(digest, action_id)
        self._posted_bytes += batch.length
        log.info(
            "Batch %d of %d (%d %% sent): %s records, %s bytes, async action %s",
            batch.number,
            len(self.plan.batches),
            100 * self._posted_bytes // max(1, self.plan.bytes_to_send),
            f"{batch.records:,}",
            f"{batch.length:,}",
            action_id,
        )
        return action_id

    def _not_posted(self, digest: str) -> None:
        """Take back an intent that certainly came to nothing; a batch that was in doubt before still is."""
        if (before := self._in_doubt.get(digest)) is not None:
            self.journal.restore(before)
        else:
            self.journal.withdraw(digest)

    def _split(self, batch: Batch) -> None:
        """Send two halves instead of a batch, which has an entry in the journal; in doubt are both if it was."""
        whole = self._digests[batch.number - 1]
        self.journal.was_split(whole)
        first, second = self.plan.split(batch)
        self._digests[first.number - 1] = self._digest(first)
        self._digests.append(self._digest(second))
        if whole in self._in_doubt:
            for half in (first, second):
                self.journal.intend(JournalEntry(self._digests[half.number - 1], half.records))
        self._sent_again.append(0)
        self._waiting.extendleft((second, first))

    def _digest(self, batch: Batch) -> str:
        digest = hashlib.sha256(batch.destination.endpoint.path.encode() + b"\n", usedforsecurity=False)
        for piece in batch.body():
            digest.update(piece)
        return digest.hexdigest()[:32]

    @staticmethod
    def _ids_of(batch: Batch) -> list[str]:
        return ids_of(b"".join(batch.body()), batch.destination.endpoint)


def _in_thread(post: Callable[[], str]) -> Future[str]:
    """Run a post in a thread that does not keep the process from ending, as one that waits for a rate limit would."""
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(post())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="voucherify-post", daemon=True).start()
    return future
