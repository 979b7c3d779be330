"""Counters and timers of operators and sensor, through Airflow's ``Stats``; ``docs/metrics.md`` has them all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_voucherify.compat import Stats

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.meter import Meter
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.types.settled import Settled

OTHER_KEY = "other"

FAILURE_KEYS = frozenset(
    {
        "missing_key",
        "invalid_value",
        "invalid_line",
        "nothing_to_send",
        "unmappable",
        "record_too_large",
        "max_attempts",
        "not_found",
        "invalid_payload",
        "metadata_validation_failed",
        "async_action_failed",
    }
)
"""Keys of failed and refused rows that have their own counter. The API may return any other key, and a metrics store
suffers from an unlimited number of names, so those are counted as ``other``."""


class Metrics:
    """
    Counts what one task does.

    Each try counts what it does itself, so a retry that waits for what an earlier try has sent counts the outcome but
    no requests.

    :param tags: sent with every metric, if the metrics store supports tags; None for an unknown tag.
    """

    def __init__(self, **tags: str | None) -> None:
        self._tags = {name: value for name, value in tags.items() if value is not None}

    def source_read(self, rows_read: int, refused_by_key: Mapping[str, int]) -> None:
        """Count the rows of the source, and those that are not sent because they cannot be valid."""
        self._count("rows_read", rows_read)
        for key, count in refused_by_key.items():
            self._count_failures(key, count)

    def calls_made(self, meter: Meter) -> None:
        """Count what a client has sent."""
        self._count("requests", meter.requests)
        self._count("bulk_requests", meter.bulk_requests)
        self._count("bytes_sent", meter.bytes_sent)
        if meter.rate_limit_seconds:
            self._time("rate_limit_wait", meter.rate_limit_seconds)

    def rows_exported(self, rows: int) -> None:
        """Count the rows of an export."""
        self._count("rows_exported", rows)

    def completion_waited(self, seconds: float) -> None:
        """Note how long Voucherify took to process the updates."""
        self._time("completion_wait", seconds)

    def add(self, settled: Settled) -> None:
        """Count the failed records of a batch by Voucherify's keys."""
        for key, count in settled.outcome.failures_by_key.items():
            self._count_failures(key, count)

    def concluded(self, summary: SyncSummary) -> None:
        """Count the outcomes of the rows."""
        for outcome, count in summary.counts().items():
            self._count(f"records.{outcome}", count)

    def _count_failures(self, key: str | None, count: int) -> None:
        self._count(f"failures.{key if key in FAILURE_KEYS else OTHER_KEY}", count)

    def _count(self, name: str, count: int) -> None:
        if count:
            Stats.incr(f"voucherify.{name}", count, tags=self._tags)

    def _time(self, name: str, seconds: float) -> None:
        Stats.timing(f"voucherify.{name}", timedelta(seconds=seconds), tags=self._tags)
