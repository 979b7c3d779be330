"""Calls about OAuth tokens, besides the one that fetches them (``calls.oauth_token``)."""

from __future__ import annotations

from airflow_provider_voucherify.client.calls import Call
from airflow_provider_voucherify.client.records import form_body, nothing, reads
from airflow_provider_voucherify.models.endpoints import OAUTH_INTROSPECT_PATH, OAUTH_REVOKE_PATH
from airflow_provider_voucherify.models.records import TokenIntrospection


def introspect_oauth_token(access_token: str) -> Call[TokenIntrospection]:
    """
    Ask whether a token can be used, and for what (``POST /v1/oauth/introspect``); needs the API keys, not a token.

    :param access_token: the token to ask about; it appears in no log, error or answer.
    """
    body = form_body(access_token=access_token)
    return Call(
        "POST",
        OAUTH_INTROSPECT_PATH,
        reads(TokenIntrospection),
        safe=True,
        body=body,
        authorisation="keys",
        secrets=(access_token,),
    )


def revoke_oauth_token(access_token: str) -> Call[None]:
    """
    End a token before its time (``POST /v1/oauth/token/revoke``); needs the API keys, not a token.

    A token that is unknown or has ended is a ``VoucherifyNotFoundError``. A client whose own token was revoked gets
    itself a new one.

    :param access_token: the token to end.
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
