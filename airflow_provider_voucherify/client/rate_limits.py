"""What Voucherify's rate limit headers say (documentation/guides/limits.mdx)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CYCLE = "api_calls_cycle"
"""``X-Rate-Limit-Type`` of the billing cycle's limit, which no wait inside a task outlasts."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """
    The rate limit headers of one answer.

    :param limit: requests allowed in the period.
    :param remaining: requests left in the period.
    :param retry_at: when the next request is allowed, Unix epoch seconds (``X-Rate-Limit-Retry``).
    :param retry_after: seconds to wait (``Retry-After``); only after a limit was hit.
    :param type: ``api_calls``, ``bulk_api_calls``, ``api_calls_cycle`` or ``webhook_calls``.
    """

    limit: int | None = None
    remaining: int | None = None
    retry_at: float | None = None
    retry_after: float | None = None
    type: str | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> RateLimit:
        """Read the headers (a case-insensitive mapping, or lower-case names); nonsense counts as absent."""
        limit, remaining = (_number(headers.get(f"x-rate-limit-{name}")) for name in ("limit", "remaining"))
        return cls(
            limit=None if limit is None else int(limit),
            remaining=None if remaining is None else int(remaining),
            retry_at=_number(headers.get("x-rate-limit-retry")),
            retry_after=_number(headers.get("retry-after")),
            type=headers.get("x-rate-limit-type"),
        )

    def wait(self, now: float) -> float | None:
        """Return the seconds to wait at ``now`` (Unix epoch seconds), or None where the headers do not tell."""
        waits = [] if self.retry_after is None else [self.retry_after]
        if self.retry_at is not None:
            waits.append(max(0.0, self.retry_at - now))
        return max(waits, default=None)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else -1.0
    except ValueError:
        return None
    return value if 0 <= value < 1e12 else None
