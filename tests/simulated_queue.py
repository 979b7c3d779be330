"""Voucherify's queue on a clock that is turned by hand, and ``QueueWatch`` polling it: no network, no waiting."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList
from airflow_provider_voucherify.models.errors import VoucherifyError, VoucherifyNotFoundError
from airflow_provider_voucherify.models.times import epoch, iso
from airflow_provider_voucherify.sync.waiting.action_list import PAGE
from airflow_provider_voucherify.sync.waiting.poll import Poll
from airflow_provider_voucherify.sync.waiting.queue_watch import QueueWatch
from airflow_provider_voucherify.sync.waiting.waits import Wait

EPOCH = 1_700_000_000.0
"""The simulation's time 0, Unix epoch seconds."""

Fault = Callable[[Poll, float], VoucherifyError | None]


def one_after_another(seconds: Iterable[float], submitted_at: Iterable[float] | None = None) -> list[float]:
    """Return when actions end that take so many seconds each, first in, first out."""
    seconds, ends, at = list(seconds), [], 0.0
    for submitted, duration in zip(submitted_at or [0.0] * len(seconds), seconds, strict=True):
        at = max(at, submitted) + duration
        ends.append(at)
    return ends


def shuffled(ends: Sequence[float], seed: int = 1) -> list[float]:
    """Return the ends in an order that has nothing to do with that of submission."""
    return random.Random(seed).sample(ends, len(ends))


class SimulatedQueue:
    """
    A project's async actions, ``aa_0``, ``aa_1``, …, and everybody who waits for them.

    :param ends: when each ends, in seconds from the start; infinity for never.
    :param submitted_at: when each is submitted; one every hundredth of a second where this is not given.
    :param clocks_differ: by how many seconds Voucherify's clock is behind.
    :param seconds_per_poll: how long an answer takes.
    :param without: fields that answers lack.
    :param has_more: whether a list says if more follow.
    :param unlisted: numbers of actions that no list shows.
    :param fault: says which polls fail, and how.
    """

    def __init__(
        self,
        ends: Sequence[float],
        submitted_at: Sequence[float] | None = None,
        *,
        clocks_differ: float = 7.0,
        seconds_per_poll: float = 0.0,
        without: Sequence[str] = (),
        has_more: bool = True,
        unlisted: Sequence[int] = (),
        fault: Fault = lambda poll, now: None,
    ) -> None:
        self.now = 0.0
        self.clock_set = 0.0
        """By how many seconds the own clock was set since the start."""
        self.polls: list[tuple[float, str | None]] = []
        """Time and action of each poll, None for a page of the list."""
        self.ended_at: dict[Wait, float] = {}
        self.watch = QueueWatch()
        self.ids = [f"aa_{number}" for number in range(len(ends))]
        self.submitted_at = list(submitted_at or (number / 100 for number in range(len(ends))))
        self._ends = ends
        self._clocks_differ = clocks_differ
        self._seconds_per_poll = seconds_per_poll
        self._without = without
        self._has_more = has_more
        self.unlisted = unlisted
        self._fault = fault
        self._to_come: list[tuple[float, Wait]] = []

    def wait(self, *numbers: int, at: float | None = None, end_time: float = 1e6, **kwargs: Any) -> Wait:
        """Let somebody wait for some actions, from their submission or another time on."""
        submitted_at = self.submitted_at[numbers[-1]]
        ids = [self.ids[number] if number < len(self.ids) else f"aa_unknown_{number}" for number in numbers]
        wait = Wait(ids, EPOCH + submitted_at, EPOCH + end_time, **kwargs)
        self._to_come.append((submitted_at if at is None else at, wait))
        return wait

    def wait_for_each(self, **kwargs: Any) -> list[Wait]:
        """Let somebody else wait for each action."""
        return [self.wait(number, **kwargs) for number in range(len(self.ids))]

    def run(self, until: float = float("inf")) -> None:
        """Poll until nobody waits, or until a time."""
        self._to_come.sort(key=lambda coming: coming[0])
        while self.now < until:
            while self._to_come and self._to_come[0][0] <= self.now:
                self.watch.add(self._to_come.pop(0)[1], self._clock)
            poll = self.watch.next_poll(self._clock)
            if poll is not None and poll.at <= self._clock:
                self._poll(poll)
            elif poll is not None or self._to_come:
                comes = self._to_come[0][0] if self._to_come else float("inf")
                self.now = min(comes, until, self.now + poll.at - self._clock if poll is not None else comes)
            else:
                return

    @property
    def _clock(self) -> float:
        return EPOCH + self.now + self.clock_set

    def status_of(self, waits: Iterable[Wait]) -> list[str | None]:
        """Return how waits ended."""
        return [wait.end.status if wait.end is not None else None for wait in waits]

    def late(self, wait: Wait) -> float:
        """Return how long after the end of its last action a wait ended."""
        return self.ended_at[wait] - max(self._ends[self.ids.index(action_id)] for action_id in wait.async_action_ids)

    def _poll(self, poll: Poll) -> None:
        asked_at = self._clock
        self.polls.append((self.now, poll.async_action_id))
        self.now += self._seconds_per_poll
        try:
            answer = self._answer(poll)
        except VoucherifyError as error:
            news = self.watch.note_error(poll, error, asked_at, self._clock)
        else:
            news = self.watch.note_answer(poll, answer, asked_at, self._clock)
        self.ended_at.update((wait, self.now) for wait in news if wait.end is not None)

    def _answer(self, poll: Poll) -> AsyncAction | AsyncActionList:
        if (error := self._fault(poll, self.now)) is not None:
            raise error
        if poll.async_action_id is None:
            return self._page(epoch(poll.end_date))
        if poll.async_action_id not in self.ids:
            raise VoucherifyNotFoundError(f"GET /v1/async-actions/{poll.async_action_id}", 404)
        return self._shown(self.ids.index(poll.async_action_id))

    def _page(self, before: float | None) -> AsyncActionList:
        created = [self._voucherify_time(at) for at in self.submitted_at]
        known = [number for number, at in enumerate(self.submitted_at) if at <= self.now]
        known = [number for number in known if number not in self.unlisted]
        older = [number for number in reversed(known) if before is None or epoch(created[number]) < before]
        more = {"has_more": len(older) > PAGE} if self._has_more else {}
        return AsyncActionList(async_actions=[self._shown(number) for number in older[:PAGE]], **more)

    def _shown(self, number: int) -> AsyncAction:
        done = self._ends[number] <= self.now
        shown = {
            "status": "DONE" if done else "IN_PROGRESS",
            "progress": 100 if done else 40,
            "created_at": self._voucherify_time(self.submitted_at[number]),
            "updated_at": self._voucherify_time(min(self._ends[number], self.now)),
        }
        return AsyncAction(id=self.ids[number], **{k: v for k, v in shown.items() if k not in self._without})

    def _voucherify_time(self, seconds: float) -> str:
        return iso(EPOCH + seconds - self._clocks_differ)
