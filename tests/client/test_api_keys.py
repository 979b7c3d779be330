"""API keys: sent with every call to the connection's own host, and what else goes along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_voucherify import __version__
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.errors import VoucherifyAuthenticationError

Connect = Callable[..., Any]


def test_keys_version_and_origin_go_with_every_call(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    client.get_async_action(client.bulk_update("customers", []))

    for request in server.received:
        assert {"x-app-id", "x-app-token"} <= request.headers.keys()
        assert "authorization" not in request.headers
        assert request.headers["x-voucherify-api-version"] == "v2018-08-01"
        assert request.headers["x-voucherify-channel"] == f"Airflow-provider-v{__version__}"
        assert request.headers["user-agent"] == f"airflow-provider-voucherify/{__version__}"
    assert len(server.received) == 2


def test_another_api_version_can_be_asked_for(server: LocalVoucherify, connect_to: Connect) -> None:
    connect_to(server, api_version="v2030-01-01").list_async_actions()

    assert server.received[0].headers["x-voucherify-api-version"] == "v2030-01-01"


@pytest.mark.parametrize(("application_id", "secret_key"), [("shop-app-id", "wrong"), ("wrong", None)])
def test_wrong_keys_are_one_clear_error_and_no_retry(
    server: LocalVoucherify, connect_to: Connect, application_id: str, secret_key: str | None
) -> None:
    settings = ConnectionSettings.build(
        application_id=application_id, secret_key=secret_key or server.options.secret_key, host=server.base_url
    )

    with pytest.raises(VoucherifyAuthenticationError, match=r"GET .*/v1/async-actions was answered with 401: Unauth"):
        connect_to(settings).list_async_actions()
    assert len(server.received) == 1
