"""The Test button of a connection: for each thing that can be wrong it says what it is and what to do."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from connections import APP_ID, SECRET_KEY, connect
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from surroundings import free_port

from airflow_provider_voucherify.client.advice import advice
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.local_voucherify.misbehaviour import Delay, DropBefore, Malformed, RateLimited, Status
from airflow_provider_voucherify.models.errors import VoucherifyAuthenticationError


@pytest.fixture
def press(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that tests a connection with these parts and returns whether it works, and the message."""

    def press(host: str, **parts: Any) -> tuple[bool, str]:
        connection = {"conn_type": "voucherify", "host": host, "login": APP_ID, "password": SECRET_KEY, **parts}
        monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json.dumps(connection))
        succeeded, message = VoucherifyHook().test_connection()
        assert SECRET_KEY not in message
        assert "\n" not in message
        return succeeded, message

    return press


def fails(result: tuple[bool, str]) -> str:
    succeeded, message = result
    assert not succeeded
    return message


class TestWhatWorks:
    def test_good_keys_take_one_call(self, voucherify: LocalVoucherify) -> None:
        assert VoucherifyHook().test_connection() == (
            True,
            f"Voucherify at {voucherify.base_url} accepts these credentials.",
        )
        assert [request.path for request in voucherify.received] == ["/v1/async-actions"]

    def test_with_oauth_a_token_is_fetched_first(
        self, voucherify: LocalVoucherify, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(monkeypatch, voucherify, auth_method="oauth")

        assert VoucherifyHook().test_connection()[0]
        assert [request.path for request in voucherify.received] == ["/v1/oauth/token", "/v1/async-actions"]

    def test_a_scope_that_permits_no_update_of_some_resources_is_told(
        self, voucherify: LocalVoucherify, press: Any
    ) -> None:
        extra = {"auth_method": "oauth", "scope": "async-actions customers"}

        succeeded, message = press(voucherify.base_url, extra=extra)

        assert succeeded
        assert "The OAuth scope lacks products, vouchers" in message

    def test_a_mistyped_extra_is_told(self, voucherify: LocalVoucherify, press: Any) -> None:
        succeeded, message = press(voucherify.base_url, extra={"pol_interval": 5})

        assert succeeded
        assert "'pol_interval' (did you mean 'poll_interval'?)" in message


class TestWrongCredentials:
    @pytest.mark.parametrize("wrong", [{"password": "another-secret-do-not-print"}, {"login": "another-app"}], ids=str)
    @pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
    def test_a_wrong_key_may_also_be_one_of_another_region(
        self, voucherify: LocalVoucherify, press: Any, wrong: dict[str, str], auth_method: str
    ) -> None:
        message = fails(press(voucherify.base_url, **wrong, extra={"auth_method": auth_method}))

        assert message.startswith(f"Wrong key or wrong region: {voucherify.base_url} ")
        assert "(eu, us1 or as1)" in message
        assert "401: Unauthorized" in message
        assert "do-not-print" not in message
        assert len(voucherify.received) == 1

    def test_the_region_that_was_asked_is_named(self) -> None:
        settings = ConnectionSettings.build(application_id="app", secret_key="secret", host="as1", port=443)

        message = advice(VoucherifyAuthenticationError("GET /v1/async-actions", 401), settings)

        assert message is not None
        assert "https://as1.api.voucherify.io (region as1) does not accept" in message

    def test_a_project_of_another_region(self, voucherify: LocalVoucherify, press: Any) -> None:
        details = "Project is bound to different region"
        voucherify.misbehave("list", Status(403, {"code": 403, "key": "forbidden", "details": details}))

        message = fails(press(voucherify.base_url))

        assert message.startswith("Wrong region: the project is not at ")
        assert "Project settings in Voucherify show where it is (eu, us1 or as1)" in message
        assert details in message

    def test_a_project_of_another_region_whose_address_is_told(self, press: Any) -> None:
        with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, right_url="https://us1.api.voucherify.io") as server:
            message = fails(press(server.base_url))

        assert message.startswith(f"Wrong region: the project is not at {server.base_url}. ")
        assert "it is at https://us1.api.voucherify.io: make that (or us1) the connection's host." in message
        assert "403: Wrong API endpoint" in message

    @pytest.mark.parametrize("told", ["https://voucherify.io.example.org", "https://evil-voucherify.io", "here"])
    def test_the_address_of_somebody_else_is_not_recommended(self, press: Any, told: str) -> None:
        with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, right_url=told) as server:
            message = fails(press(server.base_url))

        assert message.startswith("Wrong region: ")
        assert "make that" not in message

    def test_a_key_without_the_permission(self, voucherify: LocalVoucherify, press: Any) -> None:
        voucherify.misbehave("list", Status(403, {"code": 403, "message": "Missing permission"}))

        message = fails(press(voucherify.base_url))

        assert "does not let it use async-actions. See its role" in message
        assert "403: Missing permission" in message

    def test_a_token_that_is_refused_although_it_is_new(self, voucherify: LocalVoucherify, press: Any) -> None:
        voucherify.misbehave("list", Status(401), times=2)

        message = fails(press(voucherify.base_url, extra={"auth_method": "oauth"}))

        assert "gave an OAuth token and then refused it" in message

    @pytest.mark.parametrize("missing", ["login", "password"])
    def test_an_empty_field(self, voucherify: LocalVoucherify, press: Any, missing: str) -> None:
        message = fails(press(voucherify.base_url, **{missing: ""}))

        assert f"has no {missing}" in message
        assert voucherify.received == []


class TestOAuthScopes:
    def test_one_without_async_actions(self, voucherify: LocalVoucherify, press: Any) -> None:
        message = fails(press(voucherify.base_url, extra={"auth_method": "oauth", "scope": "customers"}))

        assert "The OAuth scope is 'customers' and lacks async-actions" in message
        assert "Add it to the connection's scope" in message

    def test_one_that_does_not_exist(self, voucherify: LocalVoucherify, press: Any) -> None:
        message = fails(press(voucherify.base_url, extra={"auth_method": "oauth", "scope": "clients async-actions"}))

        assert "Voucherify refuses the OAuth scope 'clients async-actions'" in message
        assert "separated by spaces" in message


class TestAHostThatCannotBeReached:
    def test_plain_http_to_another_machine(self, press: Any) -> None:
        message = fails(press("http://api.voucherify.io"))

        assert "'api.voucherify.io' is plain http: the secret key would travel unencrypted; use https" in message

    def test_a_name_that_nobody_has(self, press: Any) -> None:
        message = fails(press("api.voucherify.invalid"))

        assert message.startswith("The host of https://api.voucherify.invalid cannot be found (DNS).")
        assert "or give a region (eu, us1 or as1)" in message

    def test_a_port_that_nobody_listens_on(self, press: Any) -> None:
        url = f"http://127.0.0.1:{free_port()}"

        assert fails(press(url)).startswith(f"{url} refuses network connections. Check host and port.")

    def test_a_server_without_tls(self, voucherify: LocalVoucherify, press: Any) -> None:
        url = voucherify.base_url.replace("http:", "https:")

        assert fails(press(url)).startswith(f"{url} does not answer in TLS, which https needs.")

    def test_a_certificate_that_is_not_trusted(self, self_signed: str, press: Any) -> None:
        message = fails(press(self_signed))

        assert message.startswith(f"The TLS certificate of {self_signed} is not trusted here.")
        assert "SSL_CERT_FILE" in message

    def test_silence(self, voucherify: LocalVoucherify, press: Any) -> None:
        voucherify.misbehave("list", Delay(5))

        message = fails(press(voucherify.base_url, extra={"timeout": 0.1}))

        assert message.startswith(f"{voucherify.base_url} was reached and did not answer.")

    def test_a_broken_connection(self, voucherify: LocalVoucherify, press: Any) -> None:
        voucherify.misbehave("list", DropBefore())

        assert "was reached and did not answer" in fails(press(voucherify.base_url))
        assert len(voucherify.received) == 1


class TestAnAnswerThatIsNoHelp:
    @pytest.mark.parametrize(
        "fault",
        [Status(404), Malformed(b"<!doctype html>"), Status(302, headers={"Location": "https://app.voucherify.io"})],
        ids=["not found", "a web page", "redirect"],
    )
    def test_the_host_of_something_else(self, voucherify: LocalVoucherify, press: Any, fault: Any) -> None:
        voucherify.misbehave("list", fault)

        message = fails(press(voucherify.base_url))

        assert "answers, but not as Voucherify's API. The host must be a region (eu, us1 or as1)" in message

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (RateLimited(retry_after=60), "The project's rate limit is used up. Try again later"),
            (RateLimited(limit_type="api_calls_cycle"), "cannot be used before the next billing cycle"),
            (Status(503), "is failing at the moment. Try again later"),
            (Status(402, {"code": 402, "message": "Upgrade your plan"}), "402: Upgrade your plan"),
        ],
        ids=["rate limit", "quota", "server error", "plan"],
    )
    def test_voucherify_cannot_at_the_moment(
        self, voucherify: LocalVoucherify, press: Any, fault: Any, said: str
    ) -> None:
        voucherify.misbehave("list", fault)

        assert said in fails(press(voucherify.base_url))
        assert len(voucherify.received) == 1


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[str]:
    """The URL of a TLS server whose certificate nobody has signed but itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(key.private_bytes(pem, form, plain) + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()
