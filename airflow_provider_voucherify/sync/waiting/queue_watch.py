"""
Which async action to poll next, and when, for all waits of one process: a policy without I/O.

Polls are what is scarce. The queue is documented as first-in-first-out, so only its head is polled, when it may have
finished. Nothing guarantees that order, so every few polls the list of actions is read instead, which costs the same.
Once the list contradicts the order, only the list is read.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

from airflow_provider_voucherify.client.budgets import allowed_again_at
from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList
from airflow_provider_voucherify.models.errors import (
    VoucherifyBadRequestError,
    VoucherifyError,
    VoucherifyNotFoundError,
    is_transient,
)
from airflow_provider_voucherify.models.times import epoch
from airflow_provider_voucherify.sync.waiting import pauses
from airflow_provider_voucherify.sync.waiting.action_list import CLOCKS, ListPace, ListSweep, Reading, max_pages
from airflow_provider_voucherify.sync.waiting.poll import Poll, PollLimit
from airflow_provider_voucherify.sync.waiting.queue_head import QueueHead
from airflow_provider_voucherify.sync.waiting.waits import End, Wait, Waits

log = logging.getLogger(__name__)

UNFINISHED_POLLS_PER_LIST = 2
"""After this many polls that find the head unfinished, the next poll reads the list."""

POLLS_PER_LIST = 10
"""After this many polls the next one reads the list in any case."""

FINISHED_AT_ONCE = 3
"""After this many actions found finished without a pause between them, the list is read for the rest."""

LIST_FAILURES = 3
"""After this many failures to read the list while polls of actions succeed, it is not tried again."""

_NEVER = float("-inf")


class QueueWatch:
    """
    Decides what to poll on behalf of all waits, and sets the ``end`` of each.

    The caller asks for the ``next_poll``, sleeps until its time, asks again, sends its call, and passes the answer to
    ``note_answer`` or the error to ``note_error``. Times are Unix epoch seconds by the caller's clock.

    When the last action of a wait has finished, the others should have too. The list is read to make sure: an action
    that it shows as unfinished is waited for, and one that it does not show is taken to have finished. If the list
    cannot be read, actions are polled one by one.

    A wait ends at its ``end_time``, after a last poll. A permanent error ends all waits; transient errors end those
    that have seen too many of them in a row. An action that does not exist ends only the waits for it. A rate limit
    that says when it ends is not a failure: the next poll waits for it.
    """

    what = "async action"
    """What is waited for, in messages."""

    def __init__(self) -> None:
        self.waits = Waits()
        self.gave_up = False
        """Whether polling has failed for all waits, so that the next one should open a new connection."""
        self.rate_limit: PollLimit | None = None
        """The rate limit that the last poll hit; None if it hit none."""
        self._head = QueueHead()
        self._news: dict[Wait, None] = {}
        self._polled_at = _NEVER
        self._polls_since_list = 0
        self._finished_at_once = 0
        self._contradicted = False
        self._newest_finished = _NEVER
        self._failures = 0
        self._retry_at = _NEVER
        self._list_failures = 0
        self._list_failed = False
        self._has_list = True
        self._reading: Reading | None = None
        self._list_pace = ListPace()
        self._verifying: dict[Wait, None] = {}
        self._unseen: str | None = None

    def add(self, wait: Wait, now: float) -> None:
        """Poll a wait's actions from now on; a wait without actions has finished."""
        wait.submitted_at = min(wait.submitted_at, now)  # the clock of the machine that submitted may be ahead
        if wait.unfinished:
            self.waits.add(wait)
        else:
            wait.end = End("finished")

    def remove(self, wait: Wait) -> None:
        """Stop polling for a wait, whether it has ended or not."""
        self.waits.remove(wait)
        self._verifying.pop(wait, None)

    def progress_of(self, wait: Wait) -> str:
        """Say what the last poll for a wait has shown."""
        ahead = self.waits.position(wait)
        behind = f"; {ahead} ahead of it in this triggerer" if ahead else ""
        if wait.status is None:
            return f"Async action {wait.key} has not been polled yet{behind}"
        return f"Async action {wait.key} is {wait.status} ({wait.progress or 0} %){behind}"

    # What to poll

    def next_poll(self, now: float) -> Poll | None:
        """Return the next poll; None if nothing is waited for. What to poll is decided once its time has come."""
        if not self.waits:
            return None
        if now < self._polled_at:  # the clock was set back
            self._polled_at, self._retry_at = now, _NEVER
            self._head.clock_was_set(now)
        at = min(max(self._due(now), self._retry_at), self.waits.end_time)
        if at > now:
            return Poll(at)
        action_id = self._choose(now)
        if action_id is None and self._reading is not None:
            return Poll(now, end_date=self._reading.sweep.end_date)
        return Poll(now, action_id)

    def _due(self, now: float) -> float:
        if self._goes_on or self._verifying or self._unseen in self.waits.awaited:
            return now
        interval = self.waits.poll_interval
        if not self._contradicted or len(self.waits.awaited) == 1:
            due = self._head.due(self.waits.head, self._polled_at, interval)
        elif self._has_list:
            due = self._polled_at + pauses.within(self._list_pace.pause, interval)
        else:
            due = self._polled_at + pauses.within(interval / len(self.waits), interval)
        return max(due, self.waits.not_before)

    @property
    def _goes_on(self) -> bool:
        """Whether the list is being read to its end."""
        return self._reading is not None and self._reading.whole

    def _choose(self, now: float) -> str | None:
        """Return the action to poll, or None for a page of the list."""
        over = {wait.key for wait in self.waits if wait.end_time <= now}
        if self._has_list and not self._list_failed and self._reads_list(over, now):
            return None
        if over:
            return next(iter(over))
        if self._unseen in self.waits.awaited:
            return self._unseen
        if self._contradicted and not self._has_list:
            return min(self.waits, key=lambda wait: wait.polled_at).key
        if not self._has_list and self._polls_elsewhere():
            return min(tuple(self.waits)[1:], key=lambda wait: wait.polled_at).key
        return self.waits.head.key

    def _reads_list(self, over: Collection[str], now: float) -> bool:
        """Say whether to read a page of the list now, and start a reading if none is in progress."""
        if self._goes_on:
            return True
        if self._unseen in self.waits.awaited:  # the list does not show the head, so it is polled by itself
            return False
        several = len(self.waits.awaited) > 1
        # One page of the list finds many finished actions for the price of one poll.
        many = len(over) > FINISHED_AT_ONCE or self._finished_at_once >= FINISHED_AT_ONCE
        if self._verifying or (several and (many or (self._contradicted and not over))):
            self._begin_to_read(now, whole=True)
            return True
        if several and not over and self._polls_elsewhere():
            if self._reading is None:
                self._begin_to_read(now, whole=False)
            return True
        return False

    def _polls_elsewhere(self) -> bool:
        """Say whether it is time to poll something other than the head."""
        unfinished = self._head.unfinished_polls
        since_list = min(unfinished, self._polls_since_list)
        return len(self.waits) > 1 and (
            self._polls_since_list >= POLLS_PER_LIST or since_list >= UNFINISHED_POLLS_PER_LIST
        )

    def _begin_to_read(self, now: float, *, whole: bool) -> None:
        only_verifies = whole and len(self._verifying) > 0 and not self._contradicted
        wanted = self._wanted(only_verifies)
        sweep = ListSweep(self._newest_of(wanted), max_pages(len(wanted)))
        self._reading = Reading(sweep, whole, only_verifies, now)

    def _wanted(self, only_verifies: bool) -> Collection[str]:
        """Return the actions that the list is read for."""
        if self._contradicted:
            return self.waits.awaited.keys()
        wanted = {action_id for wait in self._verifying for action_id in wait.unfinished}
        return wanted if only_verifies else wanted | {wait.key for wait in self.waits}

    def _newest_of(self, action_ids: Iterable[str]) -> float | None:
        """Return a time by Voucherify's clock after which none of the actions was created; None if unknown."""
        newest = float("-inf")
        for awaited in map(self.waits.awaited.__getitem__, action_ids):
            bounds = [wait.newest for wait in awaited.waits] if awaited.created is None else [awaited.created]
            known = [bound for bound in bounds if bound is not None]
            if not known:
                return None
            newest = max(newest, *known)
        return newest + CLOCKS

    # Answers and errors

    def note_answer(self, poll: Poll, answer: AsyncAction | AsyncActionList, asked_at: float, now: float) -> list[Wait]:
        """
        Take in the answer to a poll.

        :param asked_at: when the poll began.
        :returns: the waits with news: those that have ended, and those for the action polled.
        """
        if isinstance(answer, AsyncAction):
            self._note_action(str(poll.async_action_id), answer, asked_at, now)
        else:
            self._note_page(answer, asked_at, now)
        self._failures, self._retry_at, self._list_failed, self._polled_at = 0, _NEVER, False, now
        self.rate_limit = None
        return self._take_news()

    def note_error(self, poll: Poll, error: VoucherifyError, asked_at: float, now: float) -> list[Wait]:
        """
        Take in the error of a poll.

        :returns: the waits with news, see ``note_answer``.
        """
        action_id = poll.async_action_id
        until = allowed_again_at(error, now)
        self.rate_limit = None if until is None else PollLimit(until, str(error))
        if action_id is None and self.rate_limit is None:
            self._note_list_failure(error)
        self._list_failed = action_id is None and self.rate_limit is None
        if self.rate_limit is not None:
            self._note_rate_limit(self.rate_limit, action_id, now)
        elif isinstance(error, VoucherifyNotFoundError | VoucherifyBadRequestError):
            for wait in self.waits.keyed_on(action_id):
                self._end(wait, End("unreachable", str(error)))
        elif is_transient(error):
            self._note_failure(error, action_id, now)
        elif action_id is not None:
            self.gave_up = True
            for wait in self.waits:
                self._end(wait, End("unreachable", str(error)))
        self._end_those_over(asked_at, action_id)
        self._polled_at = now
        return self._take_news()

    def _note_action(self, action_id: str, action: AsyncAction, asked_at: float, now: float) -> None:
        self._news.update(dict.fromkeys(self.waits.keyed_on(action_id)))
        at_once = asked_at - self._polled_at < pauses.SHORTEST_PAUSE
        self._finished_at_once = self._finished_at_once + 1 if action.is_finished and at_once else 0
        is_head = len(self.waits) > 0 and action_id == self.waits.head.key
        self._polls_since_list = self._polls_since_list + 1 if is_head else 0
        if action_id == self._unseen:
            self._unseen = None
        self._note({action_id: action}, asked_at, now)
        self._end_those_over(asked_at, action_id)

    def _note_page(self, page: AsyncActionList, asked_at: float, now: float) -> None:
        actions = {action.id: action for action in page.async_actions}
        if self.waits and self.waits.head.key in actions:
            self._news.update(dict.fromkeys(self.waits.keyed_on(self.waits.head.key)))
        self._polls_since_list = self._finished_at_once = self._list_failures = 0
        self._note(actions, asked_at, now)
        reading = self._reading
        if reading is None:
            return
        wanted = self._wanted(reading.only_verifies)
        created = [self.waits.awaited[action_id].created for action_id in wanted]
        known = [at for at in created if at is not None]
        reading.sweep.take(page, wanted, min(known) if known and len(known) == len(created) else None)
        if reading.sweep.is_done:
            self._reading = None
            if reading.whole:
                self._note_whole_list(reading, now)

    def _note(self, actions: Mapping[str, AsyncAction], asked_at: float, now: float) -> None:
        awaited = self.waits.awaited
        seen = [action for action_id, action in actions.items() if action_id in awaited]
        for action in seen:
            created = awaited[action.id].created = epoch(action.created_at)
            awaited[action.id].failures = 0
            for wait in awaited[action.id].waits:
                wait.newest = max((at for at in (created, wait.newest) if at is not None), default=None)
        for action in sorted(seen, key=lambda action: awaited[action.id].created or 0.0):
            if action.is_finished and action.id in awaited:
                self._newest_finished = max(self._newest_finished, awaited[action.id].created or _NEVER)
                self._finish(action, now)
        unfinished = {action.id: action for action in seen if action.id in awaited}
        for action_id, action in unfinished.items():
            for wait in self.waits.keyed_on(action_id):
                wait.note_unfinished(action, now)
            if (awaited[action_id].created or self._newest_finished) < self._newest_finished:
                self._contradict(action_id, now)
        if self.waits and self.waits.head.key in unfinished:
            self._head.unfinished(self.waits.head, asked_at, now)

    def _finish(self, action: AsyncAction, now: float) -> None:
        keyed = self.waits.keyed_on(action.id)
        if keyed:
            self._head.finished(keyed[0], action, now)
        for wait in tuple(self.waits.awaited[action.id].waits):
            self.waits.forget(wait, action.id)
            if not wait.unfinished or (wait in keyed and not self._has_list):
                self._end(wait, End("finished"))
            elif wait in keyed:
                self._verifying[wait] = None

    def _note_whole_list(self, reading: Reading, now: float) -> None:
        seen = reading.sweep.seen
        for wait in tuple(self._verifying):
            for action_id in wait.unfinished.keys() - seen:
                if self.waits.awaited[action_id].created is None:
                    self.waits.forget(wait, action_id)
            if not wait.unfinished:
                self._end(wait, End("finished"))
        self._verifying.clear()
        if not reading.only_verifies:
            self._end_those_over(reading.began, None)
        if self._contradicted and self.waits and self.waits.head.key not in seen:
            self._unseen = self.waits.head.key
        self._list_pace.note_read(reading.sweep.pages, now)

    def _contradict(self, action_id: str, now: float) -> None:
        if self._contradicted:
            return
        self._contradicted, self._list_pace = True, ListPace(now)
        log.warning(
            "Async action %s is unfinished although a later one has finished, contrary to the documented order: "
            "from now on the list of async actions is polled instead",
            action_id,
        )

    # Failures and ends

    def _note_list_failure(self, error: VoucherifyError) -> None:
        self._reading = None
        self._list_failures += not self._failures
        if is_transient(error) and self._list_failures < LIST_FAILURES:
            return
        log.warning("The list of async actions cannot be read, so they are polled one by one: %s", error)
        self._has_list = False
        for wait in tuple(self._verifying):
            self._end(wait, End("finished"))

    def _note_rate_limit(self, rate_limit: PollLimit, action_id: str | None, now: float) -> None:
        """Postpone everything; a reading of the list starts again afterwards, since its pages will be out of date."""
        self._reading = None
        self._retry_at = max(rate_limit.until, now + pauses.SHORTEST_PAUSE)
        if self.waits:
            self._news.update(dict.fromkeys(self.waits.keyed_on(action_id or self.waits.head.key)))

    def _note_failure(self, error: VoucherifyError, action_id: str | None, now: float) -> None:
        if not self.waits:
            return
        self._failures += 1
        self._retry_at = now + pauses.pause(now - self.waits.head.submitted_at, self.waits.poll_interval)
        self._polls_since_list = POLLS_PER_LIST if action_id == self.waits.head.key else 0
        awaited = self.waits.awaited.get(action_id or "")
        if awaited is not None:
            awaited.failures += 1
        self._news.update(dict.fromkeys(self.waits.keyed_on(action_id or self.waits.head.key)))
        for wait in self.waits:
            wait.failures, wait.failure = max(self._failures, self.waits.awaited[wait.key].failures), str(error)
            if wait.failures >= wait.max_failures:
                self.gave_up = self.gave_up or self._failures >= wait.max_failures
                self._end(wait, End("unreachable", str(error)))

    def _end_those_over(self, asked_at: float, action_id: str | None) -> None:
        """End the waits whose time is up and that were polled: by an action or, for None, by the list."""
        for wait in self.waits if action_id is None else self.waits.keyed_on(action_id):
            if wait.end_time <= asked_at:
                self._end_over(wait)

    def _end_over(self, wait: Wait) -> None:
        message = f"async action {wait.key} was not finished in time"
        if self.rate_limit is not None:
            message = f"async action {wait.key} could not be polled in time: {self.rate_limit.why}"
        self._end(wait, End("timeout", message))

    def _end(self, wait: Wait, end: End) -> None:
        wait.end = end
        self.remove(wait)
        self._news[wait] = None
        self._list_pace.note_end()

    def _take_news(self) -> list[Wait]:
        news = list(self._news)
        self._news.clear()
        return news
