"""What the local Voucherify received, for tests to look at. Secret values are never kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock

REDACTED = "***"

_SECRET_HEADERS = frozenset({"x-app-token", "authorization"})
_SECRET_PARAMETERS = re.compile(r"((?:^|&)token=)[^&]*")


@dataclass(frozen=True, slots=True)
class Received:
    """
    One request.

    :param path: decoded path, without the query.
    :param query: query string; the value of a report's ``token`` is replaced by ``***``.
    :param headers: lower-case names; the values of credentials are replaced by ``***``.
    :param body_bytes_length: length of the body in bytes, up to where it was refused if it was too large.
    :param body: the body, None unless ``keep_bodies`` is set.
    :param status: HTTP status that was answered; None while unanswered and when the connection was dropped.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body_bytes_length: int = 0
    body: bytes | None = None
    status: int | None = None


def without_secrets(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return ASGI headers as text, with the values of credentials replaced."""
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
    return {name: REDACTED if name in _SECRET_HEADERS else value for name, value in named.items()}


def query_without_secrets(query: str) -> str:
    """Return a query string with the value of ``token`` replaced."""
    return _SECRET_PARAMETERS.sub(rf"\g<1>{REDACTED}", query)


class RequestsLog:
    """The requests in the order of their arrival. Can be used from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[int, Received] = {}
        self._next_ticket = 0

    def add(self, received: Received) -> int:
        """Append a request and return the ticket by which its status is set later."""
        with self._lock:
            ticket = self._next_ticket
            self._next_ticket += 1
            self._entries[ticket] = received
            return ticket

    def set_status(self, ticket: int, status: int) -> None:
        """Note what was answered; a request that was cleared meanwhile is let be."""
        with self._lock:
            if ticket in self._entries:
                self._entries[ticket] = replace(self._entries[ticket], status=status)

    def clear(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._entries.clear()

    def all(self) -> list[Received]:
        """Return the requests, oldest first."""
        with self._lock:
            return list(self._entries.values())
