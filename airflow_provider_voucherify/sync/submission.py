"""Sending the batches of a plan, each once: what an earlier try has sent is waited for instead."""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import islice, pairwise, takewhile
from typing import Any, BinaryIO, Protocol

from airflow_provider_voucherify.client.calls import Body
from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList, BulkResult, epoch, iso
from airflow_provider_voucherify.models.endpoints import BulkEndpoint
from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyNotFoundError,
    VoucherifyPayloadTooLargeError,
    VoucherifyReportError,
    VoucherifyTaskKilledError,
    was_not_taken,
)
from airflow_provider_voucherify.sync.failures import ids_of
from airflow_provider_voucherify.sync.journal import Journal, JournalEntry
from airflow_provider_voucherify.sync.outcomes import outcome_of
from airflow_provider_voucherify.sync.plan import Plan
from airflow_provider_voucherify.sync.report import read_report
from airflow_provider_voucherify.sync.spool import Batch
from airflow_provider_voucherify.sync.submitted import SubmittedBatch, SubmittedSync
from airflow_provider_voucherify.sync.waiting import pause

log = logging.getLogger(__name__)

NOTICE_SECONDS = 1.0
"""Seconds after which it is noticed at the latest, while posts are under way, that the task was told to end."""

LAST_SECONDS = 3.0
"""Seconds for the answers to what was sent then: Airflow kills a task that was marked after 5 s."""

EARLIER = 120.0
"""Seconds by which the clocks of this machine and Voucherify may differ."""

LATER = (1.0, 10.0, 60.0, 600.0, 4_500.0)
"""
Seconds after an intent in which its action is looked for, step by step. The last outlasts the longest wait for a rate
limit, which comes between intent and request, and the request's time-out.
"""

BEHIND_ANOTHER = 3_900.0
"""Seconds more for every request that was in flight with it and may have used up the limit's next period before it."""

MOST_PAGES = 10
"""Lists of 100 actions that are read for one stretch of time."""

MOST_CANDIDATES = 300
"""Actions that are looked at for one batch in doubt."""

ALWAYS_WORTH = 10
"""Calls that the search for one batch may cost, however few the rate limit leaves."""


class SubmissionApi(Protocol):
    """The part of a Voucherify client that is needed here."""

    @property
    def holds_bulk_calls(self) -> bool:
        """Whether a post would have to wait for a rate limit until a time that is known."""

    def calls_left(self) -> int | None:
        """Return how many other calls the rate limit leaves; None where that is not known."""

    def bulk(self, endpoint: BulkEndpoint, body: Body) -> str:
        """Post a body and return the ``async_action_id``."""

    def get_async_action(self, async_action_id: str) -> AsyncAction:
        """Get one async action."""

    def list_async_actions(self, limit: int = 100, end_date: str | None = None) -> AsyncActionList:
        """List async actions, newest first."""

    def download(self, url: str, file: BinaryIO) -> int:
        """Fetch a report into a file."""


class _Search:
    """
    The search for the action of one batch in doubt, and why it goes no further.

    :param api: what it asks.
    :param seconds: how long it may take from the first candidate on.
    :param go_on: called before each call; raises where the search is to be given up.
    """

    def __init__(
        self, api: SubmissionApi, seconds: float, clock: Callable[[], float], go_on: Callable[[], None]
    ) -> None:
        self._api, self._seconds, self._clock, self._go_on = api, seconds, clock, go_on
        self._calls = 0
        self._most: int | None = None
        self._deadline = math.inf

    def begin_to_look(self) -> None:
        """Take note that there is a candidate; its time runs from the first one on."""
        if self._deadline == math.inf:
            self._deadline = self._clock() + self._seconds

    @property
    def end(self) -> str | None:
        """Why it has ended, None while it goes on."""
        if self._clock() >= self._deadline:
            return f"the search has taken its {self._seconds:.0f} s"
        if self._most is not None and self._calls >= self._most:
            return f"the rate limit leaves no more than {self._most} calls for the search"
        return None

    def list_before(self, end_date: str | None) -> AsyncActionList:
        """Get a page of the list."""
        self._go_on()
        page = self._api.list_async_actions(limit=100, end_date=end_date)
        self._count()
        return page

    def look(self, action_id: str) -> AsyncAction | None:
        """Get an action, None if there is no such one."""
        self._go_on()
        try:
            return self._api.get_async_action(action_id)
        except VoucherifyNotFoundError:
            return None
        finally:
            self._count()

    def _count(self) -> None:
        self._calls += 1
        left = self._api.calls_left()
        if self._most is None and left is not None:
            self._most = max(ALWAYS_WORTH, (self._calls + left) // 2)


@dataclass
class Submission:
    """
    Posts the batches of a plan that no earlier try has posted.

    :param plan: read.
    :param api: where to post.
    :param journal: what earlier tries have posted.
    :param max_in_flight: the most bodies that are sent at the same time, at least 1. Every id is in one body only, so
        their order does not matter. While a rate limit holds bulk calls back only one is made to wait.
    :param killed: says whether to stop.
    :param in_doubt_seconds: how long to wait for an unfinished action that may be the one of a batch in doubt.
    """

    plan: Plan
    api: SubmissionApi
    journal: Journal
    max_in_flight: int = 2
    in_doubt_seconds: float = 600.0
    killed: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = field(default=time.time, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    _digests: list[str] = field(default_factory=list, init=False)
    _sent_again: list[int] = field(default_factory=list, init=False)
    _waiting: deque[Batch] = field(default_factory=deque, init=False)
    _too_large: float = field(default=math.inf, init=False)
    _reattached: int = field(default=0, init=False)
    _in_doubt: dict[str, JournalEntry] = field(default_factory=dict, init=False)
    _posted_bytes: int = field(default=0, init=False)

    def run(self) -> SubmittedSync:
        """
        Post what is to be posted, in order.

        A batch that turns out to be too large (413: the limit may shrink) is sent in halves, and so is every later one
        of its size; a single record that is too large is an error.

        :raises VoucherifyTaskKilledError: the task was told to end.
        :raises VoucherifyError: a post failed. What was posted until then is in the journal.
        """
        split: set[str] = set()
        for batch in self.plan.batches:  # grows by the batches of records that are sent again, and by halves
            digest = self._digest(batch)
            while (entry := self.journal.find(digest)) is not None and entry.split:
                split.add(digest)
                digest = self._digest(self.plan.split(batch)[0])
                batch = self.plan.batches[batch.number - 1]
            self._digests.append(digest)
            self._sent_again.append(self._plan_again(batch))
        if outdated := self.journal.outdate_all_but(split.union(self._digests)):
            log.warning(
                "%d batches that an earlier try has sent are not the same any more, and are sent again as they are now:"
                " the source has changed, or gives its rows in another order",
                outdated,
            )
        batches = [
            SubmittedBatch(action_id, batch.records, again, batch.destination.endpoint.action_type)
            for action_id, batch, again in zip(self._submitted_ids(), self.plan.batches, self._sent_again, strict=True)
        ]
        return SubmittedSync(
            tuple(batches),
            submitted_at=self.clock(),
            rows_read=self.plan.rows_read,
            refused=self.plan.refused,
            superseded=self.plan.superseded,
            unchanged=self.plan.unchanged,
            removed=self.plan.removed,
            removed_to_mark=self.plan.removed_to_mark,
            refused_by_key=dict(self.plan.refused_by_key),
            warnings=tuple(self.plan.warnings),
            requests=len(batches) - self._reattached,
            bytes_sent=self._posted_bytes,
            reattached=self._reattached,
            resubmitted=sum(entry.resubmitted for digest in self._digests if (entry := self.journal.find(digest))),
        )

    def _plan_again(self, batch: Batch) -> int:
        """Add a batch of the records that Voucherify has rejected of this one, where the journal asks for it."""
        entry = self.journal.find(self._digests[batch.number - 1])
        if entry is None or entry.async_action_id is None or not entry.failed:
            return 0
        action = self.api.get_async_action(entry.async_action_id)
        outcome = outcome_of(action, batch.records, batch.destination.endpoint, self.api, self._ids_of(batch))
        if len(outcome.failures) >= batch.records:
            self.journal.withdraw(entry.digest)
            return 0
        if not outcome.failures:
            return 0
        again = self.plan.add_subset(batch, outcome.failures)
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
                if not waiting or len(in_flight) >= self.max_in_flight or (in_flight and self.api.holds_bulk_calls):
                    self._note_answers(in_flight, ids, FIRST_COMPLETED, NOTICE_SECONDS)
                    continue
                batch = waiting.popleft()
                if (known := self._known_id(batch)) is not None:
                    ids[batch.number] = known
                elif batch.length >= self._too_large and batch.records > 1:
                    self.journal.intend(JournalEntry(self._digests[batch.number - 1], batch.records, self.clock()))
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
        action_id = entry.async_action_id if entry is not None else None
        if entry is not None and action_id is None:
            action_id = self._find_in_doubt(batch, entry)
        if action_id is not None:
            self._reattached += 1
            log.info("Batch %d of %d was sent by an earlier try: %s", batch.number, len(self.plan.batches), action_id)
        elif entry is not None:
            self._in_doubt[entry.digest] = entry
        return action_id

    def _go_on(self) -> None:
        if self.killed():
            answered = sum(entry.async_action_id is not None and not entry.outdated for entry in self.journal)
            raise VoucherifyTaskKilledError(f"when {answered} of {len(self.plan.batches)} requests had been answered")

    def _post(self, batch: Batch) -> Future[str]:
        self._go_on()  # the search for its action may have lasted
        self.journal.intend(JournalEntry(self._digests[batch.number - 1], batch.records, self.clock()))
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
            if was_not_taken(error) and not isinstance(error, VoucherifyPayloadTooLargeError):
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
        """Send two halves instead of a batch, which has an entry in the journal."""
        self.journal.was_split(self._digests[batch.number - 1])
        first, second = self.plan.split(batch)
        self._digests[first.number - 1] = self._digest(first)
        self._digests.append(self._digest(second))
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

    def _find_in_doubt(self, batch: Batch, entry: JournalEntry) -> str | None:
        """
        Look for the action of a batch whose answer was lost; None where there is none that is surely its.

        An action of the same type, created in the request's time, is the batch's if its result counts as many records
        and its report names the same ids. One whose report cannot be read cannot be told apart: sending the batch
        again does no harm but cost, and taking somebody else's action would lose it.

        The search ends after ``in_doubt_seconds``, and where the rate limit is known when it has cost half of the calls
        that this leaves (``ALWAYS_WORTH`` in any case): the others are needed to follow what is sent.
        """
        ids = set(self._ids_of(batch))
        others = [other for other in self.journal if self._may_be_confused(entry, other)]
        if any(other.outdated for other in others):
            log.warning("Batch %d is in doubt, and so is one of another content: it is sent again", batch.number)
            return None
        search = _Search(self.api, self.in_doubt_seconds, self.clock, self._go_on)
        candidates = islice(self._candidates(batch, entry, search), MOST_CANDIDATES)
        found = next((action_id for action_id in candidates if self._fits(action_id, batch, ids, search)), None)
        if found is None:
            why = f" ({search.end})" if search.end is not None else ""
            log.warning("Batch %d is in doubt and its action is not to be found%s: it is sent again", batch.number, why)
        else:
            log.warning("Batch %d was in doubt and has been found: %s", batch.number, found)
            self.journal.posted(entry.digest, found)
        return found

    def _candidates(self, batch: Batch, entry: JournalEntry, search: _Search) -> Iterator[str]:
        """
        Give the ids of actions of the batch's type and time that belong to no other batch, likely ones first.

        Of a page of the list those come first that it shows finished: they need no waiting.
        """
        known = {action_id for other in self.journal for action_id in (other.async_action_id, *other.earlier)}
        action_type = batch.destination.endpoint.action_type
        edges = (entry.at - EARLIER, *(entry.at + seconds for seconds in LATER[:-1]), entry.at + self._latest)
        for since, until in pairwise(edges):
            for action in self._actions_between(since, until, search):
                if action.id not in known and action.type in (None, action_type):
                    known.add(action.id)
                    search.begin_to_look()
                    yield action.id
                    if search.end is not None:
                        return

    @property
    def _latest(self) -> float:
        """Seconds from an intent to the latest time at which its action can have been created."""
        return LATER[-1] + BEHIND_ANOTHER * (self.max_in_flight - 1)

    def _may_be_confused(self, entry: JournalEntry, other: JournalEntry) -> bool:
        """Say whether the action of one batch in doubt could be taken for the other's, by time and count."""
        in_doubt = other.async_action_id is None and other.digest != entry.digest
        return in_doubt and other.records == entry.records and abs(other.at - entry.at) < EARLIER + self._latest

    def _actions_between(self, since: float, until: float, search: _Search) -> Iterator[AsyncAction]:
        end_date: str | None = iso(until)
        for _ in range(MOST_PAGES):
            if search.end is not None:
                return
            page = search.list_before(end_date)
            young = list(takewhile(lambda action: (epoch(action.created_at) or since) >= since, page.async_actions))
            yield from sorted(young, key=lambda action: not action.is_finished)
            end_date = page.async_actions[-1].created_at if page.async_actions else None
            if page.is_last or end_date is None or len(young) < len(page.async_actions):
                return

    def _fits(self, action_id: str, batch: Batch, ids: set[str], search: _Search) -> bool:
        action = self._finished(action_id, search)
        if action is None:
            return False
        result = BulkResult.of(action)
        named = {error.record_id(batch.destination.endpoint.key) for error in result.errors} - {None}
        counted = (
            None
            if result.done_count is None or result.failed_count is None
            else result.done_count + result.failed_count
        )
        if counted not in (None, batch.records) or not named <= ids:
            return False
        reported = self._reported_ids(result.reports, batch.destination.endpoint.key)
        return reported == ids

    def _finished(self, action_id: str, search: _Search) -> AsyncAction | None:
        """Wait for an action to finish; anything sent meanwhile would have to wait behind it in the queue anyway."""
        started = self.clock()
        while True:
            action = search.look(action_id)
            if action is None or action.is_finished:
                return action
            if search.end is not None:
                return None
            self.sleep(pause(self.clock() - started, 60.0))

    def _reported_ids(self, urls: Iterable[str], key: str) -> set[str]:
        ids: set[str] = set()
        try:
            for url in urls:
                with tempfile.TemporaryFile(prefix="voucherify-") as opened:
                    file: Any = opened
                    self.api.download(url, file)
                    rows = read_report(file, key)
                    ids |= {row.record_id for row in rows if row.record_id is not None}
        except VoucherifyReportError as error:
            log.warning("The report of an action that may be ours cannot be read: %s", error)
            return set()
        return ids


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
