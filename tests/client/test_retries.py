"""What is sent again, and what never: reads until they pass, bulk calls only when they were certainly not taken."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_voucherify.client.calls import Body
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import (
    Delay,
    DropAfter,
    DropBefore,
    Fault,
    LocalVoucherify,
    Malformed,
    RateLimited,
    SlowDrip,
    Status,
    Truncate,
)
from airflow_provider_voucherify.models.endpoints import UPDATE_ENDPOINTS
from airflow_provider_voucherify.models.errors import (
    VoucherifyError,
    VoucherifyNoAnswerError,
    VoucherifyNotFoundError,
    VoucherifyNotSentError,
    VoucherifyServerError,
    VoucherifyUnexpectedAnswerError,
)

Connect = Callable[..., Any]
ACTIONS = "/v1/async-actions"
CUSTOMERS = "/v1/customers/bulk/async"


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.parametrize(
    "fault",
    [Status(500), Status(502), Status(503), Status(504), Status(408), DropBefore(), DropAfter(), Truncate(5)],
    ids=repr,
)
def test_a_read_is_sent_again(server: LocalVoucherify, connect_to: Connect, fault: Fault) -> None:
    server.misbehave("list", fault, times=3)

    assert connect_to(server).list_async_actions().async_actions == []
    assert len(server.requests("GET", ACTIONS)) == 4


@pytest.mark.parametrize("fault", [Delay(5), SlowDrip(0.05, piece_bytes=1)], ids=repr)
def test_a_read_that_takes_too_long_is_sent_again(server: LocalVoucherify, connect_to: Connect, fault: Fault) -> None:
    server.misbehave("list", fault)

    assert connect_to(server, timeout=0.15).list_async_actions().async_actions == []
    assert len(server.requests("GET", ACTIONS)) == 2


def test_a_body_that_is_sent_slowly_takes_nothing_from_the_time_of_its_answer(
    server: LocalVoucherify, connect_to: Connect
) -> None:
    def slowly() -> Iterator[bytes]:
        for piece in (b'[{"source_id":', b'"a"', b"}]"):
            time.sleep(0.3)
            yield piece

    connect_to(server, timeout=0.6).bulk(UPDATE_ENDPOINTS["customers"], Body(19, slowly))

    assert [request.status for request in server.received] == [202]


def test_an_answer_that_is_there_is_taken_however_late_it_is(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("submit", SlowDrip(0.4, piece_bytes=30))

    action_id = connect_to(server, timeout=0.6).bulk_update("customers", [{"source_id": "a"}])

    assert list(server.actions) == [action_id]


def test_a_drip_that_does_not_end_is_given_up(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("submit", SlowDrip(0.2, piece_bytes=1))
    began = time.monotonic()

    with pytest.raises(VoucherifyNoAnswerError, match="the answer came too slowly"):
        connect_to(server, timeout=0.6).bulk_update("customers", [{"source_id": "a"}])

    assert time.monotonic() - began < 5, "of about 10 that the whole answer takes"


def test_reading_is_given_up_after_four_attempts(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("list", Status(503), times=None)

    with pytest.raises(VoucherifyServerError, match=f"GET .*{ACTIONS} was answered with 503"):
        connect_to(server).list_async_actions()
    assert len(server.received) == 4


def test_a_read_that_cannot_pass_is_not_sent_again(server: LocalVoucherify, connect_to: Connect) -> None:
    with pytest.raises(VoucherifyNotFoundError):
        connect_to(server).get_async_action("aa_0")
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("fault", "error", "taken"),
    [
        (DropAfter(), VoucherifyNoAnswerError, 1),
        (DropBefore(), VoucherifyNoAnswerError, 0),
        (Delay(5), VoucherifyNoAnswerError, 0),
        (Truncate(3), VoucherifyNoAnswerError, 1),
        (Malformed(b"{"), VoucherifyUnexpectedAnswerError, 1),
        (Malformed(b"[]"), VoucherifyUnexpectedAnswerError, 1),
        (Status(408), VoucherifyServerError, 0),
        (Status(500), VoucherifyServerError, 0),
        (Status(503, headers={"Retry-After": "0"}), VoucherifyServerError, 0),
    ],
    ids=repr,
)
def test_a_bulk_call_that_may_have_been_taken_is_never_sent_again(
    server: LocalVoucherify, connect_to: Connect, fault: Fault, error: type[VoucherifyError], taken: int
) -> None:
    server.misbehave("submit", fault)
    timeout = 0.15 if isinstance(fault, Delay) else 5

    with pytest.raises(error) as raised:
        connect_to(server, timeout=timeout).bulk_update("customers", [{"source_id": "a"}])

    assert len(server.requests("POST", CUSTOMERS)) == 1
    assert len(server.actions) == taken
    if error is VoucherifyNoAnswerError:
        assert "Voucherify may have accepted it, so it was not sent again" in str(raised.value)


def test_a_bulk_call_is_sent_again_after_a_429(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("submit", RateLimited(0.01), times=6)

    connect_to(server).bulk_update("customers", [{"source_id": "a"}])

    assert [request.status for request in server.requests("POST", CUSTOMERS)] == [429] * 6 + [202]
    assert len({request.body for request in server.received}) == 1


def test_a_bulk_call_is_sent_again_after_a_refused_connection(
    start: Callable[..., LocalVoucherify], connect_to: Connect, free_port: int
) -> None:
    settings = ConnectionSettings.build(
        application_id="app", secret_key="sk-late-server", host=f"http://127.0.0.1:{free_port}"
    )
    servers: list[LocalVoucherify] = []
    options = {"app_id": "app", "secret_key": "sk-late-server", "port": free_port}
    late = threading.Timer(0.1, lambda: servers.append(start(**options)))
    late.start()

    connect_to(settings, retry=RetryPolicy(attempts=50, backoff=0.03, max_backoff=0.03)).bulk_update("customers", [])

    late.join()
    assert len(servers[0].actions) == 1


def test_a_connection_that_stays_refused_is_told_as_not_sent(connect_to: Connect, free_port: int) -> None:
    settings = ConnectionSettings.build(application_id="app", secret_key="sk", host=f"http://127.0.0.1:{free_port}")

    with pytest.raises(VoucherifyNotSentError, match=f"POST .*{CUSTOMERS} could not be sent: ConnectError"):
        connect_to(settings).bulk_update("customers", [])


def test_a_host_that_does_not_exist_is_told_as_not_sent(connect_to: Connect) -> None:
    settings = ConnectionSettings.build(application_id="app", secret_key="sk", host="https://voucherify.invalid")

    with pytest.raises(VoucherifyNotSentError, match=r"GET .*/v1/async-actions could not be sent"):
        connect_to(settings).list_async_actions()


def test_a_body_is_produced_anew_for_each_attempt(server: LocalVoucherify, connect_to: Connect) -> None:
    server.misbehave("submit", RateLimited(0.01))
    server.misbehave("submit", Status(401, {"code": 401}))

    with contextlib.suppress(VoucherifyError):
        connect_to(server, auth_method="oauth").bulk_update("customers", [{"source_id": "a"}])

    bodies = [request.body for request in server.requests("POST", CUSTOMERS)]
    assert bodies == [b'[{"source_id":"a"}]'] * 3
    assert len(server.actions) == 1
