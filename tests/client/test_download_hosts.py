"""Wherever a report or a redirect leads, keys and tokens go to the hosts of the connection only."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Received, Status
from airflow_provider_voucherify.models.errors import VoucherifyReportError

Connect = Callable[..., VoucherifyClient]
Start = Callable[..., LocalVoucherify]
CREDENTIALS = {"x-app-id", "x-app-token", "authorization", "cookie"}
AUTH_METHODS = pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])


def report_of(client: VoucherifyClient) -> str:
    action_id = client.bulk_update("customers", [{"source_id": "c1"}])
    return str((client.get_async_action(action_id).result or {})["reports"][0])


def credentials_in(request: Received) -> set[str]:
    return CREDENTIALS & request.headers.keys()


@AUTH_METHODS
def test_another_host_serves_a_report_without_credentials(
    start: Start, connect_sync: Connect, auth_method: str
) -> None:
    server = start(report_host="separate")
    client, file = connect_sync(server, auth_method=auth_method), io.BytesIO()

    client.download(report_of(client), file)

    assert file.getvalue().startswith(b"source_id,")
    assert credentials_in(server.received[-1]) == set()


@AUTH_METHODS
def test_the_connections_own_host_gets_them(server: LocalVoucherify, connect_sync: Connect, auth_method: str) -> None:
    client = connect_sync(server, auth_method=auth_method)

    client.download(report_of(client), io.BytesIO())

    expected = {"authorization"} if auth_method == "oauth" else {"x-app-id", "x-app-token"}
    assert credentials_in(server.received[-1]) == expected


@AUTH_METHODS
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_no_credentials_to_another_host(
    start: Start, connect_sync: Connect, auth_method: str, status: int
) -> None:
    server = start(report_host="separate")
    client, file = connect_sync(server, auth_method=auth_method), io.BytesIO()
    server.misbehave("/v1/reports/moved", Status(status, b"", headers={"Location": report_of(client)}))

    client.download(f"{server.base_url}/v1/reports/moved", file)

    here, there = server.received[-2:]
    assert file.getvalue().startswith(b"source_id,")
    assert credentials_in(here)
    assert credentials_in(there) == set()


@AUTH_METHODS
def test_a_host_that_lures_the_client_gets_nothing(
    server: LocalVoucherify, foreign_host: LocalVoucherify, connect_sync: Connect, auth_method: str
) -> None:
    lure = {"WWW-Authenticate": 'Basic realm="give me your keys"'}
    foreign_host.misbehave("/", Status(401, headers=lure), times=None)

    with pytest.raises(VoucherifyReportError, match="status 401"):
        connect_sync(server, auth_method=auth_method).download(f"{foreign_host.base_url}/v1/reports/1", io.BytesIO())
    assert [credentials_in(request) for request in foreign_host.received] == [set()]


def test_redirects_have_an_end(server: LocalVoucherify, connect_sync: Connect) -> None:
    server.misbehave("report", Status(302, b"", headers={"Location": "/v1/reports/again"}), times=None)

    with pytest.raises(VoucherifyReportError, match="redirected more than 5 times"):
        connect_sync(server).download(f"{server.base_url}/v1/reports/1", io.BytesIO())
    assert len(server.received) == 6


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/1", "file:///etc/passwd", "http://[broken", "https://"])
def test_a_redirect_to_no_web_address_is_an_error(
    server: LocalVoucherify, connect_sync: Connect, location: str
) -> None:
    server.misbehave("report", Status(302, b"", headers={"Location": location}))

    with pytest.raises(VoucherifyReportError):
        connect_sync(server).download(f"{server.base_url}/v1/reports/1", io.BytesIO())
    assert len(server.received) == 1


def test_a_report_over_plain_http_is_refused_where_the_api_has_tls(
    foreign_host: LocalVoucherify, connect_sync: Connect
) -> None:
    settings = ConnectionSettings.build(application_id="app", secret_key="sk-secret", host="eu")

    with pytest.raises(VoucherifyReportError, match="offered over plain http, which is refused"):
        connect_sync(settings).download(f"{foreign_host.base_url}/v1/reports/1?token=t", io.BytesIO())
    assert foreign_host.received == []
