"""How many rows there were, and the outcome of those that were not sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

_NOT_IN_SUMMARY = ("refused_by_key", "sent_before")


@dataclass(frozen=True, slots=True)
class Counts:
    """
    The rows of a sync that is about to be sent, or was sent.

    :param rows_read: None if another task read and sent the rows.
    :param blank_rows: rows without any value, which were skipped and are in no other count.
    :param unchanged: rows that were not sent, because Voucherify has them as they are.
    :param refused: rows that were not sent, because they cannot be valid; ``refused_by_key`` counts them by the key of
        the reason.
    :param superseded: rows that were not sent, because a later row has the same id.
    :param removed: records that left the source; ``removed_to_mark`` of them are sent.
    :param to_create: of the records that are sent, the ones that Voucherify does not have; None if nobody has looked.
    :param sent_before: whether an earlier try had sent something when what Voucherify has was looked at: it is not
        known then what this run has created.
    :param not_in_source: records that Voucherify has and the source does not; None if nobody has looked.
    """

    rows_read: int | None = None
    blank_rows: int = 0
    unchanged: int = 0
    refused: int = 0
    superseded: int = 0
    removed: int = 0
    removed_to_mark: int = 0
    to_create: int | None = None
    not_in_source: int | None = None
    sent_before: bool = False
    refused_by_key: Mapping[str, int] = field(default_factory=dict)

    def as_summary(self) -> dict[str, Any]:
        """Return the members of a summary that have the same names."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _NOT_IN_SUMMARY}
