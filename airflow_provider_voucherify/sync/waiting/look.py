"""The next look at Voucherify's queue, and what may forbid it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_voucherify.client.calls import Call, async_action_status, get_async_action, list_async_actions
from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList
from airflow_provider_voucherify.sync.waiting.action_list import PAGE


@dataclass(frozen=True, slots=True)
class Look:
    """
    The next look.

    :param at: when, Unix epoch seconds. Before that time it is not settled yet what to look at: ask again then.
    :param async_action_id: which action to get; None to get a page of the list, of 100 actions.
    :param end_date: of the list's page.
    """

    at: float
    async_action_id: str | None = None
    end_date: str | None = None

    @property
    def call(self) -> Call[AsyncAction | AsyncActionList]:
        """What to send."""
        return self._call(get_async_action)

    @property
    def call_for_status(self) -> Call[AsyncAction | AsyncActionList]:
        """The same for whoever has no use for results."""
        return self._call(async_action_status)

    def _call(self, get: Callable[[str], Call[AsyncAction]]) -> Call[AsyncAction | AsyncActionList]:
        if self.async_action_id is None:
            return list_async_actions(PAGE, self.end_date)
        return get(self.async_action_id)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """
    A rate limit that allows no look for now.

    :param until: Unix epoch seconds.
    :param why: what the look that met it said.
    """

    until: float
    why: str
