"""From submitted actions to their summary: polls on the worker, defers to the triggerer or pokes, then settles."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_voucherify.compat import conf
from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyRateLimitError,
    VoucherifyTaskKilledError,
    VoucherifyTransportError,
    is_transient,
)
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.sync.waiting.pauses import action_to_poll, pause
from airflow_provider_voucherify.task.parameters import poll_interval_of
from airflow_provider_voucherify.task.resumption import timeout

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.models.async_action import AsyncAction
    from airflow_provider_voucherify.sync.results.finished import ResultsRateLimitedError
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
    from airflow_provider_voucherify.task.resumption import Resumption
    from airflow_provider_voucherify.triggers.async_action import VoucherifyAsyncActionTrigger
    from airflow_provider_voucherify.triggers.poller import Log

KILLED_SECONDS = 1.0
"""Longest time until a sleeping task notices that it was killed."""


class Done(NamedTuple):
    """
    All actions have been settled.

    :param waited: seconds from the last request until the results were read.
    """

    summary: SyncSummary
    waited: float


class Deferral(NamedTuple):
    """
    The task has to be deferred, and to pass the trigger's event to ``Completion.resume``.

    :param arguments: the trigger's arguments.
    :param not_before: earliest time at which resuming is useful, Unix epoch seconds.
    """

    arguments: Mapping[str, Any]
    not_before: float = 0.0

    def trigger(self) -> VoucherifyAsyncActionTrigger:
        """Make the trigger, as the task's last step on its worker: it must not fire before the process has exited."""
        from airflow_provider_voucherify.triggers.async_action import VoucherifyAsyncActionTrigger

        return VoucherifyAsyncActionTrigger(**self.arguments, not_before=max(after_exit(), self.not_before))


class Completion:
    """
    Waits for submitted actions and settles them. It does nothing to the task itself: it returns what to do next.

    * ``wait`` polls from the worker, for ``worker_seconds`` if the task is ``deferrable`` and otherwise to the end.
    * ``resume`` continues after a trigger's event.
    * ``poll`` polls once, for a sensor.

    If an action is unfinished although a later one has finished, contrary to the documented order, that action and
    those after it are waited for.

    A rate limit on fetching results is waited for in the triggerer (or until the next poll) if that costs only a few
    calls, since results are too large to keep and have to be fetched again; otherwise on the worker, but never beyond
    the end time: then ``VoucherifyRateLimitError`` ends the task, and its retry continues.

    :param settle: returns the summary of the actions. Called with ``sync``, a client that waits for rate limits no
        longer than the task may, and ``seen=`` and ``on_all_finished=`` of ``sync.results.finished.settle_all``, whose
        errors it raises.
    :param end_time: when to give up, Unix epoch seconds.
    :param poll_interval: longest pause between two polls; None for the connection's, or 60 seconds.
    :param conn_id: the connection that the trigger uses.
    :param staged: names what the task stages before it is deferred.
    :param log: gets a line for each poll and each wait.
    """

    worker_seconds = 10.0
    """Seconds for which a deferrable task first polls from its worker: a small update has finished by then."""

    rate_limit_seconds = 60.0
    """
    Seconds that any task waits for rate limits: a deferrable task on its worker, and a task whose time is up to read
    the results of its actions.
    """

    def __init__(
        self,
        sync: SubmittedSync,
        client: VoucherifyClient,
        settle: Callable[..., SyncSummary],
        *,
        end_time: float,
        poll_interval: float | timedelta | None,
        deferrable: bool,
        conn_id: str,
        staged: str | None = None,
        is_killed: Callable[[], bool] = lambda: False,
        log: Log,
    ) -> None:
        self._sync = sync
        self._client = client
        self._settle_actions = settle
        self._end_time = end_time
        self._poll_interval = poll_interval_of(poll_interval, client)
        self._deferrable = deferrable
        self._conn_id = conn_id
        self._staged = staged
        self._is_killed = is_killed
        self._log = log
        self._finished: dict[str, AsyncAction] = {}
        self._may_leave = False

    def wait(self) -> Done | Deferral:
        """
        Poll from the worker until all actions are settled, or until the task should be deferred.

        :raises VoucherifyCompletionTimeoutError: ``end_time`` has passed.
        """
        from airflow_provider_voucherify.sync.results.finished import ResultsRateLimitedError, UnfinishedActionsError

        waiting_for: Sequence[str] = self._sync.async_action_ids
        defers = self._deferrable and self._fits_a_trigger()
        until = min(self._end_time, self._sync.submitted_at + self.worker_seconds) if defers else self._end_time
        while not waiting_for or self._poll_until(until, waiting_for, defers):
            try:
                return self._settle(may_leave=defers)
            except ResultsRateLimitedError as limited:
                return self._defer([], limited)
            except UnfinishedActionsError as unfinished:
                self._log.warning("%s", unfinished)
                waiting_for = unfinished.to_wait_for
        if not defers or time.time() >= self._end_time:
            raise timeout(f"async action {action_to_poll(waiting_for)} was not finished in time")
        return self._defer(waiting_for)

    def resume(self, resumption: Resumption) -> Done | Deferral:
        """
        Settle after a trigger's event; if the trigger gave up polling, this worker polls and hits the error itself.

        :raises VoucherifyTransportError: the worker can poll, though the triggerer cannot.
        """
        from airflow_provider_voucherify.sync.results.finished import ResultsRateLimitedError, UnfinishedActionsError

        gave_up = resumption.status == "unreachable"
        if gave_up:
            self._log.warning("The trigger gave up polling, so this worker polls: %s", resumption.message)
        try:
            return self._settle(may_leave=True, after_rate_limit=resumption.after_rate_limit)
        except ResultsRateLimitedError as limited:
            return self._defer(self._sync.async_action_ids if gave_up else [], limited)
        except UnfinishedActionsError as unfinished:
            if gave_up:
                raise VoucherifyTransportError(
                    f"the triggerer cannot poll async actions ({resumption.message}), though this worker can"
                ) from unfinished
            return self._defer(unfinished.to_wait_for)

    def poll(self) -> Done | None:
        """
        Poll once; return None if an action is unfinished, or if a rate limit outlasts the poll interval.

        Fetching results is left to the next poll too, until one result has been fetched: then it waits here for the
        rest.
        """
        from airflow_provider_voucherify.sync.results.finished import ResultsRateLimitedError, UnfinishedActionsError

        try:
            if self._all_seem_finished():
                return self._settle(may_leave=True, after_rate_limit=True)
        except UnfinishedActionsError as unfinished:
            self._log.warning("%s", unfinished)
        except ResultsRateLimitedError as limited:
            self._log.warning("This poll failed, the next may not: %s", limited)
        return None

    def _settle(self, *, may_leave: bool, after_rate_limit: bool = False) -> Done:
        """
        Settle, waiting here for a rate limit unless it is better to leave (to the triggerer, or until the next poke).

        If a limit allows fewer calls per period than there are results, a task that leaves would never finish.

        :param may_leave: whether the task can leave.
        :param after_rate_limit: whether it has just left for a rate limit.
        :raises ResultsRateLimitedError: the task should leave to wait for a rate limit.
        :raises UnfinishedActionsError: an action is not finished.
        """
        from airflow_provider_voucherify.sync.results.finished import ResultsRateLimitedError

        if may_leave:
            try:
                return self._settle_with_limit(may_leave=True)
            except ResultsRateLimitedError as limited:
                fits_a_period = (self._client.calls_left() or 0) > len(self._sync.batches)
                costs_little = not limited.fetched or (fits_a_period and not after_rate_limit)
                if limited.until < self._end_time and costs_little:
                    raise
        try:
            return self._settle_with_limit(may_leave=False)
        except ResultsRateLimitedError as limited:
            raise limited.error from None

    def _settle_with_limit(self, *, may_leave: bool) -> Done:
        """Settle; until all actions have finished, a task that may leave waits ``rate_limit_seconds`` at most."""
        self._may_leave = may_leave
        waited = time.time() - self._sync.submitted_at
        client = self._client.waiting_at_most(self._rate_limit_seconds_left)
        summary = self._settle_actions(self._sync, client, seen=self._finished, on_all_finished=self._stay)
        return Done(summary, waited)

    def _rate_limit_seconds_left(self) -> float:
        if self._may_leave:
            return self.rate_limit_seconds
        return max(self.rate_limit_seconds, self._end_time - time.time())

    def _stay(self) -> None:
        self._may_leave = False

    def _poll_until(self, until: float, waiting_for: Sequence[str], defers: bool) -> bool:
        """
        Poll until the actions have finished, starting with the last one; return False if they have not by ``until``.

        If a rate limit lasts beyond ``until``, a task that ``defers`` does so at once, and any other sleeps until then.
        """
        from airflow_provider_voucherify.sync.waiting.queue_watch import QueueWatch
        from airflow_provider_voucherify.sync.waiting.waits import Wait

        now = time.time()
        not_before = now + pause(now - self._sync.submitted_at, self._poll_interval)
        wait = Wait(waiting_for, self._sync.submitted_at, until, self._poll_interval, not_before)
        watch = QueueWatch()
        watch.add(wait, now)
        while (poll := watch.next_poll(now := time.time())) is not None:
            if poll.at >= until and defers:
                return False
            if self._is_killed():
                raise VoucherifyTaskKilledError("while it waited for its async actions")
            if poll.at > now:
                time.sleep(min(poll.at - now, KILLED_SECONDS))
                continue
            try:
                answer = self._client.send(poll.call, max_rate_limit_wait=max(0.0, until - now))
            except VoucherifyError as error:
                if (
                    isinstance(error, VoucherifyRateLimitError)
                    and is_transient(error)
                    and (error.retry_at or 0) > until
                ):
                    self._log.warning("A rate limit leaves no time for another poll: %s", error)
                    time.sleep(0.0 if defers else max(0.0, until - time.time()))
                    return False
                watch.note_error(poll, error, now, time.time())
                if wait.end is not None and wait.end.status == "unreachable":
                    raise
                if wait.failures:
                    self._log.warning("Poll %d of %d failed: %s", wait.failures, wait.max_failures, error)
            else:
                watch.note_answer(poll, answer, now, time.time())
                self._note(answer)
        return wait.end is not None and wait.end.status == "finished"

    def _all_seem_finished(self) -> bool:
        """Say whether one poll of the last action and of the list shows none unfinished."""
        from airflow_provider_voucherify.client.calls import get_async_action
        from airflow_provider_voucherify.sync.waiting.action_list import unfinished_in_list

        if not self._sync.batches:
            return True
        *others, last_id = self._sync.async_action_ids
        try:
            last = self._client.send(get_async_action(last_id), max_rate_limit_wait=self._poll_interval)
        except VoucherifyError as error:
            if not is_transient(error):
                raise
            self._log.warning("This poll failed, the next may not: %s", error)
            return False
        self._note(last)
        if not last.is_finished:
            return False
        if unfinished := unfinished_in_list(self._client, others, last):
            self._log.warning("Submitted before it and unfinished: %s", counted(len(unfinished), "async action"))
        return not unfinished

    def _note(self, answer: AsyncAction | object) -> None:
        """Log the status of an action, and keep it if it has finished."""
        from airflow_provider_voucherify.models.async_action import AsyncAction

        if not isinstance(answer, AsyncAction):
            return
        ids = self._sync.async_action_ids
        place = ids.index(answer.id) + 1 if answer.id in ids else 0
        line = "Async action %s (%d of %d) is %s (%s %%)"
        self._log.info(line, answer.id, place, len(ids), answer.status, answer.progress or 0)
        if answer.is_finished:
            self._finished[answer.id] = answer

    def _defer(self, waiting_for: Sequence[str], limited: ResultsRateLimitedError | None = None) -> Deferral:
        if limited is not None:
            self._log.warning("Waiting in the triggerer for a rate limit: %s", limited)
        else:
            self._log.info("Waiting in the triggerer for %s", counted(len(self._sync.batches), "async action"))
        return self._deferral(waiting_for, limited)

    def _fits_a_trigger(self) -> bool:
        """Say whether a trigger can store that many actions."""
        fits = self._deferral(self._sync.async_action_ids).trigger().fits
        if not fits:
            self._log.warning(
                "Airflow may not be able to store a trigger with %s, so this worker waits itself",
                counted(len(self._sync.batches), "async action"),
            )
        return fits

    def _deferral(self, waiting_for: Sequence[str], limited: ResultsRateLimitedError | None = None) -> Deferral:
        ids = self._sync.async_action_ids
        unfinished_from = ids.index(waiting_for[-1]) if waiting_for else len(ids)
        arguments = {
            "voucherify_conn_id": self._conn_id,
            "async_action_ids": ids,
            "unfinished_from": None if list(waiting_for) == ids else unfinished_from,
            "submitted_at": self._sync.submitted_at,
            "end_time": self._end_time,
            "poll_interval": self._poll_interval,
            "state": {
                "sync": self._sync.to_json(),
                "end_time": self._end_time,
                "staged": self._staged,
                "held": limited is not None,
            },
        }
        return Deferral(arguments, 0.0 if limited is None else limited.until)


def after_exit() -> float:
    """
    Return until when a worker's process that exits now may still count as running, with a margin.

    Airflow 3.3.2 notices the exit up to ``[workers] min_heartbeat_interval`` seconds late, and fails a task that is
    resumed around that moment.
    """
    return time.time() + 1.6 * float(conf.getint("workers", "min_heartbeat_interval", fallback=5))
