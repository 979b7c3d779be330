"""What to do about an error of a call, for tasks, alerts and the Test button alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_provider_voucherify.client.auth import WHOLE_API, missing_scopes
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.models import errors
from airflow_provider_voucherify.models.endpoints import (
    ASYNC_ACTIONS_PATH,
    ASYNC_ACTIONS_SCOPE,
    METADATA_SCHEMAS_PATH,
    METADATA_SCHEMAS_SCOPE,
    OAUTH_TOKEN_PATH,
    REGIONS,
)
from airflow_provider_voucherify.models.exported_objects import METADATA_PREFIX, ExportedObject
from airflow_provider_voucherify.models.spelling import did_you_mean

WRONG_REGION_KEY = "wrong_api_endpoint"
"""Key of the 403 for a project of another region; its details name the right URL (vendor's description of 2023)."""

_ONE_REGION = " or ".join((", ".join(list(REGIONS)[:-1]), list(REGIONS)[-1]))

_NAME_NOT_FOUND = re.compile(r"\[Errno -\d+\]|getaddrinfo|name resolution|nodename nor servname", re.IGNORECASE)
"""Errors of a resolver: negative numbers on Linux, recognised by their text elsewhere."""

_HOST_OF_VOUCHERIFY = re.compile(r"https://((?:[a-z0-9-]+\.)*voucherify\.io)(?![\w.-])", re.IGNORECASE)


def advice(error: errors.VoucherifyError, settings: ConnectionSettings) -> str | None:
    """
    Return a few sentences about what is wrong and what to do; None if the error itself says everything.

    :param error: of a call.
    :param settings: of the connection.
    """
    match error:
        case errors.VoucherifyNotSentError():
            return _unreachable(error.happened, settings)
        case errors.VoucherifyNoAnswerError():
            return (
                f"{where(settings)} was reached and did not answer. Try again later, or check for a proxy in between."
            )
        case errors.VoucherifyAuthenticationError():
            return _unauthorised(error, settings)
        case errors.VoucherifyPermissionError():
            return _forbidden(error, settings)
        case errors.VoucherifyPlanError():
            return "The project's subscription plan does not include this call."
        case errors.VoucherifyBadRequestError(key="invalid_scope"):
            return (
                f"Voucherify refuses the OAuth scope {settings.extra.scope!r}. It takes names of scopes separated by "
                f"spaces, such as 'customers {ASYNC_ACTIONS_SCOPE}', or '{WHOLE_API}'."
            )
        case errors.VoucherifyNotFoundError(key="not_found"):
            return _not_found(error, settings)
        case errors.VoucherifyNotFoundError() | errors.VoucherifyUnexpectedAnswerError():
            return (
                f"{where(settings)} answers, but not as Voucherify's API. The host must be a region ({_ONE_REGION}) or "
                f"an API URL such as {REGIONS['eu']}, not the dashboard's address."
            )
        case errors.VoucherifyQuotaExhaustedError():
            return "The project cannot be used before the next billing cycle, except with a larger plan."
        case errors.VoucherifyRateLimitError():
            return (
                "The project's rate limit is used up. Try again later; if several systems share the project, set the "
                "connection's rate_limit."
            )
        case errors.VoucherifyServerError():
            return "Voucherify was reached, but is failing at the moment. Try again later."
    return None


def advice_on_export_fields(
    error: errors.VoucherifyError, exported: ExportedObject, fields: Sequence[str]
) -> str | None:
    """
    Return which fields of an export Voucherify refuses, which it does not say itself; None for any other error.

    :param error: of the call that creates the export.
    :param fields: that were asked for.
    """
    if not isinstance(error, errors.VoucherifyBadRequestError) or error.key != "invalid_export_fields":
        return None
    listed = _allowed_export_fields(error)
    allowed = listed or exported.fields
    refused = [name for name in fields if name not in allowed and not exported.knows(name)]
    refused = refused or [name for name in fields if name not in allowed and not name.startswith(METADATA_PREFIX)]
    if not refused:
        return None
    named = ", ".join(f"{name!r:.60}{did_you_mean(name, allowed)}" for name in refused)
    has = "" if listed else f" It has {', '.join(allowed)}."
    single = f" {METADATA_PREFIX}… is a single property of the metadata." if "metadata" in allowed else ""
    return f"An export of {exported.name} objects does not have {named}.{has}{single}"


def _allowed_export_fields(error: errors.VoucherifyApiError) -> tuple[str, ...]:
    """Read the fields that an answer lists; of a list that was cut off, none."""
    _, found, names = (error.details or "").partition("Allowed fields:")
    return () if not found or names.endswith("…") else tuple(name.strip() for name in names.split(","))


def where(settings: ConnectionSettings) -> str:
    """Return the base URL, with the name of its region if it has one."""
    region = next((f" (region {name})" for name, url in REGIONS.items() if url == settings.base_url), "")
    return settings.base_url + region


def _unauthorised(error: errors.VoucherifyApiError, settings: ConnectionSettings) -> str:
    oauth = settings.extra.auth_method == "oauth"
    if oauth and not error.call.endswith(OAUTH_TOKEN_PATH):
        return (
            "Voucherify gave an OAuth token and then refused it. The key may have been blocked or deleted a moment "
            "ago: see Project settings in Voucherify."
        )
    refusal = "gives no OAuth token for" if oauth else "does not accept"
    return (
        f"Wrong key or wrong region: {where(settings)} {refusal} this application ID and secret key. Compare both "
        f"with Project settings in Voucherify, and the host with the region there ({_ONE_REGION})."
    )


def _forbidden(error: errors.VoucherifyApiError, settings: ConnectionSettings) -> str:
    text = f"{error.message} {error.details}"
    if error.key == WRONG_REGION_KEY or "region" in text.lower():
        return f"Wrong region: the project is not at {where(settings)}. {_right_region(text)}"
    scope = _scope_of(error.call)
    if missing_scopes(settings, [scope]):
        more = ", without which no update can be waited for" if scope == ASYNC_ACTIONS_SCOPE else ""
        return f"The OAuth scope is {settings.extra.scope!r} and lacks {scope}{more}. Add it to the connection's scope."
    return (
        f"Voucherify knows this key but does not let it use {scope}. See its role and its list of allowed IP addresses "
        "in Project settings; keys of another region may be refused in the same way."
    )


def _right_region(text: str) -> str:
    if (host := _HOST_OF_VOUCHERIFY.search(text)) is None:
        return f"Project settings in Voucherify show where it is ({_ONE_REGION})."
    url = f"https://{host[1].lower()}"
    region = next((f" (or {name})" for name, its_url in REGIONS.items() if its_url == url), "")
    return f"Voucherify says that it is at {url}: make that{region} the connection's host."


def _scope_of(call: str) -> str:
    """Return the OAuth scope that permits a call, given as ``METHOD /path``."""
    path = call.partition(" ")[2]
    if path.startswith(ASYNC_ACTIONS_PATH):
        return ASYNC_ACTIONS_SCOPE
    return METADATA_SCHEMAS_SCOPE if path.startswith(METADATA_SCHEMAS_PATH) else path.split("/")[2]


def _not_found(error: errors.VoucherifyApiError, settings: ConnectionSettings) -> str | None:
    if not error.call.partition(" ")[2].startswith(ASYNC_ACTIONS_PATH):
        return None
    return (
        f"The project at {where(settings)} with the application ID {settings.application_id} does not know this async "
        "action. Check whether the connection has been changed to another project since the action was sent."
    )


def _unreachable(happened: str, settings: ConnectionSettings) -> str:
    url = settings.base_url
    if "ProxyError" in happened:
        return f"The proxy does not let requests to {url} through. {_proxy(url) or ''}".rstrip()
    if _NAME_NOT_FOUND.search(happened):
        text = f"The host of {url} cannot be found (DNS). Check its spelling, or give a region ({_ONE_REGION})."
    elif "CERTIFICATE_VERIFY_FAILED" in happened:
        text = (
            f"The TLS certificate of {url} is not trusted here. Check the host; for a certificate of your company "
            "set SSL_CERT_FILE where Airflow runs."
        )
    elif "SSL" in happened:
        text = f"{url} does not answer in TLS, which https needs. Check the port."
    elif "refused" in happened.lower():
        text = f"{url} refuses network connections. Check host and port."
    elif "Timeout" in happened:
        text = f"No connection to {url} could be made in time. Check the host, and whether a firewall lets Airflow out."
    else:
        text = f"{url} cannot be reached from here. Check the host, and whether a firewall lets Airflow out."
    return f"{text} {_proxy(url) or ''}".rstrip()


def _proxy(url: str) -> str | None:
    """Name the variable that sets a proxy for a URL, if there is one; the proxy's address may hold a password."""
    parts = urlsplit(url)
    if parts.scheme != "https" or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    name = next((f"{kind.upper()}_PROXY" for kind in ("https", "all") if kind in proxies), None)
    return None if name is None else f"Requests go through the proxy that {name} names: check that too."
