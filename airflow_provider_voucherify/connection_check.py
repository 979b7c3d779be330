"""
What the Test button says: one cheap call, and for each way in which it can fail what is wrong and what to do.

A working call shows that host, keys (or OAuth scope) and the right to read async actions are good. It does not show
that the keys may update customers, products or vouchers: nothing but an update would.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings, without_effect
from airflow_provider_voucherify.models import errors
from airflow_provider_voucherify.models.endpoints import (
    ASYNC_ACTIONS_SCOPE,
    OAUTH_TOKEN_PATH,
    REGIONS,
    RESOURCES,
)

CHECK_SECONDS = 20.0
"""The longest that a check waits for an answer; the person who has pressed the button waits with it."""

_WHOLE_API = "api"
"""The OAuth scope that permits every call."""

_REGION = " or ".join((", ".join(list(REGIONS)[:-1]), list(REGIONS)[-1]))

_NAME_NOT_FOUND = re.compile(r"\[Errno -\d+\]|getaddrinfo|name resolution|nodename nor servname", re.IGNORECASE)
"""A resolver's errors: negative on Linux, told by their text elsewhere."""


def check_connection(settings: ConnectionSettings) -> tuple[bool, str]:
    """
    Make one call and say what came of it.

    :param settings: of the connection; its timeouts hold as far as they are below ``CHECK_SECONDS``.
    :returns: whether it worked, and a message of a few sentences, without credentials.
    """
    extra = settings.extra
    quick = {name: min(getattr(extra, name), CHECK_SECONDS) for name in ("timeout", "connect_timeout")}
    impatient = settings.model_copy(update={"extra": extra.model_copy(update=quick)})
    try:
        with VoucherifyClient(impatient, retry=RetryPolicy(attempts=1, max_rate_limit_wait=0)) as client:
            client.list_async_actions(limit=1)
    except errors.VoucherifyError as error:
        return False, explain(error, settings)
    said = [f"Voucherify at {_where(settings)} accepts these credentials."]
    if settings.extra.auth_method == "oauth" and (missing := _missing(settings, RESOURCES)):
        said.append(f"The OAuth scope lacks {', '.join(missing)}, so bulk updates of these will be refused.")
    if settings.unknown_extras:
        said.append(f"The extra has {without_effect(settings.unknown_extras)}.")
    return True, " ".join(said)


def explain(error: errors.VoucherifyError, settings: ConnectionSettings) -> str:
    """
    Say what is wrong with a connection, and what to do about it.

    :param error: what its call came to.
    :param settings: of the connection.
    """
    match error:
        case errors.VoucherifyNotSentError():
            return _unreachable(str(error), settings)
        case errors.VoucherifyNoAnswerError():
            return (
                f"{_where(settings)} was reached and did not answer. Try again later, or look for a proxy between. "
                f"({error})"
            )
        case errors.VoucherifyAuthenticationError():
            return _unauthorised(error, settings)
        case errors.VoucherifyPermissionError():
            return _forbidden(error, settings)
        case errors.VoucherifyBadRequestError(key="invalid_scope"):
            return (
                f"Voucherify refuses the OAuth scope {settings.extra.scope!r}. It takes names of scopes separated by "
                f"spaces, such as 'customers {ASYNC_ACTIONS_SCOPE}', or '{_WHOLE_API}'. ({error})"
            )
        case errors.VoucherifyNotFoundError() | errors.VoucherifyUnexpectedAnswerError():
            return (
                f"{_where(settings)} answers, but not as Voucherify's API. The host must be a region ({_REGION}) or "
                f"an API URL such as {REGIONS['eu']}, not the dashboard's address. ({error})"
            )
        case errors.VoucherifyQuotaExhaustedError():
            return f"Voucherify was reached, but cannot be used before the next billing cycle. ({error})"
        case errors.VoucherifyRateLimitError():
            return f"Voucherify was reached, but the project's rate limit is used up. Test again later. ({error})"
        case errors.VoucherifyServerError():
            return f"Voucherify was reached, but fails itself at the moment. Test again later. ({error})"
    return str(error)


def _unauthorised(error: errors.VoucherifyApiError, settings: ConnectionSettings) -> str:
    oauth = settings.extra.auth_method == "oauth"
    if oauth and not error.call.endswith(OAUTH_TOKEN_PATH):
        return (
            "Voucherify gave an OAuth token and then refused it. The key may have been blocked or deleted a moment "
            f"ago: see Project settings in Voucherify. ({error})"
        )
    refusal = "gives no OAuth token for" if oauth else "does not accept"
    return (
        f"Wrong key or wrong region: {_where(settings)} {refusal} this application ID and secret key. Compare both "
        f"with Project settings in Voucherify, and the host with the region there ({_REGION}). ({error})"
    )


def _forbidden(error: errors.VoucherifyApiError, settings: ConnectionSettings) -> str:
    if "region" in f"{error.message} {error.details}".lower():
        return (
            f"Wrong region: the project is not at {_where(settings)}. Project settings in Voucherify show where it is "
            f"({_REGION}). ({error})"
        )
    if settings.extra.auth_method == "oauth" and _missing(settings, [ASYNC_ACTIONS_SCOPE]):
        return (
            f"The OAuth scope is {settings.extra.scope!r} and lacks {ASYNC_ACTIONS_SCOPE}, without which no update can "
            f"be followed to its end. Add it to the connection's scope. ({error})"
        )
    return (
        "Voucherify knows this key but does not let it read async actions. See its role and its list of allowed IP "
        f"addresses in Project settings; keys of another region may be refused like this, too. ({error})"
    )


def _unreachable(said: str, settings: ConnectionSettings) -> str:
    where = settings.base_url
    if _NAME_NOT_FOUND.search(said):
        return f"The host of {where} cannot be found (DNS). Check how it is written, or give a region. ({said})"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return (
            f"The TLS certificate of {where} is not trusted here. Check the host; for a certificate of your company "
            f"set SSL_CERT_FILE where Airflow runs. ({said})"
        )
    if "SSL" in said:
        return f"{where} does not speak TLS as https needs it. Check the port. ({said})"
    if "refused" in said.lower():
        return f"{where} refuses network connections. Check host and port. ({said})"
    if "Timeout" in said:
        return f"No connection to {where} in time. Check the host, and whether a firewall lets Airflow out. ({said})"
    return f"{where} cannot be reached from here. Check the host, and whether a firewall lets Airflow out. ({said})"


def _missing(settings: ConnectionSettings, scopes: Iterable[str]) -> list[str]:
    given = settings.extra.scope.split()
    return [] if _WHOLE_API in given else [scope for scope in scopes if scope not in given]


def _where(settings: ConnectionSettings) -> str:
    region = next((f" (region {name})" for name, url in REGIONS.items() if url == settings.base_url), "")
    return settings.base_url + region
