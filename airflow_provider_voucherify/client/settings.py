"""How to reach a Voucherify project: base URL, credentials, timeouts."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from airflow_provider_voucherify.client.rate_limits import CallLimit
from airflow_provider_voucherify.models.endpoints import REGIONS, download_host
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.models.spelling import did_you_mean

DEFAULT_SCOPE = "customers products vouchers async-actions"
"""Least privilege for what this provider calls (the scopes in the vendor's API description)."""

log = logging.getLogger(__name__)

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.ASCII)


class ConnectionExtra(BaseModel):
    """
    The extra fields of a ``voucherify`` connection.

    :param auth_method: ``api_keys`` sends the application id and secret key with every request; ``oauth`` exchanges
        them for a 15-minute token and sends only the token.
    :param scope: space-separated OAuth scopes; ``api`` is the whole API.
    :param api_version: value of ``X-Voucherify-API-Version``; the one that this provider was written against.
    :param connect_timeout: seconds to wait for a connection.
    :param timeout: seconds that sending each piece of a request may take, then receiving all headers of the answer, and
        then its body; less than the 180 seconds after which the vendor's load balancer gives up.
    :param poll_interval: seconds between two polls of an unfinished async action, if an operator sets none.
    :param rate_limit: API calls that this process may send to the project, such as ``100/minute``. By default only
        Voucherify's own headers limit the calls, from the first answer on.
    :param bulk_rate_limit: the same for bulk calls, such as ``50/hour``.
    :param allow_http: permit plain ``http://`` to a host that is not this machine. Credentials then travel unencrypted.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    auth_method: Literal["api_keys", "oauth"] = "api_keys"
    scope: str = DEFAULT_SCOPE
    api_version: str = Field(default="v2018-08-01", pattern=r"^[!-~]+$")
    connect_timeout: float = Field(default=10.0, gt=0, lt=180)
    timeout: float = Field(default=150.0, gt=0, lt=180)
    poll_interval: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    rate_limit: CallLimit | None = None
    bulk_rate_limit: CallLimit | None = None
    allow_http: bool = False

    @field_validator("rate_limit", "bulk_rate_limit", mode="before")
    @classmethod
    def _limits_are_text(cls, value: object) -> object:
        if value is None or isinstance(value, CallLimit):
            return value
        return CallLimit.parse(value if isinstance(value, str) else repr(value))

    @field_validator("*", mode="before")
    @classmethod
    def _blank_is_default(cls, value: object, info: Any) -> object:
        blank = value is None or (isinstance(value, str) and not value.strip())
        return cls.model_fields[info.field_name].get_default() if blank else value

    @field_validator("scope")
    @classmethod
    def _spaces_separate_scopes(cls, value: str) -> str:
        return " ".join(value.replace(",", " ").split())


class ConnectionSettings(BaseModel):
    """
    Everything a client needs to know. Its ``repr`` does not show the secret key.

    :param base_url: scheme and authority, without a path, e.g. ``https://us1.api.voucherify.io``.
    :param unknown_extras: unknown names in the connection's extra, which have no effect.
    :param conn_id: the connection's id, for errors; None if there is none.
    :param quotes_answers: whether errors have Voucherify's own words, which may quote what was sent.
    """

    model_config = ConfigDict(frozen=True)

    base_url: str
    application_id: str
    secret_key: SecretStr
    extra: ConnectionExtra = ConnectionExtra()
    unknown_extras: tuple[str, ...] = ()
    conn_id: str | None = None
    quotes_answers: bool = True

    @classmethod
    def build(
        cls,
        *,
        application_id: str | None,
        secret_key: str | None,
        host: str | None = None,
        scheme: str | None = None,
        port: int | None = None,
        extra: dict[str, Any] | None = None,
        conn_id: str | None = None,
    ) -> ConnectionSettings:
        """
        Build settings from the parts of an Airflow connection. Unknown names in ``extra`` are logged.

        :param application_id: the project's application id.
        :param secret_key: the project's secret key.
        :param host: a URL, a host name, or a region (``eu``, ``us1``, ``as1``); empty means Europe.
        :param scheme: ``http`` or ``https``, if ``host`` does not say; default ``https``.
        :param port: TCP port, if ``host`` does not say.
        :param extra: see ``ConnectionExtra``.
        :param conn_id: the connection's id, for errors.
        :raises VoucherifyConfigurationError: naming the field that is missing or wrong.
        """
        missing = [
            label
            for label, value in (
                ("login (the application id)", application_id),
                ("password (the secret key)", secret_key),
            )
            if not (value or "").strip()
        ]
        if missing:
            which = "" if conn_id is None else f" {conn_id!r}"
            raise VoucherifyConfigurationError(f"the Voucherify connection{which} has no {' and no '.join(missing)}")
        try:
            parsed = ConnectionExtra.model_validate(extra or {})
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise VoucherifyConfigurationError(f"the Voucherify connection's extra is not valid: {wrong}") from None
        unknown = tuple(sorted(set(extra or {}) - set(ConnectionExtra.model_fields)))
        if unknown:
            log.warning("The Voucherify connection's extra has %s", without_effect(unknown))
        return cls(
            base_url=_base_url(host, scheme, port, allow_http=parsed.allow_http),
            application_id=_header_value(application_id or "", "login (the application id)"),
            secret_key=SecretStr(_header_value(secret_key or "", "password (the secret key)")),
            extra=parsed,
            unknown_extras=unknown,
            conn_id=conn_id,
        )

    def owns(self, url: str) -> bool:
        """
        Say whether credentials may go to a URL.

        They may go to the connection's own scheme, host and port, and to the download host that the vendor documents
        for a ``voucherify.io`` API host; nowhere else.
        """
        mine = urlsplit(self.base_url)
        try:
            other = urlsplit(url)
            if (other.scheme, other.hostname, _port(other)) == (mine.scheme, mine.hostname, _port(mine)):
                return True
            downloads = download_host(mine.hostname or "")
            return downloads is not None and other.scheme == "https" and other.netloc.lower() == downloads
        except ValueError:
            return False


def without_effect(unknown_extras: Iterable[str]) -> str:
    """
    Return a phrase that names unknown members of a connection's extra, each with the name that may have been meant.

    :param unknown_extras: their names; their values, which may be secret, are not shown.
    """
    known = list(ConnectionExtra.model_fields)
    names = [f"{name!r:.60}{did_you_mean(name, known)}" for name in unknown_extras]
    return f"{', '.join(names)}, which this provider does not know and ignores; it knows {', '.join(known)}"


def _port(parts: SplitResult) -> int | None:
    return parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _header_value(value: str, label: str) -> str:
    value = value.strip()
    if not value.isascii() or not value.isprintable():
        raise VoucherifyConfigurationError(
            f"the Voucherify connection's {label} has characters that no HTTP header can carry"
        )
    return value


def _base_url(host: str | None, scheme: str | None, port: int | None, *, allow_http: bool) -> str:
    host = (host or "").strip() or "eu"
    url = REGIONS.get(host.lower().rstrip("/"), f"[{host}]" if _is_ip(host, 6) else host)
    if "://" not in url:
        url = f"{(scheme or 'https').lower()}://{url}"
    try:
        parts = urlsplit(url)
        authority = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
        if (number := parts.port or port) is not None and number != _DEFAULT_PORTS.get(parts.scheme):
            authority = f"{authority}:{number}"
        urlsplit(f"//{authority}").port, httpx.URL(f"//{authority}")  # each raises on what the other accepts
    except (ValueError, httpx.InvalidURL):
        raise VoucherifyConfigurationError("the Voucherify connection's host (or port) is not a URL") from None
    name = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not (_HOST_NAME.fullmatch(name) or _is_ip(name, 4, 6)):
        raise VoucherifyConfigurationError(
            "the Voucherify connection's host is neither an http(s) URL, a host name nor one of the regions "
            f"{', '.join(REGIONS)}"
        )
    if parts.path.strip("/") not in ("", "v1") or parts.query or parts.username:
        raise VoucherifyConfigurationError(
            "the Voucherify connection's host must be the API base URL alone, without path, query or credentials"
        )
    if parts.scheme == "http" and not allow_http and not _is_loopback(name):
        raise VoucherifyConfigurationError(
            f"the Voucherify connection's host {name!r} is plain http: the secret key would travel "
            "unencrypted; use https (or the extra allow_http if this is what you want)"
        )
    return f"{parts.scheme}://{authority}"


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_ip(host, 4, 6) and ipaddress.ip_address(host).is_loopback)


def _is_ip(host: str, *versions: int) -> bool:
    try:
        return ipaddress.ip_address(host).version in versions
    except ValueError:
        return False
