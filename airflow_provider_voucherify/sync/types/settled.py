"""The outcome of one batch, as one value, and its listeners."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Protocol

from airflow_provider_voucherify.models.endpoints import BulkEndpoint
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.hiding import Hiding
from airflow_provider_voucherify.sync.types.outcome import ActionOutcome


@dataclass(frozen=True, slots=True)
class Settled:
    """
    The outcome of one batch.

    :param async_action_id: of its action.
    :param number: of the batch, from 1.
    :param whole: the outcome of all its records.
    :param outcome: the same without those that are in a later batch again, which has their outcome.
    :param failures: the records and rows that Voucherify gives a reason for; ``unnamed`` is that of the others, if any.
    :param endpoint: where it went; None if not even its action shows that.
    :param body: reads what was sent; None if another task sent it.
    """

    async_action_id: str
    number: int
    whole: ActionOutcome
    outcome: ActionOutcome
    failures: Collection[Failure] = ()
    unnamed: Failure | None = None
    endpoint: BulkEndpoint | None = None
    body: Callable[[], bytes] | None = None


class Shown:
    """
    Tells another listener of each batch, its failures without ids and values.

    :param hiding: None to tell all.
    """

    def __init__(self, listener: Listener, hiding: Hiding | None) -> None:
        self._listener = listener
        self._hiding = hiding

    def add(self, settled: Settled) -> None:
        """Tell of one batch."""
        if self._hiding is not None:
            failures = [self._hiding.failure(failure) for failure in settled.failures]
            unnamed = None if settled.unnamed is None else self._hiding.failure(settled.unnamed)
            settled = replace(settled, failures=failures, unnamed=unnamed)
        self._listener.add(settled)


class Listener(Protocol):
    """Gets each settled batch, in order."""

    def add(self, settled: Settled) -> None:
        """Add one settled batch."""
