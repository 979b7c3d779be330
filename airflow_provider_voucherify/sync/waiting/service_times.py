"""How long Voucherify's queue takes for an action, from those that were seen to finish: when the next may be done."""

from __future__ import annotations

from collections import deque

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.times import epoch
from airflow_provider_voucherify.sync.waiting import pauses

REMEMBERED = 8
"""Service times remembered. The longest of them is expected, so that most first looks find the action finished."""

MARGIN = 1.1
"""A little longer than expected costs a little delay; a little too early costs a GET."""

HASTE = 0.8
"""Where answers have no times: by how much sooner to look the next time, when a first look finds an action finished."""


class ServiceTimes:
    """
    Estimates from what looks have shown.

    An answer's ``created_at`` and ``updated_at`` are by Voucherify's clock, which gives exact differences. How far
    that clock is from this one is narrowed down: an action that was unfinished at a look had not ended by then, and
    one that had finished had. Where an answer has no times, those of the looks are used.

    All arguments are by this machine's clock, in Unix epoch seconds, or seconds.
    """

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._ended: float | None = None
        self._found_at = 0.0
        self._unfinished_at: float | None = None
        self._clocks_differ = (float("-inf"), float("inf"))

    def unfinished(self, asked_at: float) -> None:
        """Take note that the action next in the queue was unfinished at a time."""
        self._unfinished_at = asked_at

    def finished(self, action: AsyncAction, actions: int, submitted_at: float, found_at: float) -> None:
        """
        Take note that the action next in the queue was found finished.

        :param actions: how many actions it ended: with the last of a task's, all of them.
        :param submitted_at: when it was submitted.
        """
        created, ended = epoch(action.created_at), epoch(action.updated_at)
        if ended is None:
            self._note_look(actions, found_at - max(self._found_at, submitted_at))
        else:
            began = [at for at in (created, self._ended) if at is not None]
            if began:
                self._seconds.append(max(0.0, ended - max(began)) / actions)
            self._compare_clocks(ended, found_at)
        self._ended, self._found_at, self._unfinished_at = ended, found_at, None

    def expected(self, submitted_at: float, actions: int) -> float | None:
        """
        Return when the next action should be finished; a time that has passed if it may be by now.

        :param submitted_at: when it was submitted.
        :param actions: how many actions end with it.
        :returns: None while nothing is known.
        """
        seconds = self.seconds(actions)
        if seconds is None:
            return None
        earliest, latest = self._clocks_differ
        if self._ended is None or (earliest == float("-inf") and self._unfinished_at is not None):
            return max(self._found_at, submitted_at) + seconds
        if earliest == float("-inf"):  # only an unfinished one shows that this look does not come late by several
            return submitted_at + seconds
        differ = latest if latest - earliest <= max(1.0, seconds / 10) else (earliest + latest) / 2
        return max(self._ended + differ, submitted_at) + seconds

    def seconds(self, actions: int) -> float | None:
        """Return how long a number of actions should take at most; None while nothing is known."""
        return max(self._seconds) * MARGIN * actions if self._seconds else None

    @property
    def last_found_at(self) -> float:
        """When a finished action was found last; 0 for never."""
        return self._found_at

    def _note_look(self, actions: int, seconds: float) -> None:
        """Take note of the time between two looks, which says nothing if there was no pause between them."""
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
