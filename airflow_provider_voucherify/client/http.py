"""The only module that uses the network: httpx clients, sync and async, that perform the steps of the protocol."""

from __future__ import annotations

import asyncio
import copy
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO, Concatenate, ParamSpec, Self, TypeVar

import httpx

from airflow_provider_voucherify.client import calls, exports
from airflow_provider_voucherify.client.answer_bodies import ENCODINGS, AnswerBody
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.client.deadlines import enforce_deadlines, headers_received
from airflow_provider_voucherify.client.downloads import Download, FileKind, bounded_pieces
from airflow_provider_voucherify.client.http_logs import in_event_loop
from airflow_provider_voucherify.client.meter import Meter
from airflow_provider_voucherify.client.paging import Listing
from airflow_provider_voucherify.client.protocol import Protocol
from airflow_provider_voucherify.client.redaction import without_locals
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.client.steps import Answer, Exclusive, NoAnswer, Send, Sleep, Steps
from airflow_provider_voucherify.models.errors import VoucherifyError, VoucherifyExportError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@cache
def _tls() -> ssl.SSLContext:
    """Return the one TLS context of the process: building one takes 20 ms."""
    return httpx.create_ssl_context()


_NO_PROXY_FOR_HTTP: dict[str, None] = {"http://": None}
"""
Requests over plain ``http`` bypass the proxy that the environment names (``HTTP_PROXY``, ``ALL_PROXY``).

A proxy can read all of them, including the credentials, but only the host name of those over ``https``. Otherwise the
environment is trusted as by any other program: ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``.
httpx takes no credentials from ``.netrc`` unless it is configured to.
"""


def _timeouts(settings: ConnectionSettings) -> httpx.Timeout:
    return httpx.Timeout(settings.extra.timeout, connect=settings.extra.connect_timeout)


def _no_answer(error: httpx.TransportError) -> NoAnswer:
    return NoAnswer(sent=not isinstance(error, _NEVER_SENT), why=f"{type(error).__name__}: {error}".rstrip(": "))


_sync_token_locks: dict[tuple[str, ...], threading.Lock] = {}


def _sync(call: Callable[P, Call[T]]) -> Callable[Concatenate[VoucherifyClient, P], T]:
    def method(self: VoucherifyClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(call(*args, **kwargs))

    method.__doc__ = call.__doc__
    return method


class VoucherifyClient:
    """
    A synchronous client of one Voucherify project. Use it as a context manager, or call ``close``::

        settings = ConnectionSettings.build(application_id="…", secret_key="…", host="eu")
        with VoucherifyClient(settings) as client:
            customer = client.send(customers.get_customer("c1"))
            for other in client.iterate(customers.all_customers(city="Berlin")):
                ...

    All methods raise the errors of ``models.errors``. Reads are sent again after transient failures, the bulk calls
    only if Voucherify has certainly not accepted them.

    :param settings: how to reach the project.
    :param retry: when to send a request again.
    """

    def __init__(self, settings: ConnectionSettings, *, retry: RetryPolicy | None = None) -> None:
        self.settings = settings
        self.meter = Meter()
        self._retry = retry or RetryPolicy()
        self._protocol = Protocol(settings, self._retry)
        self._http = httpx.Client(
            timeout=_timeouts(settings), verify=_tls(), follow_redirects=False, mounts=_NO_PROXY_FOR_HTTP
        )
        enforce_deadlines(self._http)
        self._waited_for_files = 0.0
        self._max_wait: Callable[[], float] | None = None
        self._token_lock = _sync_token_locks.setdefault(self._protocol.auth.token_key, threading.Lock())

    def send(self, call: Call[T], *, max_rate_limit_wait: float | None = None) -> T:
        """
        Send any call of ``client`` and return its value.

        :param max_rate_limit_wait: see ``Protocol.carry_out``. ``VoucherifyRateLimitError`` has the time from which
            calls are allowed again.
        """
        if self._max_wait is not None:
            limit = self._max_wait()
            max_rate_limit_wait = limit if max_rate_limit_wait is None else min(limit, max_rate_limit_wait)
        with without_locals():
            return self._perform(self._protocol.carry_out(call, max_rate_limit_wait))

    @property
    def bulk_calls_must_wait(self) -> bool:
        """Whether a bulk call would have to wait for a rate limit until a time that is known."""
        return self._protocol.must_wait("bulk_api_calls")

    def calls_left(self) -> int | None:
        """
        Return how many API calls other than bulk calls are left in this period; if none, how many the next allows.

        None if neither Voucherify nor the connection has set a limit. Other processes may use up calls too.
        """
        return self._protocol.calls_left()

    def waiting_at_most(self, seconds: Callable[[], float]) -> Self:
        """
        Return a client that waits for rate limits for a limited time. It shares the connections: close only one.

        :param seconds: returns the limit; called before each call and each download.
        """
        bounded = copy.copy(self)
        bounded._max_wait = seconds
        return bounded

    def iterate(self, listing: Listing[Any, R]) -> Iterator[R]:
        """Yield the records of a listing such as ``customers.all_customers()``; pages are fetched as needed."""
        page: Any = None
        with suppress(StopIteration):
            while True:
                step, page = listing.send(page), None
                if isinstance(step, Call):
                    page = self.send(step)
                else:
                    yield from step

    bulk = _sync(calls.bulk)
    bulk_update = _sync(calls.bulk_update)
    bulk_metadata_update = _sync(calls.bulk_metadata_update)
    get_async_action = _sync(calls.get_async_action)
    list_async_actions = _sync(calls.list_async_actions)
    get_metadata_schema = _sync(calls.get_metadata_schema)
    list_metadata_schemas = _sync(calls.list_metadata_schemas)

    def download(self, url: str, file: BinaryIO) -> int:
        """
        Fetch a report into a file, from the start again after a transient failure.

        Credentials are sent to the connection's own hosts only, whatever the URL or a redirect says. The file is
        written piece by piece (unpacked if it came with a content encoding such as gzip), never kept in memory.

        :param url: one of a result's ``reports``.
        :param file: a seekable binary file; emptied first.
        :returns: bytes written.
        :raises VoucherifyReportError: the report is gone, or cannot be fetched.
        """
        download, max_wait = self._download_of(FileKind.REPORT, url)
        del url  # it may hold a token, which a traceback would show
        with without_locals():
            return self._fetch(download, file, max_wait)

    def download_export(self, export_id: str, file: BinaryIO) -> int:
        """
        Fetch the file of a finished export, from the start again after a transient failure.

        The file's address holds a token, so it is asked for here (``GET /v1/exports/{exportId}``) and never given out;
        once more if its time is over before the file has been fetched. Keys are sent beside the token, as the vendor's
        guide on exports demands, but to the connection's own hosts only. The file is written piece by piece.

        :param export_id: ``exp_…``.
        :param file: a seekable binary file; emptied first.
        :returns: bytes written: CSV with a header.
        :raises VoucherifyExportError: the export failed, is not finished, or its file is gone or cannot be fetched.
        """
        with without_locals():
            for again in (False, True):
                url = exports.url_of(export_id, self.send(exports.export_file(export_id)))
                download, max_wait = self._download_of(FileKind.EXPORT, url.get_secret_value())
                try:
                    return self._fetch(download, file, max_wait)
                except VoucherifyExportError:
                    if again or not download.expired:
                        raise
        raise AssertionError  # the second attempt returns or raises

    def _download_of(self, kind: FileKind, url: str) -> tuple[Download, float | None]:
        max_wait = None if self._max_wait is None else self._max_wait()
        retry = self._retry.waiting_at_most(max_wait, self._waited_for_files)
        return Download(kind, self.settings, retry, url, self._waited_for_files), max_wait

    def _fetch(self, download: Download, file: BinaryIO, max_wait: float | None) -> int:
        while True:
            download.check()
            try:
                headers = self._perform(self._protocol.auth.headers_for(download.url, download.refused_token, max_wait))
            except VoucherifyError as error:
                raise download.kind.error(f" could not be fetched: {error}") from error
            file.seek(0)
            file.truncate()
            try:
                with self._http.stream("GET", download.url, headers={**headers, **ENCODINGS}) as response:
                    headers_received(response)
                    if download.redirected(response) or download.needs_token(response, headers):
                        continue
                    if response.status_code == 200:
                        file.writelines(bounded_pieces(response, download.kind))
                        self._waited_for_files = 0.0
                        return file.tell()
                    failed: Answer | NoAnswer = Answer(response.status_code, response.headers, b"")
            except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as error:
                failed = NoAnswer(sent=True, why=f"{type(error).__name__}: {error}")
            time.sleep(download.wait_after(failed))
            self._waited_for_files = download.waited

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _perform(self, steps: Steps[T]) -> T:
        outcome: Any = None
        try:
            while True:
                step, outcome = steps.send(outcome), None
                match step:
                    case Send() as send:
                        outcome = self._exchange(send)
                    case Sleep(seconds, for_rate_limit):
                        if for_rate_limit:
                            self.meter.waited(seconds)
                        time.sleep(seconds)
                    case Exclusive(inner):
                        with self._token_lock:
                            outcome = self._perform(inner())
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            steps.close()

    def _exchange(self, send: Send) -> Answer | NoAnswer:
        self.meter.sent(send.url, send.body.length if send.body is not None else 0)
        headers = {**send.headers, **ENCODINGS}
        try:
            with self._http.stream(send.method, send.url, headers=headers, content=send.body) as response:
                reading = AnswerBody(response, self.settings.extra.timeout, large=send.large)
                for chunk in response.iter_raw():
                    if not reading.take(chunk):
                        break
                return reading.answer()
        except httpx.DecodingError as error:
            return NoAnswer(sent=True, why=str(error))
        except httpx.TransportError as error:
            return _no_answer(error)


class AsyncVoucherifyClient:
    """
    The asynchronous twin of ``VoucherifyClient``: it sends the same calls, and iterates over the same listings.

    Belongs to the event loop in which it is first used. It serves waiting triggers, so it offers no download.
    """

    def __init__(self, settings: ConnectionSettings, *, retry: RetryPolicy | None = None) -> None:
        self.settings = settings
        self._protocol = Protocol(settings, retry or RetryPolicy())
        self._http = httpx.AsyncClient(
            timeout=_timeouts(settings),
            verify=_tls(),
            follow_redirects=False,
            mounts=_NO_PROXY_FOR_HTTP,
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=2),
        )
        enforce_deadlines(self._http)
        self._token_lock = asyncio.Lock()

    async def send(self, call: Call[T], *, max_rate_limit_wait: float | None = None) -> T:
        """Send any call of ``client`` and return its value; see ``VoucherifyClient.send``."""
        with without_locals():
            return await self._perform(self._protocol.carry_out(call, max_rate_limit_wait))

    async def iterate(self, listing: Listing[Any, R]) -> AsyncIterator[R]:
        """Yield the records of a listing such as ``customers.all_customers()``; pages are fetched as needed."""
        page: Any = None
        with suppress(StopIteration):
            while True:
                step, page = listing.send(page), None
                if isinstance(step, Call):
                    page = await self.send(step)
                else:
                    for record in step:
                        yield record

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _perform(self, steps: Steps[T]) -> T:
        outcome: Any = None
        logs_in_thread = in_event_loop.set(True)
        try:
            while True:
                step, outcome = steps.send(outcome), None
                match step:
                    case Send() as send:
                        outcome = await self._exchange(send)
                    case Sleep(seconds):
                        await asyncio.sleep(seconds)
                    case Exclusive(inner):
                        async with self._token_lock:
                            outcome = await self._perform(inner())
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            steps.close()
            in_event_loop.reset(logs_in_thread)

    async def _exchange(self, send: Send) -> Answer | NoAnswer:
        content = None if send.body is None else _async_chunks(send.body)
        headers = {**send.headers, **ENCODINGS}
        try:
            async with self._http.stream(send.method, send.url, headers=headers, content=content) as response:
                reading = AnswerBody(response, self.settings.extra.timeout, large=send.large)
                async for chunk in response.aiter_raw():
                    if not reading.take(chunk):
                        break
                return reading.answer()
        except httpx.DecodingError as error:
            return NoAnswer(sent=True, why=str(error))
        except httpx.TransportError as error:
            return _no_answer(error)


async def _async_chunks(body: Body) -> AsyncIterator[bytes]:
    for chunk in body:
        yield chunk
