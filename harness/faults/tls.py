"""The local Voucherify behind TLS, as the real one is: a certificate that this process trusts, and a front door."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

TRUSTED = "SSL_CERT_FILE"


@contextlib.contextmanager
def trusted_certificate() -> Iterator[None]:
    """Let clients that are opened from now on trust a certificate of 127.0.0.1; before the first one is."""
    with tempfile.TemporaryDirectory(prefix="voucherify-tls-") as folder:
        file = Path(folder, "certificate.pem")
        file.write_bytes(_certificate()[0])
        before = os.environ.get(TRUSTED)
        os.environ[TRUSTED] = str(file)
        try:
            yield
        finally:
            os.environ.pop(TRUSTED)
            if before is not None:
                os.environ[TRUSTED] = before


@contextlib.contextmanager
def front_door(port: int) -> Iterator[str]:
    """
    Serve a port of 127.0.0.1 with TLS on another one, and give that one's ``host:port``.

    Where nobody has asked for a ``trusted_certificate`` no client will come in.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="voucherify-tls-") as folder:
        chain = Path(folder, "chain.pem")
        chain.write_bytes(b"".join(_certificate()))
        context.load_cert_chain(chain)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=_accept, args=(listening, context, port), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def _accept(listening: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            raw, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_relay, args=(raw, context, port), daemon=True).start()


def _relay(raw: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """Pass one caller's requests on, and the answers back, each as it comes: HTTP/1.1 has one side speak at a time."""
    with contextlib.suppress(OSError), raw, context.wrap_socket(raw, server_side=True) as caller:
        caller.settimeout(0.002)
        with socket.create_connection(("127.0.0.1", port)) as server:
            server.settimeout(0.002)
            while _pass(caller, server) and _pass(server, caller):
                pass


def _pass(source: socket.socket, to: socket.socket) -> bool:
    """Pass on what is there; False at the end."""
    try:
        piece = source.recv(65_536)
    except TimeoutError:
        return True
    to.settimeout(30)
    to.sendall(piece)
    to.settimeout(0.002)
    return bool(piece)


@cache
def _certificate() -> tuple[bytes, bytes]:
    """Return a certificate of 127.0.0.1 and its key, in PEM; one for the process."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(private, hashes.SHA256())
    )
    key = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key
