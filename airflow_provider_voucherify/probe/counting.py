"""A client that counts its requests, sends no more than it may, and shows each answer as it came."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import Any

import msgspec

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.rate_limits import RateLimit
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.client.steps import Answer, NoAnswer, Send
from airflow_provider_voucherify.models.errors import (
    PortableError,
    VoucherifyApiError,
    VoucherifyError,
    VoucherifyRateLimitError,
    VoucherifyUnexpectedAnswerError,
)
from airflow_provider_voucherify.probe.facts import Answered, Limits, Missing
from airflow_provider_voucherify.sync.types.text import counted


class CallsUsedUpError(PortableError):
    """No further request may be sent."""


class Counter:
    """
    Counts requests.

    :param allowed: how many may be sent.
    """

    def __init__(self, allowed: int) -> None:
        self.allowed, self.sent = allowed, 0
        self.reserved = 0
        """Requests that are kept for later, and must not be sent now."""

    @property
    def left(self) -> int:
        """How many may still be sent now."""
        return self.allowed - self.reserved - self.sent

    def take(self) -> None:
        """
        Count a request that is about to be sent.

        :raises CallsUsedUpError: it must not be sent.
        """
        if self.left <= 0:
            raise CallsUsedUpError(f"used up: {self.sent} of {counted(self.allowed, 'call')}")
        self.sent += 1


class CountingClient(VoucherifyClient):
    """
    A client whose requests are counted, those for tokens and repeated ones too.

    :param settings: how to reach the project.
    :param counter: counts them, for other clients as well.
    :param patience: seconds that a call waits for a rate limit.
    """

    def __init__(self, settings: ConnectionSettings, counter: Counter, patience: float) -> None:
        super().__init__(settings, retry=RetryPolicy(attempts=2, max_rate_limit_wait=patience))
        self.counter = counter
        self.limits: list[Limits] = []
        self._headers: Mapping[str, str] = {}
        self._answer: Answer | NoAnswer | None = None

    def ask(self, call: Call[Any], headers: Mapping[str, str] | None = None) -> Answered | Missing:
        """
        Send a call and return its answer, whatever that is.

        :param headers: sent beside the usual ones.
        """
        self._answer, self._headers = None, headers or {}
        try:
            with suppress(VoucherifyUnexpectedAnswerError):
                self.send(call)
        except CallsUsedUpError as error:
            return Missing(str(error), asked=False)
        except VoucherifyRateLimitError as error:
            return Missing(_until(error), asked=False)
        except VoucherifyApiError:
            pass
        except VoucherifyError as error:
            return Missing(f"no answer: {error.happened}", asked=True)
        if not isinstance(self._answer, Answer):
            return Missing("no answer", asked=True)
        kind = "csv" if call.path.endswith("/importCSV") else "bulk" if call.bucket == "bulk_api_calls" else "ordinary"
        self.limits.append(Limits(kind, RateLimit.from_headers(self._answer.headers)))
        return Answered(self._answer.status, _decoded(self._answer.body))

    def fetch(self, url: str, *, with_credentials: bool) -> bytes | str:
        """
        Fetch a report; return its content, or what went wrong, without the address.

        :param with_credentials: whether they may be sent, which they are to the connection's own hosts alone.
        """
        file = BytesIO()
        settings = self.settings if with_credentials else _nowhere(self.settings)
        try:
            self.counter.take()
            with VoucherifyClient(settings, retry=RetryPolicy(attempts=1)) as client:
                client.download(url, file)
        except CallsUsedUpError as error:
            return str(error)
        except VoucherifyError as error:
            return error.happened.partition(": http")[0]
        return file.getvalue()

    def _exchange(self, send: Send) -> Answer | NoAnswer:
        self.counter.take()
        self._answer = super()._exchange(replace(send, headers={**send.headers, **self._headers}))
        return self._answer


def _nowhere(settings: ConnectionSettings) -> ConnectionSettings:
    """Return the settings of a connection that owns no host, so that no credentials are sent."""
    scheme = settings.base_url.partition("://")[0]
    return settings.model_copy(update={"base_url": f"{scheme}://nowhere.invalid"})


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _until(error: VoucherifyRateLimitError) -> str:
    when = "" if error.retry_at is None else time.strftime(" until %H:%M:%S UTC", time.gmtime(error.retry_at))
    return f"the {error.limit_type or 'rate'} limit is used up{when}"
