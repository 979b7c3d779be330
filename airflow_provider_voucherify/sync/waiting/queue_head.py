"""When to look at the head of the queue: the oldest action that is waited for."""

from __future__ import annotations

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.sync.waiting import pauses
from airflow_provider_voucherify.sync.waiting.service_times import ServiceTimes
from airflow_provider_voucherify.sync.waiting.waits import Wait

PAUSES_PER_ACTION = 8
"""An action that is late is looked at again after this part of its expected time, then less and less often."""


class QueueHead:
    """
    The looks at the head, and when the next one is due.

    Before any action was seen to finish, looks double in distance. Afterwards the first look at the next action comes
    when it should have finished, or after the poll interval; at once, if that time has passed. All times are Unix epoch
    seconds.
    """

    def __init__(self) -> None:
        self.unfinished_looks = 0
        """How many looks have found the present head unfinished."""
        self._key: str | None = None
        self._late_looks = 0
        self._unfinished_at = 0.0
        self._service = ServiceTimes()

    def due(self, wait: Wait, looked_at: float, poll_interval: float) -> float:
        """
        Return when to look at a wait's action.

        :param wait: the oldest one.
        :param looked_at: when the last look at anything ended.
        :param poll_interval: longest pause, in seconds.
        """
        self._turn_to(wait)
        expected = self._service.expected(wait.submitted_at, len(wait.unfinished))
        if not self.unfinished_looks:
            if expected is None:
                return wait.submitted_at + pauses.pause(0.0, poll_interval)
            late = expected <= looked_at
            return looked_at + (0.0 if late else pauses.within(expected - looked_at, poll_interval))
        if expected is None:
            began = max(wait.submitted_at, self._service.last_found_at)
            return self._unfinished_at + pauses.pause(self._unfinished_at - began, poll_interval)
        seconds = expected - self._unfinished_at
        if self._late_looks:
            whole = self._service.seconds(len(wait.unfinished)) or 0.0
            seconds = whole / PAUSES_PER_ACTION * 2.0 ** min(self._late_looks - 1, PAUSES_PER_ACTION)
        return self._unfinished_at + pauses.within(seconds, poll_interval)

    def unfinished(self, wait: Wait, asked_at: float, now: float) -> None:
        """Take note of a look that began at ``asked_at`` and found the head unfinished."""
        self._turn_to(wait)
        expected = self._service.expected(wait.submitted_at, len(wait.unfinished))
        self._service.unfinished(asked_at)
        self.unfinished_looks += 1
        self._late_looks += expected is not None and expected <= asked_at
        self._unfinished_at = now

    def finished(self, wait: Wait, action: AsyncAction, now: float) -> None:
        """Take note that a wait's action was found finished."""
        self._service.finished(action, len(wait.unfinished), wait.submitted_at, now)

    def clock_was_set(self, now: float) -> None:
        """Count pauses from now on."""
        self._unfinished_at = now

    def _turn_to(self, wait: Wait) -> None:
        if self._key != wait.key:
            self._key, self.unfinished_looks, self._late_looks = wait.key, 0, 0
