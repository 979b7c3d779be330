"""
Limits on how long sending a request may take, and receiving the headers of its answer.

httpx limits the time for each piece that is sent or received. A server that sends a byte now and then, or one
provisional answer (``100 Continue``) after another, could keep a caller waiting for hours. ``answer_bodies`` limits
the bodies.
"""

from __future__ import annotations

import logging
import ssl
import time
from typing import Any

import httpcore
import httpx

MAX_SENDING_SECONDS = 900.0
"""Seconds after which sending a request fails: enough for 10 MB at 12 KB a second."""

_LATE_SECONDS = 1.0
"""Seconds that the one read after the deadline waits for data that may have arrived meanwhile."""

log = logging.getLogger(__name__)


class _Times:
    """
    How long a connection's current exchange may still take.

    The time for the headers starts with the first attempt to read them, however long the request's own body took, and
    is as long as httpx allows for a piece. After the deadline there is one more read, so that an answer to a POST that
    has already arrived is not thrown away.
    """

    def __init__(self) -> None:
        self._sends = False
        self._end: float | None = None
        self._late = False

    def writing(self, timeout: float | None) -> float | None:
        """Return the seconds that sending a piece may take."""
        if not self._sends:
            self._sends, self._end = True, time.monotonic() + MAX_SENDING_SECONDS
        seconds_left = self._left()
        if seconds_left is not None and seconds_left <= 0:
            raise httpcore.WriteTimeout(f"the request could not be sent within {MAX_SENDING_SECONDS:.0f} s")
        return _least(timeout, seconds_left)

    def reading(self, timeout: float | None) -> float | None:
        """Return the seconds that receiving a piece may take."""
        if self._sends:
            self._sends, self._late = False, False
            self._end = None if timeout is None else time.monotonic() + timeout
        seconds_left = self._left()
        if seconds_left is None or seconds_left > 0:
            return _least(timeout, seconds_left)
        if self._late:
            raise httpcore.ReadTimeout("the answer's headers came too slowly")
        self._late = True
        return _LATE_SECONDS

    def headers_received(self) -> None:
        """Stop the clock: whatever is read from now on is not the headers."""
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


def enforce_deadlines(client: httpx.Client | httpx.AsyncClient) -> None:
    """
    Limit the exchanges of a client, through a proxy or not.

    httpcore takes a network backend, but httpx has no parameter for one.
    """
    wrap = _Backend if isinstance(client, httpx.Client) else _AsyncBackend
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if backend is not None:
            pool._network_backend = wrap(backend)
        elif transport is not None:
            log.warning(
                "httpx %s does not let deadlines be set: a slow server can keep a call for hours", httpx.__version__
            )


def headers_received(response: httpx.Response) -> None:
    """Tell the stream that an answer's headers have arrived."""
    stream = response.extensions.get("network_stream")
    if isinstance(stream, _Stream | _AsyncStream):
        stream.times.headers_received()


def _least(*seconds: float | None) -> float | None:
    return min((one for one in seconds if one is not None), default=None)
