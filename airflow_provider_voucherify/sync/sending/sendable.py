"""What a submission needs: the batches, and the client that sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.sync.types.counts import Counts

T = TypeVar("T")


class Sendable(Protocol):
    """What goes in one request: a batch of a plan, or a batch of a CSV file's rows."""

    @property
    def number(self) -> int:
        """Identifies it; batches are sent in this order. The first of two halves has the number of the whole."""

    @property
    def name(self) -> str:
        """The name in logs, e.g. ``batch 3``."""

    @property
    def records(self) -> int:
        """Number of records."""

    @property
    def length(self) -> int:
        """Size of its content in bytes."""

    @property
    def action_type(self) -> str:
        """The ``type`` of the async action that it becomes."""

    @property
    def creates_each_time(self) -> bool:
        """Whether sending it twice may create something twice."""

    def digest(self) -> str:
        """Return a digest of its content and destination."""

    def call(self) -> Call[str]:
        """Return the call that sends it and returns the ``async_action_id``."""


B = TypeVar("B", bound=Sendable)


class Batches(Protocol[B]):
    """What is to be sent: a plan, or a CSV file."""

    @property
    def batches(self) -> Sequence[B]:
        """All batches."""

    @property
    def counts(self) -> Counts:
        """How many rows there were, and the outcome of those that are not in the batches."""

    @property
    def warnings(self) -> Sequence[str]:
        """Warnings for people to read."""

    def split(self, batch: B) -> tuple[B, B]:
        """Replace a batch of several records by two halves, and return them."""


class SubmissionApi(Protocol):
    """The part of a Voucherify client that a submission needs."""

    @property
    def bulk_calls_must_wait(self) -> bool:
        """Whether a post would have to wait for a rate limit until a time that is known."""

    def send(self, call: Call[T]) -> T:
        """Carry out a call."""
