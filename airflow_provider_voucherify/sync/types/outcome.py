"""The outcomes of rows, and of all records of one action."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import msgspec

from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.text import counted

Outcome = Literal[
    "updated",
    "created",
    "succeeded",
    "unchanged",
    "not_updated",
    "failed",
    "refused",
    "superseded",
    "not_reported",
    "removed",
]
ReadBackOutcome = Literal["verified", "differing", "missing", "not_in_source"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""All kinds, in the order in which they are shown. A summary counts each of them under its name."""

COMPARED = ("verified", "differing", "missing")
"""What a record that was read back, or a row of a drift report, can be, in the order in which they are shown."""

RUN_COUNTS = (
    *("rows_read", "submitted", *OUTCOMES, *COMPARED, "to_create", "not_in_source"),
    *("values_not_cleared", "removed_to_mark", "requests", "bytes_sent", "resubmitted"),
)
"""The members of a summary that the history of a sync has under the same names."""

TRY_COLUMNS = (
    *("try_number", "status", "started_at", "finished_at", "error_type", "error_message", "advice", "exceeded"),
    *("warning", "report_uri", *RUN_COUNTS),
)
"""What the history of a sync tells of one try, of all that it has."""

MAX_ATTEMPTS = "max_attempts"
"""Key of records that are not sent because they have failed too often."""


def confirmed_by(outcome: str, *, upserts: bool) -> bool:
    """
    Say whether Voucherify has a record after this answer.

    A voucher that is only counted as done need not exist (examples of 2023 count unknown codes as done), and a record
    that is ``not_updated`` may be the same already, or may have been left as it was: the vendor does not say which.
    Neither counts as confirmed, so the next sync sends such records again.

    :param upserts: whether unknown ids are created (customers and products).
    """
    return outcome in ("updated", "created") or (outcome == "succeeded" and upserts)


class RowOutcome(msgspec.Struct, frozen=True, gc=False):
    """
    The outcome of one row of the source, or of a record that left it.

    :param row: the row's number in the source, from 1; None for a record that is no longer in the source.
    :param id: the record's ``source_id`` or ``code``; None if the row has none.
    :param outcome: ``updated``, ``created``, or ``succeeded`` if Voucherify does not say which of the two;
        ``unchanged`` (not sent, since an earlier sync has confirmed it as it is), ``not_updated`` (sent, found, and
        not written, without an error), ``failed``, ``refused`` before sending, ``superseded`` by a later row of the
        same id or by a later sync, ``not_reported`` (sent, and not mentioned in any answer), ``removed`` (left the
        source). A record that was read back and is not as it was sent has a second outcome, ``differing`` or
        ``missing``.
    :param key: kind of the reason, if there is one. For a ``removed`` record ``marked`` if Voucherify has confirmed its
        mark, otherwise ``reported``.
    :param message: of a ``differing`` record the fields that differ, as far as they were looked at.
    :param details: of a ``differing`` record, where values are kept, what was found and sent of each, as JSON.
    :param content: the JSON that was sent, where values are kept.
    """

    row: int | None
    id: str | None
    outcome: Outcome | ReadBackOutcome
    key: str | None = None
    message: str | None = None
    details: str | None = None
    async_action_id: str | None = None
    content: str | None = None


WRITTEN = frozenset({"updated", "created", "succeeded"})
"""Answers about records that Voucherify has."""

PARTS = ("failed", "not_reported", "not_updated", "succeeded")
"""The counts that make up the records of an action: those that are known to have arrived come last."""


@dataclass(frozen=True)
class ActionOutcome:
    """
    The records of one action, counted.

    The ``PARTS`` always add up to the number of records sent.

    :param succeeded: written by Voucherify.
    :param updated: of these, the ones that existed before; None if the API does not say.
    :param created: of these, the ones that were created (upserted); None if the API does not say.
    :param not_updated: found and not written, without an error.
    :param not_reported: sent, and mentioned nowhere in the answer.
    :param failures: the failed records that the API names, by id.
    :param failed_as_a_whole: the whole action failed, so that sending its batch again may help.
    :param unnamed_failures: number of failed records that the API does not name; ``unnamed_reason`` says why, if known.
    :param others: rows of the report about records that were not sent, as far as it is known which were.
    :param answers: by each id that was sent, if these are known, what errors and report say of it: ``failed``,
        ``not_updated``, ``updated``, ``created``, ``succeeded``, or nothing.
    :param verdicts: answer about a record to its outcome, as far as that is known.
    """

    succeeded: int
    updated: int | None
    created: int | None
    not_updated: int
    failed: int
    not_reported: int
    failures: dict[str, Failure] = field(default_factory=dict)
    failed_as_a_whole: bool = False
    unnamed_failures: int = 0
    unnamed_reason: Failure | None = None
    others: int = 0
    answers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verdicts: Mapping[str, str] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Number of records that the action was about."""
        return sum(getattr(self, name) for name in PARTS)

    @property
    def failures_by_key(self) -> Counter[str | None]:
        """Number of failed records by Voucherify's key; None if it gives none."""
        counts = Counter(failure.key for failure in self.failures.values())
        if self.unnamed_failures:
            counts[self.unnamed_reason.key if self.unnamed_reason is not None else None] += self.unnamed_failures
        return counts

    def counts(self) -> dict[str, Any]:
        """Return the counts that a summary has under the same names."""
        return {name: getattr(self, name) for name in (*PARTS, "updated", "created")}

    def __add__(self, other: ActionOutcome) -> ActionOutcome:
        """Add counts up: one unknown part makes the sum unknown. Names and reasons are not kept."""
        more = other.counts()
        pairs = {name: (count, more[name]) for name, count in self.counts().items()}
        sums: dict[str, Any] = {name: None if None in pair else sum(pair) for name, pair in pairs.items()}
        return ActionOutcome(**sums)

    def without_names(self) -> ActionOutcome:
        """Drop the single records, of which there may be many."""
        return replace(self, failures={}, answers={}, verdicts={})

    def without(self, sent_again: int) -> ActionOutcome:
        """
        Remove records that are in a later batch again, which has their outcome.

        They had failed. If less is known of the action than when they were sent again, because its report is gone,
        they are subtracted from the counts that seem to contain them.
        """
        if not sent_again:
            return self
        counts: dict[str, int] = {}
        for name in PARTS:
            before = getattr(self, name)
            counts[name] = max(0, before - sent_again)
            sent_again -= before - counts[name]
        return replace(
            self,
            **counts,  # type: ignore[arg-type]
            updated=_part_of(self.updated, self.succeeded, counts["succeeded"]),
            created=_part_of(self.created, self.succeeded, counts["succeeded"]),
            failures={},
            unnamed_failures=counts["failed"],
        )

    def reason_of_silent(self) -> Failure | None:
        """Return why records that are not mentioned did not arrive, as far as that is true of each."""
        verdict = self.verdicts.get("")
        if verdict == "failed":
            return self.unnamed_reason
        if verdict != "not_reported" or not self.unnamed_failures:
            return None
        message = f"{counted(self.unnamed_failures, 'record')} of its request failed, and Voucherify does not say which"
        reason = self.unnamed_reason.message if self.unnamed_reason is not None else None
        return Failure("failed", None, None, ": ".join(filter(None, (message, reason))))


def _part_of(part: int | None, whole: int, rest: int) -> int | None:
    """Return how many of a part remain after records were removed from the whole; None if that depends on which."""
    return part if rest == whole else rest if part == whole else 0 if part == 0 or rest == 0 else None
