"""Faults that the local Voucherify does not have by itself: of the network, and of what is on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from starlette.types import Message

from airflow_provider_voucherify.local_voucherify import Exchange, RateLimited

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Silence:
    """
    No answer comes, and the connection stays open until the caller has lost patience.

    :param processed: whether the request is processed all the same.
    """

    processed: bool
    seconds: float = 1.0

    async def play(self, exchange: Exchange) -> None:
        """Keep the caller waiting, then close."""
        if self.processed:
            await exchange.process(_discard)
        await asyncio.sleep(self.seconds)
        await exchange.close_connection()


@dataclass(frozen=True, slots=True)
class Limited:
    """
    A 429 that tells its wait from now on in one header or none.

    :param limit_type: value of ``X-Rate-Limit-Type``, None for no header.
    :param retry_after: seconds in ``Retry-After``.
    :param retry_in: seconds from now in ``X-Rate-Limit-Retry``.
    """

    limit_type: str | None
    retry_after: float | None = None
    retry_in: float | None = None

    async def play(self, exchange: Exchange) -> None:
        """Answer without processing."""
        at = None if self.retry_in is None else time.time() + self.retry_in
        await RateLimited(self.retry_after, self.limit_type, at).play(exchange)


@dataclass(frozen=True, slots=True)
class Rewritten:
    """
    The request is processed; the answer has another body, and perhaps other headers.

    :param change: makes the new body of the old one.
    """

    change: Callable[[bytes], bytes]
    headers: Mapping[str, str] = field(default_factory=dict)

    async def play(self, exchange: Exchange) -> None:
        """Process, and answer with what became of the body."""
        body = bytearray()
        start: list[Message] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
            else:
                body.extend(message.get("body", b""))

        await exchange.process(keep)
        changed = self.change(bytes(body))
        kept = [(name, value) for name, value in start[0]["headers"] if name.lower() != b"content-length"]
        added = {"content-length": str(len(changed)), **self.headers}
        headers = [*kept, *((name.lower().encode(), value.encode()) for name, value in added.items())]
        await exchange.send({**start[0], "headers": headers})
        await exchange.send({"type": "http.response.body", "body": changed})


@dataclass(frozen=True, slots=True)
class Huge:
    """
    The request is not processed; the answer is as long as it is said, and made while it is sent.

    :param begin: the first bytes of the body; what follows is the letter x.
    :param end: the last bytes.
    """

    status: int
    begin: bytes
    megabytes: int
    end: bytes = b""

    async def play(self, exchange: Exchange) -> None:
        """Answer, until the caller has had enough."""
        headers = [(b"content-type", b"application/json")]
        await exchange.send({"type": "http.response.start", "status": self.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": self.begin, "more_body": True})
        piece = b"x" * MEGABYTE  # each connection that the caller leaves keeps a few of them for a while
        for _ in range(self.megabytes):
            await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
        await exchange.send({"type": "http.response.body", "body": self.end})


async def _discard(message: Message) -> None:
    """Send nothing."""


class Outage:
    """
    Nobody serves a port: connections are refused, or reset as soon as they are made. A context manager.

    :param port: of 127.0.0.1; free.
    """

    def __init__(self, kind: Literal["refused", "reset"], port: int) -> None:
        self._kind, self._port = kind, port
        self._listening: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin."""
        if self._kind == "reset":
            self._listening = socket.create_server(("127.0.0.1", self._port))
            self._thread = threading.Thread(target=self._reset, args=(self._listening,), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and leave the port."""
        if self._listening is not None and self._thread is not None:
            self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            self._thread.join()

    @staticmethod
    def _reset(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connection.settimeout(1)
                with contextlib.suppress(OSError):
                    connection.recv(1, socket.MSG_PEEK)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def error_page(status: int) -> bytes:
    """Return the page of a gateway that knows no JSON."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>gateway</body></html>"
    return page.encode()


def gateway_413() -> dict[str, Any]:
    """Return the gateway's body of a 413."""
    message = "Payload content length greater than maximum allowed: 60"
    return {"statusCode": 413, "error": "Request Entity Too Large", "message": message}


def as_json_lines(report: bytes) -> bytes:
    """Return a report in CSV as JSON lines."""
    header, *rows = [line.split(",") for line in report.decode().split("\r\n") if line]
    return b"".join(json.dumps(dict(zip(header, row, strict=True))).encode() + b"\n" for row in rows)
