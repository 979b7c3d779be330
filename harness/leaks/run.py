"""
``python -m harness.leaks.run``: run whole syncs on a real Airflow, then search everything that they left for secrets.

Secrets are the secret keys, the OAuth tokens and the tokens in the URLs of reports and exports, each as it is,
URL-quoted, in base64 (also of ``id:key``), in JSON or HTML, and in hex. Prints a table of places and secrets and
exits with 1 where one was found. The one place that may have a secret is the connection itself: in the database it
must be encrypted.

``--leak`` adds a task that leaks on purpose, and exits with 0 only where the search finds it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import tempfile
import threading
import time
import uuid
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cryptography.fernet import Fernet

from airflow_provider_voucherify.client.http import VoucherifyClient
from airflow_provider_voucherify.client.settings import ConnectionSettings
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from harness import ROOT
from harness.cluster import Cluster
from harness.leaks.search import found_in, texts_of, unzipped

APP_ID = "app-id-of-the-search"
RUN = "run"
SECONDS_FOR_ALL = 600
OWN_TABLES = {
    "xcom": "XCom",
    "rendered_task_instance_fields": "rendered fields",
    "serialized_dag": "serialized DAGs",
    "dag_code": "serialized DAGs",
    "trigger": "triggers",
    "connection": "connections",
    "log": "audit log",
}
FAILING = {"crash_dump"} | {
    f"{task_id}_{auth}"
    for task_id in ("quoted_by_a_gateway", "too_many_failures", "export_bad")
    for auth in ("keys", "oauth")
}
PLANTED = {"secret key": {"logs of tasks", "database: XCom"}, "export token": {"logs of tasks", "database: XCom"}}
"""Where each kind of secret is found if tasks leak on purpose."""


@dataclass
class Search:
    """What was found where."""

    secrets: dict[str, str]
    found: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    size: dict[str, int] = field(default_factory=dict)

    def look(self, place: str, text: bytes) -> None:
        """Search a text that belongs to a place."""
        self.size[place] = self.size.get(place, 0) + len(text)
        self.found.setdefault(place, set()).update(found_in(text, self.secrets, APP_ID))

    def places_of(self, kind: str) -> set[str]:
        """Return where a secret of a kind was found."""
        return {place for place, found in self.found.items() if any(name.startswith(kind) for name, _ in found)}

    def table(self) -> str:
        """Return the table of places and secrets."""
        kinds = sorted({name.rpartition(" ")[0] for name in self.secrets})
        lines = [f"| place | bytes searched | {' | '.join(kinds)} |", "|---|---|" + "---|" * len(kinds)]
        for place, found in sorted(self.found.items()):
            cells = [
                ", ".join(sorted({form for name, form in found if name.startswith(kind)})) or "-" for kind in kinds
            ]
            lines.append(f"| {place} | {self.size[place]:,} | {' | '.join(cells)} |")
        return "\n".join(lines)


def main() -> int:
    """Run, search, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leak", action="store_true", help="leak on purpose, to see the search find it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voucherify-leaks-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        logging.basicConfig(filename=folder / "voucherify.log", level=logging.DEBUG)
        search, complaints = _run(folder, leak=arguments.leak)
    print(search.table())
    for complaint in complaints:
        print(f"WRONG: {complaint}", file=sys.stderr)
    found = {place for place, what in search.found.items() if what}
    if arguments.leak:
        missed = {kind: needed - search.places_of(kind) for kind, needed in PLANTED.items()}
        for kind, needed in PLANTED.items():
            found_in_places = ", ".join(sorted(search.places_of(kind))) or "no place"
            print(f"\n{kind}: planted in {', '.join(sorted(needed))}; found in {found_in_places}.")
        return 1 if any(missed.values()) or complaints else 0
    return 1 if found or complaints else 0


def _run(folder: Path, *, leak: bool) -> tuple[Search, list[str]]:
    good_key, bad_key = (f"sk/{uuid.uuid4()}+&" for _ in range(2))
    bad_token = f"tok-{uuid.uuid4()}"
    fernet = Fernet(fernet_key := Fernet.generate_key())
    (folder / "tmp").mkdir(mode=0o777)
    with (
        LocalVoucherify(app_id=APP_ID, secret_key=good_key, action_seconds=4) as good,
        LocalVoucherify(app_id=APP_ID, secret_key=bad_key) as bad_keys,
        LocalVoucherify(app_id=APP_ID, secret_key=bad_key) as bad_oauth,
        _metrics(folder / "metrics") as metrics_port,
    ):
        answer = {"access_token": bad_token, "expires_in": 900, "token_type": "Bearer", "scope": "api"}
        bad_oauth.misbehave("token", Status(200, answer), times=None)
        for server, token in ((bad_keys, ""), (bad_oauth, bad_token)):
            for where in ("submit", "list", "/v1/exports"):
                server.misbehave(where, Status(403, _page(bad_key, token)), times=None)
        for where in ("report", "export"):
            good.misbehave(where, Status(503, _page(good_key, "")))
        environment = {
            "AIRFLOW__CORE__FERNET_KEY": fernet_key.decode(),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(metrics_port),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
                {"type": "file", "log_file_path": str(folder / "openlineage.jsonl"), "append": True}
            ),
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "leaks",
            "LEAKS_REPORTS": str(folder / "reports"),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder / "tmp"),
            **({"LEAKS_PLANT": f"{APP_ID}:{good_key}"} if leak else {}),
        }
        cluster = Cluster(folder, ROOT / "harness" / "leaks" / "dags", environment)
        with cluster.running():
            servers = {"good_keys": good, "good_oauth": good, "bad_keys": bad_keys, "bad_oauth": bad_oauth}
            _add_connections(cluster, servers)
            cluster.trigger("leaks", RUN, {})
            triggers = _follow(cluster, fernet)
            time.sleep(2)
            search = Search(_secrets(good, good_key, bad_key, bad_token))
            complaints = _complaints(cluster, fernet, {good_key, bad_key}, triggers)
            _look_at_tables(cluster, search)
        for kwargs in triggers:
            search.look("trigger kwargs, decrypted", kwargs.encode())
        for server in (good, bad_keys, bad_oauth):
            search.look("local Voucherify: requests kept", repr(server.received).encode())
    _look_at_files(folder, search)
    complaints += [f"nothing was searched of: {place}" for place in EXPECTED_PLACES if not search.size.get(place)]
    return search, complaints


EXPECTED_PLACES = (
    "logs of tasks",
    "database: XCom",
    "database: rendered fields",
    "database: serialized DAGs",
    "database: connections",
    "trigger kwargs, decrypted",
    "OpenLineage events",
    "metrics",
    "report folder",
    "stdout and stderr of Airflow",
    "log of the local Voucherify",
)


def _page(key: str, token: str) -> bytes:
    """Return a gateway's error page that quotes the request in every form."""
    pair = f"{APP_ID}:{key}".encode()
    quoted = [key, token, quote(key, safe=""), json.dumps(key), b64encode(pair).decode()]
    quoted += [b64encode(key.encode()).decode(), urlsafe_b64encode(token.encode()).decode()]
    return f"Blocked: {' '.join(quoted)}".encode()


def _secrets(good: LocalVoucherify, good_key: str, bad_key: str, bad_token: str) -> dict[str, str]:
    """Return everything secret that there was, by kind and number."""
    settings = ConnectionSettings.build(application_id=APP_ID, secret_key=good_key, host=good.base_url)
    tokens = [bad_token, *good.tokens]
    reports = []
    with VoucherifyClient(settings) as client:
        for action_id in good.actions:
            reports += (client.get_async_action(action_id).result or {}).get("reports", [])
    listed = {"secret key": [good_key, bad_key], "OAuth token": tokens}
    listed["export token"] = good.export_tokens
    listed["report token"] = [url.partition("token=")[2] for url in reports]
    assert all(listed.values()), listed.keys()
    return {f"{kind} {number}": secret for kind, some in listed.items() for number, secret in enumerate(some)}


def _add_connections(cluster: Cluster, servers: Mapping[str, LocalVoucherify]) -> None:
    """Write the connections into Airflow's database by way of a file, which is removed."""
    connections = {
        conn_id: {
            "conn_type": "voucherify",
            "host": server.base_url,
            "login": APP_ID,
            "password": server.options.secret_key,
            "extra": json.dumps(
                {
                    "auth_method": "oauth" if conn_id.endswith("oauth") else "api_keys",
                    "scope": "customers async-actions exports",
                    "poll_interval": 2,
                }
            ),
        }
        for conn_id, server in servers.items()
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(connections, file)
        file.flush()
        cluster.airflow("connections", "import", file.name)


def _follow(cluster: Cluster, fernet: Fernet) -> set[str]:
    """Wait until the run has ended; return what the triggers' arguments were meanwhile, decrypted."""
    triggers: set[str] = set()
    deadline = time.monotonic() + SECONDS_FOR_ALL
    while time.monotonic() < deadline:
        for (kwargs,) in cluster.query("SELECT kwargs FROM trigger"):
            triggers.add(kwargs if kwargs.startswith("{") else fernet.decrypt(kwargs.encode()).decode())
        for (kwargs,) in cluster.query("SELECT next_kwargs::text FROM task_instance WHERE next_kwargs IS NOT NULL"):
            triggers.add(kwargs)
        if cluster.query("SELECT 1 FROM dag_run WHERE state IN ('success', 'failed')"):
            return triggers
        time.sleep(0.3)
    raise SystemExit(f"the run has not ended in {SECONDS_FOR_ALL} s")


def _complaints(cluster: Cluster, fernet: Fernet, keys: set[str], triggers: set[str]) -> list[str]:
    """Return what went otherwise than it was meant to, so that the search would prove nothing."""
    states = dict(cluster.query("SELECT task_id, state FROM task_instance"))
    complaints = [
        f"task {task_id} is {state}"
        for task_id, state in states.items()
        if state != ("failed" if task_id in FAILING else "success")
    ]
    stored = cluster.query("SELECT conn_id, password, is_encrypted FROM connection WHERE conn_type = 'voucherify'")
    for conn_id, password, is_encrypted in stored:
        if not is_encrypted or fernet.decrypt(password.encode()).decode() not in keys:
            complaints.append(f"the connection {conn_id} is not encrypted in the database")
    if len(stored) != 4 or not triggers:
        complaints.append(f"{len(stored)} connections, {len(triggers)} triggers seen")
    return complaints


def _look_at_tables(cluster: Cluster, search: Search) -> None:
    """Search each row of each table, binary columns also unpacked."""
    tables = cluster.query(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    )
    for (table,) in tables:
        place = f"database: {OWN_TABLES.get(table, 'other tables')}"
        for row in cluster.query(f'SELECT * FROM "{table}"'):
            for value in row:
                raw = bytes(value) if isinstance(value, bytes | memoryview) else _as_text(value).encode()
                search.look(place, raw)
                search.look(place, unzipped(raw))


def _as_text(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list) else str(value)


def _look_at_files(folder: Path, search: Search) -> None:
    """Search each file that is left."""
    kinds = {
        "airflow/logs": "logs of tasks",
        "reports": "report folder",
        "tmp": "temporary files",
        "openlineage.jsonl": "OpenLineage events",
        "metrics": "metrics",
        "voucherify.log": "log of the local Voucherify",
        "postgres/log": "log of PostgreSQL",
    }
    for file, text in texts_of(folder.rglob("*")):
        name = str(Path(file).relative_to(folder))
        if name.startswith("postgres/data"):
            continue  # the tables have been searched, row by row
        other = "stdout and stderr of Airflow" if name.endswith(".log") else "other files"
        search.look(next((kind for start, kind in kinds.items() if name.startswith(start)), other), text)


@contextmanager
def _metrics(path: Path) -> Iterator[int]:
    """Write down what comes to a StatsD port, which is given."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening, path.open("ab", buffering=0) as file:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(0.5)
        ended = threading.Event()

        def keep() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    file.write(listening.recv(65_536) + b"\n")

        thread = threading.Thread(target=keep)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            ended.set()
            thread.join()


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
