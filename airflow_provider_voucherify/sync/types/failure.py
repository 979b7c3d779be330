"""One record that was not updated, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_voucherify.sync.types.text import shortened

SAMPLE_SIZE = 10
"""Failures that a summary shows."""


@dataclass(frozen=True, slots=True)
class Failure:
    """
    One record that was not updated, and why.

    :param outcome: ``failed`` at Voucherify or ``refused`` before sending.
    :param id: the record's ``source_id`` or ``code``; None if it has none, or the API does not name it.
    :param key: kind of the reason: the API's error key, or one of ours (see ``mapping.RefusedRowError``).
    :param row: the row's place in the source, from 1; only of rows that were not sent.
    :param hint: another column of a row that has no id, and its value, to find it by.
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
        """Return what a summary shows of the failure."""
        texts = {name: shortened(getattr(self, name)) for name in ("id", "key", "message", "details", "hint")}
        return {"outcome": self.outcome, "row": self.row, **texts}
