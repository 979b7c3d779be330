"""Downloading a report: to the last byte, from the start again when it breaks off, and with an end to patience."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.local_voucherify import (
    DropAfter,
    DropBefore,
    Fault,
    LocalVoucherify,
    RateLimited,
    Status,
    Truncate,
)
from airflow_provider_voucherify.models.errors import VoucherifyReportError

Connect = Callable[..., VoucherifyClient]
Start = Callable[..., LocalVoucherify]


def report_of(client: VoucherifyClient, records: int = 3) -> str:
    """Return the address of the report of a new update."""
    action_id = client.bulk_update("customers", [{"source_id": f"c{n}"} for n in range(records)])
    (url,) = (client.get_async_action(action_id).result or {})["reports"]
    return str(url)


def downloads(server: LocalVoucherify) -> list[int | None]:
    return [request.status for request in server.received if request.path.startswith("/v1/reports/")]


@pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
def test_a_report_is_fetched_whole(start: Start, connect_sync: Connect, auth_method: str) -> None:
    client = connect_sync(start(reports_need_auth=True), auth_method=auth_method)
    file = io.BytesIO(b"what was there before, longer than the report" * 10)

    size = client.download(report_of(client), file)

    assert file.getvalue() == b"source_id,found,updated\r\nc0,false,true\r\nc1,false,true\r\nc2,false,true\r\n"
    assert size == len(file.getvalue())


@pytest.mark.parametrize(
    "fault", [Truncate(100), DropBefore(), DropAfter(), Status(500), Status(503), RateLimited(0.01)], ids=repr
)
def test_what_breaks_off_is_fetched_from_the_start(
    server: LocalVoucherify, connect_sync: Connect, fault: Fault
) -> None:
    client = connect_sync(server)
    url, file = report_of(client, records=50), io.BytesIO()
    server.misbehave("report", fault, times=3)

    client.download(url, file)

    assert file.getvalue().count(b"\r\n") == 51
    assert len(downloads(server)) == 4


@pytest.mark.parametrize(
    ("options", "fault", "said"),
    [
        ({"report_seconds": 0}, None, "status 404, it may have expired"),
        ({"report_seconds": 0, "expired_report_status": 410}, None, "status 410, it may have expired"),
        ({}, Status(403), "status 403, it may have expired"),
        ({}, Status(500), "status 500"),
        ({}, Truncate(10), "RemoteProtocolError"),
        ({}, RateLimited(3_600), "status 429"),
        ({}, RateLimited(0.01, "api_calls_cycle"), "status 429"),
        ({}, Status(204, b""), "status 204"),
        ({}, Status(206, b"part"), "status 206"),
    ],
    ids=str,
)
def test_a_report_that_cannot_be_had_is_an_error_without_its_token(
    start: Start, connect_sync: Connect, options: dict[str, Any], fault: Fault | None, said: str
) -> None:
    server = start(**options)
    client = connect_sync(server, retry=RetryPolicy(3, 0.01, max_rate_limit_wait=10))
    url = report_of(client)
    if fault is not None:
        server.misbehave("report", fault, times=None)

    with pytest.raises(VoucherifyReportError, match=said) as raised:
        client.download(url, io.BytesIO())
    assert url.partition("?")[0] in str(raised.value)
    assert url.partition("token=")[2] not in str(raised.value)


def test_the_wait_that_a_429_tells_is_kept(server: LocalVoucherify, connect_sync: Connect) -> None:
    client = connect_sync(server, retry=RetryPolicy(backoff=0.001, max_backoff=0.001, max_rate_limit_wait=0.25))
    url = report_of(client)
    server.misbehave("report", RateLimited(0.1), times=None)

    with pytest.raises(VoucherifyReportError, match="status 429"):
        client.download(url, io.BytesIO())
    assert downloads(server) == [429] * 3


def test_a_token_that_ended_early_is_renewed_once(start: Start, connect_sync: Connect) -> None:
    server = start(reports_need_auth=True)
    client = connect_sync(server, auth_method="oauth")
    url, file = report_of(client), io.BytesIO()
    server.expire_tokens()

    client.download(url, file)

    assert file.getvalue().startswith(b"source_id,")
    assert downloads(server) == [401, 200]


def test_a_second_401_is_an_error(start: Start, connect_sync: Connect) -> None:
    server = start(reports_need_auth=True)
    client = connect_sync(server, auth_method="oauth")
    url = report_of(client)
    server.misbehave("report", Status(401), times=None)

    with pytest.raises(VoucherifyReportError, match="status 401"):
        client.download(url, io.BytesIO())
    assert downloads(server) == [401, 401]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "report.csv",
        "/v1/reports/1",
        "ftp://127.0.0.1/1",
        "file:///etc/passwd",
        "https://",
        "https://[broken/1",
        "http://127.0.0.1:port/1",
        "{{voucherify-link-to-report}}",
        "http://a b/1",
    ],
)
def test_an_address_that_is_none_is_an_error(server: LocalVoucherify, connect_sync: Connect, url: str) -> None:
    with pytest.raises(VoucherifyReportError):
        connect_sync(server).download(url, io.BytesIO())
    assert server.received == []


def test_reports_share_the_patience_with_rate_limits(server: LocalVoucherify, connect_sync: Connect) -> None:
    client = connect_sync(server, retry=RetryPolicy(backoff=0.001, max_backoff=0.001, max_rate_limit_wait=0.25))
    url = report_of(client)
    server.misbehave("report", RateLimited(0.1), times=4)

    for _ in range(2):
        with pytest.raises(VoucherifyReportError, match="status 429"):
            client.download(url, io.BytesIO())
    assert downloads(server) == [429] * 4

    client.download(url, io.BytesIO())
    server.misbehave("report", RateLimited(0.1), times=2)
    client.download(url, io.BytesIO())
    assert downloads(server)[4:] == [200, 429, 429, 200]
