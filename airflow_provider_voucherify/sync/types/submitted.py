"""A sync whose batches are all submitted: what is known until they are settled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, repeat
from typing import Any

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.endpoints import METADATA_ENDPOINTS, UPDATE_ENDPOINTS, BulkEndpoint
from airflow_provider_voucherify.sync.types.counts import Counts
from airflow_provider_voucherify.sync.types.text import counted

ENDPOINTS_BY_ACTION_TYPE = {
    endpoint.action_type: endpoint for table in (UPDATE_ENDPOINTS, METADATA_ENDPOINTS) for endpoint in table.values()
}


@dataclass(frozen=True, slots=True)
class SubmittedBatch:
    """
    A batch that Voucherify has accepted.

    :param records: number of records; None if another task sent it.
    :param sent_again: how many of them were rejected and are in a later batch again, which has their outcome.
    :param action_type: type of the action, which identifies the endpoint; None if another task sent it.
    :param resubmitted: whether Voucherify may have accepted it before, so that a record that existed according to the
        answer may have been created by the first request.
    """

    async_action_id: str
    records: int | None
    sent_again: int = 0
    action_type: str | None = None
    resubmitted: bool = False

    def endpoint(self, action: AsyncAction) -> BulkEndpoint | None:
        """Return where the batch went; None if not even its action shows that."""
        return ENDPOINTS_BY_ACTION_TYPE.get(self.action_type or action.type or "")


@dataclass(frozen=True, slots=True)
class SubmittedSync:
    """
    A sync whose batches are all submitted: the state that outlives a deferral, ids and numbers only.

    :param submitted_at: when the last batch was submitted, Unix epoch seconds.
    :param counts: of the rows that it was made of.
    :param warnings: the plan's warnings.
    :param requests: batches that this try posted; ``bytes_sent`` are theirs.
    :param reattached: batches that an earlier try had posted.
    :param resubmitted: number of batches posted again although Voucherify may have accepted them before.
    """

    batches: tuple[SubmittedBatch, ...]
    submitted_at: float
    counts: Counts = field(default_factory=Counts)
    requests: int = 0
    bytes_sent: int = 0
    reattached: int = 0
    resubmitted: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def async_action_ids(self) -> list[str]:
        """The ids in the order of submission."""
        return [batch.async_action_id for batch in self.batches]

    @property
    def submitted(self) -> int | None:
        """Number of records sent; None if another task sent them."""
        counts = [batch.records - batch.sent_again for batch in self.batches if batch.records is not None]
        return sum(counts) if len(counts) == len(self.batches) else None

    def as_summary(self) -> dict[str, Any]:
        """Return the members of a summary that are known before the outcome, except ``submitted`` and warnings."""
        names = ("async_action_ids", "requests", "bytes_sent", "resubmitted")
        return {**self.counts.as_summary(), **{name: getattr(self, name) for name in names}}

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads: everything except the ids, which the trigger already has."""
        numbers = {name: getattr(self, name) for name in _NUMBERS} | asdict(self.counts)
        columns = {name: _folded(getattr(batch, name) for batch in self.batches) for name in _COLUMNS}
        return numbers | {"columns": columns, "warnings": list(self.warnings)}

    @classmethod
    def from_json(cls, state: Mapping[str, Any], async_action_ids: Sequence[str]) -> SubmittedSync:
        """
        Read the output of ``to_json``, possibly of another version of this package: unknown members are ignored.

        :param async_action_ids: in the order of submission; an earlier version has them in its state.
        :raises ValueError: their number differs from the state's.
        """
        known = {name: state[name] for name in _NUMBERS if name in state}
        counts = Counts(**{name: state[name] for name in Counts.__slots__ if name in state})
        if "batches" in state:
            rows: Iterable[Sequence[Any]] = state["batches"]
        else:
            columns = (_unfolded(state["columns"][name]) for name in _COLUMNS if name in state["columns"])
            rows = zip(async_action_ids, *columns, strict=True)
        batches = tuple(SubmittedBatch(*row) for row in rows)
        return cls(batches=batches, counts=counts, warnings=tuple(state.get("warnings", ())), **known)


_NUMBERS = ("submitted_at", "requests", "bytes_sent", "reattached", "resubmitted")
_COLUMNS = ("records", "sent_again", "action_type", "resubmitted")


def resubmission_warning(submitted: Sequence[SubmittedBatch]) -> str | None:
    """Return a warning about requests that may have reached Voucherify twice; None if there are none."""
    again = [batch.records or 0 for batch in submitted if batch.resubmitted]
    if not again:
        return None
    return (
        f"{counted(len(again), 'request')} ({counted(sum(again), 'record')}) may have reached Voucherify twice, since "
        "the answer to the first one was lost or no longer counts; records that the first one created do not count as "
        "created"
    )


def _folded(values: Iterable[Any]) -> list[Any]:
    """Run-length encode: write equal neighbours as one list of the value and its number."""
    runs = ((value, sum(1 for _ in equal)) for value, equal in groupby(values))
    return [value if times == 1 else [value, times] for value, times in runs]


def _unfolded(folded: Iterable[Any]) -> Iterator[Any]:
    for item in folded:
        value, times = item if isinstance(item, list) else (item, 1)
        yield from repeat(value, times)
