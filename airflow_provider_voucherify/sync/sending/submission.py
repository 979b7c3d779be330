"""Sends each batch once; what an earlier try has sent is not sent again."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyPayloadTooLargeError,
    VoucherifyTaskKilledError,
    certainly_not_accepted,
)
from airflow_provider_voucherify.sync.sending.journal import Journal, JournalEntry
from airflow_provider_voucherify.sync.sending.sendable import B, Batches, SubmissionApi
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync, resubmission_warning
from airflow_provider_voucherify.sync.types.text import counted

log = logging.getLogger(__name__)

NOTICE_SECONDS = 1.0
"""Longest time in seconds until a kill is noticed while posts are in progress."""

LAST_SECONDS = 3.0
"""Seconds to wait for the answers then: Airflow kills a marked task after 5 s."""


class RowsWithoutIdsError(VoucherifyError):
    """Rows without ids may have been sent, and would be created twice if they were sent again."""


@dataclass
class _Item(Generic[B]):
    """
    A batch on its way.

    :param digest: its key in the journal.
    :param sent_again: how many of its records are in a later batch again.
    :param before: its journal entry before it was posted.
    """

    batch: B
    digest: str
    sent_again: int = 0
    async_action_id: str = ""
    before: JournalEntry | None = None

    @property
    def may_have_arrived(self) -> bool:
        """Whether Voucherify may have accepted it in an earlier request whose action is unknown."""
        return self.before is not None and (self.before.in_doubt or self.before.resubmitted > 0)


@dataclass
class Submission(Generic[B]):
    """
    Posts the batches that no earlier try has posted.

    A batch is posted again if its answer was lost, if Voucherify no longer knows its action, or if another run of the
    sync may have sent its records since: that costs a request and sends the same values twice, but nothing in the list
    of actions could prove that one of them belongs to this batch, since other tasks and runs send the same ids. It is
    counted as ``resubmitted`` each time. A batch that would create something each time is left for a person to check.

    A batch that turns out to be too large (413: the limit may shrink) is sent in halves, and so is every later one of
    its size; they are in doubt if the whole was. A single record that is too large is an error.

    :param source: what to send; batches that are too large are replaced by their halves.
    :param api: where to post.
    :param journal: what earlier tries have posted.
    :param max_in_flight: maximum number of bodies sent at the same time, at least 1; more than 1 only if the order of
        the batches does not matter. While bulk calls have to wait for a rate limit, only one does.
    :param killed: says whether to stop.
    :param add_rejected: makes a batch of the rejected records of another; None if it is unknown which they are.
        Without it the whole batch is sent again.
    """

    source: Batches[B]
    api: SubmissionApi
    journal: Journal
    max_in_flight: int = 1
    killed: Callable[[], bool] = lambda: False
    add_rejected: Callable[[B, JournalEntry], B | None] = lambda batch, entry: None
    clock: Callable[[], float] = field(default=time.time, repr=False)
    _items: dict[int, _Item[B]] = field(default_factory=dict, init=False)
    _were_split: set[str] = field(default_factory=set, init=False)
    _same_content: dict[str, int] = field(default_factory=dict, init=False)
    _waiting: deque[_Item[B]] = field(default_factory=deque, init=False)
    _in_flight: dict[Future[str], _Item[B]] = field(default_factory=dict, init=False)
    _too_large: float = field(default=math.inf, init=False)
    _reattached: int = field(default=0, init=False)
    _posted_bytes: int = field(default=0, init=False)

    def doubt(self, is_overtaken: Callable[[B], bool]) -> None:
        """Mark batches of an earlier try to be sent again whose records another run may have sent since."""
        self._find_batches()
        for item in self._items.values():
            entry = self.journal.find(item.digest)
            if entry is not None and entry.async_action_id is not None and is_overtaken(item.batch):
                log.warning("The records of %s may have been sent by another run since", item.batch.name)
                self.journal.doubt_action(entry.async_action_id)

    def run(self) -> SubmittedSync:
        """
        Post what is to be posted, in order.

        :raises RowsWithoutIdsError: nothing more is sent, so that rows without ids are not created twice.
        :raises VoucherifyTaskKilledError: the task was killed.
        :raises VoucherifyError: a post failed. What was posted before is in the journal.
        """
        self._find_batches()
        self._find_rejected()
        self._forget_others()
        self._waiting.extend(self._in_order())
        try:
            self._post_all()
        except VoucherifyError as error:
            at_most = LAST_SECONDS if isinstance(error, VoucherifyTaskKilledError) else None
            self._note_answers(ALL_COMPLETED, at_most, or_raise=False)
            raise
        return self._submitted()

    def _submitted(self) -> SubmittedSync:
        batches = [
            SubmittedBatch(
                item.async_action_id,
                item.batch.records,
                item.sent_again,
                item.batch.action_type,
                resubmitted=(entry := self.journal.find(item.digest)) is not None and entry.resubmitted > 0,
            )
            for item in self._in_order()
        ]
        if (warning := resubmission_warning(batches)) is not None:
            log.warning("%s", warning)
        return SubmittedSync(
            tuple(batches),
            submitted_at=self.clock(),
            counts=self.source.counts,
            warnings=(*self.source.warnings, *filter(None, [warning])),
            requests=len(batches) - self._reattached,
            bytes_sent=self._posted_bytes,
            reattached=self._reattached,
            resubmitted=sum(entry.resubmitted for entry in self.journal),
        )

    def _in_order(self) -> list[_Item[B]]:
        return [self._items[number] for number in sorted(self._items)]

    def _find_batches(self) -> None:
        """Add all batches; one that an earlier try has sent in halves is replaced by them."""
        if not self._items:
            for item in [self._add(batch) for batch in self.source.batches]:
                self._split_as_before(item)

    def _find_rejected(self) -> None:
        """Add batches of rejected records, if the journal says to send them again."""
        items = self._in_order()
        for item in items:  # grows by the batches that are added
            entry = self.journal.find(item.digest)
            if entry is None or entry.async_action_id is None or not entry.failed:
                continue
            batch = item.batch
            rejected = self.add_rejected(batch, entry) if entry.failed < batch.records else None
            if rejected is None:
                log.info("All of %s is sent again, since some of its records were rejected", batch.name)
            else:
                log.info("Rejected and sent again: %s of %s", counted(rejected.records, "record"), batch.name)
                item.sent_again = rejected.records
                items += self._split_as_before(self._add(rejected))

    def _forget_others(self) -> None:
        """Forget what an earlier try has sent and the source no longer has, before anything new is posted."""
        known = self._were_split.union(item.digest for item in self._items.values())
        others = [entry.digest for entry in self.journal if entry.digest not in known]
        if others and any(item.batch.creates_each_time for item in self._items.values()):
            raise RowsWithoutIdsError(
                f"the file no longer has {counted(len(others), 'request')} of an earlier try, or is split differently: "
                "it is unknown which of its rows were sent"
            )
        if others:
            log.warning(
                "This try does not have %s of an earlier one: the source has changed, or returns its rows in another "
                "order, or was compared with what Voucherify has by now",
                counted(len(others), "batch", "batches"),
            )
            self.journal.forget(*others)

    def _add(self, batch: B) -> _Item[B]:
        """Add a batch; if several have the same content, their digests are numbered."""
        content = batch.digest()
        number = self._same_content[content] = self._same_content.get(content, 0) + 1
        item = self._items[batch.number] = _Item(batch, content if number == 1 else f"{content}-{number}")
        return item

    def _split_as_before(self, item: _Item[B]) -> list[_Item[B]]:
        """Return what an earlier try sent instead of a batch: halves, halves of halves, or the batch itself."""
        entry = self.journal.find(item.digest)
        if entry is None or not entry.split:
            return [item]
        return [part for half in self._halves(item) for part in self._split_as_before(half)]

    def _halves(self, item: _Item[B]) -> list[_Item[B]]:
        self._were_split.add(item.digest)
        self._too_large = min(self._too_large, item.batch.length)
        return [self._add(half) for half in self.source.split(item.batch)]

    def _post_all(self) -> None:
        while self._waiting or self._in_flight:
            if self.killed():
                answered = sum(entry.async_action_id is not None for entry in self.journal)
                of_all = f"of {counted(len(self._items), 'request')}"
                raise VoucherifyTaskKilledError(f"when {answered} {of_all} had been answered")
            is_full = len(self._in_flight) >= self.max_in_flight or (self._in_flight and self.api.bulk_calls_must_wait)
            if is_full or not self._waiting:
                self._note_answers(FIRST_COMPLETED, NOTICE_SECONDS)
            elif not self._was_sent(item := self._waiting.popleft()):
                self._post(item)

    def _was_sent(self, item: _Item[B]) -> bool:
        """Say whether an earlier try has sent a batch that must not be sent again."""
        entry = item.before = self.journal.find(item.digest)
        if entry is None:
            return False
        if entry.async_action_id is not None and (item.sent_again or not entry.failed):
            self._reattached += 1
            item.async_action_id = entry.async_action_id
            log.info("An earlier try has sent %s: async action %s", item.batch.name, entry.async_action_id)
            return True
        if item.batch.creates_each_time:
            lost = "its answer was lost, or Voucherify does not know its action"
            reason = lost if entry.async_action_id is None else f"{entry.async_action_id} failed"
            raise RowsWithoutIdsError(f"an earlier try has sent {item.batch.name} and {reason}")
        if entry.in_doubt:
            log.warning("The answer to %s was lost or no longer counts, so it is sent again", item.batch.name)
        return False

    def _post(self, item: _Item[B]) -> None:
        self.journal.intend(JournalEntry(item.digest, item.batch.records))
        if item.batch.length >= self._too_large and item.batch.records > 1:
            self._split(item)
        else:
            self._in_flight[_in_thread(partial(self._send, item.batch))] = item

    def _send(self, batch: B) -> str:
        return self.api.send(batch.call())

    def _note_answers(self, until: str, at_most: float | None, *, or_raise: bool = True) -> None:
        """
        Wait for posts and record their answers in the journal; then raise the first error.

        :param at_most: seconds.
        """
        first: VoucherifyError | None = None
        for future in wait(self._in_flight, at_most, until).done:
            item = self._in_flight.pop(future)
            try:
                self._answered(item, future.result())
            except VoucherifyPayloadTooLargeError as error:
                log.warning("Too large for Voucherify: %s: %s", self._described(item), error)
                if item.batch.records == 1 or not or_raise:
                    self._not_accepted(item)
                    first = first or error
                else:
                    self._split(item)
            except VoucherifyError as error:
                if certainly_not_accepted(error):
                    self._not_accepted(item)
                first = first or error
        if first is not None and or_raise:
            raise first

    def _answered(self, item: _Item[B], async_action_id: str) -> None:
        self.journal.posted(item.digest, async_action_id)
        item.async_action_id = async_action_id
        self._posted_bytes += item.batch.length
        done, described = len(self._items) - len(self._waiting) - len(self._in_flight), self._described(item)
        log.info("%d of %d: sent %s, async action %s", done, len(self._items), described, async_action_id)

    def _not_accepted(self, item: _Item[B]) -> None:
        """Undo the intent of a post that was certainly not accepted; a batch that was in doubt before still is."""
        if item.before is not None:
            self.journal.restore(item.before)
        else:
            self.journal.forget(item.digest)

    def _split(self, item: _Item[B]) -> None:
        """Send two halves instead of a batch whose intent is in the journal; if it was in doubt, both halves are."""
        halves = self._halves(item)
        if item.may_have_arrived:
            for half in halves:
                self.journal.intend(JournalEntry(half.digest, half.batch.records))
        self.journal.was_split(item.digest, item.before)
        self._waiting.extendleft(reversed(halves))

    @staticmethod
    def _described(item: _Item[B]) -> str:
        return f"{item.batch.name} ({counted(item.batch.records, 'record')}, {item.batch.length:,} bytes)"


def _in_thread(post: Callable[[], str]) -> Future[str]:
    """Run a post in a daemon thread, so that one that waits for a rate limit does not keep the process alive."""
    future: Future[str] = Future()

    def run() -> None:
        try:
            future.set_result(post())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="voucherify-post", daemon=True).start()
    return future
