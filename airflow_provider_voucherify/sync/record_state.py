"""What is said of single rows and records: the outcome of a row, and what the last syncs of a record came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

Outcome = Literal[
    "updated", "created", "succeeded", "unchanged", "failed", "refused", "superseded", "not_reported", "removed"
]


def confirmed_by(outcome: str, *, upserts: bool) -> bool:
    """
    Say whether Voucherify has a record after this answer.

    A voucher that is only counted as done need not exist (examples of 2023 count unknown codes as done), and a record
    that was found and not written (``unchanged``) may be the same already, or may have been left as it was: the vendor
    does not say which. Neither counts, so such records are sent again by the next sync.

    :param upserts: whether unknown ids are created (customers and products).
    """
    return outcome in ("updated", "created") or (outcome == "succeeded" and upserts)


MOST_FIELDS = 10
"""Fields that a warning names."""

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
    :param fields: of which Voucherify has a value of this sync, as a JSON list of paths such as ``metadata.tier``; None
        if that is not known.
    :param not_cleared: those of them of which the source had no value any more; None for none.
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
    fields: str | None = None
    not_cleared: str | None = None


@dataclass(frozen=True, slots=True)
class NotCleared:
    """
    Values that Voucherify still has although the source no longer has them, because missing values are not sent.

    :param records: of how many records, by the path of the field, the most frequent first.
    :param columns: name of the column that a field comes from, by its path.
    """

    records: Mapping[str, int]
    columns: Mapping[str, str]

    @property
    def values(self) -> int:
        """How many values."""
        return sum(self.records.values())

    def text(self) -> str | None:
        """Say so in words, and what clears them; None if there are none."""
        if not self.records:
            return None
        shown = [f"{path} ({number:,})" for path, number in islice(self.records.items(), MOST_FIELDS)]
        more = len(self.records) - len(shown)
        fields = ", ".join(shown) + (f" and {more} more fields" if more else "")
        clear = {self.columns[path]: "send" for path in self.records if path.startswith(("metadata.", "address"))}
        stay = any(not path.startswith(("metadata.", "address")) for path in self.records)
        how = f"null_policy={dict(islice(clear.items(), MOST_FIELDS))} sends null for them" if clear else ""
        not_all = "the API takes null in metadata and in the address only" if stay else ""
        return (
            f"Voucherify still has {self.values:,} values that the source no longer has, as missing values are "
            f"not sent: {fields}; {', and '.join(filter(None, (how, not_all)))}"
        )
