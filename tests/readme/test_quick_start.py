"""docs/quick-start.md: its warehouse, its metadata schema and its DAGs, night after night, as the page tells it."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, dag_bag, run_dag
from installed import AIRFLOW
from readme_file import FENCED, ROOT

from airflow_provider_voucherify.local_voucherify import LocalVoucherify

pytestmark = pytest.mark.skipif(AIRFLOW < (3, 3), reason="the page is written for the newest Airflow")

PAGE = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
BLOCKS = [(language, text) for _, language, text in FENCED.findall(PAGE)]
WAREHOUSE, MAILS, LOOK, NIGHTLY, AGAIN = (text for language, text in BLOCKS if language == "python")
(SCHEMAS,) = (text for language, text in BLOCKS if language == "json")
CHANGES = re.findall(
    r'warehouse.sqlite "((?:UPDATE|DELETE)[^"]+)"', PAGE.partition("## The next night")[2].partition("\n## ")[0]
)


@pytest.fixture
def project() -> Iterator[LocalVoucherify]:
    """A local Voucherify with the page's metadata schema."""
    keys = {"app_id": APP_ID, "secret_key": SECRET_KEY}
    with LocalVoucherify(metadata_schemas=json.loads(SCHEMAS), keep_bodies=True, **keys) as server:
        yield server


@pytest.fixture
def folder(
    project: LocalVoucherify,
    mailbox: list[EmailMessage],
    reports: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The page's folder with the warehouse, and its connections and variable."""
    connect(monkeypatch, project)
    monkeypatch.chdir(tmp_path)
    exec(WAREHOUSE, {})
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Callable[..., DagRunResult]:
    """Give a function that runs the DAG of a block."""

    def run(text: str, conf: dict[str, Any] | None = None, night: int | None = None) -> DagRunResult:
        file = folder / "block.py"
        file.write_text(text, encoding="utf-8")
        bag = dag_bag(file)
        assert bag.import_errors == {}
        (dag,) = bag.dags.values()
        finished = run_dag(dag, conf, None if night is None else datetime(2026, 11, night, 2, tzinfo=UTC))
        assert finished.state == "success"
        return finished

    return run


Run = Callable[..., DagRunResult]


def sql(folder: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "warehouse.sqlite")) as warehouse, warehouse:
        return warehouse.execute(statement).fetchall()


def test_the_mail_server_prints_what_a_person_can_read(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "mails"}
    exec(MAILS, names)
    mail = EmailMessage()
    mail["To"], mail["Subject"] = "crm-team@example.com", "3 customers did not arrive"
    mail.add_alternative("<p>Zoë</p>", subtype="html", cte="base64")

    answer = asyncio.run(names["Printer"]().handle_DATA(None, None, SimpleNamespace(content=mail.as_bytes())))

    assert answer == "250 OK"
    assert "Subject: 3 customers did not arrive" in (printed := capsys.readouterr().out)
    assert "<p>Zoë</p>" in printed


def test_a_look_sends_nothing_and_shows_what_would_be_sent(
    project: LocalVoucherify, run: Run, task_log: Callable[[], str]
) -> None:
    summary = run(LOOK).xcom("sync_customers")

    assert (summary["dry_run"], summary["rows_read"], summary["requests"]) == (True, 3, 1)
    assert project.received == []
    assert '{"source_id":"c0001"' in task_log()


def test_the_nights(
    project: LocalVoucherify, folder: Path, reports: Path, mailbox: list[EmailMessage], run: Run
) -> None:
    first = run(NIGHTLY, night=1)

    summary = first.xcom("sync_customers")
    assert (summary["created"], summary["failed"], summary["refused"]) == (1_000, 1, 2)
    assert first.deferred_tasks() == {"sync_customers"}
    (mail,) = mailbox
    assert mail["subject"] == "nightly_customers: 3 customers did not arrive"
    outcomes = "SELECT outcome, count(*) FROM voucherify_changelog GROUP BY outcome ORDER BY outcome"
    assert sql(folder, outcomes) == [("created", 1_000), ("failed", 1), ("refused", 2)]

    assert len(CHANGES) == 3
    for statement in CHANGES:
        sql(folder, statement)
    second = run(NIGHTLY, night=2).xcom("sync_customers")

    assert (second["updated"], second["unchanged"], second["removed_to_mark"]) == (2, 998, 1)
    assert (second["failed"], second["refused"], second["warning"]) == (1, 1, None)
    assert project.customers["c0001"]["metadata"]["segment"] == "vip"
    assert project.customers["c0002"]["metadata"]["left"] is True

    (failures,) = reports.glob("*2026-11-02*/failures.jsonl")
    lines = failures.read_text(encoding="utf-8").replace('"platinum"', '"vip"').splitlines(keepends=True)
    failures.write_text("".join(lines), encoding="utf-8")
    again = run(AGAIN, {"failures": str(failures)}).xcom("send_again")

    assert (again["created"], again["refused"]) == (1, 1)
    assert project.customers["c9002"]["metadata"]["segment"] == "vip"
