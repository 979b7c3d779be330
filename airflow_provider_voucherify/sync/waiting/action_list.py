"""Reading the list of async actions: one call returns the status of up to 100 actions, and no results."""

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
"""Actions per page: the vendor's maximum."""

CLOCKS = 1.0
"""An action may have been created up to this many seconds after one that was submitted later."""


def max_pages(wanted: int) -> int:
    """Return how many pages to read to find a number of actions; actions of others may lie between them."""
    return 5 + wanted // (PAGE // 2)


class ListSweep:
    """
    One reading of ``GET /v1/async-actions``, from the newest to the oldest wanted action.

    The API has no cursor: the next page is whatever was scheduled before the oldest action of this page.

    :param newest: no wanted action was created after this time (Unix epoch seconds); None if unknown.
    :param pages: maximum number of pages to read.
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
        Take in a page that was fetched with ``end_date``.

        :param wanted: ids; the sweep is done when it has seen them all.
        :param oldest: no wanted action was created before this time (Unix epoch seconds); None if unknown.
        """
        self.pages += 1
        self.seen.update(action.id for action in page.async_actions)
        created = [at for action in page.async_actions if (at := epoch(action.created_at)) is not None]
        reached = min(created, default=float("-inf"))
        before = reached + 0.001  # more actions of the same millisecond may follow
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
    A reading of the list that is in progress.

    :param whole: whether it is read to its end at once, rather than a page now and then.
    :param only_verifies: whether it is only for waits whose last action has finished.
    :param began: when the reading began.
    """

    sweep: ListSweep
    whole: bool
    only_verifies: bool
    began: float


class ListPace:
    """How often to read the whole list: about one call for each wait that ends, and less often while none does."""

    def __init__(self, now: float = 0.0) -> None:
        self.pause = 0.0
        self._read_at = now
        self._ends = 0

    def note_end(self) -> None:
        """Note that a wait has ended."""
        self._ends += 1

    def note_read(self, pages: int, now: float) -> None:
        """Note that the list was read."""
        if self._ends:
            self.pause = (now - self._read_at) * pages / self._ends
        else:
            self.pause = 2 * max(self.pause, pauses.SHORTEST_PAUSE)
        self._read_at, self._ends = now, 0


class ListApi(Protocol):
    """The part of a Voucherify client that reading the list needs."""

    def list_async_actions(self, limit: int = PAGE, end_date: str | None = None) -> AsyncActionList:
        """List async actions, newest first."""


def unfinished_in_list(api: ListApi, async_action_ids: Iterable[str], last: AsyncAction) -> list[str]:
    """
    Return the ids of the actions that the list shows as unfinished, in the order given.

    An action that the list does not show is left out; if the list cannot be read, all are. Polling each action tells.

    :param last: the action that was submitted after all of them.
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
        log.warning("The list of async actions cannot be read: %s", error)
    return [action_id for action_id in wanted if action_id in unfinished]
