"""Asking about OAuth tokens, and ending them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest

from airflow_provider_voucherify.client import auth
from airflow_provider_voucherify.client.auth import oauth_token
from airflow_provider_voucherify.local_voucherify import DropAfter, LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import (
    VoucherifyAuthenticationError,
    VoucherifyError,
    VoucherifyNotFoundError,
)

Connect = Callable[..., Any]
REVOKE = "/v1/oauth/token/revoke"


def test_a_live_token_is_described(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    token = client.send(oauth_token("customers async-actions")).access_token

    told = client.send(auth.introspect_oauth_token(token))

    assert told.active
    assert (told.scope, told.token_type, told.client_id) == ("customers async-actions", "Bearer", "shop-app-id")
    assert 800 < told.expires_in <= 900
    assert token not in repr(told)
    assert "access_token" not in told.to_dict()


def test_of_an_unknown_token_nothing_is_told_but_that(server: LocalVoucherify, connect_to: Connect) -> None:
    told = connect_to(server).send(auth.introspect_oauth_token("unknown"))

    assert told.to_dict() == {"active": False}


def test_a_revoked_token_cannot_be_used(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server)
    token = client.send(oauth_token("api")).access_token

    assert client.send(auth.revoke_oauth_token(token)) is None

    assert not client.send(auth.introspect_oauth_token(token)).active
    with pytest.raises(VoucherifyNotFoundError):
        client.send(auth.revoke_oauth_token(token))


def test_the_keys_go_along_and_no_token(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server, auth_method="oauth")
    client.send(auth.introspect_oauth_token("a+b&c=d"))

    [request] = server.received
    assert request.headers["x-app-id"] == "shop-app-id"
    assert "authorization" not in request.headers
    assert parse_qs((request.body or b"").decode()) == {"access_token": ["a+b&c=d"]}


def test_a_client_whose_token_was_revoked_gets_another(server: LocalVoucherify, connect_to: Connect) -> None:

    client = connect_to(server, auth_method="oauth")
    client.list_async_actions()
    server.expire_tokens()

    assert client.list_async_actions().async_actions == []
    assert len(server.requests("POST", "/v1/oauth/token")) == 2


def test_a_token_whose_revocation_was_not_answered_counts_as_revoked(
    server: LocalVoucherify, connect_to: Connect
) -> None:
    client = connect_to(server)
    token = client.send(oauth_token("api")).access_token
    server.misbehave(REVOKE, DropAfter())

    assert client.send(auth.revoke_oauth_token(token)) is None
    assert [request.status for request in server.requests("POST", REVOKE)] == [None, 404]


def test_the_token_is_shown_nowhere(
    server: LocalVoucherify, connect_to: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = "tok-5f2a-do-not-print"
    server.misbehave("/v1/oauth/", Status(503, f"Blocked: access_token={token}".encode()), times=2)
    server.misbehave("/v1/oauth/", Status(401, f"Blocked: access_token={token}".encode()))
    call = auth.introspect_oauth_token(token)

    with pytest.raises(VoucherifyAuthenticationError, match="Blocked") as raised:
        connect_to(server).send(call)

    assert isinstance(raised.value, VoucherifyError)
    for shown in (repr(call), str(raised.value), caplog.text):
        assert token not in shown
