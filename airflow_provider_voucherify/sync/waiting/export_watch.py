"""
Which export to poll next, and when, for all waits of one process: a policy without I/O, as ``queue_watch`` is.

Nothing is documented about the order in which exports finish, so each is polled at its own pace. While several are
waited for, a poll reads the list, which has the newest hundred, and so stands for a poll of each.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_voucherify.client.budgets import allowed_again_at
from airflow_provider_voucherify.client.exports import get_export, list_exports
from airflow_provider_voucherify.models.errors import (
    VoucherifyBadRequestError,
    VoucherifyError,
    VoucherifyNotFoundError,
    is_transient,
)
from airflow_provider_voucherify.models.exports import Export, ExportList
from airflow_provider_voucherify.sync.waiting import pauses
from airflow_provider_voucherify.sync.waiting.poll import PollLimit
from airflow_provider_voucherify.sync.waiting.waits import End, Wait

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.calls import Call

log = logging.getLogger(__name__)

_NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class ExportPoll:
    """
    The next poll.

    :param at: when, Unix epoch seconds. Until then it is not decided what to poll: ask again at that time.
    :param export_id: the export to get; None to get the list of the newest.
    """

    at: float
    export_id: str | None = None

    @property
    def call(self) -> Call[Export] | Call[ExportList]:
        """The call to send."""
        return list_exports(order="-created_at") if self.export_id is None else get_export(self.export_id)

    @property
    def call_for_status(self) -> Call[Export] | Call[ExportList]:
        """The same: an export's answer is small."""
        return self.call


class ExportWatch:
    """
    Decides what to poll on behalf of all waits, each for one export, and sets the ``end`` of each.

    It is used as ``QueueWatch`` is. A wait has ``finished`` whatever became of the export: who fetches it is told.
    """

    what = "export"
    """What is waited for, in messages."""

    def __init__(self) -> None:
        self.gave_up = False
        """Whether polling has failed for all waits, so that the next one should open a new connection."""
        self.rate_limit: PollLimit | None = None
        """The rate limit that the last poll hit; None if it hit none."""
        self._waits: dict[Wait, None] = {}
        self._retry_at = _NEVER
        self._has_list = True
        self._not_listed: set[str] = set()

    def add(self, wait: Wait, now: float) -> None:
        """Poll a wait's export from now on."""
        wait.submitted_at = min(wait.submitted_at, now)  # the clock of the machine that created it may be ahead
        self._waits[wait] = None

    def remove(self, wait: Wait) -> None:
        """Stop polling for a wait, whether it has ended or not."""
        self._waits.pop(wait, None)
        if wait.key in self._not_listed and not any(other.key == wait.key for other in self._waits):
            self._not_listed.discard(wait.key)

    def progress_of(self, wait: Wait) -> str:
        """Say what the last poll for a wait has shown."""
        return f"Export {wait.key} " + ("has not been polled yet" if wait.status is None else f"is {wait.status}")

    def next_poll(self, now: float) -> ExportPoll | None:
        """Return the next poll; None if nothing is waited for. What to poll is decided once its time has come."""
        if not self._waits:
            return None
        times = {wait: self._due(wait, now) for wait in self._waits}
        if (at := min(times.values())) > now:
            return ExportPoll(at)
        due = [wait for wait, time in times.items() if time <= now]
        listed = set(self._listed())
        if len(listed) > 1 and not listed.isdisjoint(due):
            return ExportPoll(now)
        return ExportPoll(now, due[0].key)

    def note_answer(self, poll: ExportPoll, answer: Export | ExportList, asked_at: float, now: float) -> Sequence[Wait]:
        """
        Take in the answer to a poll.

        :param asked_at: when the poll began.
        :returns: the waits with news: those whose export was polled.
        """
        self.rate_limit, self._retry_at = None, _NEVER
        polled = self._polled(poll)
        if isinstance(answer, ExportList):
            shown: Mapping[str, Export] = {export.id: export for export in answer.exports}
            self._not_listed |= {wait.key for wait in polled if wait.key not in shown}
        else:
            shown = {str(poll.export_id): answer}
        news = [wait for wait in polled if wait.key in shown]
        for wait in news:
            export = shown[wait.key]
            wait.status, wait.polled_at, wait.failures, wait.failure = export.status, now, 0, None
            if export.is_finished:
                self._end(wait, End("finished"))
        self._end_those_over(news, asked_at)
        return news

    def note_error(self, poll: ExportPoll, error: VoucherifyError, asked_at: float, now: float) -> Sequence[Wait]:
        """
        Take in the error of a poll.

        :returns: the waits with news, see ``note_answer``.
        """
        polled = self._polled(poll)
        until = allowed_again_at(error, now)
        self.rate_limit = None if until is None else PollLimit(until, str(error))
        if self.rate_limit is not None:
            self._retry_at = max(self.rate_limit.until, now + pauses.SHORTEST_PAUSE)
        elif is_transient(error):
            for wait in polled:
                self._note_failure(wait, error, now)
        elif poll.export_id is None:
            log.warning("The list of exports cannot be read, so they are polled one by one: %s", error)
            self._has_list = False
            return []
        else:
            is_unknown = isinstance(error, VoucherifyNotFoundError | VoucherifyBadRequestError)
            self.gave_up = not is_unknown
            polled = polled if is_unknown else list(self._waits)
            for wait in polled:
                self._end(wait, End("unreachable", str(error)))
        self._end_those_over(polled, asked_at)
        return polled

    def _due(self, wait: Wait, now: float) -> float:
        wait.polled_at = min(wait.polled_at, now)  # the clock may have been set back
        if wait.polled_at == _NEVER:
            due = max(wait.not_before, wait.submitted_at + pauses.pause(0.0, wait.poll_interval))
        else:
            due = wait.polled_at + pauses.pause(wait.polled_at - wait.submitted_at, wait.poll_interval)
        return min(max(due, self._retry_at), wait.end_time)

    def _listed(self) -> list[Wait]:
        """Return the waits for whose exports the list can be read."""
        return [wait for wait in self._waits if wait.key not in self._not_listed] if self._has_list else []

    def _polled(self, poll: ExportPoll) -> list[Wait]:
        if poll.export_id is None:
            return self._listed()
        return [wait for wait in self._waits if wait.key == poll.export_id]

    def _note_failure(self, wait: Wait, error: VoucherifyError, now: float) -> None:
        wait.failures, wait.failure, wait.polled_at = wait.failures + 1, str(error), now
        if wait.failures >= wait.max_failures:
            self._end(wait, End("unreachable", str(error)))
            self.gave_up = self.gave_up or not self._waits

    def _end_those_over(self, polled: Sequence[Wait], asked_at: float) -> None:
        for wait in polled:
            if wait.end is None and wait.end_time <= asked_at:
                why = "was not finished in time"
                if self.rate_limit is not None:
                    why = f"could not be polled in time: {self.rate_limit.why}"
                self._end(wait, End("timeout", f"export {wait.key} {why}"))

    def _end(self, wait: Wait, end: End) -> None:
        wait.end = end
        self.remove(wait)
