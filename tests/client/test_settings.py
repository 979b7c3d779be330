"""Connection settings: hosts, regions, credentials and extras that can work; the others are refused with a reason."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.client.rate_limits import CallLimit
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError


def build(host: str | None = None, extra: Any = None, **parts: Any) -> ConnectionSettings:
    return ConnectionSettings.build(
        **{"application_id": "app", "secret_key": "sk-secret", "host": host, "extra": extra, **parts}
    )


@pytest.mark.parametrize(
    ("parts", "base_url"),
    [
        ({}, "https://api.voucherify.io"),
        ({"host": "  "}, "https://api.voucherify.io"),
        ({"host": "eu"}, "https://api.voucherify.io"),
        ({"host": "us1"}, "https://us1.api.voucherify.io"),
        ({"host": "US1/"}, "https://us1.api.voucherify.io"),
        ({"host": "AS1"}, "https://as1.api.voucherify.io"),
        ({"host": "us1.api.voucherify.io"}, "https://us1.api.voucherify.io"),
        ({"host": "https://acme.api.voucherify.io/"}, "https://acme.api.voucherify.io"),
        ({"host": "HTTPS://Acme.API.voucherify.io/v1/"}, "https://acme.api.voucherify.io"),
        ({"host": "us1", "port": 443}, "https://us1.api.voucherify.io"),
        ({"host": "acme.example", "port": 8443}, "https://acme.example:8443"),
        ({"host": "acme.example:8443"}, "https://acme.example:8443"),
        ({"host": "https://acme.example:1", "port": 2}, "https://acme.example:1"),
        ({"host": "127.0.0.1", "scheme": "http", "port": 8000}, "http://127.0.0.1:8000"),
        ({"host": "http://localhost:8000"}, "http://localhost:8000"),
        ({"host": "http://[::1]:8000"}, "http://[::1]:8000"),
        ({"host": "[::1]", "scheme": "HTTP", "port": 8000}, "http://[::1]:8000"),
        ({"host": "::1", "scheme": "http", "port": 8000}, "http://[::1]:8000"),
        ({"host": "2001:db8::7"}, "https://[2001:db8::7]"),
        ({"host": "http://10.0.0.7", "extra": {"allow_http": True}}, "http://10.0.0.7"),
    ],
    ids=str,
)
def test_hosts_become_base_urls(parts: dict[str, Any], base_url: str) -> None:
    assert build(**parts).base_url == base_url


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"host": "http://api.voucherify.io"}, "plain http"),
        ({"host": "api.voucherify.io", "scheme": "http"}, "plain http"),
        ({"host": "http://10.0.0.7"}, "plain http"),
        ({"host": "http://127.0.0.1.evil.example"}, "plain http"),
        ({"host": "http://[2001:db8::7]"}, "plain http"),
        ({"host": "ftp://acme.example"}, "neither an http"),
        ({"host": "https://"}, "neither an http"),
        ({"host": "https://acme.example/api"}, "without path"),
        ({"host": "https://acme.example?x=1"}, "without path"),
        ({"host": "https://user:pw-do-not-print@acme.example"}, "without path, query or credentials"),
        ({"host": "https://user:pw-do-not-print@acme.example:port"}, "is not a URL"),
        ({"host": "https://acme.example:port"}, "is not a URL"),
        ({"host": "https://acme.example:99999"}, "is not a URL"),
        ({"host": "acme.example", "port": 99999}, "is not a URL"),
        ({"host": "https://[::1"}, "is not a URL"),
        ({"host": "1.2.3.999"}, "is not a URL"),
        ({"host": "żółw.example"}, "neither an http"),
        ({"host": "two words.example"}, "neither an http"),
        ({"host": "acme.example\\@evil.example"}, "neither an http|credentials"),
    ],
    ids=str,
)
def test_hosts_that_cannot_work_are_refused(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said) as error:
        build(**parts)
    assert "pw-do-not-print" not in str(error.value)


@given(host=st.text(max_size=30), scheme=st.sampled_from([None, "http", "https"]))
def test_any_host_is_usable_or_refused(host: str, scheme: str | None) -> None:
    try:
        settings = build(host, scheme=scheme)
    except VoucherifyConfigurationError:
        return
    url = httpx.URL(settings.base_url + "/v1/async-actions")
    assert (url.scheme, url.path) in (("https", "/v1/async-actions"), ("http", "/v1/async-actions"))
    assert url.host
    assert settings.owns(str(url))


@pytest.mark.parametrize(
    ("application_id", "secret_key", "said"),
    [
        (None, "sk", "no login"),
        ("app", None, "no password"),
        ("app", "  ", "no password"),
        ("", "", "no login .* and no password"),
        ("app", "sk\n-do-not-print", "password .* characters"),
        ("app", "sk-ключ-do-not-print", "password .* characters"),
        ("ápp", "sk-do-not-print", "login .* characters"),
    ],
)
def test_missing_and_unsendable_credentials_are_named(
    application_id: str | None, secret_key: str | None, said: str
) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said) as error:
        build(application_id=application_id, secret_key=secret_key)
    assert "do-not-print" not in str(error.value)


def test_a_connection_without_keys_is_named() -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"connection 'crm' has no login .* and no password"):
        build(application_id="", secret_key="", conn_id="crm")


def test_blanks_around_credentials_are_pasting_accidents() -> None:
    settings = build(application_id=" app\n", secret_key="\tsk ")

    assert (settings.application_id, settings.secret_key.get_secret_value()) == ("app", "sk")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"auth_method": "basic"}, "auth_method: .*'api_keys' or 'oauth'"),
        ({"timeout": 180}, "timeout: .*less than 180"),
        ({"timeout": "soon"}, "timeout: "),
        ({"timeout": 0}, "timeout: "),
        ({"connect_timeout": -1}, "connect_timeout: "),
        ({"poll_interval": 0}, "poll_interval: "),
        ({"poll_interval": "nan"}, "poll_interval: "),
        ({"poll_interval": "inf"}, "poll_interval: "),
        ({"allow_http": "perhaps"}, "allow_http: "),
        ({"rate_limit": "100"}, "rate_limit: .*such as 100/minute, not '100'"),
        ({"rate_limit": 100}, "rate_limit: .*such as 100/minute, not '100'"),
        ({"rate_limit": "0/minute"}, "rate_limit: "),
        ({"rate_limit": "-1/minute"}, "rate_limit: "),
        ({"rate_limit": "1.5/minute"}, "rate_limit: "),
        ({"bulk_rate_limit": "50/day"}, "bulk_rate_limit: .*per second, minute or hour"),
        ({"bulk_rate_limit": ["50/hour"]}, "bulk_rate_limit: "),
        ({"api_version": "v1\nX-Evil: 1"}, "api_version: "),
        ({"api_version": "vé"}, "api_version: "),
        ({"scope": ["customers"]}, "scope: "),
        (["auth_method"], "extra is not valid"),
        ("auth_method=oauth", "extra is not valid"),
    ],
    ids=str,
)
def test_extras_that_cannot_work_are_named(extra: Any, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        build(extra=extra)


BLANK = {"auth_method": "", "timeout": None, "scope": " ", "rate_limit": "", "bulk_rate_limit": None}


@pytest.mark.parametrize("extra", [None, {}, {"unknown": 1, **BLANK}])
def test_blank_and_unknown_extras_change_nothing(extra: dict[str, Any] | None) -> None:
    assert build(extra=extra).extra == build().extra


def test_extras_from_a_form_are_text() -> None:
    extra = build(extra={"timeout": "30", "poll_interval": "5", "allow_http": "true"}).extra

    assert (extra.timeout, extra.poll_interval, extra.allow_http) == (30.0, 5.0, True)


@pytest.mark.parametrize(
    ("text", "calls", "seconds", "written"),
    [
        ("100/minute", 100, 60, "100/minute"),
        (" 50 / Hour ", 50, 3_600, "50/hour"),
        ("4/second", 4, 1, "4/second"),
    ],
)
def test_limits_are_calls_and_a_period(text: str, calls: int, seconds: float, written: str) -> None:
    limit = build(extra={"rate_limit": text}).extra.rate_limit

    assert limit == CallLimit(calls, seconds)
    assert str(limit) == written


@pytest.mark.parametrize(
    ("host", "url", "owned"),
    [
        ("us1", "https://us1.api.voucherify.io/v1/reports/1", True),
        ("us1", "https://us1.download.voucherify.io/v1/reports/1?token=t", True),
        ("us1", "https://US1.DOWNLOAD.voucherify.io/1", True),
        ("us1", "https://download.voucherify.io/1", False),
        ("us1", "http://us1.download.voucherify.io/1", False),
        ("us1", "https://us1.download.voucherify.io.evil.example/1", False),
        ("us1", "https://us1.download.voucherify.io@evil.example/1", False),
        ("us1", "https://evil.example/us1.api.voucherify.io", False),
        ("us1", "https://us1.api.voucherify.io:8443/1", False),
        ("us1", "http://us1.api.voucherify.io/1", False),
        ("us1", "https://us1.api.voucherify.io:port/1", False),
        ("us1", "https://[broken/1", False),
        ("us1", "//us1.api.voucherify.io/1", False),
        ("us1", "", False),
        ("https://acme.example", "https://acme.example/1", True),
        ("https://acme.example", "https://download.voucherify.io/1", False),
        ("https://evil-api.voucherify.io", "https://evil-download.voucherify.io/1", False),
    ],
)
def test_credentials_belong_to_the_connections_own_hosts(host: str, url: str, owned: bool) -> None:
    assert build(host).owns(url) is owned
