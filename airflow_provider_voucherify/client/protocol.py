"""
How a call is carried out: authorisation, pacing, retries, errors. No I/O: see ``client.steps``.

``http`` performs the steps with a sync and an async httpx client. So both clients, and the tests, share one definition
of every behaviour.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from airflow_provider_voucherify import __version__
from airflow_provider_voucherify.client import budgets
from airflow_provider_voucherify.client.advice import advice
from airflow_provider_voucherify.client.answer_errors import error_of
from airflow_provider_voucherify.client.auth import Auth
from airflow_provider_voucherify.client.budgets import MustWait, budgets_of
from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.rate_limits import Bucket, CallLimit, RateLimit
from airflow_provider_voucherify.client.redaction import redact
from airflow_provider_voucherify.client.retry import (
    RETRIED_STATUSES,
    CallOutcome,
    RetryPolicy,
    WaitAllowance,
    seconds_until_retry,
)
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.client.steps import Answer, NoAnswer, Send, Sleep, Steps
from airflow_provider_voucherify.models import errors

T = TypeVar("T")

log = logging.getLogger(__name__)

_MIN_PAUSE, _MAX_PAUSE = 0.02, 0.5
"""Seconds between two checks whether a call in flight has been answered."""


class Protocol:
    """
    Carries out calls for one connection.

    Calls wait for the project's rate limits before they are sent, see ``client.budgets``. A token that is answered with
    a 401 is renewed once, see ``client.auth``.

    :param settings: how to reach the project.
    :param retry: when to send a request again.
    :param clock: returns Unix epoch seconds.
    """

    def __init__(
        self, settings: ConnectionSettings, retry: RetryPolicy, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self.auth = Auth(settings, clock, self.carry_out)
        self._retry = retry
        self._clock = clock

    def carry_out(self, call: Call[T], max_rate_limit_wait: float | None = None) -> Steps[T]:
        """
        Send a call as soon as the rate limits allow it, and again after failures that the retry policy covers.

        :param max_rate_limit_wait: seconds that this call may wait for rate limits in total; None for no limit but the
            retry policy's, which starts again whenever another call of this process gets through.
        :raises VoucherifyError: see ``models.errors``; the class shows what happened, and so what may be repeated.
        """
        allowance = WaitAllowance(self._retry, max_rate_limit_wait, self._budgets.taken)
        token: str | None = None
        renewed = perhaps_accepted = False
        failures = 0
        while True:
            reserved, token = yield from self._reserve(call, token, allowance, max_rate_limit_wait)
            answer: Answer | NoAnswer | None = None
            try:
                answer = yield Send(
                    call.method, self.settings.base_url + call.target, self._headers(call, token), call.body, call.large
                )
            finally:
                self._end(call, reserved, answer)
            if isinstance(answer, Answer) and 200 <= answer.status < 300:
                return self._value(call, answer)
            if isinstance(answer, Answer) and answer.status == 404 and call.gone_is_done and perhaps_accepted:
                return call.parse(None)
            if isinstance(answer, Answer) and answer.status == 401 and token is not None and not renewed:
                renewed = True
                token = yield from self._token_for(call, token, max_rate_limit_wait)
                continue
            answer = self._without_secrets(answer, token or "", *call.secrets)
            if isinstance(answer, NoAnswer):
                outcome = CallOutcome(None, sent=answer.sent)
            else:
                outcome = CallOutcome(answer.status, rate_limit=RateLimit.from_headers(answer.headers))
            failures += outcome.status != 429
            perhaps_accepted |= outcome.sent and (outcome.status is None or outcome.status in RETRIED_STATUSES)
            now = self._clock()
            policy = allowance.policy()
            next_wait = seconds_until_retry(
                policy, outcome, safe=call.safe, failures=failures, waited=allowance.waited, now=now
            )
            if next_wait is None:
                quotes = self.settings.quotes_answers
                error = error_of(call, answer, now, self._asked(call), quotes=quotes)
                error.advice = call.advise(error) or advice(error, self.settings)
                raise error
            self._explain(call, answer, outcome, next_wait, now)
            if outcome.status == 429:
                allowance.waits(next_wait, call.bucket)
            yield Sleep(next_wait, for_rate_limit=outcome.status == 429)

    def _reserve(
        self, call: Call[Any], token: str | None, allowance: WaitAllowance, max_rate_limit_wait: float | None
    ) -> Steps[tuple[int, str | None]]:
        """
        Wait until the rate limits allow a call.

        :param token: fetched if it is None and the call needs one, and again after a wait, since it may have expired.
        :returns: the number of the call in the budgets, and the token.
        """
        paused = 0.0
        while True:
            if token is None and self.auth.needs_token(call):
                token = yield from self._token_for(call, None, max_rate_limit_wait)
            seconds_left = allowance.seconds_left
            reserved = self._budgets.send(call.bucket, self._limits, self._clock(), patient=seconds_left > 0)
            if not isinstance(reserved, MustWait):
                return reserved, token
            wait = self._seconds_to_wait(call, reserved, seconds_left, paused)
            allowance.waits(wait, reserved.bucket)
            paused = paused + wait if reserved.until is None else 0.0
            token = None
            yield Sleep(wait, for_rate_limit=True)

    def must_wait(self, bucket: Bucket) -> bool:
        """Say whether a call would have to wait for a rate limit until a time that is known."""
        return self._budgets.must_wait(bucket, self._limits, self._clock())

    def calls_left(self) -> int | None:
        """Return how many ordinary calls are left, None if unknown; see ``VoucherifyClient.calls_left``."""
        return self._budgets.left("api_calls", self._limits)

    @property
    def _budgets(self) -> budgets.Budgets:
        return budgets_of(self.settings.base_url, self.settings.application_id)

    @property
    def _limits(self) -> Mapping[Bucket, CallLimit | None]:
        extra = self.settings.extra
        return {"api_calls": extra.rate_limit, "bulk_api_calls": extra.bulk_rate_limit}

    def _seconds_to_wait(self, call: Call[Any], limit: MustWait, seconds_left: float, paused: float) -> float:
        """
        Return the seconds to wait before a call may be sent, and say why.

        :param seconds_left: seconds that it may still wait for rate limits.
        :param paused: seconds that it has just waited for the answers of other calls, without a break.
        """
        if limit.until is None:
            wait = min(max(paused / 2, _MIN_PAUSE), _MAX_PAUSE, seconds_left)
            if paused < 1.0 <= paused + wait:
                log.info("%s waits for other calls to be answered: %s", call, limit.why)
            return wait
        now = self._clock()
        wait = max(0.0, limit.until - now)
        if wait > seconds_left:
            allowed = f"{max(0.0, seconds_left):.0f} s"
            why = f"{limit.why} until {_utc(limit.until)} UTC, which is longer than it may wait ({allowed})"
            asked = self._asked(call)
            raise self._advised(
                errors.VoucherifyRateLimitError(
                    str(call), 429, limit_type=limit.bucket, retry_at=limit.until, sent=False, message=why, asked=asked
                )
            )
        wait = min(wait + budgets.CLOCK_MARGIN, seconds_left)
        log.info("%s waits %.0f s, until %s UTC: %s", call, wait, _utc(now + wait), limit.why)
        return wait

    def _end(self, call: Call[Any], reserved: int, answer: Answer | NoAnswer | None) -> None:
        self._budgets.ended(
            reserved,
            call.bucket,
            self._limits,
            self._clock(),
            status=answer.status if isinstance(answer, Answer) else None,
            sent=answer.sent if isinstance(answer, NoAnswer) else True,
            headers=RateLimit.from_headers(answer.headers) if isinstance(answer, Answer) else None,
        )

    def _headers(self, call: Call[Any], token: str | None) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "User-Agent": f"airflow-provider-voucherify/{__version__}",
            "X-Voucherify-API-Version": self.settings.extra.api_version,
            "X-Voucherify-Channel": f"Airflow-provider-v{__version__}",
        }
        headers |= self.auth.headers(token)
        if call.body is not None:
            headers |= {"Content-Type": call.body.content_type, "Content-Length": str(call.body.length)}
        return headers

    def _without_secrets(self, answer: Answer | NoAnswer, *secrets: str) -> Answer | NoAnswer:
        """Remove credentials from an answer: an error page may quote the request, and errors quote the page."""
        credentials = (self.settings.secret_key.get_secret_value(), *secrets)
        if isinstance(answer, NoAnswer):
            return replace(answer, why=redact(answer.why.encode(errors="replace"), credentials).decode())
        return replace(answer, body=redact(answer.body, credentials))

    def _token_for(self, call: Call[Any], refused: str | None, max_rate_limit_wait: float | None) -> Steps[str]:
        """Return a token. If the token request fails without an answer or with a broken one, the call was not sent."""
        try:
            return (yield from self.auth.token(refused, max_rate_limit_wait))
        except (
            errors.VoucherifyNoAnswerError,
            errors.VoucherifyServerError,
            errors.VoucherifyUnexpectedAnswerError,
        ) as error:
            if call.safe:
                raise
            why = f"{self._asked(call)} could not be sent without a token: {error.happened}"
            not_sent = errors.VoucherifyNotSentError(why)
            not_sent.advice = error.advice
            raise not_sent from error

    def _value(self, call: Call[T], answer: Answer) -> T:
        if call.empty:
            return call.parse(None)
        try:
            decoded = call.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            text = f"{self._asked(call)} was answered with {answer.status} and a body that is not valid JSON ({error})"
            raise self._advised(errors.VoucherifyUnexpectedAnswerError(text)) from None
        try:
            return call.parse(decoded)
        except errors.VoucherifyUnexpectedAnswerError as error:
            why = str(error) if self.settings.quotes_answers else "its body is not what the API description says"
            text = f"{self._asked(call)} was answered with {answer.status}, but {why}"
            raise self._advised(errors.VoucherifyUnexpectedAnswerError(text)) from None

    def _asked(self, call: Call[Any]) -> str:
        """Return the call with its host and connection, for texts."""
        connection = f" (connection {self.settings.conn_id})" if self.settings.conn_id else ""
        return f"{call.method} {self.settings.base_url}{call.path}{connection}"

    def _advised(self, error: errors.VoucherifyError) -> errors.VoucherifyError:
        error.advice = advice(error, self.settings)
        return error

    def _explain(
        self, call: Call[Any], answer: Answer | NoAnswer, outcome: CallOutcome, wait: float, now: float
    ) -> None:
        if outcome.status == 429:
            kind = outcome.rate_limit.type or "rate"
            until = _utc(now + wait)
            log.warning("Voucherify's %s limit is reached; %s waits %.0f s, until %s UTC", kind, call, wait, until)
        else:
            reason = answer.why if isinstance(answer, NoAnswer) else f"status {answer.status}"
            log.warning("%s failed (%s); retrying in %.1f s", self._asked(call), reason, wait)


def _utc(epoch: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(epoch))
