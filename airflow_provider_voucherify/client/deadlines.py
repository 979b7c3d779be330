"""
Bounds on how long sending a request may take, and the head of its answer.

httpx bounds each piece that is sent or received. A server that gives a byte now and then, or one provisional answer
(``100 Continue``) after another, would keep a caller for hours. The bodies of answers are bounded in ``http``.
"""

from __future__ import annotations

import logging
import ssl
import time
from typing import Any

import httpcore
import httpx

MAX_SENDING_SECONDS = 900.0
"""A request whose sending takes longer is given up: 10 MB on a line of 12 KB a second are sent in that time."""

_LATE_SECONDS = 1.0
"""How long the one look after the end of time waits for what may have arrived meanwhile."""

log = logging.getLogger(__name__)


class _Times:
    """
    How long a connection's current exchange may still take.

    The time for the head runs from the first attempt to read it, whatever the request's own body took, and is as long
    as httpx allows for a piece. When it is over there is one more look: of an answer to a POST nothing is thrown away
    that is there.
    """

    def __init__(self) -> None:
        self._sends = False
        self._end: float | None = None
        self._late = False

    def writing(self, timeout: float | None) -> float | None:
        """Return the seconds for a piece that is sent."""
        if not self._sends:
            self._sends, self._end = True, time.monotonic() + MAX_SENDING_SECONDS
        left = self._left()
        if left is not None and left <= 0:
            raise httpcore.WriteTimeout(f"the request could not be sent within {MAX_SENDING_SECONDS:.0f} s")
        return _least(timeout, left)

    def reading(self, timeout: float | None) -> float | None:
        """Return the seconds for a piece that is received."""
        if self._sends:
            self._sends, self._late = False, False
            self._end = None if timeout is None else time.monotonic() + timeout
        left = self._left()
        if left is None or left > 0:
            return _least(timeout, left)
        if self._late:
            raise httpcore.ReadTimeout("the answer's headers came too slowly")
        self._late = True
        return _LATE_SECONDS

    def head_has_come(self) -> None:
        """Stop the clock: what is read from now on is the body, or what is not read at all."""
        self._end = None

    def _left(self) -> float | None:
        return None if self._end is None else self._end - time.monotonic()


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self.times = _Times()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self.times.reading(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self.times.writing(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _AsyncStream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self.times = _Times()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._inner.read(max_bytes, self.times.reading(timeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._inner.write(buffer, self.times.writing(timeout))

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return _AsyncStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _Stream(self._inner.connect_tcp(*args, **kwargs))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _AsyncBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _AsyncStream(await self._inner.connect_tcp(*args, **kwargs))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def hold_to_deadlines(client: httpx.Client | httpx.AsyncClient) -> None:
    """
    Bound the exchanges of a client, by way of a proxy or not.

    httpcore takes a network backend, but httpx has no parameter to hand one over.
    """
    wrap = _Backend if isinstance(client, httpx.Client) else _AsyncBackend
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if backend is not None:
            pool._network_backend = wrap(backend)
        elif transport is not None:
            log.warning("httpx %s has no place for bounds: a slow server can keep a call for hours", httpx.__version__)


def head_has_come(response: httpx.Response) -> None:
    """Say that an answer's headers are there."""
    stream = response.extensions.get("network_stream")
    if isinstance(stream, _Stream | _AsyncStream):
        stream.times.head_has_come()


def _least(*seconds: float | None) -> float | None:
    return min((one for one in seconds if one is not None), default=None)
