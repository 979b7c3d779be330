"""Around the DAGs of examples and README: a warehouse, a report folder, a Slack webhook, a mail server."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

TABLES = """
    CREATE TABLE customers (customer_id TEXT, full_name TEXT, email TEXT, phone TEXT, birthdate TEXT, street TEXT,
                            city TEXT, country TEXT, segment TEXT);
    CREATE TABLE orders (customer_id TEXT, total_cents INTEGER, ordered_on TEXT);
    CREATE TABLE products (sku TEXT, title TEXT, price_cents, category TEXT);
    CREATE TABLE vouchers (code TEXT, channel TEXT);
"""


@pytest.fixture(autouse=True)
def always_defer_at_once(defer_at_once: None) -> None:
    """Let the tasks of documented DAGs show what they do after a deferral too."""


@pytest.fixture
def fill_warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that puts rows into a table of the warehouse, whose connection is ``warehouse``."""
    path = tmp_path / "warehouse.sqlite"
    with closing(sqlite3.connect(path)) as warehouse:
        warehouse.executescript(TABLES)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))

    def fill(table: str, *rows: tuple[Any, ...]) -> None:
        with closing(sqlite3.connect(path)) as warehouse, warehouse:
            warehouse.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)

    return fill


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the variable ``voucherify_reports`` names."""
    monkeypatch.setenv("AIRFLOW_VAR_VOUCHERIFY_REPORTS", str(tmp_path / "reports"))
    return tmp_path / "reports"


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The messages that a Slack webhook received; its connection is ``slack_webhook``."""
    messages: list[dict[str, Any]] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Webhook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        connection = {
            "conn_type": "slackwebhook",
            "host": f"http://127.0.0.1:{server.server_port}/services",
            "password": "T000/B000/token",
        }
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_WEBHOOK", json.dumps(connection))
        yield messages
        server.shutdown()


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EmailMessage]]:
    """The mails that an SMTP server received; its connection is ``smtp_default``."""
    import email.policy
    from email import message_from_bytes

    from aiosmtpd.controller import Controller

    mails: list[EmailMessage] = []

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
            mails.append(message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
            return "250 taken"

    port = free_port()
    controller = Controller(Handler(), hostname="127.0.0.1", port=port)
    controller.start()
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": port,
        "extra": {"disable_ssl": True, "disable_tls": True},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    yield mails
    controller.stop()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
