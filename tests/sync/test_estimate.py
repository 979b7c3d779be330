"""What a sync will cost: calls, bytes, the share of the quota, and minutes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.client.rate_limits import CallLimit
from airflow_provider_voucherify.sync.batches.estimate import BUSINESS_PLAN, estimate

PATH, OTHER = "/v1/customers/bulk/async", "/v1/customers/metadata/async"
COUNTS = st.integers(0, 5_000)
LIMITS = st.none() | st.builds(CallLimit, st.integers(1, 2_000), st.sampled_from([60.0, 3_600.0]))


def test_a_million_customers_on_the_business_plan() -> None:
    cost = estimate({PATH: 27}, 270_000_000, None, None, waits=True)

    assert cost.text().splitlines() == [
        "Estimate: 68 API calls, 270,000,000 bytes",
        "  POST /v1/customers/bulk/async: 27",
        "  GET /v1/async-actions/…: about 41",
        "  68% of one period's quota, at 100/minute API calls (the vendor's Business plan, since the connection has no "
        "rate_limit) and an unknown number of bulk calls",
        "  less than a minute until everything is sent, not counting the network",
    ]


def test_a_sandbox_project() -> None:
    cost = estimate({PATH: 2, OTHER: 1}, 1_000, CallLimit.parse("100/hour"), CallLimit.parse("1/hour"), waits=False)

    assert cost.text().splitlines() == [
        "Estimate: 3 API calls, 1,000 bytes",
        "  POST /v1/customers/bulk/async: 2",
        "  POST /v1/customers/metadata/async: 1",
        "  300% of one period's quota, at 100/hour API calls and 1/hour bulk calls",
        "  120 minutes until everything is sent, not counting the network",
    ]


def test_one_call_and_one_minute() -> None:
    cost = estimate({PATH: 1}, 10, CallLimit.parse("1/minute"), CallLimit.parse("1/minute"), waits=False)

    assert cost.text().startswith("Estimate: 1 API call, 10 bytes\n")
    two = estimate({PATH: 2}, 10, CallLimit.parse("1/minute"), CallLimit.parse("1/minute"), waits=False)
    assert "  1 minute until everything is sent" in two.text()


@pytest.mark.parametrize(
    ("requests", "limit", "bulk_limit", "minutes"),
    [
        (100, None, None, 0),
        (101, None, None, 1),
        (1_000, None, None, 9),
        (1_000, "2000/minute", None, 0),
        (50, None, "50/hour", 0),
        (51, None, "50/hour", 60),
        (201, None, "201/hour", 2),
        (1, "1/hour", "1/hour", 0),
        (0, "1/hour", "1/hour", 0),
    ],
)
def test_minutes(requests: int, limit: str | None, bulk_limit: str | None, minutes: float) -> None:
    limits = [None if text is None else CallLimit.parse(text) for text in (limit, bulk_limit)]

    assert estimate({PATH: requests}, 0, *limits, waits=True).minutes == minutes


@pytest.mark.parametrize(("actions", "most"), [(1, 8), (27, 45), (1_000, 1_305)])
def test_polls_are_about_one_for_each_action(actions: int, most: int) -> None:
    assert actions < estimate({PATH: actions}, 0, None, None, waits=True).polls <= most


def test_nothing_to_send_costs_nothing() -> None:
    cost = estimate({}, 0, None, None, waits=True)

    assert cost.as_summary_fields() == {"requests_by_endpoint": {}, "quota_share": 0.0, "estimated_minutes": 0.0}


READS = st.dictionaries(st.sampled_from(["/v1/exports", "/v1/async-actions", "/v1/customers/…"]), st.integers(1, 900))


@given(COUNTS, COUNTS, LIMITS, LIMITS, st.booleans(), READS)
def test_what_holds_for_every_estimate(
    updates: int,
    metadata: int,
    limit: CallLimit | None,
    bulk_limit: CallLimit | None,
    waits: bool,
    reads: dict[str, int],
) -> None:
    cost = estimate({PATH: updates, OTHER: metadata}, 0, limit, bulk_limit, waits=waits, reads=reads)
    more = estimate({PATH: updates + 1, OTHER: metadata}, 0, limit, bulk_limit, waits=waits, reads=reads)
    split = estimate({PATH: updates + metadata}, 0, limit, bulk_limit, waits=waits, reads=reads)
    unread = estimate({PATH: updates, OTHER: metadata}, 0, limit, bulk_limit, waits=waits)

    assert cost.calls == sum(cost.as_summary_fields()["requests_by_endpoint"].values())
    assert cost.calls == unread.calls + sum(reads.values())
    assert f"Estimate: {cost.calls:,} API call" in cost.text()
    assert cost.quota_share < more.quota_share
    assert cost.minutes <= more.minutes
    assert (cost.calls, cost.minutes, cost.quota_share) == (split.calls, split.minutes, split.quota_share)
    assert cost.is_assumed is (limit is None)
    assert cost.limit == (limit or BUSINESS_PLAN)
