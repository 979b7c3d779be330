"""The only module that touches the network: httpx clients, sync and async, that carry out the protocol's steps."""

from __future__ import annotations

import asyncio
import copy
import logging
import re
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import cache
from typing import Any, BinaryIO, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx

from airflow_provider_voucherify.client import calls, protocol
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.client.deadlines import head_has_come, hold_to_deadlines
from airflow_provider_voucherify.client.meter import Meter
from airflow_provider_voucherify.client.paging import Listing
from airflow_provider_voucherify.client.protocol import Answer, Exclusive, NoAnswer, Protocol, Send, Sleep, Steps
from airflow_provider_voucherify.client.rate_limits import RateLimit
from airflow_provider_voucherify.client.redaction import without_locals
from airflow_provider_voucherify.client.retry import Outcome, RetryPolicy, seconds_until_retry
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.models.errors import VoucherifyError, VoucherifyReportError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MAX_ACTION_BYTES = 256 * 1024 * 1024
"""An async action of more bytes than this is refused; the errors of one 10 MiB batch are far below it."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""The same for any other answer to a GET: a page of 100 records, or a project's metadata schemas."""

MAX_WRITE_ANSWER_BYTES = 8 * 1024 * 1024
"""The same for anything but a GET: an id, a token or one record."""

MAX_ERROR_BYTES = 64 * 1024
"""Of an error answer only so many bytes are read."""

MAX_REPORT_BYTES = 1024 * 1024 * 1024
MAX_REPORT_SECONDS = 1_800.0
"""A report that is larger, or takes longer to arrive, is given up."""

MAX_REDIRECTS = 5

_ENCODINGS = {"Accept-Encoding": "gzip"}
"""What an answer may be packed with: httpx's own unpacking would make a gigabyte of one that is small."""

_PIECE_BYTES = 256 * 1024
"""So much of an answer that is packed is unpacked at once."""

_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@cache
def _tls() -> ssl.SSLContext:
    """One TLS context for the process: building one takes 20 ms."""
    return httpx.create_ssl_context()


_NO_PROXY_FOR_HTTP: dict[str, None] = {"http://": None}
"""
Which requests go past the proxy that the environment names (``HTTP_PROXY``, ``ALL_PROXY``): those over plain ``http``.

A proxy reads them whole, credentials included, while of ``https`` it sees the host's name alone. The rest of the
environment is trusted as by any other program: ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``.
httpx takes no credentials from ``.netrc`` unless it is told to.
"""


class _NoQueries(logging.Filter):
    """Keeps query strings and users out of httpx's log lines: a report's URL may carry a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_shown(str(arg)) if isinstance(arg, httpx.URL) else arg for arg in record.args)
        return True


class _NoHeaders(logging.Filter):
    """
    Keeps headers and a proxy's user and password out of httpcore's log lines.

    A redirect's address may carry a token there, and a cookie may be one.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str):
            record.msg = re.sub(r"(\[\(b['\"]|\bauth=).*", "[not shown]", record.msg, flags=re.DOTALL)
        return True


_in_event_loop: ContextVar[bool] = ContextVar("_in_event_loop", default=False)


class _NotInEventLoop(logging.Filter):
    """
    Hands the lines that an asynchronous client causes to a thread.

    A triggerer's log goes to another process. While that does not read it a line blocks whoever writes it, and in an
    event loop that is every trigger.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not _in_event_loop.get():
            return True
        context = copy_context()
        context.run(_in_event_loop.set, False)
        asyncio.get_running_loop().run_in_executor(None, context.run, logging.getLogger(record.name).handle, record)
        return False


_HTTPCORE = tuple(f"httpcore.{name}" for name in ("connection", "http11", "http2", "proxy", "socks"))

logging.getLogger("httpx").addFilter(_NoQueries())
for _name in _HTTPCORE:
    logging.getLogger(_name).addFilter(_NoHeaders())
for _name in ("httpx", protocol.__name__, *_HTTPCORE):
    logging.getLogger(_name).addFilter(_NotInEventLoop())


def _timeouts(settings: ConnectionSettings) -> httpx.Timeout:
    return httpx.Timeout(settings.extra.timeout, connect=settings.extra.connect_timeout)


def _no_answer(error: httpx.TransportError) -> NoAnswer:
    return NoAnswer(sent=not isinstance(error, _NEVER_SENT), why=f"{type(error).__name__}: {error}".rstrip(": "))


def _shown(url: str) -> str:
    """Return a URL without its user, and without its query but for a mark: both may hold a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "?…"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{'?…' if parts.query else ''}"


class _Unpacking:
    """
    Undoes an answer's content encoding in small pieces, so that whoever counts them can stop in time.

    :param encoding: value of ``Content-Encoding``; known are gzip, once, and none.
    """

    def __init__(self, encoding: str) -> None:
        self._name = encoding.strip().lower()
        self.is_known = self._name in ("", "identity", "gzip", "x-gzip")
        self._gzip = self._new() if self._name in ("gzip", "x-gzip") else None
        self._began = False

    def check(self) -> None:
        """Raise where nobody asked for the encoding."""
        if not self.is_known:
            raise httpx.DecodingError(f"the answer is packed with {self._name[:60]!r}, and gzip alone was asked for")

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Give what a chunk holds; one of gzip may hold a thousand times its size."""
        if self._gzip is None:
            yield chunk
            return
        self._began = self._began or bool(chunk)
        while True:
            try:
                piece = self._gzip.decompress(chunk, _PIECE_BYTES)
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from error
            chunk = self._gzip.unconsumed_tail
            if self._gzip.eof and self._gzip.unused_data.startswith(b"\x1f"):  # a further member follows
                chunk, self._gzip = self._gzip.unused_data, self._new()
            elif not chunk and len(piece) < _PIECE_BYTES:
                yield piece
                return
            yield piece

    def end(self) -> None:
        """Raise where what was packed ended too early."""
        if self._gzip is not None and self._began and not self._gzip.eof:
            raise httpx.DecodingError("what is packed with gzip ends too early")

    @staticmethod
    def _new() -> zlib._Decompress:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _bounded(response: httpx.Response) -> Iterator[bytes]:
    """Give the body of a report, unpacked, within bounds of size and time."""
    deadline, size = time.monotonic() + MAX_REPORT_SECONDS, 0
    unpacking = _Unpacking(response.headers.get("content-encoding", ""))
    unpacking.check()
    for chunk in response.iter_raw():
        for piece in unpacking.pieces(chunk):
            size += len(piece)
            if size > MAX_REPORT_BYTES or time.monotonic() > deadline:
                raise VoucherifyReportError(
                    f"the report is larger than {MAX_REPORT_BYTES:,} bytes or came too slowly; given up"
                )
            yield piece
    unpacking.end()


class _Reading:
    """
    Collects an answer's body within bounds of size and time.

    The time runs from the headers on, whatever the request's own body took: of an answer to a POST nothing is thrown
    away that is there. So the piece that came too late is kept, and only one more after it is too many.

    :param seconds: for the body.
    :param large: whether it may have ``MAX_ACTION_BYTES``.
    """

    def __init__(self, response: httpx.Response, seconds: float, *, large: bool) -> None:
        head_has_come(response)
        self._response = response
        self._deadline = time.monotonic() + seconds
        self._late = False
        most = MAX_ANSWER_BYTES if response.request.method == "GET" else MAX_WRITE_ANSWER_BYTES
        most = MAX_ACTION_BYTES if large else most
        self._limit = most if response.is_success else MAX_ERROR_BYTES
        self._body = bytearray()
        self._unpacking = _Unpacking(response.headers.get("content-encoding", ""))
        if response.is_success:
            self._unpacking.check()

    def take(self, chunk: bytes) -> bool:
        """Add a chunk as it was sent; say whether more may follow."""
        if self._late:
            raise httpx.ReadTimeout("the answer came too slowly")
        self._late = time.monotonic() > self._deadline
        for piece in self._unpacking.pieces(chunk):
            self._body += piece
            if len(self._body) > self._limit:
                break
        if len(self._body) > self._limit and self._response.is_success:
            raise httpx.ReadError(f"the answer is larger than {self._limit:,} bytes")
        return len(self._body) <= self._limit

    def answer(self) -> Answer:
        if self._response.is_success:
            self._unpacking.end()
        headers = {name.lower(): value for name, value in self._response.headers.items()}
        return Answer(self._response.status_code, headers, bytes(self._body[: self._limit]))


class _Download:
    """
    Decides, for both clients, how a file is fetched: where from, with which headers, and what to do next.

    Redirects are followed, at most five; each hop gets credentials only where the connection owns its URL.

    :param waited: seconds that the client has waited for rate limits since it last got a report.
    """

    def __init__(self, settings: ConnectionSettings, retry: RetryPolicy, url: str, waited: float) -> None:
        self._settings, self._retry, self._start = settings, retry, url
        self.url = url
        self.refused_token: str | None = None
        self._hops = self._failures = 0
        self.waited = waited

    @property
    def shown(self) -> str:
        """The URL without its query and user, which may hold a token."""
        return _shown(self.url).removesuffix("?…")

    def check(self) -> None:
        try:
            parts = urlsplit(self.url)
        except ValueError as error:
            raise VoucherifyReportError(f"the report's address is not a URL: {error}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise VoucherifyReportError(f"the report's address is not an http(s) URL: {self.shown}")
        downgraded = parts.scheme == "http" and self._settings.base_url.startswith("https")
        if downgraded and not self._settings.extra.allow_http:
            raise VoucherifyReportError(f"the report is offered over plain http, which is refused: {self.shown}")

    def redirected(self, response: httpx.Response) -> bool:
        if not response.has_redirect_location:
            return False
        self._hops += 1
        if self._hops > MAX_REDIRECTS:
            raise VoucherifyReportError(f"the report is redirected more than {MAX_REDIRECTS} times: {self.shown}")
        try:
            self.url = urljoin(self.url, response.headers["location"])
        except ValueError as error:
            raise VoucherifyReportError(f"the report's redirect is not a URL ({error}): {self.shown}") from None
        return True

    def needs_token(self, response: httpx.Response, headers: Mapping[str, str]) -> bool:
        """Say whether a token was refused that can be renewed, which is done once."""
        token = headers.get("Authorization")
        if response.status_code != 401 or token is None or self.refused_token is not None:
            return False
        self.refused_token = token.removeprefix("Bearer ")
        return True

    def wait_after(self, answer: Answer | NoAnswer) -> float:
        """Return the seconds to wait before starting anew, or raise."""
        if isinstance(answer, Answer):
            outcome = Outcome(answer.status, rate_limit=RateLimit.from_headers(answer.headers))
        else:
            outcome = Outcome(None)
        status = outcome.status
        self._failures += status != 429
        wait = seconds_until_retry(
            self._retry, outcome, safe=True, failures=self._failures, waited=self.waited, now=time.time()
        )
        if wait is None:
            said = answer.why if isinstance(answer, NoAnswer) else f"status {answer.status}"
            gone = ", it may have expired" if status in (401, 403, 404, 410) else ""
            raise VoucherifyReportError(f"the report could not be fetched ({said}{gone}): {self.shown}")
        self.waited += wait if status == 429 else 0.0
        self.url, self._hops = self._start, 0
        return wait


_sync_token_locks: dict[tuple[str, ...], threading.Lock] = {}


def _sync(call: Callable[P, Call[T]]) -> Callable[Concatenate[VoucherifyClient, P], T]:
    def method(self: VoucherifyClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(call(*args, **kwargs))

    method.__doc__ = call.__doc__
    return method


def _async(call: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncVoucherifyClient, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncVoucherifyClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(call(*args, **kwargs))

    method.__doc__ = call.__doc__
    return method


class VoucherifyClient:
    """
    A synchronous client of one Voucherify project. Use it as a context manager, or call ``close``.

    Every method raises the errors of ``models.errors``. Reads are sent again after transient failures; the bulk
    calls only when it is certain that Voucherify did not take them.

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
        hold_to_deadlines(self._http)
        self._waited_for_reports = 0.0
        self._most_wait: Callable[[], float] | None = None
        self._token_lock = _sync_token_locks.setdefault(self._protocol.token_key, threading.Lock())

    def send(self, call: Call[T], *, max_rate_limit_wait: float | None = None) -> T:
        """
        Carry out any call of ``client.calls`` and return its value.

        :param max_rate_limit_wait: most seconds to wait for rate limits in all; by default what the retry policy says,
            which in any case is the most while no other call of this process gets through.
            ``VoucherifyRateLimitError`` has the time from which calls are allowed again.
        """
        if self._most_wait is not None:
            most = self._most_wait()
            max_rate_limit_wait = most if max_rate_limit_wait is None else min(most, max_rate_limit_wait)
        with without_locals():
            return self._perform(self._protocol.carry_out(call, max_rate_limit_wait))

    @property
    def holds_bulk_calls(self) -> bool:
        """Whether a bulk call would have to wait for a rate limit until a time that is known."""
        return self._protocol.is_held("bulk_api_calls")

    def calls_left(self) -> int | None:
        """
        Return how many API calls other than bulk calls are left in this period, or come with the next where none are.

        None where neither Voucherify nor the connection has told. Other processes may call too.
        """
        return self._protocol.calls_left()

    def waiting_at_most(self, seconds: Callable[[], float]) -> Self:
        """
        Return a client that waits for rate limits no longer than allowed, with the same connections: close one of both.

        :param seconds: asked before each call and each download.
        """
        bounded = copy.copy(self)
        bounded._most_wait = seconds
        return bounded

    def iterate(self, listing: Listing[Any, R]) -> Iterator[R]:
        """Give the records of a listing of ``client.records``, asking for a page when it is needed."""
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

        Credentials go along only to the connection's own hosts, whatever the URL or a redirect says. The file is
        written as it comes (content encodings such as gzip undone), never held in memory.

        :param url: one of a result's ``reports``.
        :param file: a seekable binary file; emptied first.
        :returns: bytes written.
        :raises VoucherifyReportError: the report is gone, or cannot be fetched.
        """
        most = None if self._most_wait is None else self._most_wait()
        retry = self._retry.waiting_at_most(most, self._waited_for_reports)
        download = _Download(self.settings, retry, url, self._waited_for_reports)
        del url  # it may hold a token, and a traceback would show it
        with without_locals():
            return self._fetch(download, file, most)

    def _fetch(self, download: _Download, file: BinaryIO, most: float | None) -> int:
        while True:
            download.check()
            try:
                headers = self._perform(self._protocol.credentials(download.url, download.refused_token, most))
            except VoucherifyError as error:
                raise VoucherifyReportError(f"the report could not be fetched: {error}") from error
            file.seek(0)
            file.truncate()
            try:
                with self._http.stream("GET", download.url, headers={**headers, **_ENCODINGS}) as response:
                    head_has_come(response)
                    if download.redirected(response) or download.needs_token(response, headers):
                        continue
                    if response.status_code == 200:
                        file.writelines(_bounded(response))
                        self._waited_for_reports = 0.0
                        return file.tell()
                    failed: Answer | NoAnswer = Answer(response.status_code, response.headers, b"")
            except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL) as error:
                failed = NoAnswer(sent=True, why=f"{type(error).__name__}: {error}")
            time.sleep(download.wait_after(failed))
            self._waited_for_reports = download.waited

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
        headers = {**send.headers, **_ENCODINGS}
        try:
            with self._http.stream(send.method, send.url, headers=headers, content=send.body) as response:
                reading = _Reading(response, self.settings.extra.timeout, large=send.large)
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
    The asynchronous twin of ``VoucherifyClient``, with the same methods as coroutines.

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
        hold_to_deadlines(self._http)
        self._token_lock = asyncio.Lock()

    async def send(self, call: Call[T], *, max_rate_limit_wait: float | None = None) -> T:
        """Carry out any call of ``client.calls`` and return its value; see ``VoucherifyClient.send``."""
        with without_locals():
            return await self._perform(self._protocol.carry_out(call, max_rate_limit_wait))

    async def iterate(self, listing: Listing[Any, R]) -> AsyncIterator[R]:
        """Give the records of a listing of ``client.records``, asking for a page when it is needed."""
        page: Any = None
        with suppress(StopIteration):
            while True:
                step, page = listing.send(page), None
                if isinstance(step, Call):
                    page = await self.send(step)
                else:
                    for record in step:
                        yield record

    bulk = _async(calls.bulk)
    bulk_update = _async(calls.bulk_update)
    bulk_metadata_update = _async(calls.bulk_metadata_update)
    get_async_action = _async(calls.get_async_action)
    list_async_actions = _async(calls.list_async_actions)
    get_metadata_schema = _async(calls.get_metadata_schema)
    list_metadata_schemas = _async(calls.list_metadata_schemas)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _perform(self, steps: Steps[T]) -> T:
        outcome: Any = None
        logs_in_thread = _in_event_loop.set(True)
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
            _in_event_loop.reset(logs_in_thread)

    async def _exchange(self, send: Send) -> Answer | NoAnswer:
        content = None if send.body is None else _async_chunks(send.body)
        headers = {**send.headers, **_ENCODINGS}
        try:
            async with self._http.stream(send.method, send.url, headers=headers, content=content) as response:
                reading = _Reading(response, self.settings.extra.timeout, large=send.large)
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
