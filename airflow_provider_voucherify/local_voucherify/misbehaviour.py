"""
Faults that the local Voucherify can be told to have: slowness, errors, dropped connections, broken answers.

Each fault is a frozen value with one method that plays an exchange: it may let the request be processed, change what
is sent, or close the connection.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

from starlette.types import Message, Send

from airflow_provider_voucherify.local_voucherify.endpoints import (
    ISSUE_TOKEN,
    LIST_ACTIONS,
    LIST_EXPORTS,
    METADATA_ENDPOINTS,
    UPDATE_ENDPOINTS,
)
from airflow_provider_voucherify.local_voucherify.errors import http_error, too_many_requests

REPORTS_PATH = "/v1/reports/"
EXPORTS_PATH = f"{LIST_EXPORTS.path}/"
_DOWNLOADED = "?token"

SUBMIT_PATHS = frozenset(e.path for e in (*UPDATE_ENDPOINTS.values(), *METADATA_ENDPOINTS.values()))


@dataclass(frozen=True, slots=True)
class Exchange:
    """
    One request whose answer a fault can shape.

    :param process: processes the request and sends the answer through the given function.
    :param send: sends to the caller.
    :param close_connection: closes the caller's connection after what was sent so far.
    """

    process: Callable[[Send], Awaitable[None]]
    send: Send
    close_connection: Callable[[], Awaitable[None]]


class Fault(Protocol):
    """Something that goes wrong with an answer."""

    async def play(self, exchange: Exchange) -> None:
        """Answer the exchange, or close its connection."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The request is processed only after some seconds."""

    seconds: float

    async def play(self, exchange: Exchange) -> None:
        """Wait, then process as usual."""
        await asyncio.sleep(self.seconds)
        await exchange.process(exchange.send)


@dataclass(frozen=True, slots=True)
class Status:
    """
    The request is answered with a status and not processed.

    :param body: a JSON value, or bytes to send as they are; None gives an error body in the API's shape.
    """

    code: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    async def play(self, exchange: Exchange) -> None:
        """Answer without processing."""
        body = http_error(self.code).body if self.body is None else self.body
        await _send_answer(exchange.send, self.code, body, self.headers)


@dataclass(frozen=True, slots=True)
class RateLimited:
    """
    The request is refused with a 429, whatever the real limits say.

    :param retry_after: value of ``Retry-After`` in seconds (or any text); None leaves the header out.
    :param limit_type: value of ``X-Rate-Limit-Type``; None leaves the header out.
    :param retry_epoch: value of ``X-Rate-Limit-Retry`` in seconds since the epoch; None leaves the header out.
    """

    retry_after: float | str | None = None
    limit_type: str | None = "api_calls"
    retry_epoch: float | None = None

    async def play(self, exchange: Exchange) -> None:
        """Answer without processing."""
        refusal = too_many_requests()
        await _send_answer(exchange.send, refusal.status, refusal.body, self._headers())

    def _headers(self) -> dict[str, str]:
        headers = {
            "X-Rate-Limit-Remaining": "0",
            "X-Rate-Limit-Type": self.limit_type,
            "X-Rate-Limit-Retry": None if self.retry_epoch is None else str(math.ceil(self.retry_epoch)),
            "Retry-After": None if self.retry_after is None else str(self.retry_after),
        }
        return {name: value for name, value in headers.items() if value is not None}


@dataclass(frozen=True, slots=True)
class DropBefore:
    """The connection is closed after the request was read: not processed, no answer."""

    async def play(self, exchange: Exchange) -> None:
        """Close."""
        await exchange.close_connection()


@dataclass(frozen=True, slots=True)
class DropAfter:
    """The request is processed, then the connection is closed: no answer."""

    async def play(self, exchange: Exchange) -> None:
        """Process, keep the answer back, close."""
        await exchange.process(_discard)
        await exchange.close_connection()


@dataclass(frozen=True, slots=True)
class Malformed:
    """The request is processed; the answer has its status but another body."""

    body: bytes = b'{"async'

    async def play(self, exchange: Exchange) -> None:
        """Process, and answer with the body."""

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.lower() != b"content-length"]
                length = (b"content-length", str(len(self.body)).encode())
                await exchange.send({**message, "headers": [*kept, length]})
            elif not message.get("more_body", False):
                await exchange.send({"type": "http.response.body", "body": self.body})

        await exchange.process(send)


@dataclass(frozen=True, slots=True)
class SlowDrip:
    """
    The request is processed; the answer's body comes in small pieces.

    :param seconds: pause before each piece.
    :param piece_bytes: size of a piece.
    """

    seconds: float = 0.05
    piece_bytes: int = 16

    async def play(self, exchange: Exchange) -> None:
        """Process, and send slowly."""

        async def send(message: Message) -> None:
            if message["type"] != "http.response.body":
                await exchange.send(message)
                return
            body = message.get("body", b"")
            for start in range(0, len(body), self.piece_bytes):
                await asyncio.sleep(self.seconds)
                piece = body[start : start + self.piece_bytes]
                await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
            if not message.get("more_body", False):
                await exchange.send({"type": "http.response.body", "body": b""})

        await exchange.process(send)


@dataclass(frozen=True, slots=True)
class Truncate:
    """
    The request is processed; the connection is closed within the answer's body.

    :param bytes_sent: how much of the body is sent; a shorter body is cut before its end is marked.
    """

    bytes_sent: int

    async def play(self, exchange: Exchange) -> None:
        """Process, send the first bytes, close."""
        remaining = self.bytes_sent

        async def send(message: Message) -> None:
            nonlocal remaining
            if message["type"] == "http.response.start":
                await exchange.send(message)
            elif remaining > 0:
                piece = message.get("body", b"")[:remaining]
                remaining -= len(piece)
                await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})

        await exchange.process(send)
        await exchange.close_connection()


Where = str | Callable[[str, str], bool]
"""Requests: a name of ``PLACES``, the start of a path, or a predicate of method and path."""

PLACES: Mapping[str, Callable[[str, str], bool]] = {
    "submit": lambda method, path: method == "POST" and path in SUBMIT_PATHS,
    "poll": lambda method, path: method == "GET" and path.startswith(f"{LIST_ACTIONS.path}/"),
    "list": lambda method, path: method == "GET" and path == LIST_ACTIONS.path,
    "token": lambda method, path: method == "POST" and path == ISSUE_TOKEN.path,
    "report": lambda method, path: method == "GET" and path.startswith(REPORTS_PATH),
    "export": lambda method, path: method == "GET" and path.startswith(EXPORTS_PATH) and path.endswith(_DOWNLOADED),
}
"""The requests that have a name of their own."""


@dataclass(slots=True)
class Misbehaviour:
    """
    A fault and the requests that it befalls.

    :param matches: whether it concerns a method and path.
    :param times_left: how many requests it still befalls, None for all.
    :param skips_left: how many matching requests it still lets pass first.
    """

    matches: Callable[[str, str], bool]
    fault: Fault
    times_left: int | None
    skips_left: int

    def strikes(self, method: str, path: str) -> bool:
        """Whether the fault befalls this request; counts it."""
        if self.times_left == 0 or not self.matches(method, path):
            return False
        if self.skips_left:
            self.skips_left -= 1
            return False
        if self.times_left is not None:
            self.times_left -= 1
        return True


class Misbehaviours:
    """The faults that are armed. A request suffers the first that strikes. Can be used from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._armed: list[Misbehaviour] = []

    def arm(self, where: Where, fault: Fault, *, times: int | None, after: int) -> None:
        """Arm a fault; see ``LocalVoucherify.misbehave``."""
        with self._lock:
            self._armed.append(Misbehaviour(_matcher(where), fault, times, after))

    def clear(self) -> None:
        """Disarm all faults."""
        with self._lock:
            self._armed.clear()

    def strike(self, method: str, path: str) -> Fault | None:
        """Return the fault that befalls a request, None for none."""
        with self._lock:
            return next((armed.fault for armed in self._armed if armed.strikes(method, path)), None)


def path_for_faults(path: str, query: bytes) -> str:
    """Return the path that a fault is looked up by: that of an export's file, which is its export's, has a mark."""
    is_file = path.startswith(EXPORTS_PATH) and b"token=" in query
    return path + _DOWNLOADED if is_file else path


def _matcher(where: Where) -> Callable[[str, str], bool]:
    if not isinstance(where, str):
        return where
    if where in PLACES:
        return PLACES[where]
    if not where.startswith("/"):
        raise ValueError(f"where must be one of {sorted(PLACES)}, the start of a path, or a predicate, not {where!r}")
    return lambda method, path: path.startswith(where)


async def _discard(message: Message) -> None:
    """Send nothing."""


async def _send_answer(send: Send, status: int, body: Any, headers: Mapping[str, str]) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(content)), **headers}
    wire_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": status, "headers": wire_headers})
    await send({"type": "http.response.body", "body": content})
