"""Every error status has a class that a user can name, and a message that tells the whole story on one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Malformed, Status
from airflow_provider_voucherify.models import errors

Connect = Callable[..., Any]
ONCE = RetryPolicy(attempts=1)
CLASSES = {
    400: errors.VoucherifyBadRequestError,
    401: errors.VoucherifyAuthenticationError,
    402: errors.VoucherifyPlanError,
    403: errors.VoucherifyPermissionError,
    404: errors.VoucherifyNotFoundError,
    405: errors.VoucherifyBadRequestError,
    406: errors.VoucherifyBadRequestError,
    408: errors.VoucherifyServerError,
    409: errors.VoucherifyConflictError,
    410: errors.VoucherifyNotFoundError,
    413: errors.VoucherifyPayloadTooLargeError,
    415: errors.VoucherifyBadRequestError,
    418: errors.VoucherifyBadRequestError,
    422: errors.VoucherifyBadRequestError,
    423: errors.VoucherifyConflictError,
    500: errors.VoucherifyServerError,
    501: errors.VoucherifyServerError,
    502: errors.VoucherifyServerError,
    503: errors.VoucherifyServerError,
    599: errors.VoucherifyServerError,
}
BODY = {
    "code": 0,
    "key": "some_key",
    "message": "What happened",
    "details": "and why",
    "request_id": "v-0aeb88df54c82af560",
    "resource_id": "aa_1",
}


@pytest.mark.parametrize(("status", "kind"), CLASSES.items())
def test_a_status_gives_its_class_with_all_that_was_told(
    server: LocalVoucherify, connect_to: Connect, status: int, kind: type[errors.VoucherifyApiError]
) -> None:
    server.misbehave("submit", Status(status, {**BODY, "code": status}))

    with pytest.raises(kind) as raised:
        connect_to(server, retry=ONCE).bulk_update("vouchers", [])

    error = raised.value
    assert type(error) is kind
    assert error.happened == (
        f"POST {server.base_url}/v1/vouchers/bulk/async was answered with {status}: What happened - and why "
        "(key some_key, request v-0aeb88df54c82af560)"
    )
    assert str(error) == error.happened or str(error) == f"{error.happened}. {error.advice}"
    assert (error.call, error.status, error.key) == ("POST /v1/vouchers/bulk/async", status, "some_key")
    assert (error.message, error.details, error.request_id) == ("What happened", "and why", "v-0aeb88df54c82af560")


def test_a_body_over_the_limit_is_told_in_the_gateways_words(
    start: Callable[..., LocalVoucherify], connect_to: Connect
) -> None:
    server = start(max_body_bytes=100)

    with pytest.raises(errors.VoucherifyPayloadTooLargeError) as raised:
        connect_to(server).bulk_update("customers", [{"source_id": "a" * 100}])

    assert raised.value.message == "Payload content length greater than maximum allowed: 100"
    assert (raised.value.key, raised.value.details, raised.value.request_id) == (None, None, None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "was answered with 500"),
        (b"null", "was answered with 500: null"),
        (b'["a", "b"]', 'was answered with 500: ["a", "b"]'),
        (b"<html>\r\n <h1>Bad\x00 gateway</h1>\x1b[31m", "was answered with 500: <html> <h1>Bad gateway</h1> [31m"),
        (b"\xff\xfe", "was answered with 500: \ufffd\ufffd"),
        (b'"\xff"', 'was answered with 500: "\ufffd"'),
        (b'{"message": {"nested": 1}, "details": ["x"], "key": 7}', "was answered with 500"),
        (b'{"message": "two\\nlines", "key": "k"}', "was answered with 500: two lines (key k)"),
        (b"[" * 50_000, "was answered with 500: " + "[" * 199 + "…"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_body_of_any_form_becomes_one_line(
    server: LocalVoucherify, connect_to: Connect, body: bytes, said: str
) -> None:
    server.misbehave("list", Status(500, body))

    with pytest.raises(errors.VoucherifyServerError) as raised:
        connect_to(server, retry=ONCE).list_async_actions()
    assert raised.value.happened == f"GET {server.base_url}/v1/async-actions {said}"


@pytest.mark.parametrize("body", [b"x" * 5_000_000, b'{"message": "' + b"x" * 5_000_000 + b'"}'], ids=["text", "json"])
def test_of_a_huge_error_body_little_is_kept(server: LocalVoucherify, connect_to: Connect, body: bytes) -> None:
    server.misbehave("list", Status(500, body))

    with pytest.raises(errors.VoucherifyServerError) as raised:
        connect_to(server, retry=ONCE).list_async_actions()
    assert len(str(raised.value)) < 1_000


@pytest.mark.parametrize("body", [b"", b"{", b"nul", b"\xff"], ids=repr)
def test_a_success_that_is_no_json_is_unexpected(server: LocalVoucherify, connect_to: Connect, body: bytes) -> None:
    server.misbehave("list", Malformed(body))

    with pytest.raises(errors.VoucherifyUnexpectedAnswerError, match="with 200 and a body that is not valid JSON"):
        connect_to(server).list_async_actions()


def test_a_text_that_is_not_utf_8_is_unexpected(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("list", Malformed(b'"\xff"'))

    with pytest.raises(errors.VoucherifyUnexpectedAnswerError, match="with 200, but the answer is"):
        connect_to(server).list_async_actions()


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b"null", b'"aa_1"', b'{"async_action_id": ""}', b'{"async_action_id": 1}']
)
def test_a_bulk_call_without_an_id_is_unexpected(server: LocalVoucherify, connect_to: Connect, body: bytes) -> None:
    server.misbehave("submit", Malformed(body))

    with pytest.raises(errors.VoucherifyUnexpectedAnswerError, match="the answer has no async_action_id"):
        connect_to(server).bulk_update("customers", [])


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b'{"id": ""}', b'{"id": 1}'])
def test_an_action_without_an_id_is_unexpected(server: LocalVoucherify, connect_to: Connect, body: bytes) -> None:
    client = connect_to(server)
    action_id = client.bulk_update("customers", [])
    server.misbehave("poll", Malformed(body))

    with pytest.raises(errors.VoucherifyUnexpectedAnswerError, match="but the answer is not a valid AsyncAction: "):
        client.get_async_action(action_id)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"async_actions": {}}', b'{"async_actions": [{}]}'])
def test_a_list_of_another_form_is_unexpected(server: LocalVoucherify, connect_to: Connect, body: bytes) -> None:
    server.misbehave("list", Malformed(body))

    with pytest.raises(errors.VoucherifyUnexpectedAnswerError, match="but the answer is not a valid AsyncActionList: "):
        connect_to(server).list_async_actions()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("place", ["list", "submit", "token"])
def test_a_redirect_is_not_followed(
    server: LocalVoucherify, foreign_host: LocalVoucherify, connect_to: Connect, status: int, place: str
) -> None:
    server.misbehave(place, Status(status, b"", headers={"Location": foreign_host.base_url + "/v1/async-actions"}))
    client = connect_to(server, auth_method="oauth")

    with pytest.raises(errors.VoucherifyUnexpectedAnswerError, match=rf"redirect \({status}\), which is not followed"):
        client.bulk_update("customers", []) if place == "submit" else client.list_async_actions()
    assert foreign_host.received == []


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (errors.VoucherifyNotSentError(), True),
        (errors.VoucherifyNoAnswerError(), True),
        (errors.VoucherifyUnexpectedAnswerError(), True),
        (errors.VoucherifyServerError("GET /", 503), True),
        (errors.VoucherifyRateLimitError("GET /", 429), True),
        (errors.VoucherifyQuotaExhaustedError("GET /", 429), False),
        (errors.VoucherifyAuthenticationError("GET /", 401), False),
        (errors.VoucherifyNotFoundError("GET /", 404), False),
        (errors.VoucherifyConfigurationError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_is_known_which_errors_are_transient(error: errors.VoucherifyError, transient: bool) -> None:
    assert errors.is_transient(error) is transient


@pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
def test_a_project_of_another_region_is_told_with_the_address_to_use(
    start: Callable[..., LocalVoucherify], connect_to: Connect, auth_method: str
) -> None:
    server = start(right_url="https://us1.api.voucherify.io")

    with pytest.raises(errors.VoucherifyPermissionError) as raised:
        connect_to(server, auth_method=auth_method).bulk_update("customers", [{"source_id": "c1"}])

    assert raised.value.key == "wrong_api_endpoint"
    assert "it is at https://us1.api.voucherify.io: make that (or us1) the connection's host" in str(raised.value)


def test_a_scope_that_a_call_lacks_is_told(server: LocalVoucherify, connect_to: Connect) -> None:
    client = connect_to(server, auth_method="oauth", scope="customers async-actions")

    with pytest.raises(errors.VoucherifyPermissionError, match=r"lacks products\. Add it to the connection's scope"):
        client.bulk_update("products", [{"source_id": "p1"}])
