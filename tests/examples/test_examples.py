"""Each DAG of ``dags_examples`` runs, and what it should send has arrived."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from conftest import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, run_dag
from example_dags import EXAMPLES, load

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from demo import warehouse
from demo.tables import outcome_table, reasons_table

Fill = Callable[..., None]


def test_a_constant_tag_reaches_the_customers_that_the_query_finds(
    voucherify: LocalVoucherify, fill_warehouse: Fill
) -> None:
    fill_warehouse("orders", ("c1", 500, "2026-11-02"), ("c1", 700, "2026-11-03"), ("c2", 900, "2026-11-02"))
    fill_warehouse("orders", ("old", 100, "2025-01-01"))

    run = run_dag(load("constant_metadata_tag"), {"audience": "été-2027", "bought_since": "2026-11-01"})

    assert run.state == "success"
    assert list(voucherify.customers) == ["c1", "c2"]
    assert voucherify.customers["c1"]["metadata"] == {"audience": "été-2027"}
    (request,) = voucherify.requests("POST", "/v1/customers/metadata/async")
    assert json.loads(request.body or b"") == {"source_ids": ["c1", "c2"], "metadata": {"audience": "été-2027"}}


def test_each_customer_gets_the_metadata_of_its_row(voucherify: LocalVoucherify, fill_warehouse: Fill) -> None:
    fill_warehouse("orders", ("c1", 500, "2026-11-02"), ("c1", 700, "2026-11-03"), ("c2", 900, "2026-10-30"))

    run = run_dag(load("metadata_from_sql"))

    assert run.state == "success"
    assert voucherify.customers["c1"]["metadata"] == {
        "lifetime_value_cents": 1200,
        "orders": 2,
        "last_order": "2026-11-03",
    }
    assert voucherify.customers["c2"]["metadata"]["lifetime_value_cents"] == 900


def test_a_full_sync_maps_every_column_and_keeps_what_failed(
    voucherify: LocalVoucherify, fill_warehouse: Fill, reports: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = [(f"c{n}", f"Łucja {n}", None, None, "1990-05-04", "Długa 7", "Łódź", "PL", "vip") for n in range(200)]
    bad = ("bad", "Ann", None, None, "31.02.1990", None, "Cork", "IE", "new")
    fill_warehouse("customers", *good, bad)

    run = run_dag(load("customers_full_sync"))

    assert run.state == "success"
    assert len(voucherify.customers) == 200
    customer = voucherify.customers["c7"]
    assert (customer["name"], customer["birthdate"]) == ("Łucja 7", "1990-05-04")
    assert customer["address"] == {"line_1": "Długa 7", "city": "Łódź", "country": "PL"}
    assert customer["metadata"] == {"segment": "vip"}
    assert "email" not in customer
    (failed,) = _failures(reports / "customers")
    assert failed["customer_id"] == "bad"
    assert "31.02.1990" in failed["_failure"]["message"]
    assert run.xcom("sync_customers")["refused"] == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vouchers.csv", "code,channel,shop\nSPRING-1,e-mail,Łódź\nSPRING-2,app,\n"),
        (
            "vouchers.jsonl",
            '{"code":"SPRING-1","channel":"e-mail","shop":"Łódź"}\n{"code":"SPRING-2","channel":"app"}\n',
        ),
    ],
)
def test_vouchers_get_the_metadata_of_a_file(
    voucherify: LocalVoucherify, tmp_path: Path, name: str, content: str
) -> None:
    voucherify.add_voucher("SPRING-1")
    voucherify.add_voucher("SPRING-2", metadata={"channel": "letter"})
    (tmp_path / name).write_text(content, encoding="utf-8")

    run = run_dag(load("vouchers_from_file"), {"path": str(tmp_path / name)})

    assert run.state == "success"
    assert voucherify.vouchers["SPRING-1"]["metadata"] == {"channel": "e-mail", "shop": "Łódź"}
    assert voucherify.vouchers["SPRING-2"]["metadata"] == {"channel": "app"}
    assert run.xcom("update_vouchers")["updated"] == 2


def test_the_sensor_waits_deferred_and_slack_and_a_mailbox_are_told_of_failures(
    voucherify: LocalVoucherify,
    fill_warehouse: Fill,
    reports: Path,
    slack: list[dict[str, Any]],
    mailbox: list[EmailMessage],
) -> None:
    fill_warehouse("products", ("p1", "Café", 450, "drinks"), ("p2", "Żurek", 900, "soups"))
    fill_warehouse("products", ("p3", "Crème <brûlée>", 600, "desserts"))
    voucherify.next_actions(
        result_fields={
            "done_count": 2,
            "failed_count": 1,
            "errors": [{"source_id": "p3", "key": "invalid_payload", "message": "Invalid payload", "details": "<why>"}],
        }
    )

    run = run_dag(load("wait_with_sensor"))

    assert run.state == "success"
    assert "wait_for_products" in _deferred_tasks(run)
    assert voucherify.products["p1"]["name"] == "Café"
    assert voucherify.products["p2"]["metadata"] == {"category": "soups"}
    assert run.xcom("wait_for_products")["failed"] == 1
    (message,) = slack
    assert "1 failed" in message["text"]
    assert "p3: Invalid payload - <why>" in message["text"]
    (mail,) = mailbox
    assert mail["subject"] == "Voucherify: 1 products were not updated"
    assert mail["to"] == "crm-team@example.com"
    body = mail.get_body(("html",))
    assert body is not None
    assert "p3: Invalid payload - &lt;why&gt;" in body.get_content()
    (failed,) = _failures(reports / "products")
    assert failed["source_id"] == "p3"


def test_failures_are_sent_again(voucherify: LocalVoucherify, tmp_path: Path, reports: Path) -> None:
    failures = tmp_path / "failures.jsonl"
    lines = [
        {
            "source_id": "c1",
            "name": "Ann",
            "_failure": {"form": "record", "outcome": "failed", "key": "invalid_payload"},
        },
        {"source_id": "c2", "birthdate": "never", "_failure": {"form": "row", "outcome": "refused", "key": "invalid"}},
    ]
    failures.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    run = run_dag(load("redrive_failures"), {"failures": str(failures)})

    assert run.state == "success"
    assert voucherify.customers["c1"]["name"] == "Ann"
    (failed_again,) = _failures(reports / "redriven")
    assert (failed_again["source_id"], failed_again["birthdate"]) == ("c2", "never")


def test_the_demo_counts_every_row_and_the_readme_shows_its_tables(
    tmp_path: Path, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "demo.sqlite"
    rows = warehouse.build(path)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    keys = {"app_id": APP_ID, "secret_key": SECRET_KEY}
    with LocalVoucherify(metadata_schemas=warehouse.METADATA_SCHEMAS, **keys) as voucherify:
        connect(monkeypatch, voucherify)
        with VoucherifyHook() as hook:
            hook.update_customers_in_bulk([{"source_id": known} for known in warehouse.known_ids()])
        run = run_dag(load("demo_nightly_sync"))
        arrived = {customer["source_id"]: customer for customer in voucherify.customers.values()}

    assert run.state == "success"
    assert _deferred_tasks(run) == {"wait_for_voucherify"}
    good = {row["customer_id"]: row for row in warehouse.good_rows()}
    assert {record_id: customer["name"] for record_id, customer in arrived.items()} == {
        record_id: row["full_name"] for record_id, row in good.items()
    }
    assert arrived["crm-00001"]["address"] == {"city": "Kraków", "country": "PL"}
    sent, waited = run.xcom("sync_customers"), run.xcom("wait_for_voucherify")
    assert sent["rows_read"] == rows
    assert (waited["created"], waited["updated"], waited["failed"]) == (1_200, 1_800, 6)
    assert (sent["refused"], sent["superseded"]) == (6, 5)
    readme = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    assert outcome_table(sent, waited) in readme
    assert reasons_table(sent, waited) in readme


def test_all_examples_are_loaded_without_a_warning() -> None:
    script = "import runpy, sys\nfor path in sys.argv[1:]: runpy.run_path(path)"
    ours = "error:::dags_examples"
    files = sorted(map(str, EXAMPLES.glob("*.py")))
    result = subprocess.run(
        [sys.executable, "-W", ours, "-c", script, *files], capture_output=True, text=True, timeout=120, check=False
    )

    assert len(files) == 7
    assert (result.returncode, result.stderr) == (0, "")


def _failures(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.rglob("failures.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _deferred_tasks(run: DagRunResult) -> set[str]:
    """Return the tasks of a run that were deferred, by the triggers that they left in Airflow's database."""
    return {ti.task_id for ti in run.dag_run.get_task_instances() if ti.trigger_id is not None}
