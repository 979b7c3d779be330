"""What a sync will cost: calls, bytes, the share of the rate limit, and how long the limits make sending take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_voucherify.client.rate_limits import CallLimit
from airflow_provider_voucherify.models.endpoints import ASYNC_ACTIONS_PATH
from airflow_provider_voucherify.sync.types.text import counted

BUSINESS_PLAN = CallLimit(100, 60.0)
"""API calls of the vendor's Business plan (documentation/guides/limits.mdx); a sandbox project has 100 an hour."""

_FIRST_POLLS = 5
_POLLS_PER_ACTION = 1.3


@dataclass(frozen=True, slots=True)
class Estimate:
    """
    What a sync will cost.

    :param requests: bulk requests by path.
    :param polls: approximate number of GETs of async actions: polls while waiting, and one for each result.
    :param reads: approximate number of calls that read back what Voucherify has, by path.
    :param bytes: bytes of all bodies.
    :param limit: the limit on all API calls; ``is_assumed`` says that it is the vendor's and not the connection's.
    :param bulk_limit: the limit on bulk calls; None if the connection sets none.
    """

    requests: Mapping[str, int]
    polls: int
    reads: Mapping[str, int]
    bytes: int
    limit: CallLimit
    is_assumed: bool
    bulk_limit: CallLimit | None

    @property
    def calls(self) -> int:
        """All API calls."""
        return sum(self.requests.values()) + self.polls + sum(self.reads.values())

    @property
    def quota_share(self) -> float:
        """
        The share of one period's limit that the calls take, for the limit with the largest share.

        Bulk calls are assumed to count as ordinary calls too, which the vendor does not document.
        """
        shares = [self.calls / self.limit.calls]
        if self.bulk_limit is not None:
            shares.append(sum(self.requests.values()) / self.bulk_limit.calls)
        return max(shares)

    @property
    def minutes(self) -> float:
        """
        How many minutes sending the bulk requests takes because of the limits, if nothing else calls the API.

        As many as the limit allows are sent at once, the next when the next period begins. The time that the network
        needs to transfer the bytes, and Voucherify to process them, is unknown and not included.
        """
        requests = sum(self.requests.values())
        limits = [self.limit] if self.bulk_limit is None else [self.limit, self.bulk_limit]
        return max((max(0, requests - 1) // limit.calls) * limit.seconds / 60 for limit in limits)

    def as_summary_fields(self) -> dict[str, Any]:
        """Return the estimate's members of a ``SyncSummary``."""
        calls = Counter(self.requests) + Counter(self.reads) + Counter({ASYNC_ACTIONS_PATH: self.polls})
        return {
            "requests_by_endpoint": dict(calls),
            "quota_share": self.quota_share,
            "estimated_minutes": self.minutes,
        }

    def text(self) -> str:
        """Return the estimate for a log."""
        lines = [f"Estimate: {counted(self.calls, 'API call')}, {self.bytes:,} bytes"]
        lines += [f"  POST {path}: {number:,}" for path, number in self.requests.items()]
        if self.polls:
            lines.append(f"  GET {ASYNC_ACTIONS_PATH}/…: about {self.polls:,}")
        lines += [f"  reading back from {path}: about {number:,}" for path, number in self.reads.items()]
        limits = f"{self.limit} API calls"
        if self.is_assumed:
            limits += " (the vendor's Business plan, since the connection has no rate_limit)"
        limits += f" and {self.bulk_limit or 'an unknown number of'} bulk calls"
        lines.append(f"  {self.quota_share:.0%} of one period's quota, at {limits}")
        minutes = counted(math.ceil(self.minutes), "minute") if self.minutes else "less than a minute"
        lines.append(f"  {minutes} until everything is sent, not counting the network")
        return "\n".join(lines)


def estimate(
    requests: Mapping[str, int],
    size: int,
    limit: CallLimit | None,
    bulk_limit: CallLimit | None,
    *,
    waits: bool,
    reads: Mapping[str, int] | None = None,
) -> Estimate:
    """
    Estimate what a sync will cost.

    :param requests: bulk requests by path.
    :param size: bytes of their bodies.
    :param limit: the connection's limit on API calls; None for the vendor's Business plan.
    :param bulk_limit: the connection's limit on bulk calls, if it has one.
    :param waits: whether the task waits for the outcome. Then every action's result is fetched, and before that the
        actions are polled: a few times at first, then about three times for every ten actions.
    :param reads: calls that read back what Voucherify has, by path.
    """
    actions = sum(requests.values())
    polls = math.ceil(_POLLS_PER_ACTION * actions) + _FIRST_POLLS if waits and actions else 0
    return Estimate(dict(requests), polls, reads or {}, size, limit or BUSINESS_PLAN, limit is None, bulk_limit)
