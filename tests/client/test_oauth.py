"""OAuth: keys are exchanged for a token, the token is kept for the process, and renewed when it has to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.client.protocol import Protocol
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.client.steps import Answer, Exclusive, Send, Steps
from airflow_provider_voucherify.local_voucherify import DropBefore, Fault, LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import (
    VoucherifyAuthenticationError,
    VoucherifyBadRequestError,
    VoucherifyNotSentError,
    VoucherifyPermissionError,
    VoucherifyUnexpectedAnswerError,
)

Connect = Callable[..., Any]
TOKEN_PATH = "/v1/oauth/token"
UNAUTHORIZED = {"code": 401, "message": "Unauthorized", "key": "unauthorized"}


def tokens_asked_for(server: LocalVoucherify) -> int:
    return len(server.requests("POST", TOKEN_PATH))


def test_keys_go_to_the_token_endpoint_only(server: LocalVoucherify, connect_to: Connect) -> None:
    connect_to(server, auth_method="oauth").list_async_actions()

    exchange, call = server.received
    assert exchange.path == TOKEN_PATH
    assert {"x-app-id", "x-app-token"} <= exchange.headers.keys()
    assert "authorization" not in exchange.headers
    assert exchange.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs((exchange.body or b"").decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["customers products vouchers async-actions"],
    }
    assert "authorization" in call.headers
    assert not {"x-app-id", "x-app-token"} & call.headers.keys()


def test_a_token_serves_all_clients_of_a_connection(server: LocalVoucherify, connect_to: Connect) -> None:
    for _ in range(3):
        connect_to(server, auth_method="oauth").list_async_actions()

    assert tokens_asked_for(server) == 1


def test_connections_do_not_share_tokens(start: Callable[..., LocalVoucherify], connect_to: Connect) -> None:
    server, other = start(), start()
    connect_to(server, auth_method="oauth").list_async_actions()
    connect_to(server, auth_method="oauth", scope="api").list_async_actions()
    connect_to(other, auth_method="oauth").list_async_actions()

    assert (tokens_asked_for(server), tokens_asked_for(other)) == (2, 1)


def test_a_wrong_secret_gets_no_token_of_another_connection(server: LocalVoucherify, connect_to: Connect) -> None:
    connect_to(server, auth_method="oauth").list_async_actions()
    wrong = ConnectionSettings.build(
        application_id=server.options.app_id,
        secret_key="wrong",
        host=server.base_url,
        extra={"auth_method": "oauth"},
    )

    with pytest.raises(VoucherifyAuthenticationError, match=f"POST .*{TOKEN_PATH} was answered with 401"):
        connect_to(wrong).list_async_actions()


def test_a_token_that_ended_early_is_renewed_once(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server, auth_method="oauth")
    client.list_async_actions()
    server.expire_tokens()

    client.bulk_update("customers", [])

    assert tokens_asked_for(server) == 2
    assert [request.status for request in server.requests("POST", "/v1/customers/bulk/async")] == [401, 202]


def test_a_second_401_is_an_error(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("list", Status(401, UNAUTHORIZED), times=None)

    with pytest.raises(VoucherifyAuthenticationError, match=r"GET .*/v1/async-actions was answered with 401"):
        connect_to(server, auth_method="oauth").list_async_actions()
    assert tokens_asked_for(server) == 2
    assert len(server.requests("GET", "/v1/async-actions")) == 2


def test_fetching_a_token_survives_what_passes(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("token", DropBefore())
    server.misbehave("token", Status(503))

    connect_to(server, auth_method="oauth").list_async_actions()

    assert tokens_asked_for(server) == 3


@pytest.mark.parametrize("scope", ["customers,products", " customers  products ", "customers products"])
def test_scopes_are_sent_separated_by_one_space(server: LocalVoucherify, connect_to: Connect, scope: str) -> None:
    connect_to(server, auth_method="oauth", scope=scope).bulk_update("customers", [])

    assert parse_qs((server.received[0].body or b"").decode())["scope"] == ["customers products"]


def test_an_unknown_scope_is_told_in_the_vendors_words(server: LocalVoucherify, connect_to: Connect) -> None:
    with pytest.raises(VoucherifyBadRequestError, match=r"Invalid scope: everything \(key invalid_scope\)"):
        connect_to(server, auth_method="oauth", scope="everything").list_async_actions()
    assert tokens_asked_for(server) == 1


def test_a_missing_scope_is_told_as_a_missing_permission(server: LocalVoucherify, connect_to: Connect) -> None:
    with pytest.raises(VoucherifyPermissionError, match="missing_required_permission"):
        connect_to(server, auth_method="oauth", scope="products").bulk_update("customers", [])


@pytest.mark.parametrize(
    "answer", [b"{}", b'{"access_token": ""}', b'{"access_token": 1}', b"[]", b'{"access_token": "a\\nb"}']
)
def test_an_answer_without_a_usable_token_is_unexpected(
    server: LocalVoucherify, connect_to: Connect, answer: bytes
) -> None:
    server.misbehave("token", Status(200, answer))

    with pytest.raises(VoucherifyUnexpectedAnswerError, match=f"POST .*{TOKEN_PATH} was answered with 200, but"):
        connect_to(server, auth_method="oauth").list_async_actions()


class ScriptedServer:
    """Plays the other side of the protocol on a clock that is turned by hand: no network, no waiting."""

    def __init__(self, settings: ConnectionSettings, tokens: Iterator[dict[str, Any]]) -> None:
        self.now = 1_000.0
        self.authorizations: list[str] = []
        self._tokens = tokens
        self._protocol = Protocol(settings, RetryPolicy(), clock=lambda: self.now)

    def list_actions(self) -> None:
        self._perform(self._protocol.carry_out(calls.list_async_actions()))

    def _perform(self, steps: Steps[Any]) -> Any:
        outcome: Any = None
        try:
            while True:
                step = steps.send(outcome)
                if isinstance(step, Exclusive):
                    outcome = self._perform(step.steps())
                else:
                    assert isinstance(step, Send)
                    outcome = Answer(200, {}, msgspec.json.encode(self._answer(step)))
        except StopIteration as done:
            return done.value

    def _answer(self, send: Send) -> dict[str, Any]:
        if send.url.endswith(TOKEN_PATH):
            return next(self._tokens)
        self.authorizations.append(send.headers["Authorization"])
        return {"async_actions": []}


@pytest.fixture
def clockwork(request: pytest.FixtureRequest) -> ScriptedServer:
    settings = ConnectionSettings.build(
        application_id="app", secret_key=request.node.name, extra={"auth_method": "oauth"}
    )
    return ScriptedServer(settings, ({"access_token": f"t{n}", "expires_in": 900} for n in range(1, 10)))


@pytest.mark.parametrize(("seconds", "used"), [(0, "t1"), (800, "t1"), (870, "t2"), (900, "t2"), (90_000, "t2")])
def test_a_token_is_renewed_before_its_end(clockwork: ScriptedServer, seconds: float, used: str) -> None:
    clockwork.list_actions()
    clockwork.now += seconds
    clockwork.list_actions()

    assert clockwork.authorizations == ["Bearer t1", f"Bearer {used}"]


def test_a_token_whose_life_is_not_told_is_taken_to_live_as_documented(request: pytest.FixtureRequest) -> None:
    settings = ConnectionSettings.build(
        application_id="app", secret_key=request.node.name, extra={"auth_method": "oauth"}
    )
    clockwork = ScriptedServer(settings, ({"access_token": f"t{n}"} for n in range(1, 10)))
    for seconds in (0, 830, 60):
        clockwork.now += seconds
        clockwork.list_actions()

    assert clockwork.authorizations == ["Bearer t1", "Bearer t1", "Bearer t2"]


@pytest.mark.parametrize("fault", [DropBefore(), Status(503), Status(200, b"{}")], ids=repr)
def test_a_bulk_call_for_which_there_is_no_token_was_certainly_not_sent(
    server: LocalVoucherify, connect_to: Connect, fault: Fault
) -> None:
    server.misbehave("token", fault, times=None)

    with pytest.raises(VoucherifyNotSentError, match=r"could not be sent without a token: POST .*/v1/oauth/token"):
        connect_to(server, auth_method="oauth").bulk_update("customers", [])
    assert server.requests("POST", "/v1/customers/bulk/async") == []
