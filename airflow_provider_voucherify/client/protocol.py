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
from airflow_provider_voucherify.client.budgets import Hold, budgets_of
from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.rate_limits import Bucket, CallLimit, RateLimit
from airflow_provider_voucherify.client.redaction import blot_out
from airflow_provider_voucherify.client.retry import (
    RETRIED_STATUSES,
    Outcome,
    RetryPolicy,
    WaitAllowance,
    seconds_until_retry,
)
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.client.steps import Answer, NoAnswer, Send, Sleep, Steps
from airflow_provider_voucherify.models import errors

T = TypeVar("T")

log = logging.getLogger(__name__)

_SHORTEST_HOLD, _LONGEST_HOLD = 0.02, 0.5
"""Seconds between two looks whether a call in flight has been answered."""


class Protocol:
    """
    Carries out calls for one connection.

    Calls wait for the project's rate limits before they are sent, see ``client.budgets``. A token that is answered with
    a 401 is renewed once, see ``client.auth``.

    :param settings: how to reach the project.
    :param retry: when to send a request again.
    :param clock: gives Unix epoch seconds.
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
        Send a call, as soon as the rate limits allow it, until it is answered or given up.

        :param max_rate_limit_wait: seconds that this call may spend waiting for rate limits in all; by default what the
            retry policy says, which in any case is the most while no other call of this process gets through.
        :raises VoucherifyError: see ``models.errors``; the class says what happened and so what may be repeated.
        """
        allowance = WaitAllowance(self._retry, max_rate_limit_wait, self._budgets.taken)
        token: str | None = None
        uses_token = self.auth.needs_token(call)
        renewed = perhaps_taken = False
        failures, held = 0, 0.0
        while True:
            if uses_token and token is None:
                token = yield from self._token_for(call, None, max_rate_limit_wait)
            left = allowance.seconds_left
            reserved = self._budgets.send(call.bucket, self._limits, self._clock(), patient=left > 0)
            if isinstance(reserved, Hold):
                wait = self._hold(call, reserved, left, held)
                allowance.waits(wait, reserved.bucket)
                held = held + wait if reserved.until is None else 0.0
                token = None  # it may expire meanwhile
                yield Sleep(wait, for_rate_limit=True)
                continue
            answer: Answer | NoAnswer | None = None
            try:
                answer = yield Send(
                    call.method, self.settings.base_url + call.target, self._headers(call, token), call.body, call.large
                )
            finally:
                self._end(call, reserved, answer)
            if isinstance(answer, Answer) and 200 <= answer.status < 300:
                return self._value(call, answer)
            if isinstance(answer, Answer) and answer.status == 404 and call.gone_is_done and perhaps_taken:
                return call.parse(None)
            if isinstance(answer, Answer) and answer.status == 401 and uses_token and not renewed:
                renewed = True
                token = yield from self._token_for(call, token, max_rate_limit_wait)
                continue
            answer = self._without_secrets(answer, token or "", *call.secrets)
            if isinstance(answer, NoAnswer):
                outcome = Outcome(None, sent=answer.sent)
            else:
                outcome = Outcome(answer.status, rate_limit=RateLimit.from_headers(answer.headers))
            failures += outcome.status != 429
            perhaps_taken |= outcome.sent and (outcome.status is None or outcome.status in RETRIED_STATUSES)
            now = self._clock()
            policy = allowance.policy()
            next_wait = seconds_until_retry(
                policy, outcome, safe=call.safe, failures=failures, waited=allowance.waited, now=now
            )
            if next_wait is None:
                raise self._advised(error_of(call, answer, now, self._asked(call)))
            self._explain(call, answer, outcome, next_wait, now)
            if outcome.status == 429:
                allowance.waits(next_wait, call.bucket)
            yield Sleep(next_wait, for_rate_limit=outcome.status == 429)

    def is_held(self, bucket: Bucket) -> bool:
        """Say whether a call would have to wait for a rate limit until a time that is known."""
        return self._budgets.is_held(bucket, self._limits, self._clock())

    def calls_left(self) -> int | None:
        """Say how many ordinary calls are left, as far as that is known; see ``VoucherifyClient.calls_left``."""
        return self._budgets.left("api_calls", self._limits)

    @property
    def _budgets(self) -> budgets.Budgets:
        return budgets_of(self.settings.base_url, self.settings.application_id)

    @property
    def _limits(self) -> Mapping[Bucket, CallLimit | None]:
        extra = self.settings.extra
        return {"api_calls": extra.rate_limit, "bulk_api_calls": extra.bulk_rate_limit}

    def _hold(self, call: Call[Any], hold: Hold, left: float, held: float) -> float:
        """
        Return the seconds to wait before a call may be sent, and say why.

        :param left: seconds that it may still wait for rate limits.
        :param held: seconds, the last ones in a row, in which it has waited for the answers of others.
        """
        if hold.until is None:
            wait = min(max(held / 2, _SHORTEST_HOLD), _LONGEST_HOLD, left)
            if held < 1.0 <= held + wait:
                log.info("%s waits for the answers of others: %s", call, hold.why)
            return wait
        now = self._clock()
        wait = max(0.0, hold.until - now)
        if wait > left:
            why = f"{hold.why} until {_utc(hold.until)} UTC, which is longer than it may wait ({max(0.0, left):.0f} s)"
            asked = self._asked(call)
            raise self._advised(
                errors.VoucherifyRateLimitError(
                    str(call), 429, limit_type=hold.bucket, retry_at=hold.until, sent=False, message=why, asked=asked
                )
            )
        wait = min(wait + budgets.CLOCK_MARGIN, left)
        log.info("%s waits %.0f s, until %s UTC: %s", call, wait, _utc(now + wait), hold.why)
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
        """Blot out what was sent: a gateway's error page may quote the request, and errors quote the page."""
        credentials = (self.settings.secret_key.get_secret_value(), *secrets)
        if isinstance(answer, NoAnswer):
            return replace(answer, why=blot_out(answer.why.encode(errors="replace"), credentials).decode())
        return replace(answer, body=blot_out(answer.body, credentials))

    def _token_for(self, call: Call[Any], refused: str | None, max_rate_limit_wait: float | None) -> Steps[str]:
        """Give a token; where a lost or broken answer to the token request prevents that, the call was not taken."""
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
            said = f"{self._asked(call)} was answered with {answer.status} and a body that is not valid JSON ({error})"
            raise self._advised(errors.VoucherifyUnexpectedAnswerError(said)) from None
        try:
            return call.parse(decoded)
        except errors.VoucherifyUnexpectedAnswerError as error:
            said = f"{self._asked(call)} was answered with {answer.status}, but {error}"
            raise self._advised(errors.VoucherifyUnexpectedAnswerError(said)) from None

    def _asked(self, call: Call[Any]) -> str:
        """Say what was asked of which host, and by which connection."""
        connection = f" (connection {self.settings.conn_id})" if self.settings.conn_id else ""
        return f"{call.method} {self.settings.base_url}{call.path}{connection}"

    def _advised(self, error: errors.VoucherifyError) -> errors.VoucherifyError:
        error.advice = advice(error, self.settings)
        return error

    def _explain(self, call: Call[Any], answer: Answer | NoAnswer, outcome: Outcome, wait: float, now: float) -> None:
        if outcome.status == 429:
            kind = outcome.rate_limit.type or "rate"
            until = _utc(now + wait)
            log.warning("Voucherify's %s limit is reached; %s waits %.0f s, until %s UTC", kind, call, wait, until)
        else:
            said = answer.why if isinstance(answer, NoAnswer) else f"status {answer.status}"
            log.warning("%s failed (%s); sending it again in %.1f s", self._asked(call), said, wait)


def _utc(epoch: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(epoch))
