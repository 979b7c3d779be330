"""
How many calls a project has left, so that callers wait before a rate limit is hit rather than after.

Each process has one ``Budgets`` per project, which all its clients share: threads, event loops, tasks. Between
processes only Voucherify's headers (documentation/guides/limits.mdx) tell what the others have used.

What the vendor does not say is taken at its worst:

- Which calls count as bulk calls: the ``/async`` updates, by their name, and CSV imports. Should Voucherify count them
  as ordinary calls only, both budgets show the same numbers.
- Whether a bulk call counts as an ordinary call too: it waits for both budgets, and takes from both until an answer
  tells better. Should it count as a bulk call only, it may wait for a period of ordinary calls that it does not need.
- What ``X-Rate-Limit-Retry`` says while calls are left, the present or the period's end: it matters only once none are.
- Whether other processes call too: after a period's end one call goes first, and its answer says how many may follow.

Where nothing was told and the connection sets no limit, nobody waits, but that only a few calls go before the first
answer. Billing cycle and webhook calls are not counted here.
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

LONGEST_PERIOD = 3_660.0
"""Seconds from now after which a told time is not believed: periods last an hour at most, so the clock is wrong."""

CLOCK_MARGIN = 1.0
"""Seconds to wait beyond a told time, which is in whole seconds, and whose clock may differ a little from this one."""

FIRST_CALLS = 4
"""Calls that may be in flight before the first answer: as many as a client has connections, so nobody loses time."""

_LONGEST_FLIGHT = 400.0
"""Seconds after which a call that was never answered is forgotten; by default connecting and answering take 310."""


@dataclass(frozen=True, slots=True)
class Hold:
    """
    Why a call must not be sent yet.

    :param bucket: the budget that has no calls left.
    :param until: when it has some again, Unix epoch seconds; None if the answers of calls in flight will tell.
    :param why: for a person, the beginning of a sentence.
    """

    bucket: Bucket
    until: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Budget:
    """
    What is known of one bucket. Pure: methods return what is known afterwards; times are Unix epoch seconds.

    :param remaining: calls that were left in the period when last told, less those answered since; None if never told.
    :param limit: calls in a period, as told.
    :param next_at: when calls are allowed again after ``remaining`` is used up; None where not told.
    :param told_at: number of the event at which ``remaining`` was told.
    :param in_flight: number and time of each call that was sent and not answered yet. Whether ``remaining`` knows of it
        is not known, so it counts as one more.
    :param heard: whether a call of this bucket was ever answered.
    :param answered: times of answers, oldest first, for the connection's own limit; empty where it sets none.
    :param taken: calls that Voucherify has counted, since the process began.
    """

    remaining: int | None = None
    limit: int | None = None
    next_at: float | None = None
    told_at: int = 0
    in_flight: tuple[tuple[int, float], ...] = ()
    heard: bool = False
    answered: tuple[float, ...] = ()
    taken: int = 0

    def hold(self, bucket: Bucket, own_limit: CallLimit | None, now: float, *, sure: bool) -> Hold | None:
        """
        Say why a call must not be sent now; None if it may be.

        :param own_limit: the limit that the connection sets.
        :param sure: whether the call certainly draws from this bucket.
        """
        in_flight = sum(0 <= now - since < _LONGEST_FLIGHT for _, since in self.in_flight)
        holds = (self._told_hold(bucket, in_flight, now), self._own_hold(bucket, own_limit, in_flight, now))
        if sure and not self.heard and in_flight >= FIRST_CALLS:
            return latest(*holds, Hold(bucket, None, "nothing was answered yet"))
        return latest(*holds)

    def sent(self, number: int, now: float) -> Budget:
        """Count a call that is being sent."""
        return replace(self, in_flight=(*self.in_flight, (number, now)))

    def ended(self, number: int, own_limit: CallLimit | None, now: float, *, counted: bool, heard: bool) -> Budget:
        """
        Take a call out of those in flight.

        :param counted: whether Voucherify may have counted it.
        :param heard: whether it was answered, and certainly drew from this bucket.
        """
        answered = self.answered
        if own_limit is not None and counted:
            answered = (*_recent(answered, own_limit, now)[-own_limit.calls :], now)
        in_flight = tuple(flight for flight in self.in_flight if flight[0] != number)
        taken = self.taken + counted
        return replace(self, in_flight=in_flight, answered=answered, heard=self.heard or heard, taken=taken)

    def used(self) -> Budget:
        """Count a call whose answer says nothing of this bucket."""
        return replace(self, remaining=None if self.remaining is None else max(0, self.remaining - 1))

    def allowed(self) -> Budget:
        """Count a call of this bucket that succeeded without a word on it: if none was left, that is over."""
        return replace(self, remaining=None) if self.remaining == 0 else self.used()

    def told(self, number: int, event: int, headers: RateLimit, now: float, *, refused: bool) -> Budget:
        """
        Take in what an answer says.

        An answer whose call was sent before the last telling answer came may be the older news: it only ever lowers
        what is left.

        :param number: the call's number.
        :param event: the number of this event; numbers only rise.
        :param refused: whether the answer is a 429.
        """
        remaining = 0 if refused else headers.remaining
        if remaining is None:
            return self
        news = replace(self, remaining=remaining, limit=headers.limit, next_at=headers.allowed_at(now), told_at=event)
        if number > self.told_at or self.remaining is None or remaining < self.remaining:
            return news
        times = [at for at in (self.next_at, news.next_at) if at is not None]
        return replace(news, remaining=self.remaining, next_at=max(times, default=None))

    def left(self, own_limit: CallLimit | None) -> int | None:
        """
        Return how many calls are left in this period, or come with the next where there are none; None if unknown.

        :param own_limit: the limit that the connection sets.
        """
        left = None if self.remaining is None else self.remaining - len(self.in_flight)
        known = [self.limit if left is not None and left <= 0 else left]
        known += [own_limit.calls] if own_limit is not None else []
        return min((calls for calls in known if calls is not None), default=None)

    def _told_hold(self, bucket: Bucket, in_flight: int, now: float) -> Hold | None:
        if self.remaining is None or self.remaining > in_flight:
            return None
        if self.remaining == 0 and self.next_at is not None and 0 < self.next_at - now <= LONGEST_PERIOD:
            of = "" if self.limit is None else f" of {self.limit}"
            return Hold(bucket, self.next_at, f"Voucherify's {bucket} limit{of} is used up")
        if in_flight:
            return Hold(bucket, None, f"all {bucket} that may be left are in flight")
        return None

    def _own_hold(self, bucket: Bucket, limit: CallLimit | None, in_flight: int, now: float) -> Hold | None:
        if limit is None:
            return None
        recent = _recent(self.answered, limit, now)
        too_many = len(recent) + in_flight - limit.calls
        if too_many < 0:
            return None
        why = f"the connection's limit of {limit} {bucket} is used up"
        return Hold(bucket, recent[too_many] + limit.seconds if too_many < len(recent) else None, why)


class Budgets:
    """The budgets of one project in one process. Can be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = count(1)
        self._budgets: dict[Bucket, Budget] = {"api_calls": Budget(), "bulk_api_calls": Budget()}

    def send(self, bucket: Bucket, own: Mapping[Bucket, CallLimit | None], now: float, *, patient: bool) -> int | Hold:
        """
        Reserve a call.

        :param bucket: what the call draws from.
        :param own: the limits that the connection sets.
        :param patient: whether the caller waits for the answers of calls in flight.
        :returns: the number to give to ``ended``; or why the call must not be sent yet.
        """
        with self._lock:
            hold = latest(
                *(self._budgets[name].hold(name, own[name], now, sure=name == bucket) for name in _drawn(bucket))
            )
            if hold is not None and (patient or hold.until is not None):
                return hold
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
        Take in what came of a call.

        :param status: HTTP status, None where no answer came.
        :param sent: whether Voucherify may have received the request.
        :param headers: the answer's.
        """
        refused = status == 429
        counted = sent and not refused
        with self._lock:
            told = self._told_buckets(bucket, headers, refused)
            for drawn in _drawn(bucket):
                heard = status is not None and drawn == bucket
                budget = self._budgets[drawn].ended(number, own[drawn], now, counted=counted, heard=heard)
                if counted and drawn not in told:
                    succeeded = status is not None and status < 300
                    budget = budget.allowed() if succeeded and drawn == bucket else budget.used()
                self._budgets[drawn] = budget
            if headers is not None:
                event = next(self._numbers)
                for name in told:
                    self._budgets[name] = self._budgets[name].told(number, event, headers, now, refused=refused)

    def taken(self, bucket: Bucket) -> int:
        """Return how many calls of a bucket have got through in this process."""
        with self._lock:
            return self._budgets[bucket].taken

    def is_held(self, bucket: Bucket, own: Mapping[Bucket, CallLimit | None], now: float) -> bool:
        """Say whether a call would have to wait until a time that is known."""
        with self._lock:
            holds = (self._budgets[name].hold(name, own[name], now, sure=False) for name in _drawn(bucket))
            return any(hold is not None and hold.until is not None for hold in holds)

    def left(self, bucket: Bucket, own: Mapping[Bucket, CallLimit | None]) -> int | None:
        """Return how many calls a bucket has left, see ``Budget.left``."""
        with self._lock:
            return self._budgets[bucket].left(own[bucket])

    def _told_buckets(self, own: Bucket, headers: RateLimit | None, refused: bool) -> list[Bucket]:
        """
        Return the buckets that an answer tells of: the one that it names, else the call's own.

        A bulk call's answer that says that nothing is left, out of as many calls as there are ordinary ones, when those
        may be used up too, tells of both: bulk calls are ordinary calls then.
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


def latest(*holds: Hold | None) -> Hold | None:
    """Return the hold that lasts longest, None if there is none."""
    return max((hold for hold in holds if hold is not None), key=lambda hold: hold.until or 0.0, default=None)


def held_until(error: VoucherifyError, now: float) -> float | None:
    """
    Return when a call may be tried again that a rate limit held back or refused; None for any other failure.

    A limit that does not say when it ends, or says a time that cannot be, is a failure like others.

    :param now: Unix epoch seconds.
    """
    if not isinstance(error, VoucherifyRateLimitError) or isinstance(error, VoucherifyQuotaExhaustedError):
        return None
    at = error.retry_at
    return at + CLOCK_MARGIN if at is not None and 0 < at - now <= LONGEST_PERIOD else None


_of_projects: dict[tuple[int, str, str], Budgets] = {}


def budgets_of(base_url: str, application_id: str) -> Budgets:
    """
    Return the budgets that all clients of a project share in this process.

    A forked process starts anew: calls that were in flight in its parent would never be answered here.
    """
    return _of_projects.setdefault((os.getpid(), base_url, application_id), Budgets())


def _drawn(bucket: Bucket) -> tuple[Bucket, ...]:
    return (bucket,) if bucket == "api_calls" else (bucket, "api_calls")


def _recent(answered: tuple[float, ...], limit: CallLimit, now: float) -> list[float]:
    """Return the answers of the last period, in order; those of a clock that was set back since are none."""
    return sorted(at for at in answered if now - limit.seconds < at <= now)
