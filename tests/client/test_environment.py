"""What the environment may and may not change: proxies, ``.netrc``, certificates."""

from __future__ import annotations

import base64
import io
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_voucherify.client import http
from airflow_provider_voucherify.client.retry import RetryPolicy
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import VoucherifyNotSentError, VoucherifyTransportError

Connect = Callable[..., Any]
ONCE = RetryPolicy(attempts=1)
PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


class Proxy:
    """Listens, keeps what it is told first, and hangs up."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.told: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.told.append(connection.recv(65_536))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in (*PROXY_VARIABLES, "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    listening = Proxy()
    yield listening
    listening.close()


@pytest.mark.parametrize("variable", PROXY_VARIABLES)
def test_plain_http_goes_past_the_proxy_of_the_environment(
    server: LocalVoucherify, connect_to: Connect, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)

    connect_to(server).list_async_actions()

    assert len(server.received) == 1
    assert proxy.told == []


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_for_https_is_told_the_host_alone(
    connect_to: Connect, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    settings = ConnectionSettings.build(application_id="app-id", secret_key="sk-of-the-proxy-test", host="acme.example")

    with pytest.raises(VoucherifyTransportError):
        connect_to(settings, retry=ONCE).list_async_actions()
    [told] = proxy.told
    assert told.startswith(b"CONNECT acme.example:443 ")
    assert b"sk-of-the-proxy-test" not in told
    assert b"app-id" not in told


def netrc(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write a ``.netrc`` for this machine and return the credentials that it would send."""
    file = folder / ".netrc"
    file.write_text(
        "machine 127.0.0.1 login netrc-user password netrc-pass\ndefault login netrc-user password netrc-pass\n"
    )
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    monkeypatch.setenv("HOME", str(folder))
    return base64.b64encode(b"netrc-user:netrc-pass").decode()


def test_netrc_adds_no_credentials_to_a_call(
    server: LocalVoucherify, connect_to: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc(tmp_path, monkeypatch)

    connect_to(server).list_async_actions()

    assert "authorization" not in server.received[-1].headers


def test_netrc_adds_no_credentials_to_a_download_from_elsewhere(
    server: LocalVoucherify,
    foreign_host: LocalVoucherify,
    connect_sync: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc(tmp_path, monkeypatch)
    foreign_host.misbehave("report", Status(200, b"source_id,found,updated\n"))

    connect_sync(server).download(f"{foreign_host.base_url}/v1/reports/1", io.BytesIO())

    assert "authorization" not in foreign_host.received[-1].headers


@pytest.mark.parametrize(
    "extra", [{"verify": False}, {"verify_ssl": "false"}, {"insecure": True}, {"ssl": "off"}, {"verify": "/dev/null"}]
)
def test_no_extra_of_a_connection_switches_certificates_off(
    self_signed: str, connect_to: Connect, extra: dict[str, Any]
) -> None:
    settings = ConnectionSettings.build(
        application_id="app-id", secret_key="sk-of-the-tls-test", host=self_signed, extra=extra
    )

    with pytest.raises(VoucherifyNotSentError, match=r"(?i)certificate"):
        connect_to(settings, retry=ONCE).list_async_actions()


@pytest.mark.parametrize("variable", ["PYTHONHTTPSVERIFY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_NO_VERIFY"])
def test_no_variable_switches_certificates_off(
    monkeypatch: pytest.MonkeyPatch, self_signed: str, connect_to: Connect, variable: str
) -> None:
    monkeypatch.setenv(variable, "0")
    http._tls.cache_clear()
    settings = ConnectionSettings.build(application_id="app-id", secret_key="sk-of-the-tls-test", host=self_signed)

    with pytest.raises(VoucherifyNotSentError, match=r"(?i)certificate"):
        connect_to(settings, retry=ONCE).list_async_actions()


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A TLS server whose certificate nobody has vouched for: its base URL."""
    certificate, key = _certificate(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as tls:
                    tls.recv(65_536)
            except (ssl.SSLError, OSError):
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def _certificate(folder: Path) -> tuple[Path, Path]:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(private, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "certificate.pem", folder / "key.pem"
