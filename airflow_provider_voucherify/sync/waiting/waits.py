"""Who waits for which async actions: all waits of one process, oldest submission first."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from airflow_provider_voucherify.sync.waiting.pauses import DEFAULT_POLL_INTERVAL, MAX_FAILED_POLLS

if TYPE_CHECKING:
    from airflow_provider_voucherify.models.async_action import AsyncAction


@dataclass(frozen=True, slots=True)
class End:
    """
    How a wait ended.

    :param status: ``finished``; ``timeout``: the end time has passed, and the last poll found an action unfinished;
        ``unreachable``: polling failed for good.
    :param message: for people to read; None if it has finished.
    """

    status: Literal["finished", "timeout", "unreachable"]
    message: str | None = None


@dataclass(eq=False, slots=True)
class Wait:
    """
    One task waiting for a set of async actions.

    :param async_action_ids: in the order of submission; the last one is polled first.
    :param submitted_at: when the last one was submitted, Unix epoch seconds.
    :param end_time: when to give up, Unix epoch seconds.
    :param poll_interval: longest pause between two polls, in seconds.
    :param not_before: earliest time at which polling is useful, Unix epoch seconds.
    :param max_failures: number of consecutive failed polls after which to give up.
    """

    async_action_ids: Sequence[str]
    submitted_at: float
    end_time: float
    poll_interval: float = DEFAULT_POLL_INTERVAL
    not_before: float = 0.0
    max_failures: int = MAX_FAILED_POLLS
    end: End | None = field(default=None, init=False)
    """How it ended; None until then."""
    status: str | None = field(default=None, init=False)
    progress: int | None = field(default=None, init=False)
    """What the last poll of ``key`` showed; None before the first."""
    failures: int = field(default=0, init=False)
    failure: str | None = field(default=None, init=False)
    """Number of failed polls since the last successful one, and the message of the last."""
    polled_at: float = field(default=float("-inf"), init=False)
    newest: float | None = field(default=None, init=False)
    """When the newest of its actions seen so far was created, by Voucherify's clock."""
    unfinished: dict[str, None] = field(init=False, repr=False)
    """The actions that are not known to have finished, in the order of submission."""

    def __post_init__(self) -> None:
        self.unfinished = dict.fromkeys(self.async_action_ids)

    @property
    def key(self) -> str:
        """The action to poll for this wait: by the documented order, the one submitted last finishes last."""
        return next(reversed(self.unfinished))

    def note_unfinished(self, action: AsyncAction, now: float) -> None:
        """Note that a poll found ``key`` unfinished."""
        self.status, self.progress = action.status, action.progress
        self.failures, self.failure, self.polled_at = 0, None, now


@dataclass(slots=True)
class Awaited:
    """
    An action that at least one task waits for.

    :param created: when it was created, by Voucherify's clock; None if unknown.
    :param failures: number of failed polls of it since the last successful one.
    """

    waits: list[Wait] = field(default_factory=list)
    created: float | None = None
    failures: int = 0


class _Least:
    """The smallest of some numbers, kept in order: there may be ten thousand, and it is asked for after each change."""

    def __init__(self) -> None:
        self._numbers: list[float] = []

    @property
    def number(self) -> float:
        return self._numbers[0]

    def add(self, number: float) -> None:
        bisect.insort(self._numbers, number)

    def remove(self, number: float) -> None:
        del self._numbers[bisect.bisect_left(self._numbers, number)]


class Waits:
    """
    All waits that have not ended. Iterates over them, oldest submission first.

    Their times and poll intervals must not change while they are here.
    """

    def __init__(self) -> None:
        self._waits: list[Wait] = []
        self._end_times, self._not_before, self._poll_intervals = _Least(), _Least(), _Least()
        self.awaited: dict[str, Awaited] = {}
        """By id, every action that one of the waits is for."""

    def __len__(self) -> int:
        return len(self._waits)

    def __iter__(self) -> Iterator[Wait]:
        return iter(tuple(self._waits))

    @property
    def head(self) -> Wait:
        """The wait whose action should finish first."""
        return self._waits[0]

    @property
    def poll_interval(self) -> float:
        """The smallest poll interval of all waits."""
        return self._poll_intervals.number

    @property
    def end_time(self) -> float:
        """The earliest end time of all waits."""
        return self._end_times.number

    @property
    def not_before(self) -> float:
        """The earliest time at which polling is useful for one of them."""
        return self._not_before.number

    def add(self, wait: Wait) -> None:
        """Add a wait."""
        bisect.insort(self._waits, wait, key=lambda other: other.submitted_at)
        self._end_times.add(wait.end_time)
        self._not_before.add(wait.not_before)
        self._poll_intervals.add(wait.poll_interval)
        for action_id in wait.unfinished:
            self.awaited.setdefault(action_id, Awaited()).waits.append(wait)

    def remove(self, wait: Wait) -> None:
        """Remove a wait, if it is there."""
        index = self._index(wait)
        if index is not None:
            del self._waits[index]
            self._end_times.remove(wait.end_time)
            self._not_before.remove(wait.not_before)
            self._poll_intervals.remove(wait.poll_interval)
            for action_id in tuple(wait.unfinished):
                self.forget(wait, action_id)

    def forget(self, wait: Wait, action_id: str) -> None:
        """Stop a wait from waiting for an action."""
        del wait.unfinished[action_id]
        waits = self.awaited[action_id].waits
        waits.remove(wait)
        if not waits:
            del self.awaited[action_id]

    def keyed_on(self, action_id: str | None) -> list[Wait]:
        """Return the waits whose ``key`` is an action."""
        awaited = self.awaited.get(action_id) if action_id is not None else None
        return [wait for wait in awaited.waits if wait.key == action_id] if awaited is not None else []

    def position(self, wait: Wait) -> int:
        """
        Return the number of waits submitted before it.

        :raises ValueError: it is not there.
        """
        index = self._index(wait)
        if index is None:
            raise ValueError(f"no wait for {wait.key}")
        return index

    def _index(self, wait: Wait) -> int | None:
        """Find a wait by bisection, since there may be thousands; None if it is not there."""
        at = bisect.bisect_left(self._waits, wait.submitted_at, key=lambda other: other.submitted_at)
        for index in range(at, len(self._waits)):
            if self._waits[index] is wait:
                return index
            if self._waits[index].submitted_at > wait.submitted_at:
                break
        return None
