"""What httpx and httpcore may log: no credentials, and nothing that blocks an event loop."""

from __future__ import annotations

import asyncio
import logging
import re
from contextvars import ContextVar, copy_context

import httpx

from airflow_provider_voucherify.client import protocol
from airflow_provider_voucherify.client.redaction import redacted_url


class _NoQueries(logging.Filter):
    """Keeps query strings and users out of httpx's log lines: a report's URL may carry a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(redacted_url(str(arg)) if isinstance(arg, httpx.URL) else arg for arg in record.args)
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


in_event_loop: ContextVar[bool] = ContextVar("in_event_loop", default=False)


class _NotInEventLoop(logging.Filter):
    """
    Hands the lines that an asynchronous client logs to a thread.

    A triggerer's log goes to another process. If that process does not read, writing a line blocks, and in an event
    loop that blocks every trigger.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if not in_event_loop.get():
            return True
        context = copy_context()
        context.run(in_event_loop.set, False)
        asyncio.get_running_loop().run_in_executor(None, context.run, logging.getLogger(record.name).handle, record)
        return False


_HTTPCORE = tuple(f"httpcore.{name}" for name in ("connection", "http11", "http2", "proxy", "socks"))

logging.getLogger("httpx").addFilter(_NoQueries())
for _name in _HTTPCORE:
    logging.getLogger(_name).addFilter(_NoHeaders())
for _name in ("httpx", protocol.__name__, *_HTTPCORE):
    logging.getLogger(_name).addFilter(_NotInEventLoop())
