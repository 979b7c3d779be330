"""Rate limits of the server, and what callers notice of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, RateLimited
from airflow_provider_voucherify.models.errors import VoucherifyQuotaExhaustedError, VoucherifyRateLimitError

Connect = Callable[..., Any]


@pytest.mark.parametrize(
    "fault",
    [
        RateLimited(retry_after=0.15),
        RateLimited(retry_after=0.15, retry_epoch=1.0),
        RateLimited(retry_after=0.15, limit_type=None),
        RateLimited(retry_after=0.15, limit_type="bulk_api_calls"),
    ],
    ids=repr,
)
def test_the_time_that_is_told_is_waited(server: LocalVoucherify, connect_to: Connect, fault: RateLimited) -> None:
    server.misbehave("list", fault)
    client = connect_to(server)
    started = time.monotonic()

    client.list_async_actions()

    assert time.monotonic() - started >= 0.15
    assert len(server.received) == 2


@pytest.mark.parametrize("fault", [RateLimited(), RateLimited(retry_epoch=1.0), RateLimited("soon")], ids=repr)
def test_without_a_time_it_is_tried_again_after_a_moment(
    server: LocalVoucherify, connect_to: Connect, fault: RateLimited
) -> None:
    server.misbehave("list", fault, times=3)

    connect_to(server).list_async_actions()

    assert len(server.received) == 4


def test_a_wait_that_is_too_long_is_an_error_that_tells_the_time(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("submit", RateLimited(3_600, "bulk_api_calls", retry_epoch=1_900_000_000))

    with pytest.raises(VoucherifyRateLimitError, match="429: Too many requests hit the API too quickly") as raised:
        connect_to(server, retry=RetryPolicy(max_rate_limit_wait=60)).bulk_update("customers", [])

    assert (raised.value.limit_type, raised.value.retry_at) == ("bulk_api_calls", 1_900_000_000)
    assert not isinstance(raised.value, VoucherifyQuotaExhaustedError)
    assert len(server.received) == 1


@pytest.mark.parametrize("place", ["list", "submit", "token"])
def test_a_used_up_billing_cycle_fails_at_once(server: LocalVoucherify, connect_to: Connect, place: str) -> None:
    server.misbehave(place, RateLimited(0.01, "api_calls_cycle"))
    client = connect_to(server, auth_method="oauth")

    with pytest.raises(VoucherifyQuotaExhaustedError, match="the API calls of this billing cycle are used up"):
        client.bulk_update("customers", []) if place == "submit" else client.list_async_actions()
    assert [request.status for request in server.received][-1] == 429


def test_the_wait_is_logged_with_its_reason(
    server: LocalVoucherify, connect_to: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server.misbehave("submit", RateLimited(0.01, "bulk_api_calls"))

    connect_to(server).bulk_update("customers", [])

    assert "bulk_api_calls limit is reached; POST /v1/customers/bulk/async waits 0 s, until" in caplog.text
