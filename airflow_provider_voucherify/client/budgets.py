"""
How many calls a project has left, so that callers wait before they hit a rate limit rather than after.

Each process has one ``Budgets`` per project, which all its clients share: threads, event loops, tasks. Only
Voucherify's headers (documentation/guides/limits.mdx) show what other processes have used.

The vendor leaves four questions open; here the worst case is assumed:

- Which calls count as bulk calls? The ``/async`` updates, by their name, and CSV imports. If Voucherify counts them
  as ordinary calls only, both budgets show the same numbers.
- Does a bulk call count as an ordinary call too? It waits for both budgets, and is subtracted from both until an answer
  shows otherwise. If it counts as a bulk call only, it may wait for a period of ordinary calls that it does not need.
- What does ``X-Rate-Limit-Retry`` mean while calls are left, now or the period's end? It matters only once none are.
- Do other processes call too? When a period has ended one call goes first, and its answer says how many may follow.

If the limits are unknown and the connection sets none, nothing waits, except that only a few calls are sent before the
first answer. Calls of the billing cycle and of webhooks are not counted here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count

from airflow_provider_voucherify.client.rate_limits import Bucket, CallLimit, RateLimit
from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyQuotaExhaustedError,
    VoucherifyRateLimitError,
)

MAX_PERIOD = 3_660.0
"""Seconds from now. A later end of a period is ignored: periods last an hour at most, so the clock must be wrong."""

CLOCK_MARGIN = 1.0
"""Seconds to wait beyond the end of a period, which is given in whole seconds of a clock that may differ a little."""

FIRST_CALLS = 4
"""Calls that may be in flight before the first answer: as many as a client has connections, so no time is lost."""

_MAX_FLIGHT = 400.0
"""Seconds after which a call without an answer is forgotten; by default connecting and answering take up to 310."""


@dataclass(frozen=True, slots=True)
class MustWait:
    """
    Why a call must not be sent yet.

    :param bucket: the budget that has no calls left.
    :param until: when it has some again, Unix epoch seconds; None if the answers of calls in flight will show it.
    :param why: for people to read; the beginning of a sentence.
    """

    bucket: Bucket
    until: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Budget:
    """
    What is known about one bucket. Immutable: methods return the new budget; times are Unix epoch seconds.

    :param remaining: calls left in the period by Voucherify's latest headers, less those answered since; None if no
        answer has had such headers.
    :param limit: calls in a period, by the same headers.
    :param next_at: when calls are allowed again after ``remaining`` is used up; None if unknown.
    :param news_event: number of the event that brought ``remaining``.
    :param in_flight: number and time of each call without an answer yet. ``remaining`` may include it or not, so it
        counts as one more.
    :param has_answer: whether a call of this bucket was ever answered.
    :param answer_times: times of answers, oldest first, for the connection's own limit; empty if it sets none.
    :param taken: calls that Voucherify has counted since the process began.
    """

    remaining: int | None = None
    limit: int | None = None
    next_at: float | None = None
    news_event: int = 0
    in_flight: tuple[tuple[int, float], ...] = ()
    has_answer: bool = False
    answer_times: tuple[float, ...] = ()
    taken: int = 0

    def must_wait(self, bucket: Bucket, own_limit: CallLimit | None, now: float, *, sure: bool) -> MustWait | None:
        """
        Say why a call must not be sent now; None if it may be.

        :param own_limit: the limit that the connection sets.
        :param sure: whether the call certainly draws from this bucket.
        """
        in_flight = sum(0 <= now - since < _MAX_FLIGHT for _, since in self.in_flight)
        waits = (self._voucherify_limit(bucket, in_flight, now), self._own_limit(bucket, own_limit, in_flight, now))
        if sure and not self.has_answer and in_flight >= FIRST_CALLS:
            return longest(*waits, MustWait(bucket, None, "no call has been answered yet"))
        return longest(*waits)

    def sent(self, number: int, now: float) -> Budget:
        """Count a call that is being sent."""
        return replace(self, in_flight=(*self.in_flight, (number, now)))

    def ended(self, number: int, own_limit: CallLimit | None, now: float, *, counted: bool, answered: bool) -> Budget:
        """
        Take a call out of those in flight.

        :param counted: whether Voucherify may have counted it.
        :param answered: whether it was answered, and certainly drew from this bucket.
        """
        times = self.answer_times
        if own_limit is not None and counted:
            times = (*_recent(times, own_limit, now)[-own_limit.calls :], now)
        return replace(
            self,
            in_flight=tuple(flight for flight in self.in_flight if flight[0] != number),
            answer_times=times,
            has_answer=self.has_answer or answered,
            taken=self.taken + counted,
        )

    def used(self) -> Budget:
        """Count a call whose answer says nothing about this bucket."""
        return replace(self, remaining=None if self.remaining is None else max(0, self.remaining - 1))

    def allowed(self) -> Budget:
        """Count a call of this bucket that succeeded without headers: if none was left, a new period has begun."""
        return replace(self, remaining=None) if self.remaining == 0 else self.used()

    def updated(self, number: int, event: int, headers: RateLimit, now: float, *, refused: bool) -> Budget:
        """
        Update the budget by an answer's headers.

        If the call was sent before the latest headers came, its own may be older: then they only lower what is left.

        :param number: the call's number.
        :param event: the number of this event; numbers only rise.
        :param refused: whether the answer is a 429.
        """
        remaining = 0 if refused else headers.remaining
        if remaining is None:
            return self
        news = replace(
            self, remaining=remaining, limit=headers.limit, next_at=headers.allowed_at(now), news_event=event
        )
        if number > self.news_event or self.remaining is None or remaining < self.remaining:
            return news
        times = [at for at in (self.next_at, news.next_at) if at is not None]
        return replace(news, remaining=self.remaining, next_at=max(times, default=None))

    def left(self, own_limit: CallLimit | None) -> int | None:
        """
        Return how many calls are left in this period, or how many the next one brings if none are; None if unknown.

        :param own_limit: the limit that the connection sets.
        """
        calls_left = None if self.remaining is None else self.remaining - len(self.in_flight)
        known = [self.limit if calls_left is not None and calls_left <= 0 else calls_left]
        known += [own_limit.calls] if own_limit is not None else []
        return min((calls for calls in known if calls is not None), default=None)

    def _voucherify_limit(self, bucket: Bucket, in_flight: int, now: float) -> MustWait | None:
        if self.remaining is None or self.remaining > in_flight:
            return None
        if self.remaining == 0 and self.next_at is not None and 0 < self.next_at - now <= MAX_PERIOD:
            of = "" if self.limit is None else f" of {self.limit}"
            return MustWait(bucket, self.next_at, f"Voucherify's {bucket} limit{of} is used up")
        if in_flight:
            return MustWait(bucket, None, f"all {bucket} that may be left are in flight")
        return None

    def _own_limit(self, bucket: Bucket, limit: CallLimit | None, in_flight: int, now: float) -> MustWait | None:
        if limit is None:
            return None
        recent = _recent(self.answer_times, limit, now)
        too_many = len(recent) + in_flight - limit.calls
        if too_many < 0:
            return None
        why = f"the connection's limit of {limit} {bucket} is used up"
        return MustWait(bucket, recent[too_many] + limit.seconds if too_many < len(recent) else None, why)


class Budgets:
    """The budgets of one project in one process. Can be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._budgets: dict[Bucket, Budget] = {"api_calls": Budget(), "bulk_api_calls": Budget()}

    def send(
        self, bucket: Bucket, own: Mapping[Bucket, CallLimit | None], now: float, *, patient: bool
    ) -> int | MustWait:
        """
        Reserve a call.

        :param bucket: what the call draws from.
        :param own: the limits that the connection sets.
        :param patient: whether the caller waits for the answers of calls in flight.
        :returns: the number to give to ``ended``; or why the call must not be sent yet.
        """
        with self._lock:
            wait = longest(
                *(self._budgets[name].must_wait(name, own[name], now, sure=name == bucket) for name in _drawn(bucket))
            )
            if wait is not None and (patient or wait.until is not None):
                return wait
            number = next(self._numbers)
            for drawn in _drawn(bucket):
                self._budgets[drawn] = self._budgets[drawn].sent(number, now)
            return number

    def ended(
        self,
        number: int,
        bucket: Bucket,
        own: Mapping[Bucket, CallLimit | None],
        now: float,
        *,
        status: int | None,
        sent: bool = True,
        headers: RateLimit | None = None,
    ) -> None:
        """
        Count the outcome of a call.

        :param status: HTTP status, None if no answer came.
        :param sent: whether Voucherify may have received the request.
        :param headers: the answer's.
        """
        refused = status == 429
        counted = sent and not refused
        with self._lock:
            described = self._described_buckets(bucket, headers, refused)
            for drawn in _drawn(bucket):
                answered = status is not None and drawn == bucket
                budget = self._budgets[drawn].ended(number, own[drawn], now, counted=counted, answered=answered)
                if counted and drawn not in described:
                    succeeded = status is not None and status < 300
                    budget = budget.allowed() if succeeded and drawn == bucket else budget.used()
                self._budgets[drawn] = budget
            if headers is not None:
                event = next(self._numbers)
                for name in described:
                    self._budgets[name] = self._budgets[name].updated(number, event, headers, now, refused=refused)

    def taken(self, bucket: Bucket) -> int:
        """Return how many calls of a bucket have got through in this process."""
        with self._lock:
            return self._budgets[bucket].taken

    def must_wait(self, bucket: Bucket, own: Mapping[Bucket, CallLimit | None], now: float) -> bool:
        """Say whether a call would have to wait until a time that is known."""
        with self._lock:
            waits = (self._budgets[name].must_wait(name, own[name], now, sure=False) for name in _drawn(bucket))
            return any(wait is not None and wait.until is not None for wait in waits)

    def left(self, bucket: Bucket, own: Mapping[Bucket, CallLimit | None]) -> int | None:
        """Return how many calls a bucket has left, see ``Budget.left``."""
        with self._lock:
            return self._budgets[bucket].left(own[bucket])

    def _described_buckets(self, own: Bucket, headers: RateLimit | None, refused: bool) -> list[Bucket]:
        """
        Return the buckets that an answer's headers describe: the one that they name, else the call's own.

        If a bulk call's answer says that nothing is left, the limit equals that of ordinary calls, and those may be
        used up too, then it describes both: bulk calls are ordinary calls.
        """
        if headers is None or (headers.remaining is None and not refused):
            return []
        if headers.type is not None:
            return [name for name in self._budgets if name == headers.type]
        calls = self._budgets["api_calls"]
        may_be_used_up = calls.remaining is not None and calls.remaining <= len(calls.in_flight)
        if own != "api_calls" and not headers.remaining and calls.limit == headers.limit and may_be_used_up:
            return [own, "api_calls"]
        return [own]


def longest(*waits: MustWait | None) -> MustWait | None:
    """Return the wait that ends last, None if there is none."""
    return max((wait for wait in waits if wait is not None), key=lambda wait: wait.until or 0.0, default=None)


def allowed_again_at(error: VoucherifyError, now: float) -> float | None:
    """
    Return when a call that failed because of a rate limit may be sent again; None for any other failure.

    A rate limit without an end, or with an impossible one, is a failure like others.

    :param now: Unix epoch seconds.
    """
    if not isinstance(error, VoucherifyRateLimitError) or isinstance(error, VoucherifyQuotaExhaustedError):
        return None
    at = error.retry_at
    return at + CLOCK_MARGIN if at is not None and 0 < at - now <= MAX_PERIOD else None


_of_projects: dict[tuple[int, str, str], Budgets] = {}


def budgets_of(base_url: str, application_id: str) -> Budgets:
    """
    Return the budgets that all clients of a project share in this process.

    A forked process starts with new ones: calls in flight in its parent would never be answered here.
    """
    return _of_projects.setdefault((os.getpid(), base_url, application_id), Budgets())


def _drawn(bucket: Bucket) -> tuple[Bucket, ...]:
    return (bucket,) if bucket == "api_calls" else (bucket, "api_calls")


def _recent(answered: tuple[float, ...], limit: CallLimit, now: float) -> list[float]:
    """Return the times of the last period, in order, without those of a clock that has been set back since."""
    return sorted(at for at in answered if now - limit.seconds < at <= now)
