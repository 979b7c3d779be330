"""Reading the list of async actions: one call tells the status of up to a hundred, and never a result."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_voucherify.models.async_action import AsyncAction, AsyncActionList
from airflow_provider_voucherify.models.errors import VoucherifyError
from airflow_provider_voucherify.models.times import epoch, iso
from airflow_provider_voucherify.sync.waiting import pauses

log = logging.getLogger(__name__)

PAGE = 100
"""Actions on a page: the vendor's maximum."""

CLOCKS = 1.0
"""Seconds by which an action that was submitted before another may have been created after it."""


def max_pages(wanted: int) -> int:
    """Return how many pages to read for a number of actions; those of others may lie between them."""
    return 5 + wanted // (PAGE // 2)


class ListSweep:
    """
    One reading of ``GET /v1/async-actions``, from the newest action to the oldest one that is wanted.

    The API has no cursor: the next page is what was scheduled before the oldest action of this one.

    :param newest: no wanted action was created later (Unix epoch seconds); None if that is not known.
    :param pages: how many to read at most.
    """

    def __init__(self, newest: float | None, pages: int) -> None:
        self.end_date = None if newest is None else iso(newest)
        self.seen: set[str] = set()
        self.pages = 0
        self.is_done = False
        self._most = pages
        self._before = float("inf") if newest is None else newest

    def take(self, page: AsyncActionList, wanted: Collection[str], oldest: float | None = None) -> None:
        """
        Take note of a page that was got with ``end_date``.

        :param wanted: ids; the sweep is done when it has seen them all.
        :param oldest: no wanted action was created earlier (Unix epoch seconds); None if that is not known.
        """
        self.pages += 1
        self.seen.update(action.id for action in page.async_actions)
        created = [at for action in page.async_actions if (at := epoch(action.created_at)) is not None]
        reached = min(created, default=float("-inf"))
        before = reached + 0.001  # others of the same millisecond may follow
        if before >= self._before:
            before = reached
        self.is_done = (
            page.is_last
            or self.pages >= self._most
            or not created
            or before >= self._before
            or (oldest is not None and reached < oldest)
            or self.seen.issuperset(wanted)
        )
        if not self.is_done:
            self._before, self.end_date = before, iso(before)


@dataclass(frozen=True, slots=True)
class Reading:
    """
    The list being read.

    :param whole: to its end at once, rather than a page now and then.
    :param only_verifies: only for those whose last action has finished.
    :param began: when the reading began.
    """

    sweep: ListSweep
    whole: bool
    only_verifies: bool
    began: float


class ListPace:
    """How often to read the whole list: one call for each end, about, and less often while nothing ends."""

    def __init__(self, now: float = 0.0) -> None:
        self.pause = 0.0
        self._read_at = now
        self._ends = 0

    def note_end(self) -> None:
        """Take note that a wait has ended."""
        self._ends += 1

    def note_read(self, pages: int, now: float) -> None:
        """Take note that the list was read."""
        if self._ends:
            self.pause = (now - self._read_at) * pages / self._ends
        else:
            self.pause = 2 * max(self.pause, pauses.SHORTEST_PAUSE)
        self._read_at, self._ends = now, 0


class ListApi(Protocol):
    """The part of a Voucherify client that is needed here."""

    def list_async_actions(self, limit: int = PAGE, end_date: str | None = None) -> AsyncActionList:
        """List async actions, newest first."""


def unfinished_in_list(api: ListApi, async_action_ids: Iterable[str], last: AsyncAction) -> list[str]:
    """
    Return those of some actions that the list shows unfinished, in the order given.

    One that the list does not show is not among them, and none is if the list cannot be had: looking at each tells.

    :param last: the action that was submitted after them.
    """
    wanted = dict.fromkeys(async_action_ids)
    unfinished: set[str] = set()
    created = epoch(last.created_at)
    sweep = ListSweep(None if created is None else created + CLOCKS, max_pages(len(wanted)))
    try:
        while wanted and not sweep.is_done:
            page = api.list_async_actions(PAGE, sweep.end_date)
            unfinished.update(action.id for action in page.async_actions if not action.is_finished)
            sweep.take(page, wanted.keys())
    except VoucherifyError as error:
        log.warning("The list of async actions cannot be had: %s", error)
    return [action_id for action_id in wanted if action_id in unfinished]
