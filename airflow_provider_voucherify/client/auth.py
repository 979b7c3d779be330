"""
Keys and tokens: how requests are authorised, how OAuth tokens are fetched, kept and renewed, and the calls about them.

With ``api_keys`` every request has the application id and the secret key. With ``oauth`` they are exchanged for a
token, which is kept in memory for all clients of the connection in this process and never written anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from airflow_provider_voucherify.client.calls import Call, form_body, nothing, validated
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.client.steps import Exclusive, Steps
from airflow_provider_voucherify.models.endpoints import OAUTH_INTROSPECT_PATH, OAUTH_REVOKE_PATH, OAUTH_TOKEN_PATH
from airflow_provider_voucherify.models.errors import VoucherifyError
from airflow_provider_voucherify.models.tolerant import Count, Text

if TYPE_CHECKING:
    from airflow_provider_voucherify.models.records import TokenIntrospection

WHOLE_API = "api"
"""The OAuth scope that permits every call."""

_DEFAULT_LIFETIME = 900
"""Lifetime of a token in seconds if Voucherify does not say."""


class OAuthToken(BaseModel):
    """
    The answer of ``POST /v1/oauth/token``.

    :param expires_in: lifetime in seconds (the vendor's is 900).
    :param expires_at: end of life, Unix epoch seconds, by the vendor's clock.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    access_token: str = Field(pattern=r"^[!-~]+$", repr=False)
    token_type: str = "Bearer"
    expires_in: Count = None
    expires_at: Count = None
    scope: Text = None


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    renew_at: float

    def __repr__(self) -> str:
        return f"_Token(renew_at={self.renew_at})"


_tokens: dict[tuple[str, ...], _Token] = {}


class Auth:
    """
    Authorises the requests of one connection.

    Tokens are shared by connections with the same base URL, application id, secret key (its digest) and scope. They are
    renewed before they expire, and when one is refused.

    :param settings: of the connection.
    :param clock: returns Unix epoch seconds.
    :param carry_out: carries out the call that fetches a token, given the seconds that it may wait for rate limits.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        clock: Callable[[], float],
        carry_out: Callable[[Call[OAuthToken], float | None], Steps[OAuthToken]],
    ) -> None:
        self._settings, self._clock, self._carry_out = settings, clock, carry_out
        digest = hashlib.sha256(settings.secret_key.get_secret_value().encode()).hexdigest()
        self.token_key = (settings.base_url, settings.application_id, digest, settings.extra.scope)

    @property
    def _uses_tokens(self) -> bool:
        return self._settings.extra.auth_method == "oauth"

    def needs_token(self, call: Call[Any]) -> bool:
        """Say whether a call is authorised by a token."""
        return call.authorisation == "project" and self._uses_tokens

    def headers(self, token: str | None) -> dict[str, str]:
        """Return the headers that authorise a request: with a token, or with the keys if it is None."""
        if token is not None:
            return {"Authorization": f"Bearer {token}"}
        return {
            "X-App-Id": self._settings.application_id,
            "X-App-Token": self._settings.secret_key.get_secret_value(),
        }

    def headers_for(self, url: str, refused: str | None, max_rate_limit_wait: float | None) -> Steps[dict[str, str]]:
        """
        Return the headers that authorise a GET of a file; none if credentials must not go to that URL.

        :param url: an opaque URL from the API, such as a report's.
        :param refused: a token that was refused with a 401 and must not be used again.
        :param max_rate_limit_wait: seconds that the request for a token may wait for rate limits.
        """
        if not self._settings.owns(url):
            return {}
        return self.headers((yield from self.token(refused, max_rate_limit_wait)) if self._uses_tokens else None)

    def token(self, refused: str | None = None, max_rate_limit_wait: float | None = None) -> Steps[str]:
        """Return a token other than the refused one, fetched if there is none."""
        token = self._cached_token(refused)
        if token is None:
            renewed = yield Exclusive(lambda: self._renewed_token(refused, max_rate_limit_wait))
            if isinstance(renewed, VoucherifyError):
                raise renewed
            token = str(renewed)
        return token

    def _cached_token(self, refused: str | None) -> str | None:
        token = _tokens.get(self.token_key)
        usable = token is not None and token.value != refused and self._clock() < token.renew_at
        return token.value if token is not None and usable else None

    def _renewed_token(self, refused: str | None, max_rate_limit_wait: float | None) -> Steps[str | VoucherifyError]:
        """Return a token, or the error: one raised in here would not reach the steps that wait for it."""
        try:
            return (yield from self._renew_token(refused, max_rate_limit_wait))
        except VoucherifyError as error:
            return error

    def _renew_token(self, refused: str | None, max_rate_limit_wait: float | None) -> Steps[str]:
        cached = self._cached_token(refused)
        if cached is not None:
            return cached
        now = self._clock()
        token = yield from self._carry_out(oauth_token(self._settings.extra.scope), max_rate_limit_wait)
        lifetime = token.expires_in if token.expires_in is not None else _DEFAULT_LIFETIME
        _tokens[self.token_key] = _Token(token.access_token, now + lifetime - min(60.0, lifetime / 10))
        return token.access_token


def missing_scopes(settings: ConnectionSettings, scopes: Iterable[str]) -> list[str]:
    """Return those scopes that the connection's OAuth token lacks; with API keys none."""
    scope_names = settings.extra.scope.split()
    has_all = settings.extra.auth_method != "oauth" or WHOLE_API in scope_names
    return [] if has_all else [scope for scope in scopes if scope not in scope_names]


def oauth_token(scope: str) -> Call[OAuthToken]:
    """
    Exchange the API keys for a token (OAuth 2.0 client credentials, the vendor's v1).

    :param scope: space-separated scopes.
    """
    body = form_body(grant_type="client_credentials", scope=scope)
    return Call("POST", OAUTH_TOKEN_PATH, _token_of, safe=True, body=body, authorisation="keys")


def _token_of(answer: Any) -> OAuthToken:
    return validated(OAuthToken, answer)


def introspect_oauth_token(access_token: str) -> Call[TokenIntrospection]:
    """
    Ask whether a token can be used, and for what (``POST /v1/oauth/introspect``); needs the API keys, not a token.

    :param access_token: the token to ask about; it appears in no log, error or answer.
    """
    from airflow_provider_voucherify.client.records import reader  # not needed by waiting and bulk tasks
    from airflow_provider_voucherify.models.records import TokenIntrospection

    body = form_body(access_token=access_token)
    return Call(
        "POST",
        OAUTH_INTROSPECT_PATH,
        reader(TokenIntrospection),
        safe=True,
        body=body,
        authorisation="keys",
        secrets=(access_token,),
    )


def revoke_oauth_token(access_token: str) -> Call[None]:
    """
    Revoke a token (``POST /v1/oauth/token/revoke``); needs the API keys, not a token.

    A token that is unknown or has expired is a ``VoucherifyNotFoundError``. A client whose own token was revoked
    fetches a new one.

    :param access_token: the token to revoke.
    """
    return Call(
        "POST",
        OAUTH_REVOKE_PATH,
        nothing,
        safe=True,
        body=form_body(access_token=access_token),
        authorisation="keys",
        empty=True,
        gone_is_done=True,
        secrets=(access_token,),
    )
