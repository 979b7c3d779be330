"""What a sync says of itself at its end: the XCom value of operators and sensor, and the text of alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.plan import SAMPLE_SIZE
from airflow_provider_voucherify.sync.settlement import ActionOutcome


class FailureSample(BaseModel):
    """One failed or refused record, as a summary shows it."""

    model_config = ConfigDict(frozen=True)

    outcome: str
    id: str | None = None
    key: str | None = None
    message: str | None = None
    details: str | None = None


class SyncSummary(BaseModel):
    """
    What became of every row. None stands for "the API does not tell"; see ``sync.settlement`` for when that is.

    While the outcome is known, ``rows_read = succeeded + unchanged + failed + not_reported + refused + superseded``
    and ``succeeded = updated + created`` where these two are known. Before it is known (``wait_for_completion=False``,
    ``dry_run=True``) the outcome's fields are None.

    :param resource: ``customers``, ``products`` or ``vouchers``; None where a sensor could not tell.
    :param rows_read: rows of the source; None for a sensor, which does not read it.
    :param submitted: records sent.
    :param succeeded: records written by Voucherify.
    :param updated: of these, the ones that existed before.
    :param created: of these, the ones that Voucherify created.
    :param unchanged: records that were found and not written, without an error.
    :param failed: records that Voucherify did not accept.
    :param refused: rows that were not sent, because they cannot be valid.
    :param superseded: rows that were not sent, because a later row has the same id.
    :param not_reported: records that were sent and that no answer mentions.
    :param failed_async_action_ids: of the async actions, the ones that failed as a whole.
    :param requests: bulk requests that this try sent; of a dry run, that it would send.
    :param bytes_sent: bytes of their bodies.
    :param resubmitted: requests that were sent again, because it could not be found out whether Voucherify had taken
        them in an earlier try.
    :param report_uri: folder with the reports and ``failures.jsonl``; None where none was asked for.
    :param failures: the first ten failed and refused records.
    """

    model_config = ConfigDict(frozen=True)

    resource: str | None
    rows_read: int | None
    submitted: int | None
    succeeded: int | None = None
    updated: int | None = None
    created: int | None = None
    unchanged: int | None = None
    failed: int | None = None
    refused: int
    superseded: int
    not_reported: int | None = None
    async_action_ids: list[str]
    failed_async_action_ids: list[str] = []
    requests: int
    bytes_sent: int
    resubmitted: int = 0
    report_uri: str | None = None
    dry_run: bool = False
    failures: list[FailureSample] = []

    def as_xcom(self) -> dict[str, Any]:
        """Return a plain dict: Airflow refuses to read back models that it was not told to trust."""
        return self.model_dump(mode="json")

    def text(self) -> str:
        """Return what happened in a few lines that fit a chat message or an e-mail."""
        what = f"Voucherify {self.resource or 'update'}"
        counts = ", ".join(
            f"{count:,} {label}"
            for label, count in (
                ("updated", self.updated),
                ("created", self.created),
                ("written", self.succeeded if self.updated is None or self.created is None else None),
                ("unchanged", self.unchanged),
                ("failed", self.failed),
                ("refused", self.refused),
                ("superseded", self.superseded),
                ("not reported", self.not_reported),
            )
            if count
        )
        rows = self.rows_read if self.rows_read is not None else self.submitted
        if self.dry_run:
            state = f"dry run, {self.requests:,} requests not sent"
        elif self.succeeded is None and self.async_action_ids:
            state = f"{self.requests:,} requests queued, their outcome was not waited for"
        else:
            state = "" if counts else "nothing to do"
        lines = [f"{what}: {rows or 0:,} rows - {', '.join(filter(None, (state, counts)))}"]
        lines += [f"- {failure_text(failure)}" for failure in self.failures]
        hidden = (self.failed or 0) + self.refused - len(self.failures)
        if hidden > 0:
            lines.append(f"… and {hidden:,} more")
        if self.report_uri and self.failures:
            lines.append(f"All of them: {self.report_uri}/failures.jsonl")
        return "\n".join(lines)


def failure_text(failure: FailureSample) -> str:
    """Return one line for a failure, e.g. ``c1: Invalid payload - price must be an integer (invalid_payload)``."""
    said = " - ".join(part for part in (failure.message, failure.details) if part) or "no reason given"
    return f"{failure.id or '(no id)'}: {said} ({failure.outcome}, {failure.key or 'no key'})"


def add_up(outcomes: Iterable[ActionOutcome]) -> ActionOutcome:
    """Sum outcomes; one unknown part makes the sum of that part unknown. The named failures are not kept."""
    total = ActionOutcome(0, 0, 0, 0, 0, 0)
    for one in outcomes:
        total = ActionOutcome(
            succeeded=total.succeeded + one.succeeded,
            updated=None if total.updated is None or one.updated is None else total.updated + one.updated,
            created=None if total.created is None or one.created is None else total.created + one.created,
            unchanged=total.unchanged + one.unchanged,
            failed=total.failed + one.failed,
            not_reported=total.not_reported + one.not_reported,
        )
    return total


def first_samples(*groups: Iterable[Mapping[str, Any]]) -> list[FailureSample]:
    """Return the first ten samples of several groups, in order."""
    samples: list[FailureSample] = []
    for group in groups:
        for sample in group:
            if len(samples) == SAMPLE_SIZE:
                return samples
            samples.append(FailureSample.model_validate(sample))
    return samples


@dataclass(frozen=True, slots=True)
class FailureThresholds:
    """
    How many rows may fail before the task fails.

    Failed and refused rows count alike: neither is in Voucherify.

    :param max_failed_records: most rows that may fail; None for any number. A limit of 0, the default, does not count
        where a ratio is given, which it would make pointless.
    :param max_failed_ratio: largest part of all rows that may fail, 0 to 1; None for any part.
    """

    max_failed_records: int | None = 0
    max_failed_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.max_failed_records is not None and self.max_failed_records < 0:
            raise VoucherifyConfigurationError("max_failed_records must not be negative")
        if self.max_failed_ratio is not None and not 0 <= self.max_failed_ratio <= 1:
            raise VoucherifyConfigurationError("max_failed_ratio must be between 0 and 1")

    def exceeded_by(self, summary: SyncSummary) -> str | None:
        """Say which threshold a summary exceeds, or None."""
        failed = (summary.failed or 0) + summary.refused
        if summary.failed_async_action_ids and not summary.failed and self != FailureThresholds(None, None):
            return f"{len(summary.failed_async_action_ids)} async actions failed as a whole"
        rows = summary.rows_read if summary.rows_read is not None else summary.submitted
        most, ratio = self.max_failed_records, self.max_failed_ratio
        if most is not None and failed > most and not (most == 0 and ratio is not None):
            return f"{failed:,} of {rows or failed:,} rows failed or were refused, and max_failed_records is {most:,}"
        if ratio is not None and rows and failed / rows > ratio:
            return f"{failed / rows:.2%} of {rows:,} rows failed or were refused, and max_failed_ratio is {ratio:.2%}"
        return None
