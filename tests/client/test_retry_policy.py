"""The pure functions that decide about waiting: what holds for every answer, header and policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.client.rate_limits import CYCLE, RateLimit
from airflow_provider_voucherify.client.retry import RETRIED_STATUSES, CallOutcome, RetryPolicy, seconds_until_retry

NOW = 1_800_000_000.0
TYPES = st.sampled_from([None, "api_calls", "bulk_api_calls", "webhook_calls", "other"])
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 20),
    backoff=st.floats(0.001, 10),
    max_backoff=st.floats(0.001, 60),
    max_rate_limit_wait=st.floats(0, 4_000),
)
LIMITS = st.builds(
    RateLimit,
    retry_at=st.none() | st.floats(NOW - 1e5, NOW + 1e5),
    retry_after=st.none() | st.floats(0, 1e5),
    type=TYPES,
)
OUTCOMES = st.builds(
    CallOutcome, status=st.none() | st.integers(300, 599), sent=st.booleans(), rate_limit=LIMITS
) | st.builds(CallOutcome, status=st.just(429), rate_limit=LIMITS)


@given(POLICIES, OUTCOMES, st.booleans(), st.integers(1, 50), st.floats(0, 5_000))
def test_a_wait_is_a_finite_time_or_the_end(
    policy: RetryPolicy, outcome: CallOutcome, safe: bool, failures: int, waited: float
) -> None:
    wait = seconds_until_retry(policy, outcome, safe=safe, failures=failures, waited=waited, now=NOW)

    if wait is None:
        return
    assert wait >= 0
    if outcome.status == 429:
        assert waited + wait <= policy.max_rate_limit_wait
        assert wait >= (outcome.rate_limit.wait(NOW) or 0), "a limit is never tried before its time"
    else:
        assert failures < policy.attempts
        assert wait <= policy.max_backoff


@given(POLICIES, st.integers(300, 599).filter(lambda status: status != 429), LIMITS)
def test_an_unsafe_call_that_was_answered_is_never_repeated(policy: RetryPolicy, status: int, limit: RateLimit) -> None:
    outcome = CallOutcome(status, rate_limit=limit)

    assert seconds_until_retry(policy, outcome, safe=False, failures=1, waited=0, now=NOW) is None


@given(POLICIES, LIMITS)
def test_the_billing_cycle_is_never_waited_for(policy: RetryPolicy, limit: RateLimit) -> None:
    outcome = CallOutcome(429, rate_limit=replace(limit, type=CYCLE))

    assert seconds_until_retry(policy, outcome, safe=True, failures=0, waited=0, now=NOW) is None


@given(POLICIES, st.sampled_from([None, *RETRIED_STATUSES]))
def test_pauses_between_attempts_do_not_shrink(policy: RetryPolicy, status: int | None) -> None:
    pauses = [
        seconds_until_retry(policy, CallOutcome(status), safe=True, failures=n, waited=0, now=NOW)
        for n in range(1, policy.attempts)
    ]

    told = [pause for pause in pauses if pause is not None]
    assert len(told) == policy.attempts - 1
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("limit", "answers_per_hour"),
    [
        (RateLimit(retry_after=3600), 1),
        (RateLimit(retry_after=60, retry_at=NOW), 61),
        (RateLimit(), 150),
        (RateLimit(retry_after=0), 200),
        (RateLimit(retry_at=NOW - 300), 200),
    ],
    ids=repr,
)
def test_a_limit_that_stays_reached_is_not_hammered(limit: RateLimit, answers_per_hour: int) -> None:
    """Also not by a clock that runs ahead of the vendor's, for which ``X-Rate-Limit-Retry`` is always past."""
    waited, answers = 0.0, 0
    while waited < 3_600 and answers < 10_000:
        outcome = CallOutcome(429, rate_limit=limit)
        wait = seconds_until_retry(RetryPolicy(), outcome, safe=False, failures=0, waited=waited, now=NOW)
        assert wait is not None
        waited, answers = waited + wait, answers + 1

    assert answers <= answers_per_hour


def test_the_default_outlasts_an_hour_and_no_more_than_that() -> None:
    hour = CallOutcome(429, rate_limit=RateLimit(retry_after=3_600.0))

    assert seconds_until_retry(RetryPolicy(), hour, safe=False, failures=0, waited=0, now=NOW) == 3_600
    assert seconds_until_retry(RetryPolicy(), hour, safe=False, failures=0, waited=3_600, now=NOW) is None


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"x-rate-limit-retry": str(int(NOW) + 9)}, 9),
        ({"x-rate-limit-retry": str(int(NOW) - 9)}, 0),
        ({"retry-after": "7", "x-rate-limit-retry": str(int(NOW) + 9)}, 9),
        ({"retry-after": "7", "x-rate-limit-retry": str(int(NOW) + 5)}, 7),
        ({"retry-after": "-1", "x-rate-limit-retry": "soon"}, None),
        ({"retry-after": "nan", "x-rate-limit-retry": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"x-rate-limit-retry": str(int(NOW) + 9), "date": "Fri, 15 Jan 2027 08:00:03 GMT"}, 9),
        ({"x-rate-limit-retry": str(int(NOW) + 99), "date": "Fri, 15 Jan 2027 08:01:30 GMT"}, 9),
        ({"x-rate-limit-retry": str(int(NOW) - 81), "date": "Fri, 15 Jan 2027 07:58:30 GMT"}, 9),
        ({"x-rate-limit-retry": str(int(NOW) + 9), "date": "some day"}, 9),
        ({"retry-after": "7", "date": "Fri, 15 Jan 2027 09:00:00 GMT"}, 7),
    ],
    ids=str,
)
def test_waits_are_read_from_the_headers(headers: dict[str, str], wait: float | None) -> None:
    assert RateLimit.from_headers(headers).wait(NOW) == wait


@given(st.dictionaries(st.sampled_from(["limit", "remaining", "retry", "type"]), st.text()), st.text(), st.text())
def test_nonsense_in_headers_counts_as_absent(texts: dict[str, str], retry_after: str, date: str) -> None:
    headers = {f"x-rate-limit-{name}": text for name, text in texts.items()}
    headers |= {"retry-after": retry_after, "date": date}

    limit = RateLimit.from_headers(headers)

    assert limit.wait(NOW) is None or 0 <= (limit.wait(NOW) or 0) < 1e12
    assert limit.type == texts.get("type")
