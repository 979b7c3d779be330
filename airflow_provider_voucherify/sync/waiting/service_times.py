"""Estimates when the next action in Voucherify's queue will finish, from how long earlier actions took."""

from __future__ import annotations

from collections import deque

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.times import epoch
from airflow_provider_voucherify.sync.waiting import pauses

REMEMBERED = 8
"""Number of service times kept. The longest is what is expected, so that most first polls find the action finished."""

MARGIN = 1.1
"""Factor on the expected time: polling a little late costs a little delay, polling a little early costs a GET."""

HASTE = 0.8
"""If answers have no times: factor by which to poll sooner after a first poll has found an action finished."""


class ServiceTimes:
    """
    Service times seen so far, and what they predict.

    An answer's ``created_at`` and ``updated_at`` are by Voucherify's clock, so their differences are exact. The offset
    between that clock and this one is narrowed down poll by poll: an action that is unfinished has not ended yet, and
    one that is finished has. If an answer has no times, the times of the polls are used.

    All times are by this machine's clock, in Unix epoch seconds; durations are in seconds.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._ended: float | None = None
        self._found_at = 0.0
        self._unfinished_at: float | None = None
        self._clocks_differ = (float("-inf"), float("inf"))

    def unfinished(self, asked_at: float) -> None:
        """Note that the next action in the queue was unfinished when it was polled."""
        self._unfinished_at = asked_at

    def finished(self, action: AsyncAction, actions: int, submitted_at: float, found_at: float) -> None:
        """
        Note that the next action in the queue has finished.

        :param actions: number of actions that finished with it: if it is the last of a task's, all of them.
        :param submitted_at: when it was submitted.
        """
        created, ended = epoch(action.created_at), epoch(action.updated_at)
        if ended is None:
            self._note_poll(actions, found_at - max(self._found_at, submitted_at))
        else:
            began = [at for at in (created, self._ended) if at is not None]
            if began:
                self._seconds.append(max(0.0, ended - max(began)) / actions)
            self._compare_clocks(ended, found_at)
        self._ended, self._found_at, self._unfinished_at = ended, found_at, None

    def expected(self, submitted_at: float, actions: int) -> float | None:
        """
        Return when the next action should have finished; a time in the past if it may have already.

        :param submitted_at: when it was submitted.
        :param actions: number of actions that finish with it.
        :returns: None if nothing is known yet.
        """
        seconds = self.seconds(actions)
        if seconds is None:
            return None
        earliest, latest = self._clocks_differ
        if self._ended is None or (earliest == float("-inf") and self._unfinished_at is not None):
            return max(self._found_at, submitted_at) + seconds
        if earliest == float("-inf"):  # only an unfinished action proves that this poll is not several actions late
            return submitted_at + seconds
        differ = latest if latest - earliest <= max(1.0, seconds / 10) else (earliest + latest) / 2
        return max(self._ended + differ, submitted_at) + seconds

    def seconds(self, actions: int) -> float | None:
        """Return the longest time that a number of actions should take; None if nothing is known yet."""
        return max(self._seconds) * MARGIN * actions if self._seconds else None

    @property
    def last_found_at(self) -> float:
        """When an action was last found finished; 0 if never."""
        return self._found_at

    def _note_poll(self, actions: int, seconds: float) -> None:
        """Note the time between two polls; it proves nothing if there was no pause between them."""
        if seconds >= pauses.SHORTEST_PAUSE:
            self._seconds.clear()
            self._seconds.append(seconds / actions * (HASTE if self._unfinished_at is None else 1.0))

    def _compare_clocks(self, ended: float, found_at: float) -> None:
        earliest, latest = self._clocks_differ
        latest = min(latest, found_at - ended)
        if self._unfinished_at is not None:
            earliest = max(earliest, self._unfinished_at - ended)
        if earliest > latest:  # a clock was set
            earliest, latest = float("-inf"), found_at - ended
        self._clocks_differ = (earliest, latest)
