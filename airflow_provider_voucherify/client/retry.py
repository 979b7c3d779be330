"""When to send a request again: one pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from airflow_provider_voucherify.client.rate_limits import CYCLE, Bucket, RateLimit

RETRIED_STATUSES = frozenset({408, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How often to send a request again, and how long to wait.

    :param attempts: maximum number of times that one request is sent, not counting those answered with 429.
    :param backoff: seconds before the second attempt; doubles each time.
    :param max_backoff: maximum seconds between two attempts.
    :param max_rate_limit_wait: seconds that one request may wait for rate limits, counted anew whenever another request
        of this process has got through. The default outlasts the hourly limits of sandbox projects and bulk calls.
    """

    attempts: int = 4
    backoff: float = 1.0
    max_backoff: float = 30.0
    max_rate_limit_wait: float = 3_900.0

    def waiting_at_most(self, seconds: float | None, waited: float = 0.0) -> RetryPolicy:
        """
        Return a policy that waits for rate limits for at most ``seconds`` more; the same policy if that is None.

        :param waited: seconds that a request has waited for rate limits already.
        """
        if seconds is None:
            return self
        return replace(self, max_rate_limit_wait=min(self.max_rate_limit_wait, waited + seconds))


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """
    The outcome of sending a request once.

    :param status: HTTP status, or None if no answer arrived.
    :param sent: whether Voucherify may have received the request.
    :param rate_limit: the answer's rate limit headers.
    """

    status: int | None
    sent: bool = True
    rate_limit: RateLimit = field(default_factory=RateLimit)


def seconds_until_retry(
    policy: RetryPolicy, outcome: CallOutcome, *, safe: bool, failures: int, waited: float, now: float
) -> float | None:
    """
    Return the seconds to wait before sending the same request again, or None to give up.

    A request is sent again if it was certainly not accepted (no connection, 429) or, if it is ``safe`` to repeat, after
    a transient failure (no answer, 408, 5xx). The bulk calls are not safe to repeat: the API has no idempotency key,
    and a second POST is a second async action.

    :param safe: whether sending twice does no harm (reads, token requests).
    :param failures: how many times this request has failed, including this time and not counting answers of 429.
    :param waited: seconds this request has spent waiting for rate limits so far.
    :param now: Unix epoch seconds.
    """
    if outcome.status == 429:
        return _rate_limit_wait(policy, outcome.rate_limit, waited, now)
    is_transient = not outcome.sent or (safe and (outcome.status is None or outcome.status in RETRIED_STATUSES))
    if not is_transient or failures >= policy.attempts:
        return None
    backoff = min(policy.backoff * 2.0 ** (failures - 1), policy.max_backoff)
    retry_after = outcome.rate_limit.retry_after
    return backoff if retry_after is None else min(max(backoff, retry_after), policy.max_backoff)


def _rate_limit_wait(policy: RetryPolicy, limit: RateLimit, waited: float, now: float) -> float | None:
    if limit.type == CYCLE:
        return None
    stated = limit.wait(now)
    if stated is None:
        wait = max(policy.backoff, min(policy.max_backoff, waited))
    else:  # to a fast clock every X-Rate-Limit-Retry is past, so the stated wait alone is not enough
        wait = max(stated, policy.backoff / 4, min(policy.max_backoff, waited / 10))
    return wait if waited + wait <= policy.max_rate_limit_wait else None


class WaitAllowance:
    """
    How long a call may still wait for rate limits.

    The policy's limit is for a call that is next in line: it counts anew whenever another call of this process has got
    through. The caller's limit is for all waits together.

    :param policy: of all calls.
    :param max_wait: seconds that the caller allows for this call; None for no limit.
    :param taken: returns how many calls of a bucket have got through in this process.
    """

    def __init__(self, policy: RetryPolicy, max_wait: float | None, taken: Callable[[Bucket], int]) -> None:
        self._policy, self._max_wait, self._taken = policy, max_wait, taken
        self._total = 0.0
        self._behind: tuple[Bucket, int] | None = None
        self.waited = 0.0
        """Seconds that count against the policy."""

    def waits(self, seconds: float, bucket: Bucket) -> None:
        """Count a wait that begins, for the limit of a bucket."""
        self._total += seconds
        self.waited += seconds
        self._behind = bucket, self._taken(bucket)

    def policy(self) -> RetryPolicy:
        """Return what is allowed from now on."""
        if self._behind is not None and self._taken(self._behind[0]) > self._behind[1]:
            self.waited, self._behind = 0.0, None
        return self._policy.waiting_at_most(
            None if self._max_wait is None else self._max_wait - self._total, self.waited
        )

    @property
    def seconds_left(self) -> float:
        """Seconds that the call may still wait."""
        return self.policy().max_rate_limit_wait - self.waited
