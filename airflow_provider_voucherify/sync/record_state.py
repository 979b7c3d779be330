"""What is said of single rows and records: the outcome of a row, and what the last syncs of a record came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Outcome = Literal[
    "updated", "created", "succeeded", "unchanged", "failed", "refused", "superseded", "not_reported", "removed"
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def confirmed_by(outcome: str, *, upserts: bool) -> bool:
    """
    Say whether Voucherify has a record after this answer.

    A voucher that is only counted as done need not exist (examples of 2023 count unknown codes as done), and a record
    that was found and not written (``unchanged``) may be the same already, or may have been left as it was: the vendor
    does not say which. Neither counts, so such records are sent again by the next sync.

    :param upserts: whether unknown ids are created (customers and products).
    """
    return outcome in ("updated", "created") or (outcome == "succeeded" and upserts)


MAX_ATTEMPTS = "max_attempts"
"""Key of records that are not sent, because they have failed so often."""


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """
    What became of one row of the source, or of a record that left it.

    :param row: the row's place in the source, from 1; None for a record that is not in the source any more.
    :param id: the record's ``source_id`` or ``code``; None where the row has none.
    :param outcome: ``updated``, ``created``, or ``succeeded`` where Voucherify does not tell which of the two;
        ``unchanged`` (not sent, or found equal), ``failed``, ``refused`` before sending, ``superseded`` by a later row
        of the same id or by a later sync, ``not_reported`` (sent, and no answer says what became of it), ``removed``
        (left the source).
    :param key: kind of the reason, where there is one. Of a ``removed`` record ``marked``, where Voucherify has
        confirmed its mark, or ``reported``.
    """

    row: int | None
    id: str | None
    outcome: Outcome
    key: str | None = None
    message: str | None = None
    details: str | None = None
    async_action_id: str | None = None


@dataclass(frozen=True, slots=True)
class RecordState:
    """
    What the last syncs of one id came to.

    :param settings: digest of the settings under which its record was made.
    :param digest: of the record, while Voucherify's last answer was that it has it.
    :param failed_digest: of the record that it did not accept last.
    :param attempts: in how many runs it did not accept that one.
    :param outcome: of the last sync that did something about the record.
    :param run: that sync's run.
    :param confirmed_at: when Voucherify last confirmed any record of that id, Unix epoch seconds; None for never.
    """

    id: str
    settings: str
    digest: int | None
    failed_digest: int | None
    attempts: int
    outcome: Outcome
    key: str | None
    message: str | None
    run: str
    confirmed_at: float | None
