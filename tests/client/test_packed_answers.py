"""Answers that are packed with gzip: read as others are, and bounded by what they unpack to."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_provider_voucherify.client import answer_bodies, downloads
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.local_voucherify import Exchange, LocalVoucherify
from airflow_provider_voucherify.models.errors import (
    VoucherifyNoAnswerError,
    VoucherifyPayloadTooLargeError,
    VoucherifyReportError,
    VoucherifyServerError,
)
from harness.process import forget_peak, peak_mb, resident_mb

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


class Counting(io.BytesIO):
    """A file that knows the most bytes that it was given at once."""

    largest = 0

    def write(self, data: Any) -> int:
        self.largest = max(self.largest, len(data))
        return super().write(data)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(b"a,b\r\n" * 1_000), gzip.compress(b"a,b\r\n" * 400) + gzip.compress(b"a,b\r\n" * 600)],
    ids=["one member", "two members"],
)
def test_a_report_that_is_packed_is_written_unpacked(
    server: LocalVoucherify, connect_sync: Connect, packed: bytes
) -> None:
    server.misbehave("report", Packed(packed))
    file = io.BytesIO()

    assert connect_sync(server).download(f"{server.base_url}/v1/reports/r", file) == 5_000
    assert file.getvalue() == b"a,b\r\n" * 1_000
    assert server.received[-1].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Packed(gzip.compress(gzip.compress(b"a")), encoding=b"gzip, gzip"), "encoded with 'gzip, gzip'"),
        (Packed(zlib.compress(b"a"), encoding=b"deflate"), "encoded with 'deflate'"),
        (Packed(b"\x0b\x02\x80", encoding=b"br"), "encoded with 'br'"),
        (Packed(gzip.compress(b"a" * 1_000)[:-9]), "ends too early"),
        (Packed(b"no gzip"), "incorrect header check"),
    ],
    ids=["twice", "deflate", "unknown", "cut off", "broken"],
)
def test_a_report_that_is_packed_otherwise_is_refused(
    server: LocalVoucherify, connect_sync: Connect, fault: Packed, why: str
) -> None:
    server.misbehave("report", fault)

    with pytest.raises(VoucherifyReportError, match=why):
        connect_sync(server, retry=ONCE).download(f"{server.base_url}/v1/reports/r", io.BytesIO())


def test_a_small_report_that_unpacks_to_200_megabytes_is_written_in_small_pieces_and_no_further_than_allowed(
    server: LocalVoucherify, connect_sync: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "MAX_REPORT_BYTES", 10_000_000)
    server.misbehave("report", Packed(BOMB))
    client, file = connect_sync(server, retry=ONCE), Counting()
    forget_peak()
    before = resident_mb()

    with pytest.raises(VoucherifyReportError, match="larger than 10,000,000 bytes"):
        client.download(f"{server.base_url}/v1/reports/r", file)

    assert len(file.getvalue()) <= 10_000_000
    assert file.largest <= 256 * 1024
    assert peak_mb() - before < 64


@pytest.mark.parametrize("encoding", [b"deflate", b"gzip, gzip", b"br"])
def test_a_success_that_is_packed_with_what_was_not_asked_for_is_no_answer(
    server: LocalVoucherify, connect_to: Connect, encoding: bytes
) -> None:
    server.misbehave("submit", Packed(b'{"async_action_id": "aa_1"}', 202, encoding))

    with pytest.raises(VoucherifyNoAnswerError, match="encoded with"):
        connect_to(server, retry=ONCE).bulk_update("customers", [])


def test_only_an_async_action_may_be_large(
    server: LocalVoucherify, connect_to: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_bodies, "MAX_ANSWER_BYTES", 1_000)
    client = connect_to(server, retry=ONCE)
    action_id = client.bulk_update("customers", [])
    large = b'{"id": "aa_1", "async_actions": [], "data_ref": "' + b"x" * 2_000 + b'"}'
    server.misbehave("list", Packed(gzip.compress(large)))
    server.misbehave("poll", Packed(gzip.compress(large)))

    assert client.get_async_action(action_id).id == "aa_1"
    with pytest.raises(VoucherifyNoAnswerError, match="larger than 1,000 bytes"):
        client.list_async_actions()
