"""Finished async actions: each is fetched once, and none is settled before all are known to have finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from airflow_provider_voucherify.client.budgets import allowed_again_at
from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.errors import PortableError, VoucherifyRateLimitError
from airflow_provider_voucherify.sync.types.settled import Listener, Settled
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync

MAX_BYTES_REMEMBERED = 10_000_000
"""
Total size in bytes of the results kept until it is their turn. An action that does not fit is fetched again then.
"""


class ActionGetter(Protocol):
    """The part of a Voucherify client that gets actions."""

    def get_async_action(self, async_action_id: str) -> AsyncAction:
        """Get one async action."""


class UnfinishedActionsError(PortableError):
    """
    An action has not finished although a later one has, contrary to the documented order of the queue.

    :param async_action_ids: the unfinished action and those after it, which have not been checked.
    """

    def __init__(self, async_action_ids: Sequence[str]) -> None:
        self.async_action_ids = list(async_action_ids)
        super().__init__(f"{async_action_ids[0]} has not finished, although a later action has")

    @property
    def to_wait_for(self) -> list[str]:
        """The same actions with the one known to be unfinished last, since the last one is polled first."""
        return [*self.async_action_ids[1:], self.async_action_ids[0]]


class ResultsRateLimitedError(PortableError):
    """
    A rate limit forbids fetching the results of finished actions, and none of them has been settled yet.

    :param error: the error of the call that hit the limit.
    :param until: when calls are allowed again, Unix epoch seconds.
    :param fetched: number of actions fetched before.
    """

    def __init__(self, error: VoucherifyRateLimitError, until: float, fetched: int) -> None:
        self.error = error
        self.until = until
        self.fetched = fetched
        super().__init__(str(error))


def check_all_finished(sync: SubmittedSync, api: ActionGetter, seen: dict[str, AsyncAction]) -> None:
    """
    Check every action before any of them is settled.

    :param seen: actions that are known to have finished; afterwards those that ``MAX_BYTES_REMEMBERED`` allows.
    :raises UnfinishedActionsError: an action is not finished.
    :raises ResultsRateLimitedError: a rate limit prevents the check for longer than the client waits.
    """
    ids = sync.async_action_ids
    remembered = calls = 0
    for place, action_id in enumerate(ids):
        if action_id in seen:
            action = seen.pop(action_id)
        else:
            action = _fetched(action_id, api, calls)
            calls += 1
        if not action.is_finished:
            raise UnfinishedActionsError(ids[place:])
        if remembered + (size := len(action.result_json or b"")) <= MAX_BYTES_REMEMBERED:
            seen[action_id] = action
            remembered += size


def _fetched(async_action_id: str, api: ActionGetter, before: int) -> AsyncAction:
    """
    Get an action before any has been settled.

    :param before: number of actions fetched before.
    """
    try:
        return api.get_async_action(async_action_id)
    except VoucherifyRateLimitError as error:
        if (until := allowed_again_at(error, time.time())) is None:
            raise
        raise ResultsRateLimitedError(error, until, before) from error


def finished_actions(sync: SubmittedSync, api: ActionGetter, seen: dict[str, AsyncAction]) -> Iterator[AsyncAction]:
    """Yield the actions in order, after ``check_all_finished``; an action is taken out of ``seen`` at its turn."""
    for action_id in sync.async_action_ids:
        yield seen.pop(action_id) if action_id in seen else api.get_async_action(action_id)


def settle_all(
    sync: SubmittedSync,
    api: ActionGetter,
    judge: Callable[[int, SubmittedBatch, AsyncAction], Settled],
    listeners: Iterable[Listener],
    *,
    seen: dict[str, AsyncAction] | None = None,
    on_all_finished: Callable[[], None] = lambda: None,
) -> None:
    """
    Fetch every action once, and pass the outcome of its batch to all listeners before the next one is fetched.

    :param judge: settles a batch, given its number and its finished action.
    :param seen: actions that are known to have finished and need not be fetched; each is taken out at its turn.
    :param on_all_finished: called once every action is known to have finished, before any is settled.
    :raises UnfinishedActionsError: an action is not finished; none has been settled.
    :raises ResultsRateLimitedError: a rate limit prevented the check that all have finished; none has been settled.
    """
    seen = {} if seen is None else seen
    check_all_finished(sync, api, seen)
    on_all_finished()
    listeners = [*listeners]
    actions = finished_actions(sync, api, seen)
    for number, (batch, action) in enumerate(zip(sync.batches, actions, strict=True), start=1):
        settled = judge(number, batch, action)
        for listener in listeners:
            listener.add(settled)
