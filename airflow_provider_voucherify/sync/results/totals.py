"""The totals of all actions of a sync."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from airflow_provider_voucherify.sync.results.failure_files import FailuresFolder
from airflow_provider_voucherify.sync.results.summary import (
    FailureReason,
    FailureSample,
    SyncSummary,
    first_samples,
    joined,
    most_frequent,
)
from airflow_provider_voucherify.sync.types.failure import SAMPLE_SIZE, Failure
from airflow_provider_voucherify.sync.types.outcome import ActionOutcome
from airflow_provider_voucherify.sync.types.reasons import Reasons
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
from airflow_provider_voucherify.sync.types.text import counted


class Totals:
    """
    Adds up the outcomes of actions one by one, and keeps none of their records except the first failures.

    :param sync: whose actions they are.
    :param refused_sample: the refused rows that the summary may show.
    :param refused_reasons: the number of refused rows for each reason.
    """

    def __init__(
        self,
        sync: SubmittedSync,
        refused_sample: Iterable[Mapping[str, Any]] = (),
        refused_reasons: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._sync = sync
        self._reasons = Reasons(refused_reasons)
        self._refused = first_samples(refused_sample)
        self._failed: list[FailureSample] = []
        self._by_key: Counter[str] = Counter(sync.counts.refused_by_key)
        self._total = ActionOutcome(0, 0, 0, 0, 0, 0)
        self._created_at_least = 0
        self._failed_ids: list[str] = []
        self._size_is_known = True
        self._others = 0
        self._resources: set[str | None] = set()

    def add(self, settled: Settled) -> None:
        """Add one batch."""
        outcome = settled.outcome
        self._resources.add(settled.endpoint.resource if settled.endpoint is not None else None)
        self._total += outcome
        self._others += outcome.others
        self._created_at_least += outcome.created or 0
        if outcome.failed_as_a_whole:
            self._failed_ids.append(settled.async_action_id)
            self._size_is_known &= bool(outcome.records)
        failures = chain(settled.failures, () if settled.unnamed is None else (settled.unnamed,))
        for failure in settled.failures:
            self._reasons.add(failure)
        if (unnamed := outcome.failed - len(settled.failures)) > 0:
            self._reasons.add(settled.unnamed or Failure("failed", None, None, None), unnamed)
        samples = islice(failures, SAMPLE_SIZE - len(self._failed))
        self._failed += [FailureSample.model_validate(failure.sample()) for failure in samples]
        self._by_key.update({key: count for key, count in outcome.failures_by_key.items() if key is not None})

    def _created_exactly(self) -> ActionOutcome:
        """
        Return the totals; what was created is known, if all were written and it is known who was there before.

        Of records that are marked as removed, and of what another try or a second request has sent, nobody knows it.
        """
        total, sync, counts = self._total, self._sync, self._sync.counts
        if counts.sent_before:
            return replace(total, created=None, updated=None)
        is_known = not (counts.removed_to_mark or sync.reattached or sync.resubmitted)
        if total.created is None and counts.to_create is not None and is_known and total.succeeded == total.records:
            return replace(total, created=counts.to_create, updated=total.succeeded - counts.to_create)
        return total

    def summary(self, resource: str | None, folder: FailuresFolder | None) -> SyncSummary:
        """
        Return the summary of what was added; a failed action of unknown size makes counts unknown.

        :param resource: None to derive it from where the batches went, if that is unambiguous.
        """
        sync, total = self._sync, self._created_exactly()
        if resource is None and len(self._resources) == 1:
            (resource,) = self._resources
        room = max(SAMPLE_SIZE - len(self._failed), SAMPLE_SIZE // 2)
        warnings = list(sync.warnings)
        if self._others:
            warnings.append(f"the reports name {counted(self._others, 'record')} besides those that were sent")
        return SyncSummary(
            **sync.as_summary(),
            **total.counts() | ({} if self._size_is_known else {"failed": None}),
            resource=resource,
            submitted=total.records if self._size_is_known else None,
            created_at_least=self._created_at_least,
            failed_async_action_ids=self._failed_ids,
            warning=joined(warnings),
            failures_by_key=most_frequent(self._by_key),
            reasons=[FailureReason.model_validate(reason) for reason in self._reasons.most_frequent()],
            report_uri=folder.uri if folder is not None else None,
            failures=[*self._refused[:room], *self._failed][:SAMPLE_SIZE],
        )
