"""Each DAG of ``dags_examples`` runs, and what it should send has arrived."""

from __future__ import annotations

import html
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from connections import APP_ID, SECRET_KEY, connect
from dags import run_dag
from example_dags import EXAMPLES, load

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from harness.demo import warehouse
from harness.demo.tables import outcome_table, reasons_table

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


def test_the_sensor_waits_deferred_and_a_mailbox_is_told_of_failures(
    voucherify: LocalVoucherify,
    fill_warehouse: Fill,
    reports: Path,
    mailbox: list[EmailMessage],
) -> None:
    fill_warehouse("products", ("p1", "Café", 450, "drinks"), ("p2", "Żurek", 900, "soups"))
    fill_warehouse("products", ("p3", "Crème <brûlée>", 600, "desserts"), ("p4", "Naan", "cheap", "breads"))
    voucherify.next_actions(
        result_fields={
            "done_count": 2,
            "failed_count": 1,
            "errors": [{"source_id": "p3", "key": "invalid_payload", "message": "Invalid payload", "details": "<why>"}],
        }
    )

    run = run_dag(load("wait_with_sensor"))

    assert run.state == "success"
    assert "wait_for_products" in run.deferred_tasks()
    assert voucherify.products["p1"]["name"] == "Café"
    assert voucherify.products["p2"]["metadata"] == {"category": "soups"}
    assert run.xcom("wait_for_products")["failed"] == 1
    refused, mail = mailbox
    assert refused["subject"] == "Voucherify: 1 products were refused"
    assert mail["subject"] == "Voucherify: 1 products were not updated"
    assert mail["to"] == "crm-team@example.com"
    body = mail.get_body(("html",))
    assert body is not None
    assert "<td>Invalid payload - &lt;why&gt;</td><td>p3</td>" in body.get_content()
    (failed,) = _failures(reports / "products")
    assert failed["source_id"] == "p3"


HOSTILE = (
    "<!channel> ```<https://evil.example|*click*>``` <script>alert('&')</script> {{ 1 / 0 }}\r\nBcc: all@example.com"
)


def test_slack_and_a_mailbox_are_told_of_failures_and_no_error_text_becomes_markup(
    voucherify: LocalVoucherify,
    fill_warehouse: Fill,
    reports: Path,
    slack: list[dict[str, Any]],
    mailbox: list[EmailMessage],
) -> None:
    voucherify.add_voucher("KNOWN")
    fill_warehouse("vouchers", ("KNOWN", "app"), ("<b>GONE</b>", "app"))
    error = {"code": "<b>GONE</b>", "key": "not_found", "message": "Cannot find", "details": HOSTILE}
    voucherify.next_actions(result_fields={"done_count": 1, "failed_count": 1, "errors": [error]})

    run = run_dag(load("alert_on_failures"))

    assert run.state == "success"
    alert, every_night = (message["text"] for message in slack)
    assert alert.startswith(
        f":rotating_light: alert_on_failures, {run.dag_run.run_id}\n```\nVoucherify vouchers: 2 rows"
    )
    assert alert.removeprefix(f":rotating_light: alert_on_failures, {run.dag_run.run_id}\n") == every_night
    assert "1 updated, 1 failed" in alert
    shown, _, link = alert.partition("```")[2].partition("```")
    assert ": Cannot find - &lt;!channel&gt; '''&lt;https://evil.example|*click*&gt;'''" in shown
    assert "{{ 1 / 0 }} Bcc: all@example.com: &lt;b&gt;GONE&lt;/b&gt;" in shown
    assert [character for character in "<>`" if character in shown] == []
    names = {"page_url": "Run in Airflow", "log_url": "Log in Airflow"}
    urls = {name: run.xcom("update_vouchers")[name] for name in names}
    assert link == "".join(f"\n<{html.escape(url, quote=False)}|{names[name]}>" for name, url in urls.items() if url)
    (mail,) = mailbox
    assert mail["subject"] == "alert_on_failures: 1 vouchers were not updated"
    assert mail["bcc"] is None
    body = mail.get_body(("html",))
    assert body is not None
    page = ElementTree.fromstring(f"<mail>{body.get_content()}</mail>")
    assert {element.tag for element in page.iter()} == {"mail", "p", "table", "tr", "th", "td", "a"}
    (cells,) = page.findall("table/tr[td]")
    assert [cell.text for cell in cells][:3] == ["1", "failed", "not_found"]
    assert [cell.text for cell in cells][3:] == [
        "Cannot find - " + HOSTILE.replace("\r\n", "  "),
        "<b>GONE</b>",
    ]
    assert [failure["code"] for failure in _failures(reports / "vouchers")] == ["<b>GONE</b>"]


def test_a_function_gives_the_rows_of_each_country_and_one_sensor_waits_for_all(
    voucherify: LocalVoucherify, fill_warehouse: Fill
) -> None:
    fill_warehouse("customers", *[_customer(f"pl{n}", "PL") for n in range(3)], _customer("ie0", "IE"))
    fill_warehouse("orders", ("pl0", 60_000, "2026-11-02"), ("pl0", 50_000, "2026-11-03"), ("ie0", 900, "2026-11-02"))

    run = run_dag(load("rows_from_a_function"))

    assert run.state == "success"
    tiers = {record_id: customer["metadata"]["tier"] for record_id, customer in voucherify.customers.items()}
    assert tiers == {"pl0": "gold", "pl1": "basic", "pl2": "basic", "ie0": "basic"}
    assert run.xcom("wait_for_all")["created"] == 4
    assert len(run.xcom("wait_for_all")["async_action_ids"]) == 2


def test_each_customer_of_a_large_table_is_in_one_of_the_parts(
    voucherify: LocalVoucherify, postgres_warehouse: Any
) -> None:
    postgres_warehouse.cursor().execute(
        "CREATE TABLE customers AS SELECT 'c' || i AS customer_id, 'Łucja ' || i AS full_name, NULL AS email,"
        " 'Łódź' AS city, 'PL' AS country, 'vip' AS segment FROM generate_series(1, 500) AS i"
    )

    run = run_dag(load("partitioned_sync"))

    assert run.state == "success"
    requests = voucherify.requests("POST", "/v1/customers/bulk/async")
    parts = [[record["source_id"] for record in json.loads(request.body or b"")] for request in requests]
    assert len(parts) == 8
    assert sorted(record_id for part in parts for record_id in part) == sorted(f"c{i}" for i in range(1, 501))
    assert all(part == sorted(part) for part in parts)
    assert all(30 < len(part) < 100 for part in parts)
    assert voucherify.customers["c7"]["address"] == {"city": "Łódź", "country": "PL"}
    assert run.xcom("add_up") == {
        "rows_read": 500,
        "succeeded": 500,
        "failed": 0,
        "refused": 0,
        "requests": 8,
        "resubmitted": 0,
    }


def _customer(customer_id: str, country: str) -> tuple[Any, ...]:
    return (customer_id, "Ann", None, None, None, None, None, country, None)


def test_a_second_night_sends_what_changed_and_a_row_that_stays_bad_does_not_fail_it(
    voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))

    def change(*statements: str) -> None:
        with closing(sqlite3.connect(path)) as opened, opened:
            for statement in statements:
                opened.execute(statement)

    change("CREATE TABLE customers (id TEXT, name TEXT, email TEXT, segment TEXT)")
    change(*(f"INSERT INTO customers VALUES ('c{n:02}', 'Ann {n}', NULL, 'new')" for n in range(20)))
    change("INSERT INTO customers VALUES ('bad', x'ff', NULL, 'new')")

    first = run_dag(load("nightly_changes"), logical_date=datetime(2026, 11, 1, tzinfo=UTC))
    change("UPDATE customers SET segment = 'vip' WHERE id = 'c00'", "DELETE FROM customers WHERE id = 'c01'")
    second = run_dag(load("nightly_changes"), logical_date=datetime(2026, 11, 2, tzinfo=UTC))

    assert (first.state, second.state) == ("success", "success")
    one, two = first.xcom("sync_customers"), second.xcom("sync_customers")
    assert (one["created"], one["refused"]) == (20, 1)
    assert (two["updated"], two["unchanged"], two["removed_to_mark"], two["refused"]) == (2, 18, 1, 1)
    assert voucherify.customers["c00"]["metadata"] == {"segment": "vip"}
    assert voucherify.customers["c01"]["metadata"] == {"segment": "left"}
    everybody = run_dag(load("nightly_changes"), {"full_refresh": True}, datetime(2026, 11, 3, tzinfo=UTC))
    assert everybody.xcom("sync_customers")["submitted"] == 19


def test_a_report_says_what_has_drifted_until_a_run_repairs_it(
    voucherify: LocalVoucherify, fill_warehouse: Fill, reports: Path
) -> None:
    rows = [(f"c{n}", f"Zoë {n}", None, None, None, None, "Łódź", None, "vip") for n in range(4)]
    fill_warehouse("customers", *rows)
    repaired = run_dag(load("reconcile_customers"), {"repair": True})
    with VoucherifyHook() as hook:
        hook.update_customer("c1", {"address": {"city": "Cork"}})
    drifted = run_dag(load("reconcile_customers"))

    assert (repaired.state, drifted.state) == ("success", "success")
    assert repaired.xcom("compare")["created"] == 4
    summary = drifted.xcom("compare")
    assert (summary["verified"], summary["differing"], summary["missing"]) == (3, 1, 0)
    assert "differing of warn_if is 0" in summary["warning"]
    (file,) = reports.rglob("differences.jsonl")
    assert json.loads(file.read_text())["fields"] == {"address.city": {"found": "Cork", "sent": "Łódź"}}
    assert voucherify.customers["c1"]["address"]["city"] == "Cork"


def test_redemptions_and_customers_are_in_the_warehouse_and_a_check_finds_what_does_not_fit(
    voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with VoucherifyHook() as hook:
        customer = hook.create_customer({"source_id": "c1", "name": "Zoë"})

    def redeem(redemption_id: str, day: int, customer_id: str | None) -> None:
        at = f"2026-11-{day:02}T12:00:00.000Z"
        row = {"id": redemption_id, "created_at": at, "date": at, "customer_id": customer_id, "result": "SUCCESS"}
        voucherify.add_exported("redemption", {**row, "metadata": {"channel": "app"}})

    redeem("r_0", 26, customer.id)
    redeem("r_1", 28, customer.id)
    redeem("r_2", 28, None)

    run = run_dag(load("exports_to_warehouse"), logical_date=datetime(2026, 11, 29, tzinfo=UTC))

    assert run.state == "success"
    assert run.deferred_tasks() == {"redemptions", "customers"}
    with closing(sqlite3.connect(path)) as opened:
        rows = opened.execute("SELECT id, customer_id, metadata_channel FROM voucherify_redemptions ORDER BY id")
        assert rows.fetchall() == [("r_1", customer.id, "app"), ("r_2", None, "app")]
        assert opened.execute("SELECT source_id, name FROM voucherify_customers").fetchall() == [("c1", "Zoë")]
    redeem("r_3", 28, "cust_nobody")
    run = run_dag(load("exports_to_warehouse"), logical_date=datetime(2026, 11, 29, 1, tzinfo=UTC))
    assert (run.task_state("redemptions"), run.task_state("check")) == ("success", "failed")


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
    assert run.deferred_tasks() == {"wait_for_voucherify"}
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
        [sys.executable, "-W", ours, "-c", script, *files],
        env={**os.environ, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert len(files) == 13
    assert (result.returncode, result.stderr) == (0, "")


def _failures(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.rglob("failures.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
