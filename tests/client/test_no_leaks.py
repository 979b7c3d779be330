"""Neither the secret key nor a token is ever shown: not by repr, not in errors, not in any library's log."""

from __future__ import annotations

import html
import io
import json
import logging
import re
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_voucherify.client import calls, exports
from airflow_provider_voucherify.client.auth import OAuthToken, introspect_oauth_token, revoke_oauth_token
from airflow_provider_voucherify.client.protocol import Protocol
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import DropBefore, LocalVoucherify, RateLimited, Status, Truncate
from airflow_provider_voucherify.models.errors import VoucherifyError, VoucherifyExportError, VoucherifyReportError

Connect = Callable[..., Any]
TOKEN = "tok-e1c5-do-not-print"
TOKEN_ANSWER = {"access_token": TOKEN, "expires_in": 900, "token_type": "Bearer", "scope": "api"}
UNAUTHORIZED = {"code": 401, "message": "Unauthorized", "key": "unauthorized"}


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    for name in ("", "httpx", "httpcore", "airflow_provider_voucherify"):
        caplog.set_level(logging.DEBUG, logger=name or None)
    return caplog


@pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
@pytest.mark.parametrize(
    "fault",
    [
        Status(401, UNAUTHORIZED),
        Status(500),
        Status(200, b"{"),
        Status(302, b"", headers={"Location": "/elsewhere"}),
        DropBefore(),
        RateLimited(0.01),
        RateLimited(limit_type="api_calls_cycle"),
    ],
    ids=repr,
)
def test_errors_and_logs_show_no_credential(
    server: LocalVoucherify,
    connect_to: Connect,
    everything_logged: pytest.LogCaptureFixture,
    auth_method: str,
    fault: Any,
) -> None:
    server.misbehave("token", Status(200, TOKEN_ANSWER), times=None)
    server.misbehave("list", fault, times=None)
    client = connect_to(server, retry=RetryPolicy(2, 0.01, max_rate_limit_wait=0.05), auth_method=auth_method)

    with pytest.raises(VoucherifyError) as error:
        client.list_async_actions()

    shown = [repr(client), str(vars(client)), repr(client.__dict__), str(error.value), repr(error.value)]
    assert server.received
    for text in (*shown, everything_logged.text):
        assert server.options.secret_key not in text
        assert TOKEN not in text


@pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
def test_a_gateway_that_quotes_the_request_is_not_quoted_with_it(
    server: LocalVoucherify, connect_to: Connect, everything_logged: pytest.LogCaptureFixture, auth_method: str
) -> None:
    quoted = f"Blocked. X-App-Token: {server.options.secret_key} Authorization: Bearer {TOKEN}".encode()
    server.misbehave("token", Status(200, TOKEN_ANSWER))
    server.misbehave("list", Status(403, quoted))

    with pytest.raises(VoucherifyError, match="Blocked") as error:
        connect_to(server, auth_method=auth_method).list_async_actions()

    used = {"api_keys": server.options.secret_key, "oauth": TOKEN}[auth_method]
    assert used not in str(error.value)
    assert used not in everything_logged.text


@pytest.mark.parametrize(
    "encode",
    [
        str,
        lambda key: quote(key, safe=""),
        lambda key: re.sub("%..", lambda octet: octet[0].lower(), quote(key, safe="")),
        lambda key: json.dumps({"headers": {"X-App-Token": key}}),
        lambda key: html.escape(f"<{key}>"),
        lambda key: b64encode(key.encode()).decode(),
        lambda key: b64encode(f"shop-app-id:{key}".encode()).decode(),
        lambda key: b64encode(f"id:{key} and more".encode()).decode(),
        lambda key: urlsafe_b64encode(f"i:{key}".encode()).decode(),
    ],
    ids=["plain", "url", "url-lower", "json", "html", "base64", "base64-pair", "base64-amid", "base64-url"],
)
def test_a_quoted_key_is_blotted_out_in_any_form(
    start: Callable[..., LocalVoucherify], connect_to: Connect, encode: Callable[[str], str]
) -> None:
    key = 'sk/+"&-do>not~print\\me'
    server = start(secret_key=key)
    server.misbehave("list", Status(403, f"Blocked: {encode(key)}".encode()))

    with pytest.raises(VoucherifyError, match=r"Blocked.*\*\*\*") as error:
        connect_to(server).list_async_actions()
    assert encode(key)[-20:-4] not in str(error.value)


def test_the_query_of_a_reports_address_is_not_logged(
    server: LocalVoucherify, connect_sync: Connect, everything_logged: pytest.LogCaptureFixture, tmp_path: Any
) -> None:
    with (tmp_path / "report").open("w+b") as file, pytest.raises(VoucherifyReportError) as error:
        connect_sync(server).download(f"{server.base_url}/v1/reports/report_1?token={TOKEN}", file)

    ours = "\n".join(r.getMessage() for r in everything_logged.records if not r.name.startswith("uvicorn"))
    assert "/v1/reports/report_1?…" in ours
    assert TOKEN not in ours + str(error.value)


def test_nothing_on_the_way_shows_a_credential_in_its_repr() -> None:
    server = LocalVoucherify(app_id="app", secret_key="sk-do-not-print")
    settings = ConnectionSettings.build(application_id="app", secret_key="sk-do-not-print", host="eu")
    steps = Protocol(settings, RetryPolicy()).carry_out(calls.list_async_actions())

    shown = [settings, settings.model_dump(), next(steps), server.options]
    assert "sk-do-not-print" not in repr(shown)
    assert TOKEN not in repr(OAuthToken.model_validate(TOKEN_ANSWER))


def locals_of(error: BaseException | None) -> str:
    """Return what the variables of an error's frames, and of those of all its causes, would show in a report of it."""
    shown: list[str] = []
    seen: set[int] = set()
    chain = [error]
    while chain:
        one = chain.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        chain += [one.__cause__, one.__context__]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            ours = not frame.f_code.co_filename.startswith(str(Path(__file__).parents[1]))
            shown += [repr(value) for value in frame.f_locals.values()] if ours else []
    return "\n".join(shown)


class Strikes(BaseException):
    """Stands for what comes out of the blue: an execution timeout, a task that is killed, Ctrl+C."""


@pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
@pytest.mark.parametrize(
    "fault",
    [
        Status(401, UNAUTHORIZED),
        Status(403),
        Status(500),
        Status(200, b"{"),
        Status(200, b"{}"),
        Status(302, b"", headers={"Location": "/elsewhere"}),
        DropBefore(),
        Truncate(5),
        RateLimited(0.01),
    ],
    ids=repr,
)
def test_no_variable_of_an_errors_frames_shows_a_credential(
    server: LocalVoucherify, connect_to: Connect, auth_method: str, fault: Any
) -> None:
    server.misbehave("list", fault, times=None)
    server.misbehave("token", Status(200, TOKEN_ANSWER), times=None)
    client = connect_to(server, retry=RetryPolicy(2, 0.01, max_rate_limit_wait=0.05), auth_method=auth_method)

    with pytest.raises(VoucherifyError) as raised:
        client.list_async_actions()

    assert server.options.secret_key not in locals_of(raised.value)
    assert TOKEN not in locals_of(raised.value)


@pytest.mark.parametrize(
    "answer",
    [{**TOKEN_ANSWER, "access_token": [TOKEN]}, {**TOKEN_ANSWER, "token_type": [TOKEN]}],
    ids=["token", "type"],
)
def test_nor_where_the_answer_with_a_token_cannot_be_read(
    server: LocalVoucherify, connect_to: Connect, answer: dict[str, Any]
) -> None:
    server.misbehave("token", Status(200, answer), times=None)

    with pytest.raises(VoucherifyError) as raised:
        connect_to(server, auth_method="oauth").list_async_actions()
    assert TOKEN not in locals_of(raised.value) + str(raised.value)


@pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
@pytest.mark.parametrize("method", ["write", "read"])
def test_nor_where_a_call_is_broken_off_in_the_middle(
    server: LocalVoucherify, connect_to: Connect, monkeypatch: pytest.MonkeyPatch, auth_method: str, method: str
) -> None:
    client = connect_to(server, auth_method=auth_method)
    client.list_async_actions()
    name = "httpcore._backends.anyio.AnyIOStream" if hasattr(client, "client") else "httpcore._backends.sync.SyncStream"

    def strike(*_: Any, **__: Any) -> Any:
        raise Strikes

    monkeypatch.setattr(f"{name}.{method}", strike)
    with pytest.raises(Strikes) as raised:
        client.list_async_actions()

    frames = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
    assert any("httpcore" in frame.f_code.co_filename for frame in frames), "the way there is still shown"
    for secret in (server.options.secret_key, *server.tokens):
        assert secret not in locals_of(raised.value)


@pytest.mark.parametrize("call", [introspect_oauth_token, revoke_oauth_token])
def test_nor_of_a_call_about_a_token(server: LocalVoucherify, connect_to: Connect, call: Any) -> None:
    server.misbehave("/v1/oauth", DropBefore(), times=None)
    client = connect_to(server)

    with pytest.raises(VoucherifyError) as raised:
        client.send(call(TOKEN))
    assert TOKEN not in locals_of(raised.value) + str(raised.value)


@pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
def test_nor_of_a_download(start: Callable[..., LocalVoucherify], connect_sync: Connect, auth_method: str) -> None:
    server = start(reports_need_auth=True)
    server.misbehave("token", Status(200, TOKEN_ANSWER), times=None)
    client = connect_sync(server, auth_method=auth_method)

    with pytest.raises(VoucherifyReportError) as raised:
        client.download(f"{server.base_url}/v1/reports/report_1?token=report-{TOKEN}", io.BytesIO())

    assert server.options.secret_key not in locals_of(raised.value)
    assert TOKEN not in locals_of(raised.value)


class TestExports:
    """The address of an export's file has a token, which nobody but the client may see."""

    @pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
    @pytest.mark.parametrize(
        "fault",
        [
            None,
            Status(401),
            Status(500),
            Status(302, b"", headers={"Location": f"/v1/exports/exp_2?token={TOKEN}"}),
            DropBefore(),
            Truncate(5),
            RateLimited(60),
        ],
        ids=repr,
    )
    def test_no_log_error_or_variable_shows_it(
        self,
        server: LocalVoucherify,
        connect_sync: Connect,
        everything_logged: pytest.LogCaptureFixture,
        auth_method: str,
        fault: Any,
    ) -> None:
        retry = RetryPolicy(2, 0.01, max_rate_limit_wait=0.05)
        client = connect_sync(server, retry=retry, auth_method=auth_method, scope="exports")
        export_id = client.send(exports.create_export("customer")).id
        if fault is not None:
            server.misbehave("export", fault, times=None)

        shown, error = [repr(client.send(exports.get_export(export_id)))], None
        try:
            client.download_export(export_id, io.BytesIO())
        except VoucherifyExportError as failed:
            error = failed
        assert (error is None) is (fault is None)

        ours = [r.getMessage() for r in everything_logged.records if not r.name.startswith("uvicorn")]
        assert any(f"/v1/exports/{export_id}?…" in line for line in ours) or isinstance(fault, DropBefore)
        for text in (*ours, *shown, str(error), locals_of(error), repr(server.received)):
            assert not re.search(r"token=[^*\s]", text)
            assert TOKEN not in text
            assert server.options.secret_key not in text

    def test_nor_does_an_answer_that_cannot_be_read(self, server: LocalVoucherify, connect_sync: Connect) -> None:
        url = f"https://x.example/1?token={TOKEN}"
        server.misbehave("/v1/exports/exp_1", Status(200, {"id": "", "status": "DONE", "result": {"url": url}}))

        with pytest.raises(VoucherifyError, match="not a valid Export") as raised:
            connect_sync(server).download_export("exp_1", io.BytesIO())
        assert TOKEN not in str(raised.value) + locals_of(raised.value)


def test_the_password_of_a_proxy_is_not_logged(everything_logged: pytest.LogCaptureFixture) -> None:
    """As httpcore logs what it says to a SOCKS proxy."""
    line = f"setup_socks5_connection.started stream=<stream> host=b'api' port=443 auth=(b'user', b'{TOKEN}')"
    logging.getLogger("httpcore.socks").debug(line)

    (said,) = [r.getMessage() for r in everything_logged.records if r.name == "httpcore.socks"]
    assert said.startswith("setup_socks5_connection.started")
    assert TOKEN not in said


def test_what_leads_to_a_report_is_not_logged_either(
    server: LocalVoucherify, connect_sync: Connect, everything_logged: pytest.LogCaptureFixture
) -> None:
    host = server.base_url.removeprefix("http://")
    to = {"Location": f"http://user:pw-{TOKEN}@{host}/v1/reports/final?token={TOKEN}", "Set-Cookie": f"session={TOKEN}"}
    server.misbehave("report", Status(302, b"", headers=to))

    with pytest.raises(VoucherifyReportError):
        connect_sync(server).download(f"{server.base_url}/v1/reports/report_1", io.BytesIO())

    ours = [r.getMessage() for r in everything_logged.records if not r.name.startswith("uvicorn")]
    assert any(line.startswith("receive_response_headers.complete") for line in ours)
    assert any("/v1/reports/final?…" in line for line in ours)
    assert TOKEN not in "\n".join(ours)
