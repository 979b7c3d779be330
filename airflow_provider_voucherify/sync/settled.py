"""What became of one batch, as one value, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.endpoints import BulkEndpoint
from airflow_provider_voucherify.sync.failures import Failure
from airflow_provider_voucherify.sync.finished import ActionsLookedAt, check_all_finished, finished_actions
from airflow_provider_voucherify.sync.settlement import ActionOutcome
from airflow_provider_voucherify.sync.submitted import SubmittedBatch, SubmittedSync


@dataclass(frozen=True, slots=True)
class Settled:
    """
    What became of one batch.

    :param async_action_id: of its action.
    :param number: of the batch, from 1.
    :param whole: what became of all its records.
    :param outcome: the same without those that are in a later batch again, which says what became of them.
    :param failures: the records and rows that Voucherify gives a reason for; ``unnamed`` is that of the others, if any.
    :param endpoint: where it went; None if not even its action tells.
    :param body: what was sent; None if it is lost, or somebody else sent it.
    """

    async_action_id: str
    number: int
    whole: ActionOutcome
    outcome: ActionOutcome
    failures: Collection[Failure] = ()
    unnamed: Failure | None = None
    endpoint: BulkEndpoint | None = None
    body: bytes | None = None


class Listener(Protocol):
    """Is told of each batch, in order."""

    def add(self, settled: Settled) -> None:
        """Take note of what became of one batch."""


def settle_all(
    sync: SubmittedSync,
    api: ActionsLookedAt,
    judge: Callable[[int, SubmittedBatch, AsyncAction], Settled],
    listeners: Iterable[Listener],
    *,
    seen: dict[str, AsyncAction] | None = None,
    on_all_finished: Callable[[], None] = lambda: None,
) -> None:
    """
    Fetch every action once, and tell all listeners what became of its batch before the next one is fetched.

    :param judge: says what became of a batch, by its number and its finished action.
    :param seen: actions that are known to have finished and need not be fetched; each is taken out at its turn.
    :param on_all_finished: called when every action is known to have finished, and before anything is done.
    :raises UnfinishedActionsError: an action is not finished; nothing has been done then.
    :raises HeldBackError: it could not be found out whether all are finished; nothing has been done then.
    """
    seen = {} if seen is None else seen
    check_all_finished(sync, api, seen)
    on_all_finished()
    told = [*listeners]
    actions = finished_actions(sync, api, seen)
    for number, (batch, action) in enumerate(zip(sync.batches, actions, strict=True), start=1):
        settled = judge(number, batch, action)
        for listener in told:
            listener.add(settled)
