"""
Rate limits: counted in fixed periods, shown in the headers of every answer (docs.voucherify.io/guides/limits).

Which calls count is not fully documented. Here bulk calls count towards ``bulk_api_calls`` and, unless the option
``bulk_calls_are_api_calls`` says otherwise, ``api_calls``; all others towards ``api_calls`` and ``api_calls_cycle``;
refused calls count nowhere. ``X-Rate-Limit-Type`` and ``Retry-After`` come only once a limit is hit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_provider_voucherify.local_voucherify.options import Limit, Options, RetryHeader


@dataclass(slots=True)
class _Period:
    """The calls of one limit in its current period; times in seconds since the epoch."""

    limit_type: str
    count: int
    seconds: float
    starts_at: float
    used: int = 0

    def roll(self, now: float) -> None:
        whole_periods = math.floor((now - self.starts_at) / self.seconds)
        if whole_periods > 0:
            self.starts_at += whole_periods * self.seconds
            self.used = 0

    @property
    def exhausted(self) -> bool:
        return self.used >= self.count

    def headers(self, now: float, retry_header: RetryHeader, *, refused: bool) -> dict[str, str]:
        tells_end = self.exhausted or retry_header == "period_end"
        next_allowed = self.starts_at + self.seconds if tells_end else now
        headers = {
            "X-Rate-Limit-Limit": str(self.count),
            "X-Rate-Limit-Remaining": str(self.count - self.used),
        }
        if self.exhausted or retry_header != "absent":
            headers["X-Rate-Limit-Retry"] = str(math.ceil(next_allowed))
        if refused:
            headers["Retry-After"] = str(math.ceil(next_allowed - now))
            headers["X-Rate-Limit-Type"] = self.limit_type
        return headers


class RateLimits:
    """
    The rate limits of a project.

    :param options: names the limits; one that is None does not exist.
    :param now: when the first periods start, in seconds since the epoch.
    """

    def __init__(self, options: Options, now: float) -> None:
        bulk = _periods({"bulk_api_calls": options.bulk_api_calls}, now)
        calls = _periods({"api_calls": options.api_calls}, now)
        cycle = _periods({"api_calls_cycle": options.api_calls_cycle}, now)
        self._for_bulk = [*bulk, *(calls if options.bulk_calls_are_api_calls else [])]
        self._for_others = [*calls, *cycle]
        self._retry_header = options.retry_header

    def take(self, now: float, *, bulk: bool) -> bool:
        """Count a call; False, and no count, when a limit refuses it."""
        periods = self._current(now, bulk)
        if any(period.exhausted for period in periods):
            return False
        for period in periods:
            period.used += 1
        return True

    def headers(self, now: float, *, bulk: bool, refused: bool) -> dict[str, str]:
        """
        Return the headers of an answer: of the exhausted limit, else of the one most specific to the call.

        :param refused: whether the answer is the 429 of a limit.
        """
        periods = self._current(now, bulk)
        shown = next((period for period in periods if period.exhausted), periods[0] if periods else None)
        return {} if shown is None else shown.headers(now, self._retry_header, refused=refused and shown.exhausted)

    def _current(self, now: float, bulk: bool) -> list[_Period]:
        periods = self._for_bulk if bulk else self._for_others
        for period in periods:
            period.roll(now)
        return periods


def _periods(limits: dict[str, Limit | None], now: float) -> list[_Period]:
    return [_Period(name, *limit, starts_at=now) for name, limit in limits.items() if limit is not None]
