"""One record that was not updated, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_voucherify.sync.types.text import shortened

SAMPLE_SIZE = 10
"""Number of failures that a summary shows."""


@dataclass(frozen=True, slots=True)
class Failure:
    """
    One record that was not updated, and why.

    :param outcome: ``failed`` at Voucherify or ``refused`` before sending.
    :param id: the record's ``source_id`` or ``code``; None if it has none, or the API does not name it.
    :param key: kind of the reason: the API's error key, or one of ours (see ``mapping.RefusedRowError``).
    :param row: the row's number in the source, from 1; only for rows that were not sent.
    :param hint: another column of a row without an id, with its value, by which to find the row.
    """

    outcome: Literal["failed", "refused", "superseded"]
    id: str | None
    key: str | None
    message: str | None
    details: str | None = None
    async_action_id: str | None = None
    row: int | None = None
    hint: str | None = None

    def sample(self) -> dict[str, Any]:
        """Return the failure as a summary shows it."""
        texts = {name: shortened(getattr(self, name)) for name in ("id", "key", "message", "details", "hint")}
        return {"outcome": self.outcome, "row": self.row, **texts}
