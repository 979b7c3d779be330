"""When to poll the head of the queue: the oldest action that anything waits for."""

from __future__ import annotations

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.sync.waiting import pauses
from airflow_provider_voucherify.sync.waiting.service_times import ServiceTimes
from airflow_provider_voucherify.sync.waiting.waits import Wait

PAUSES_PER_ACTION = 8
"""A late action is polled again after its expected time divided by this, then less and less often."""


class QueueHead:
    """
    The polls of the head, and when the next one is due.

    Until an action has been seen to finish, the pauses double. After that an action is first polled when it should
    have finished, or after the poll interval; at once if that time has passed. All times are Unix epoch seconds.
    """

    def __init__(self) -> None:
        self.unfinished_polls = 0
        """Number of polls that have found the current head unfinished."""
        self._key: str | None = None
        self._late_polls = 0
        self._unfinished_at = 0.0
        self._service = ServiceTimes()

    def due(self, wait: Wait, polled_at: float, poll_interval: float) -> float:
        """
        Return when to poll a wait's action.

        :param wait: the oldest one.
        :param polled_at: when the last poll of any action ended.
        :param poll_interval: longest pause, in seconds.
        """
        self._turn_to(wait)
        expected = self._service.expected(wait.submitted_at, len(wait.unfinished))
        if not self.unfinished_polls:
            if expected is None:
                return wait.submitted_at + pauses.pause(0.0, poll_interval)
            late = expected <= polled_at
            return polled_at + (0.0 if late else pauses.within(expected - polled_at, poll_interval))
        if expected is None:
            began = max(wait.submitted_at, self._service.last_found_at)
            return self._unfinished_at + pauses.pause(self._unfinished_at - began, poll_interval)
        seconds = expected - self._unfinished_at
        if self._late_polls:
            whole = self._service.seconds(len(wait.unfinished)) or 0.0
            seconds = whole / PAUSES_PER_ACTION * 2.0 ** min(self._late_polls - 1, PAUSES_PER_ACTION)
        return self._unfinished_at + pauses.within(seconds, poll_interval)

    def unfinished(self, wait: Wait, asked_at: float, now: float) -> None:
        """Note that a poll that began at ``asked_at`` found the head unfinished."""
        self._turn_to(wait)
        expected = self._service.expected(wait.submitted_at, len(wait.unfinished))
        self._service.unfinished(asked_at)
        self.unfinished_polls += 1
        self._late_polls += expected is not None and expected <= asked_at
        self._unfinished_at = now

    def finished(self, wait: Wait, action: AsyncAction, now: float) -> None:
        """Note that a wait's action has finished."""
        self._service.finished(action, len(wait.unfinished), wait.submitted_at, now)

    def clock_was_set(self, now: float) -> None:
        """Count pauses from now."""
        self._unfinished_at = now

    def _turn_to(self, wait: Wait) -> None:
        if self._key != wait.key:
            self._key, self.unfinished_polls, self._late_polls = wait.key, 0, 0
