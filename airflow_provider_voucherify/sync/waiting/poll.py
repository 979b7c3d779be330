"""The next poll of Voucherify's queue, and the rate limit that may forbid it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_voucherify.client.calls import Call, async_action_status, get_async_action, list_async_actions
from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList
from airflow_provider_voucherify.sync.waiting.action_list import PAGE


@dataclass(frozen=True, slots=True)
class Poll:
    """
    The next poll.

    :param at: when, Unix epoch seconds. Until then it is not decided what to poll: ask again at that time.
    :param async_action_id: the action to get; None to get a page of the list (100 actions).
    :param end_date: the ``end_date`` of that page.
    """

    at: float
    async_action_id: str | None = None
    end_date: str | None = None

    @property
    def call(self) -> Call[AsyncAction | AsyncActionList]:
        """The call to send."""
        return self._call(get_async_action)

    @property
    def call_for_status(self) -> Call[AsyncAction | AsyncActionList]:
        """The same call for a caller that does not need the results."""
        return self._call(async_action_status)

    def _call(self, get: Callable[[str], Call[AsyncAction]]) -> Call[AsyncAction | AsyncActionList]:
        if self.async_action_id is None:
            return list_async_actions(PAGE, self.end_date)
        return get(self.async_action_id)


@dataclass(frozen=True, slots=True)
class PollLimit:
    """
    A rate limit that forbids polling for now.

    :param until: Unix epoch seconds.
    :param why: the error message of the poll that hit it.
    """

    until: float
    why: str
