"""Answers that are packed with gzip: read as others are, and bounded by what they unpack to."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.local_voucherify import Exchange, LocalVoucherify
from airflow_provider_voucherify.models.errors import (
    VoucherifyNoAnswerError,
    VoucherifyPayloadTooLargeError,
    VoucherifyServerError,
)
from benchmarks.process import forget_peak, peak_mb, resident_mb

Connect = Callable[..., Any]
ONCE = RetryPolicy(attempts=1)
BOMB = gzip.compress(bytes(200_000_000))


@dataclass(frozen=True)
class Packed:
    """An answer without processing."""

    body: bytes
    status: int = 200
    encoding: bytes = b"gzip"

    async def play(self, exchange: Exchange) -> None:
        """Answer."""
        headers = [(b"content-encoding", self.encoding), (b"content-length", str(len(self.body)).encode())]
        await exchange.send({"type": "http.response.start", "status": self.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": self.body})


@pytest.mark.parametrize("encoding", [b"gzip", b"GZip", b"x-gzip"])
def test_a_packed_answer_is_read_as_any_other(server: LocalVoucherify, connect_to: Connect, encoding: bytes) -> None:
    long = b'{"async_actions": [], "has_more": false, "data_ref": "' + bytes(range(97, 123)) * 100_000 + b'"}'
    server.misbehave("list", Packed(gzip.compress(long), encoding=encoding))

    assert connect_to(server).list_async_actions().async_actions == []
    assert {request.headers["accept-encoding"] for request in server.received} == {"gzip"}


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Packed(b"no gzip"), "incorrect header check"),
        (Packed(BOMB), "larger than"),
    ],
    ids=["broken", "too large"],
)
def test_an_answer_that_cannot_be_unpacked_is_none(
    server: LocalVoucherify, connect_to: Connect, fault: Packed, why: str
) -> None:
    server.misbehave("submit", fault)

    with pytest.raises(VoucherifyNoAnswerError, match=why):
        connect_to(server, retry=ONCE).bulk_update("customers", [])


def test_an_error_that_is_packed_with_what_was_not_asked_for_is_that_error(
    server: LocalVoucherify, connect_to: Connect
) -> None:
    server.misbehave("submit", Packed(b"\x0b\x02\x80", 413, b"br"))

    with pytest.raises(VoucherifyPayloadTooLargeError):
        connect_to(server, retry=ONCE).bulk_update("customers", [])


@pytest.mark.parametrize("status", [200, 500])
def test_a_small_answer_that_unpacks_to_200_megabytes_takes_little_memory(
    server: LocalVoucherify, connect_to: Connect, status: int
) -> None:
    client = connect_to(server, retry=ONCE)
    client.list_async_actions()
    server.misbehave("submit", Packed(BOMB, status))
    forget_peak()
    before = resident_mb()

    with pytest.raises((VoucherifyNoAnswerError, VoucherifyServerError)):
        client.bulk_update("customers", [])

    assert peak_mb() - before < 64
