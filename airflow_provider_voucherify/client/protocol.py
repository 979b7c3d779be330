"""
How a call is carried out: authorisation, retries, errors. No I/O: a generator yields what is to be done.

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
from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.client.calls import Body, Call
from airflow_provider_voucherify.client.rate_limits import RateLimit
from airflow_provider_voucherify.client.retry import Outcome, RetryPolicy, seconds_until_retry
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.models import errors

T = TypeVar("T")

log = logging.getLogger(__name__)

_MIN_CREDENTIAL = 8
"""Shorter ones are no real keys, and would be found in ordinary words."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; the outcome is an ``Answer`` or a ``NoAnswer``."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: Body | None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for so many seconds."""

    seconds: float


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
    headers: Mapping[str, str]
    body: bytes


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


_tokens: dict[tuple[str, ...], _Token] = {}


class Protocol:
    """
    Carries out calls for one connection.

    OAuth tokens are cached per process and connection (base URL, application id, a digest of the secret key, scope),
    renewed before they expire and once more on a 401, and never written anywhere.

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

    def carry_out(self, call: Call[T]) -> Steps[T]:
        """
        Send a call until it is answered or given up.

        :raises VoucherifyError: see ``models.errors``; the class says what happened and so what may be repeated.
        """
        token: str | None = None
        uses_token = call.authorisation == "project" and self.settings.extra.auth_method == "oauth"
        renewed = False
        failures, waited = 0, 0.0
        while True:
            if uses_token and token is None:
                token = yield from self._token()
            answer: Answer | NoAnswer = yield Send(
                call.method, self.settings.base_url + call.target, self._headers(call, token), call.body
            )
            if isinstance(answer, Answer) and 200 <= answer.status < 300:
                return self._value(call, answer)
            if isinstance(answer, Answer) and answer.status == 401 and uses_token and not renewed:
                renewed, token = True, (yield from self._token(refused=token))
                continue
            answer = self._without_credentials(answer, token)
            if isinstance(answer, NoAnswer):
                outcome = Outcome(None, sent=answer.sent)
            else:
                outcome = Outcome(answer.status, rate_limit=RateLimit.from_headers(answer.headers))
            failures += outcome.status != 429
            now = self._clock()
            wait = seconds_until_retry(self._retry, outcome, safe=call.safe, failures=failures, waited=waited, now=now)
            if wait is None:
                raise error_of(call, answer)
            self._explain(call, answer, outcome, wait, now)
            if outcome.status == 429:
                waited += wait
            yield Sleep(wait)

    def credentials(self, url: str, refused: str | None = None) -> Steps[dict[str, str]]:
        """
        Give the headers that authorise a GET of a file, or none where credentials must not go to that URL.

        :param url: an opaque URL that the API gave, such as a report's.
        :param refused: a token that was answered with a 401, not to be given again.
        """
        if not self.settings.owns(url):
            return {}
        if self.settings.extra.auth_method == "oauth":
            return {"Authorization": f"Bearer {(yield from self._token(refused))}"}
        return self._api_keys()

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

    def _without_credentials(self, answer: Answer | NoAnswer, token: str | None) -> Answer | NoAnswer:
        """Blot out what was sent: a gateway's error page may quote the request, and errors quote the page."""
        for credential in (self.settings.secret_key.get_secret_value(), token or ""):
            if len(credential) < _MIN_CREDENTIAL:
                continue
            if isinstance(answer, NoAnswer):
                answer = replace(answer, why=answer.why.replace(credential, "***"))
            else:
                answer = replace(answer, body=answer.body.replace(credential.encode(), b"***"))
        return answer

    def _token(self, refused: str | None = None) -> Steps[str]:
        token = self._cached_token(refused)
        if token is None:
            token = yield Exclusive(lambda: self._renew_token(refused))
        return token

    def _cached_token(self, refused: str | None) -> str | None:
        token = _tokens.get(self.token_key)
        usable = token is not None and token.value != refused and self._clock() < token.renew_at
        return token.value if token is not None and usable else None

    def _renew_token(self, refused: str | None) -> Steps[str]:
        cached = self._cached_token(refused)
        if cached is not None:
            return cached
        now = self._clock()
        token = yield from self.carry_out(calls.oauth_token(self.settings.extra.scope))
        lifetime = token.expires_in if token.expires_in is not None else 900
        _tokens[self.token_key] = _Token(token.access_token, now + lifetime - min(60.0, lifetime / 10))
        return token.access_token

    def _value(self, call: Call[T], answer: Answer) -> T:
        try:
            decoded = msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise errors.VoucherifyUnexpectedAnswerError(
                f"{call} was answered with {answer.status} and a body that is no JSON ({error})"
            ) from None
        try:
            return call.parse(decoded)
        except errors.VoucherifyUnexpectedAnswerError as error:
            raise errors.VoucherifyUnexpectedAnswerError(
                f"{call} was answered with {answer.status}, but {error}"
            ) from None

    def _explain(self, call: Call[Any], answer: Answer | NoAnswer, outcome: Outcome, wait: float, now: float) -> None:
        until = time.strftime("%H:%M:%S", time.gmtime(now + wait))
        if outcome.status == 429:
            kind = outcome.rate_limit.type or "rate"
            log.warning("Voucherify's %s limit is reached; %s waits %.0f s, until %s UTC", kind, call, wait, until)
        else:
            said = answer.why if isinstance(answer, NoAnswer) else f"status {answer.status}"
            log.warning("%s failed (%s); sending it again in %.1f s", call, said, wait)


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


def error_of(call: Call[Any], answer: Answer | NoAnswer) -> errors.VoucherifyError:
    """Turn what came of a call into the error that says it."""
    if isinstance(answer, NoAnswer):
        if not answer.sent:
            return errors.VoucherifyNotSentError(f"{call} could not be sent: {answer.why}")
        taken = "" if call.safe else "; Voucherify may have taken it, so it was not sent again"
        return errors.VoucherifyNoAnswerError(f"{call} was sent and not answered: {answer.why}{taken}")
    told = _told(answer.body)
    if answer.status == 429:
        limit = RateLimit.from_headers(answer.headers)
        cls = (
            errors.VoucherifyQuotaExhaustedError if limit.type == "api_calls_cycle" else errors.VoucherifyRateLimitError
        )
        return cls(str(call), 429, limit_type=limit.type, retry_at=limit.retry_at, **told)
    if 300 <= answer.status < 400:
        return errors.VoucherifyUnexpectedAnswerError(
            f"{call} was answered with a redirect ({answer.status}), which is not followed: credentials go to the "
            "connection's own host only"
        )
    kind = _ERRORS_BY_STATUS.get(
        answer.status,
        errors.VoucherifyServerError if answer.status >= 500 else errors.VoucherifyBadRequestError,
    )
    return kind(str(call), answer.status, **told)


def _told(body: bytes) -> dict[str, str | None]:
    """Read an error body of the API's or the gateway's shape; anything else is quoted shortly."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        return {"message": _one_line(body.decode("utf-8", "replace"), 200) or None}
    said = {name: decoded.get(name) for name in ("key", "message", "details", "request_id")}
    return {name: _one_line(value, 500) if isinstance(value, str) else None for name, value in said.items()}


def _one_line(text: str, limit: int) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: limit * 4]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
