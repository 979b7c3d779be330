"""How many rows may fail, be created or be left out; light, since operators check their thresholds at each parse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, refuse_all
from airflow_provider_voucherify.models.numbers import NO_FAILURES, DefaultLimit, check_number

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

UNUSUAL_SHARE = 0.5
"""Part of the rows from which on a summary warns of superseded ones, if nobody says how many may be."""


def unusually_superseded(summary: SyncSummary) -> str | None:
    """Say that so many rows share their ids with others that the column of the ids may be the wrong one, or None."""
    rows = summary.rows_read or 0
    if not rows or summary.superseded < rows * UNUSUAL_SHARE:
        return None
    return (
        f"{summary.superseded:,} of {rows:,} rows were superseded by a later row with the same id (if that is as it "
        "should be, set warn_superseded)"
    )


@dataclass(frozen=True, slots=True)
class FailureThresholds:
    """
    How many rows may fail, be created, or be left out before the task fails or warns.

    Failed and refused rows count alike: neither is in Voucherify.

    :param failed_records: most rows that may fail; None for any number. ``NO_FAILURES``, the default of the operators,
        does not count if a ratio is given, which it would make pointless; a 0 that somebody gives does.
    :param failed_ratio: largest part of the rows that were sent or refused that may fail, 0 to 1; None for any part.
        Rows that were not sent, because they have not changed, would hide that all others fail.
    :param created: most records that may be created: a mistyped key creates a customer instead of failing. It cannot be
        checked to the end where Voucherify does not tell created from updated records; see ``unknown_in``.
    :param not_reported: most records that may be sent without any answer that mentions them; None for any number.
    :param superseded: most rows that may be left out because a later row has the same id; None for any number.
    :param prefix: what the operators' parameters begin with, for messages.
    """

    failed_records: int | None = NO_FAILURES
    failed_ratio: float | None = None
    created: int | None = None
    not_reported: int | None = None
    superseded: int | None = None
    prefix: Literal["max", "warn"] = "max"

    def __post_init__(self) -> None:
        refuse_all(self._mistakes())

    def _mistakes(self) -> Iterator[str]:
        for name in ("failed_records", "failed_ratio", "created", "not_reported", "superseded"):
            if (limit := getattr(self, name)) is not None:
                try:
                    check_number(f"{self.prefix}_{name}", limit, 0, 1 if name == "failed_ratio" else None)
                except VoucherifyConfigurationError as error:
                    yield str(error)

    def unknown_in(self, summary: SyncSummary) -> str | None:
        """Say which threshold could not be checked, or None."""
        if self.created is None or summary.created is not None or not summary.succeeded:
            return None
        known = f" beside {summary.created_at_least:,}" if summary.created_at_least else ""
        return (
            f"Voucherify does not tell how many records were created{known}, so {self.prefix}_created was not checked"
        )

    def exceeded_by(self, summary: SyncSummary) -> list[str]:
        """Say of each threshold that a summary exceeds by how much it does."""
        failed = (summary.failed or 0) + summary.refused
        rows = summary.rows_read if summary.rows_read is not None else summary.submitted
        tried = (summary.submitted or 0) + summary.refused
        created = summary.created_at_least if summary.created is None else summary.created
        least = "at least " if summary.created is None else ""
        counted_against = {
            "failed_records": (failed, f"{failed:,} of {rows or failed:,} rows failed or were refused"),
            "failed_ratio": (
                failed / tried if tried else 0,
                f"{failed / (tried or 1):.2%} of {tried:,} rows that were sent or refused failed or were refused",
            ),
            "created": (created, f"{least}{created:,} records were created"),
            "not_reported": (
                summary.not_reported or 0,
                f"Voucherify's answers do not mention {summary.not_reported or 0:,} records",
            ),
            "superseded": (
                summary.superseded,
                f"{summary.superseded:,} of {rows or 0:,} rows were superseded by a later row with the same id",
            ),
        }
        exceeded = [
            f"{what}, and {self.prefix}_{name} is {limit:{'.2%' if name == 'failed_ratio' else ','}}"
            for name, (count, what) in counted_against.items()
            if (limit := getattr(self, name)) is not None and count > limit and not self._gives_way(name)
        ]
        if summary.failed_async_action_ids and not summary.failed and self._minds_failures:
            exceeded.insert(0, f"{len(summary.failed_async_action_ids)} async actions failed as a whole")
        return exceeded

    @property
    def _minds_failures(self) -> bool:
        return self.failed_records is not None or self.failed_ratio is not None

    def _gives_way(self, name: str) -> bool:
        """Say whether a limit is a default whose place another one takes."""
        return isinstance(getattr(self, name), DefaultLimit) and self.failed_ratio is not None


def told_by_thresholds(summary: SyncSummary, *several: FailureThresholds) -> list[str]:
    """Say which thresholds are exceeded, and then which could not be checked; none hides another."""
    exceeded = [told for thresholds in several for told in thresholds.exceeded_by(summary)]
    return exceeded + [told for thresholds in several if (told := thresholds.unknown_in(summary)) is not None]
