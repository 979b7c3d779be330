"""Rate limits, as Voucherify's headers (documentation/guides/limits.mdx) and a connection state them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Literal

Bucket = Literal["api_calls", "bulk_api_calls"]
"""A quota of calls per minute or hour, named as in ``X-Rate-Limit-Type``."""

CYCLE = "api_calls_cycle"
"""``X-Rate-Limit-Type`` of the billing cycle's limit, which no task can wait for."""

CLOCKS_AGREE = 5.0
"""Seconds that this machine's clock may differ from an answer's ``Date`` before it counts as wrong."""

_PERIODS = {"second": 1.0, "minute": 60.0, "hour": 3_600.0}


@dataclass(frozen=True, slots=True)
class CallLimit:
    """
    A number of calls per period.

    :param calls: at least 1.
    :param seconds: the period's length.
    """

    calls: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> CallLimit:
        """
        Read a limit such as ``100/minute`` or ``50/hour``.

        :raises ValueError: saying how it must be written.
        """
        match = re.fullmatch(r"([0-9]{1,9})\s*/\s*(second|minute|hour)", text.strip().lower())
        if match is None or int(match[1]) == 0:
            raise ValueError(f"must be a number of calls per second, minute or hour, such as 100/minute, not {text!r}")
        return cls(int(match[1]), _PERIODS[match[2]])

    def __str__(self) -> str:
        period = next((name for name, seconds in _PERIODS.items() if seconds == self.seconds), f"{self.seconds:g} s")
        return f"{self.calls}/{period}"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """
    The rate limit headers of one answer.

    :param limit: requests allowed in the period.
    :param remaining: requests left in the period.
    :param retry_at: when the next request is allowed, Unix epoch seconds (``X-Rate-Limit-Retry``).
    :param retry_after: seconds to wait (``Retry-After``); only after a limit was hit.
    :param type: ``api_calls``, ``bulk_api_calls``, ``api_calls_cycle`` or ``webhook_calls``.
    :param date: when the answer was made, by Voucherify's clock, Unix epoch seconds (``Date``).
    """

    limit: int | None = None
    remaining: int | None = None
    retry_at: float | None = None
    retry_after: float | None = None
    type: str | None = None
    date: float | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> RateLimit:
        """Read the headers (a case-insensitive mapping, or lower-case names); unreadable values count as absent."""
        limit, remaining = (_number(headers.get(f"x-rate-limit-{name}")) for name in ("limit", "remaining"))
        return cls(
            limit=None if limit is None else int(limit),
            remaining=None if remaining is None else int(remaining),
            retry_at=_number(headers.get("x-rate-limit-retry")),
            retry_after=_number(headers.get("retry-after")),
            type=headers.get("x-rate-limit-type"),
            date=_epoch(headers.get("date")),
        )

    def wait(self, now: float) -> float | None:
        """
        Return the seconds to wait, or None if the headers do not say.

        If this machine's clock is wrong, ``X-Rate-Limit-Retry`` is read by the clock of the answer.

        :param now: Unix epoch seconds by this machine's clock.
        """
        waits = [] if self.retry_after is None else [self.retry_after]
        if self.retry_at is not None:
            date = now if self.date is None or abs(self.date - now) <= CLOCKS_AGREE else self.date
            waits.append(max(0.0, self.retry_at - date))
        return max(waits, default=None)

    def allowed_at(self, now: float) -> float | None:
        """Return when calls are allowed again, by the clock of ``now``; None if the headers do not say."""
        wait = self.wait(now)
        return None if wait is None else now + wait


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0 <= value < 1e12 else None


def _epoch(date: str | None) -> float | None:
    try:
        fields = parsedate_tz(date) if date is not None else None
        return _number(str(mktime_tz(fields))) if fields is not None else None
    except (ValueError, OverflowError):
        return None
