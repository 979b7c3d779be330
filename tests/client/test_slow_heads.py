"""Servers that give the head of an answer bit by bit, so that no piece is late: the exchange ends all the same."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from airflow_provider_voucherify.client import deadlines
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.models.errors import (
    VoucherifyNoAnswerError,
    VoucherifyNotSentError,
    VoucherifyReportError,
)

Connect = Callable[..., Any]
ONCE = RetryPolicy(attempts=1)


@contextmanager
def drip_server(piece: bytes, most: int, pause: float = 0.05) -> Iterator[tuple[str, list[int]]]:
    """
    Serve answers whose heads come piece by piece and do not end, and count the pieces of each.

    :param most: pieces after which the server gives up itself, so that a client without a bound fails its test.
    """
    given: list[int] = []
    stop = threading.Event()

    def serve(connection: socket.socket) -> None:
        number = len(given)
        given.append(0)
        with connection, suppress(OSError):
            connection.recv(65_536)
            while given[number] < most and not stop.wait(pause):
                connection.sendall(piece)
                given[number] += 1

    def accept(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=accept, args=(listening,))
        accepting.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", given
        finally:
            stop.set()
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in threads:
                thread.join()


def settings_of(url: str, **extra: Any) -> ConnectionSettings:
    return ConnectionSettings.build(application_id="app", secret_key="sk-do-not-print", host=url, extra=extra)


@pytest.mark.parametrize(
    "piece", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["a byte at a time", "provisional answers"]
)
def test_a_head_that_comes_bit_by_bit_is_given_up(connect_to: Connect, piece: bytes) -> None:
    with drip_server(piece, most=400) as (url, given):
        client = connect_to(settings_of(url, timeout=0.3), retry=ONCE)

        with pytest.raises(VoucherifyNoAnswerError, match="ReadTimeout"):
            client.list_async_actions()

    assert len(given) == 1
    assert 2 < given[0] < 400


def test_a_bulk_call_with_such_an_answer_is_not_sent_again(connect_to: Connect) -> None:
    with (
        drip_server(b"H", most=400) as (url, given),
        pytest.raises(VoucherifyNoAnswerError, match="Voucherify may have accepted it"),
    ):
        connect_to(settings_of(url, timeout=0.3)).bulk_update("customers", [{"source_id": "c1"}])

    assert len(given) == 1


def test_a_report_with_such_a_head_is_given_up(connect_sync: Connect, tmp_path: Any) -> None:
    with (
        drip_server(b"H", most=400) as (url, given),
        (tmp_path / "report").open("w+b") as file,
        pytest.raises(VoucherifyReportError, match="ReadTimeout"),
    ):
        connect_sync(settings_of(url, timeout=0.3), retry=ONCE).download(f"{url}/report", file)

    assert 2 < given[0] < 400


class TestTheClock:
    """What ``deadlines`` allows for the next piece, by a clock that a test moves."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [1_000.0]
        monkeypatch.setattr(deadlines.time, "monotonic", lambda: now[0])
        return now

    def test_the_head_has_the_time_of_one_piece_from_the_first_attempt_to_read_it(self, clock: list[float]) -> None:
        times = deadlines._Times()
        times.writing(10.0)
        clock[0] += 600
        times.writing(10.0)

        assert times.reading(10.0) == 10.0
        clock[0] += 4
        assert times.reading(10.0) == 6.0

    def test_what_is_there_when_time_is_over_is_still_read(self, clock: list[float]) -> None:
        times = deadlines._Times()
        times.writing(10.0)
        times.reading(10.0)
        clock[0] += 11

        assert times.reading(10.0) == 1.0
        with pytest.raises(deadlines.httpcore.ReadTimeout, match="headers came too slowly"):
            times.reading(10.0)

    def test_a_body_is_not_held_to_it(self, clock: list[float]) -> None:
        times = deadlines._Times()
        times.writing(10.0)
        times.reading(10.0)
        times.headers_received()
        clock[0] += 100

        assert [times.reading(10.0) for _ in range(3)] == [10.0] * 3

    def test_the_next_exchange_of_the_connection_starts_anew(self, clock: list[float]) -> None:
        times = deadlines._Times()
        times.writing(10.0)
        times.reading(10.0)
        clock[0] += 11
        times.reading(10.0)
        times.writing(10.0)

        assert times.reading(10.0) == 10.0

    def test_a_request_that_is_taken_too_slowly_is_given_up(self, clock: list[float]) -> None:
        times = deadlines._Times()
        assert times.writing(10.0) == 10.0
        clock[0] += deadlines.MAX_SENDING_SECONDS - 1
        assert times.writing(10.0) == 1.0
        clock[0] += 2

        with pytest.raises(deadlines.httpcore.WriteTimeout):
            times.writing(10.0)


def test_every_transport_of_a_client_is_held_to_it(connect_to: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a proxy as well; without it httpx has changed, and ``enforce_deadlines`` has to."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    client = connect_to(settings_of("https://127.0.0.1:2"))
    http = getattr(client, "client", client)._http

    transports = [one for one in (http._transport, *http._mounts.values()) if one is not None]
    assert len(transports) > 1
    assert {type(one._pool._network_backend).__module__ for one in transports} == {deadlines.__name__}


def test_a_proxy_that_says_no_has_sent_nothing_on(connect_to: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with drip_server(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n", most=1) as (url, _):
        monkeypatch.setenv("HTTPS_PROXY", url.replace("//", "//user:pw-do-not-print@"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)

        with pytest.raises(VoucherifyNotSentError, match="ProxyError: 407") as raised:
            connect_to(settings_of("https://api.example.org"), retry=ONCE).bulk_update("customers", [])

    assert "the proxy that HTTPS_PROXY names" in str(raised.value.advice)
    assert "pw-do-not-print" not in str(raised.value)
