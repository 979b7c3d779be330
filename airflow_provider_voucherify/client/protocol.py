"""
How a call is carried out: authorisation, pacing, retries, errors. No I/O: a generator yields what is to be done.

``carry_out`` yields effects (``Send``, ``Sleep``, ``Exclusive``) and is given their outcome; ``http`` performs them
with a sync and an async httpx client. So both clients, and the tests, share one definition of every behaviour.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from airflow_provider_voucherify import __version__
from airflow_provider_voucherify.client import budgets, calls
from airflow_provider_voucherify.client.advice import advice
from airflow_provider_voucherify.client.budgets import Hold, budgets_of
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.client.rate_limits import Bucket, CallLimit, RateLimit
from airflow_provider_voucherify.client.redaction import blot_out
from airflow_provider_voucherify.client.retry import RETRIED_STATUSES, Outcome, RetryPolicy, seconds_until_retry
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.models import errors

T = TypeVar("T")

log = logging.getLogger(__name__)

_SHORTEST_HOLD, _LONGEST_HOLD = 0.02, 0.5
"""Seconds between two looks whether a call in flight has been answered."""


@dataclass(frozen=True, slots=True)
class Send:
    """
    Send a request; the outcome is an ``Answer`` or a ``NoAnswer``.

    :param large: whether a successful answer may be larger than others.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: Body | None
    large: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """
    Do nothing for so many seconds.

    :param for_rate_limit: whether this is because of a rate limit, not because of a failure.
    """

    seconds: float
    for_rate_limit: bool = False


@dataclass(frozen=True, slots=True)
class Exclusive:
    """Carry out a sub-generator while no other caller of this connection carries out one; gives its value."""

    steps: Callable[[], Steps[Any]]


Steps = Generator["Send | Sleep | Exclusive", Any, T]


@dataclass(frozen=True, slots=True)
class Answer:
    """
    An HTTP answer.

    :param headers: lower-case names.
    :param body: the decoded body; of an error status, its beginning.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """
    Nothing, or nothing usable, came back.

    :param sent: whether Voucherify may have received the request.
    :param why: one line for a person, without credentials or query strings.
    """

    sent: bool
    why: str


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    renew_at: float

    def __repr__(self) -> str:
        return f"_Token(renew_at={self.renew_at})"


class _Patience:
    """
    How long a call has waited for rate limits, and how long it still may.

    What the policy allows is the wait of a call that is next: it counts anew whenever another call of this process has
    got through meanwhile. What the caller allows counts in all.

    :param policy: of all calls.
    :param most: seconds that the caller allows for this one; None for any number.
    :param taken: gives the number of calls of a bucket that have got through in this process.
    """

    def __init__(self, policy: RetryPolicy, most: float | None, taken: Callable[[Bucket], int]) -> None:
        self._policy, self._most, self._taken = policy, most, taken
        self._in_all = 0.0
        self._behind: tuple[Bucket, int] | None = None
        self.waited = 0.0
        """Seconds that count against the policy."""

    def waits(self, seconds: float, bucket: Bucket) -> None:
        """Take note of a wait that begins, for a limit of a bucket."""
        self._in_all += seconds
        self.waited += seconds
        self._behind = bucket, self._taken(bucket)

    def policy(self) -> RetryPolicy:
        """Return what is allowed from now on."""
        if self._behind is not None and self._taken(self._behind[0]) > self._behind[1]:
            self.waited, self._behind = 0.0, None
        return self._policy.waiting_at_most(None if self._most is None else self._most - self._in_all, self.waited)


_tokens: dict[tuple[str, ...], _Token] = {}


class Protocol:
    """
    Carries out calls for one connection.

    Calls wait for the project's rate limits before they are sent, see ``client.budgets``. OAuth tokens are cached per
    process and connection (base URL, application id, a digest of the secret key, scope), renewed before they expire and
    once more on a 401, and never written anywhere.

    :param settings: how to reach the project.
    :param retry: when to send a request again.
    :param clock: gives Unix epoch seconds.
    """

    def __init__(
        self, settings: ConnectionSettings, retry: RetryPolicy, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings = settings
        self._retry = retry
        self._clock = clock
        digest = hashlib.sha256(settings.secret_key.get_secret_value().encode()).hexdigest()
        self.token_key = (settings.base_url, settings.application_id, digest, settings.extra.scope)

    def carry_out(self, call: Call[T], max_rate_limit_wait: float | None = None) -> Steps[T]:
        """
        Send a call, as soon as the rate limits allow it, until it is answered or given up.

        :param max_rate_limit_wait: seconds that this call may spend waiting for rate limits in all; by default what the
            retry policy says, which in any case is the most while no other call of this process gets through.
        :raises VoucherifyError: see ``models.errors``; the class says what happened and so what may be repeated.
        """
        patience = _Patience(self._retry, max_rate_limit_wait, self._budgets.taken)
        token: str | None = None
        uses_token = call.authorisation == "project" and self.settings.extra.auth_method == "oauth"
        renewed = perhaps_taken = False
        failures, held = 0, 0.0
        while True:
            if uses_token and token is None:
                token = yield from self._token_for(call, None, max_rate_limit_wait)
            left = patience.policy().max_rate_limit_wait - patience.waited
            reserved = self._budgets.send(call.bucket, self._limits, self._clock(), patient=left > 0)
            if isinstance(reserved, Hold):
                wait = self._hold(call, reserved, left, held)
                patience.waits(wait, reserved.bucket)
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
            policy = patience.policy()
            next_wait = seconds_until_retry(
                policy, outcome, safe=call.safe, failures=failures, waited=patience.waited, now=now
            )
            if next_wait is None:
                raise self._advised(error_of(call, answer, now, self._asked(call)))
            self._explain(call, answer, outcome, next_wait, now)
            if outcome.status == 429:
                patience.waits(next_wait, call.bucket)
            yield Sleep(next_wait, for_rate_limit=outcome.status == 429)

    def is_held(self, bucket: Bucket) -> bool:
        """Say whether a call would have to wait for a rate limit until a time that is known."""
        return self._budgets.is_held(bucket, self._limits, self._clock())

    def calls_left(self) -> int | None:
        """Say how many ordinary calls are left, as far as that is known; see ``VoucherifyClient.calls_left``."""
        return self._budgets.left("api_calls", self._limits)

    def credentials(
        self, url: str, refused: str | None = None, max_rate_limit_wait: float | None = None
    ) -> Steps[dict[str, str]]:
        """
        Give the headers that authorise a GET of a file, or none where credentials must not go to that URL.

        :param url: an opaque URL that the API gave, such as a report's.
        :param refused: a token that was answered with a 401, not to be given again.
        :param max_rate_limit_wait: seconds that the request for a token may wait for rate limits.
        """
        if not self.settings.owns(url):
            return {}
        if self.settings.extra.auth_method == "oauth":
            return {"Authorization": f"Bearer {(yield from self._token(refused, max_rate_limit_wait))}"}
        return self._api_keys()

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
        headers |= self._api_keys() if token is None else {"Authorization": f"Bearer {token}"}
        if call.body is not None:
            headers |= {"Content-Type": call.body.content_type, "Content-Length": str(call.body.length)}
        return headers

    def _api_keys(self) -> dict[str, str]:
        return {
            "X-App-Id": self.settings.application_id,
            "X-App-Token": self.settings.secret_key.get_secret_value(),
        }

    def _without_secrets(self, answer: Answer | NoAnswer, *secrets: str) -> Answer | NoAnswer:
        """Blot out what was sent: a gateway's error page may quote the request, and errors quote the page."""
        credentials = (self.settings.secret_key.get_secret_value(), *secrets)
        if isinstance(answer, NoAnswer):
            return replace(answer, why=blot_out(answer.why.encode(errors="replace"), credentials).decode())
        return replace(answer, body=blot_out(answer.body, credentials))

    def _token_for(self, call: Call[Any], refused: str | None, max_rate_limit_wait: float | None) -> Steps[str]:
        """Give a token; where a lost or broken answer to the token request prevents that, the call was not taken."""
        try:
            return (yield from self._token(refused, max_rate_limit_wait))
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

    def _token(self, refused: str | None = None, max_rate_limit_wait: float | None = None) -> Steps[str]:
        token = self._cached_token(refused)
        if token is None:
            renewed = yield Exclusive(lambda: self._renewed_token(refused, max_rate_limit_wait))
            if isinstance(renewed, errors.VoucherifyError):
                raise renewed
            token = str(renewed)
        return token

    def _cached_token(self, refused: str | None) -> str | None:
        token = _tokens.get(self.token_key)
        usable = token is not None and token.value != refused and self._clock() < token.renew_at
        return token.value if token is not None and usable else None

    def _renewed_token(
        self, refused: str | None, max_rate_limit_wait: float | None
    ) -> Steps[str | errors.VoucherifyError]:
        """Give a token, or why there is none: what is raised in here does not reach the steps that wait for it."""
        try:
            return (yield from self._renew_token(refused, max_rate_limit_wait))
        except errors.VoucherifyError as error:
            return error

    def _renew_token(self, refused: str | None, max_rate_limit_wait: float | None) -> Steps[str]:
        cached = self._cached_token(refused)
        if cached is not None:
            return cached
        now = self._clock()
        token = yield from self.carry_out(calls.oauth_token(self.settings.extra.scope), max_rate_limit_wait)
        lifetime = token.expires_in if token.expires_in is not None else 900
        _tokens[self.token_key] = _Token(token.access_token, now + lifetime - min(60.0, lifetime / 10))
        return token.access_token

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


_ERRORS_BY_STATUS: dict[int, type[errors.VoucherifyApiError]] = {
    401: errors.VoucherifyAuthenticationError,
    402: errors.VoucherifyPlanError,
    403: errors.VoucherifyPermissionError,
    404: errors.VoucherifyNotFoundError,
    408: errors.VoucherifyServerError,
    409: errors.VoucherifyConflictError,
    410: errors.VoucherifyNotFoundError,
    413: errors.VoucherifyPayloadTooLargeError,
    423: errors.VoucherifyConflictError,
}


def _utc(epoch: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(epoch))


def error_of(
    call: Call[Any], answer: Answer | NoAnswer, now: float, asked: str | None = None
) -> errors.VoucherifyError:
    """
    Turn what came of a call into the error that says it.

    :param now: Unix epoch seconds.
    :param asked: the call with its host and connection, for the text.
    """
    asked = asked or str(call)
    if isinstance(answer, NoAnswer):
        if not answer.sent:
            return errors.VoucherifyNotSentError(f"{asked} could not be sent: {answer.why}")
        taken = "" if call.safe else "; Voucherify may have taken it, so it was not sent again"
        return errors.VoucherifyNoAnswerError(f"{asked} was sent and not answered: {answer.why}{taken}")
    told = _told(answer.body)
    if answer.status == 429:
        limit = RateLimit.from_headers(answer.headers)
        cls = (
            errors.VoucherifyQuotaExhaustedError if limit.type == "api_calls_cycle" else errors.VoucherifyRateLimitError
        )
        return cls(str(call), 429, limit_type=limit.type, retry_at=limit.allowed_at(now), asked=asked, **told)
    if 300 <= answer.status < 400:
        return errors.VoucherifyUnexpectedAnswerError(
            f"{asked} was answered with a redirect ({answer.status}), which is not followed: credentials go to the "
            "connection's own host only"
        )
    kind = _ERRORS_BY_STATUS.get(
        answer.status,
        errors.VoucherifyServerError if answer.status >= 500 else errors.VoucherifyBadRequestError,
    )
    return kind(str(call), answer.status, asked=asked, **told)


def _told(body: bytes) -> dict[str, Any]:
    """Read an error body of the API's or the gateway's shape; anything else is quoted shortly."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        return {"message": _one_line(body.decode("utf-8", "replace"), 200) or None}
    said = {name: decoded.get(name) for name in ("key", "message", "details", "request_id")}
    return {name: _one_line(value, 500) if isinstance(value, str) else None for name, value in said.items()}


def _one_line(text: str, limit: int) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
