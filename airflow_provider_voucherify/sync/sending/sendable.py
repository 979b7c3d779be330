"""What a submission is given: the batches, and the client that sends them."""

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
        """Tells it from the others, and orders them. Of two halves the first one has the number of the whole."""

    @property
    def name(self) -> str:
        """What logs call it, e.g. ``batch 3``."""

    @property
    def records(self) -> int:
        """How many it has."""

    @property
    def length(self) -> int:
        """Bytes of its content."""

    @property
    def action_type(self) -> str:
        """The ``type`` of the async action that it becomes."""

    @property
    def creates_each_time(self) -> bool:
        """Whether sending it twice may create something twice."""

    def digest(self) -> str:
        """Return what tells its content and destination from any other's."""

    def call(self) -> Call[str]:
        """Return the call that sends it and gives the ``async_action_id``."""


B = TypeVar("B", bound=Sendable)


class Batches(Protocol[B]):
    """What is to be sent: a plan, or a CSV file."""

    @property
    def batches(self) -> Sequence[B]:
        """All batches."""

    @property
    def counts(self) -> Counts:
        """How many rows there were, and what became of those that are not in the batches."""

    @property
    def warnings(self) -> Sequence[str]:
        """What deserves a look, in words."""

    def split(self, batch: B) -> tuple[B, B]:
        """Put two halves in the place of a batch of several records, and return them."""


class SubmissionApi(Protocol):
    """The part of a Voucherify client that is needed here."""

    @property
    def bulk_calls_must_wait(self) -> bool:
        """Whether a post would have to wait for a rate limit until a time that is known."""

    def send(self, call: Call[T]) -> T:
        """Carry out a call."""
