"""What a sync says of itself at its end: the XCom value of operators and sensor, and the text of alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict

from airflow_provider_voucherify.sync.results.summary_text import MAX_LINES, lines_of
from airflow_provider_voucherify.sync.state.record_state import NotCleared
from airflow_provider_voucherify.sync.types.failure import SAMPLE_SIZE
from airflow_provider_voucherify.sync.types.outcome import COMPARED, OUTCOMES
from airflow_provider_voucherify.sync.types.reasons import OTHER, NewlyFailed, name_of

MAX_KEYS, MAX_KEY_CHARACTERS = 20, 100
"""How many keys of reasons a summary has, and how many characters of each: the API may give any."""


class FailureSample(BaseModel):
    """One failed or refused record, as a summary shows it."""

    model_config = ConfigDict(frozen=True)

    outcome: str
    id: str | None = None
    row: int | None = None
    hint: str | None = None
    key: str | None = None
    message: str | None = None
    details: str | None = None


class FailureReason(BaseModel):
    """
    Failed or refused records that have the same reason.

    :param message: what Voucherify, or the check of the row, says. Values that differ from record to record are ``…``.
    :param ids: three of the records; of a row without an id its place, and another column.
    """

    model_config = ConfigDict(frozen=True)

    outcome: str
    key: str | None = None
    message: str | None = None
    count: int
    ids: list[str] = []


class SyncSummary(BaseModel):
    """
    What became of every row. None stands for "the API does not tell"; see ``sync.results.settlement`` for when that is.

    While the outcome is known, ``rows_read = succeeded + unchanged + not_updated + failed + refused + superseded +
    not_reported``, and ``succeeded = updated + created`` if these two are known. Records that left the source and are
    marked come on top of the rows that are read (``removed_to_mark``). Of a drift report, which sends nothing,
    ``rows_read = verified + differing + missing + refused + superseded``. Before the outcome is known
    (``wait_for_completion=False``, ``dry_run=True``) the counts of what Voucherify did are None.

    :param resource: ``customers``, ``products`` or ``vouchers``, of a CSV import also ``skus``; None if a sensor could
        not tell.
    :param rows_read: rows of the source; None for a sensor, which does not read it.
    :param blank_rows: rows of a file without any value, and empty lines, which were skipped and count nowhere else.
    :param submitted: records sent.
    :param succeeded: records written by Voucherify.
    :param updated: of these, the ones that existed before.
    :param created: of these, the ones that Voucherify created.
    :param created_at_least: the same as far as it is known; if ``created`` is None, there may be more.
    :param unchanged: rows that were not sent, because Voucherify has them as they are: an earlier sync has confirmed
        it, or the task has read it back.
    :param not_updated: records that Voucherify found and did not write, without an error: it may have them already.
    :param failed: records that Voucherify did not accept.
    :param refused: rows that were not sent, because they cannot be valid.
    :param superseded: rows that were not sent, because a later row has the same id.
    :param removed: records of earlier syncs that are not in the source any more, if that is looked for.
    :param removed_to_mark: of these, the ones that were sent to be marked.
    :param not_reported: records that were sent and that no answer mentions.
    :param to_create: of the records that are sent, the ones that Voucherify did not have before; None if nobody looked.
    :param not_in_source: records that Voucherify has and that no valid row has; None if nobody looked.
    :param verified: records that were read back and are as they were sent, or, of a drift report, as the source has
        them; None if none were read back.
    :param differing: records that were read back and are otherwise.
    :param missing: records that were not there when they were to be read back.
    :param preview: the first records that differ from what Voucherify has, each with ``id``, ``change`` and ``fields``:
        by name what was ``found`` and what was, or would be, ``sent``. ``change`` is ``create`` or ``update`` for a dry
        run that compares, and ``missing``, ``differing`` or ``not_in_source`` where records were read back.
    :param values_not_cleared: values that Voucherify still has although the source no longer has them, since missing
        values are not sent (``null_policy``), of records that were confirmed or have not changed. None without a state.
    :param failed_async_action_ids: of the async actions, the ones that failed as a whole.
    :param requests: bulk requests that this try sent; of a dry run, that it would send.
    :param bytes_sent: bytes of their bodies.
    :param resubmitted: requests that were sent again, because their answer was lost or no longer counts: Voucherify may
        have taken them twice. What they created is not known then (``created`` is None), unless their last answer
        accounts for all of it.
    :param warning: what needs attention, in words: every threshold that is exceeded, whether it fails the task or only
        warns, a state that could not be used, records that could not be taken for removed, requests that were sent
        again; None if there is nothing.
    :param requests_by_endpoint: of a dry run, the API calls that it would make by path; the number of
        polls is an estimate.
    :param quota_share: of a dry run, the part of one period's rate limit that these calls take; more than 1 if they
        need several periods.
    :param estimated_minutes: of a dry run, how long the rate limits would make the sending last.
    :param failures_by_key: failed and refused records by the key of their reason, as far as one is given; of a
        failed record it is Voucherify's own (``invalid_payload``, ``not_found``, …).
    :param expected_by_key: of these, the ones that ``expected_keys`` of ``fail_if`` and ``warn_if`` allow.
    :param reasons: failed and refused records by reason, the most frequent of twenty first, with three ids each.
    :param newly_failed: failed and refused records, as far as they have an id, that had not failed in the last sync
        (``newly_failed_ids`` are three of them); None if that is not known: without a state, and in its first run.
    :param log_url: page of the task's try in Airflow.
    :param page_url: page of the run in "Voucherify syncs"; None below Airflow 3.1.
    :param report_uri: folder with the reports and ``failures.jsonl``; None if none was asked for.
    :param failures: ten of the failed and refused records: the first refused ones, five of them at most if others
        failed, and then the first failed ones.
    """

    model_config = ConfigDict(frozen=True)

    resource: str | None
    rows_read: int | None
    submitted: int | None
    succeeded: int | None = None
    updated: int | None = None
    created: int | None = None
    created_at_least: int = 0
    unchanged: int = 0
    not_updated: int | None = None
    failed: int | None = None
    refused: int
    superseded: int
    not_reported: int | None = None
    values_not_cleared: int | None = None
    removed: int = 0
    removed_to_mark: int = 0
    to_create: int | None = None
    not_in_source: int | None = None
    verified: int | None = None
    differing: int | None = None
    missing: int | None = None
    preview: list[dict[str, Any]] = []
    async_action_ids: list[str]
    failed_async_action_ids: list[str] = []
    requests: int
    bytes_sent: int
    resubmitted: int = 0
    blank_rows: int = 0
    warning: str | None = None
    requests_by_endpoint: dict[str, int] | None = None
    quota_share: float | None = None
    estimated_minutes: float | None = None
    failures_by_key: dict[str, int] = {}
    expected_by_key: dict[str, int] = {}
    reasons: list[FailureReason] = []
    newly_failed: int | None = None
    newly_failed_ids: list[str] = []
    log_url: str | None = None
    page_url: str | None = None
    report_uri: str | None = None
    dry_run: bool = False
    failures: list[FailureSample] = []

    def as_xcom(self) -> dict[str, Any]:
        """Return a plain dict: Airflow does not deserialize models of classes that it was not told to trust."""
        return self.model_dump(mode="json")

    @property
    def unexpected(self) -> int:
        """How many rows failed or were refused, without those that were expected to."""
        return max(0, (self.failed or 0) + self.refused - sum(self.expected_by_key.values()))

    def without_records(self) -> dict[str, Any]:
        """Return the same without what names records or quotes what is in them, for those who only count."""
        return self.model_dump(mode="json", exclude={"failures", "reasons", "newly_failed_ids", "preview"})

    @property
    def is_drift_report(self) -> bool:
        """Whether the rows were compared with what Voucherify has, and none was sent."""
        return self.verified is not None and self.succeeded is None

    def counts(self) -> dict[str, int]:
        """
        Return how many rows had each outcome, without those that none had.

        ``written`` stands for ``updated`` and ``created`` if Voucherify does not tell them apart. The rows of a drift
        report are ``verified``, ``differing`` or ``missing``.
        """
        is_split = self.updated is not None and self.created is not None
        left_out = {"succeeded"} if is_split else {"updated", "created"}
        names = (*COMPARED, *OUTCOMES) if self.is_drift_report else OUTCOMES
        return {
            "written" if name == "succeeded" else name: count
            for name in names
            if name not in left_out and (count := getattr(self, name))
        }

    def parts(self) -> dict[str, int]:
        """
        Return what became of the rows of the source: ``counts`` without the records that are on top of these.

        ``queued`` stands for those whose outcome was not waited for.
        """
        counts = {name: count for name, count in self.counts().items() if name != "removed"}
        is_open = self.succeeded is None and not self.dry_run
        return counts | ({"queued": self.submitted} if is_open and self.submitted else {})

    def with_warning(self, *warnings: str | None) -> SyncSummary:
        """Return the summary with more warnings."""
        return self.model_copy(update={"warning": joined([self.warning, *warnings])})

    def with_values_not_cleared(self, not_cleared: NotCleared) -> SyncSummary:
        """Return the summary with what Voucherify still has although the source no longer has it."""
        return self.model_copy(update={"values_not_cleared": not_cleared.values}).with_warning(not_cleared.text())

    @property
    def not_as_sent(self) -> int:
        """How many records were read back and are missing, or otherwise than they were sent."""
        return (self.differing or 0) + (self.missing or 0)

    def with_newly_failed(self, newly_failed: NewlyFailed | None) -> SyncSummary:
        """Return the summary with the records that had not failed in the last sync."""
        if newly_failed is None:
            return self
        ids = [name_of(FailureSample(outcome="failed", id=record_id)) for record_id in newly_failed.ids]
        return self.model_copy(update={"newly_failed": newly_failed.count, "newly_failed_ids": ids})

    def text(self, most_lines: int | None = MAX_LINES, *, link: bool = True) -> str:
        """
        Return what happened in a few lines that fit a chat message or an e-mail.

        :param most_lines: None for as many as there are, as in a log.
        :param link: whether the last lines are the pages of the run and of the task's try.
        """
        return "\n".join(lines_of(self, most_lines, link=link))


def joined(warnings: Iterable[str | None]) -> str | None:
    """Return warnings as a summary has them, one per line; None if there are none."""
    return "\n".join(filter(None, warnings)) or None


def first_samples(samples: Iterable[Mapping[str, Any]]) -> list[FailureSample]:
    """Return as many samples as a summary has."""
    return [FailureSample.model_validate(sample) for sample in islice(samples, SAMPLE_SIZE)]


def most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts by key as a summary has them: the most frequent first, and the last of too many together."""
    merged: Counter[str] = Counter()
    for place, (key, count) in enumerate(Counter(counts).most_common()):
        merged[key[:MAX_KEY_CHARACTERS] if place < MAX_KEYS else OTHER] += count
    return dict(merged)
