"""The code blocks of README.md and of the pages do what the text around them says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import tomllib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from dags import DagRunResult, run_dag
from readme_file import ROOT, TEXT, blocks_of, page

from airflow_provider_voucherify import exceptions
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Options

Fill = Callable[..., None]

BLOCKS = blocks_of(TEXT)
DAGS = "".join(page(path.stem) for path in sorted((ROOT / "docs").glob("*.md"))) + TEXT
"""All pages, whose DAGs have names of their own but for one that the quick start builds up."""


def json_block(name: str, mark: str) -> str:
    (code,) = [code for language, code in blocks_of(page(name)) if language == "json" and mark in code]
    return code


def dag_of(code: str, dag_id: str, tmp_path: Path) -> DAG:
    """Load a block as Airflow loads a DAG file."""
    from airflow.dag_processing.dagbag import DagBag

    file = tmp_path / "from_readme.py"
    file.write_text(code, encoding="utf-8")
    bag = DagBag(file)
    assert bag.import_errors == {}
    return bag.dags[dag_id]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., DagRunResult]:
    """Give a function that runs the block of README.md or a page with a DAG of that id."""

    def run(dag_id: str, conf: dict[str, Any] | None = None) -> DagRunResult:
        (code,) = [code for language, code in blocks_of(DAGS) if language == "python" and f'DAG("{dag_id}"' in code]
        finished = run_dag(dag_of(code, dag_id, tmp_path), conf)
        assert finished.state == "success"
        return finished

    return run


Run = Callable[..., DagRunResult]


def test_every_block_of_the_readme_has_a_test_here() -> None:
    """The text block is the demo's output: ``test_examples.py`` compares it with what the demo's DAG gives."""
    assert [block.language for block in BLOCKS if block.language != "bash"] == ["text", "python"]
    assert 'DAG("customers_to_voucherify"' in BLOCKS[-2].code


def test_the_first_dag_sends_only_what_changed(
    voucherify: LocalVoucherify, fill_warehouse: Fill, slack: list[dict[str, Any]], run: Run
) -> None:
    fill_warehouse("customers", ("c1", "Zoë", None, None, None, None, "Łódź", "PL", "vip"))

    first, second = run("customers_to_voucherify"), run("customers_to_voucherify")

    assert voucherify.customers["c1"]["address"] == {"city": "Łódź"}
    assert (voucherify.customers["c1"]["name"], voucherify.customers["c1"]["metadata"]) == ("Zoë", {"segment": "vip"})
    assert (first.xcom("sync_customers")["created"], second.xcom("sync_customers")["unchanged"]) == (1, 1)
    assert len(voucherify.requests("POST", "/v1/customers/bulk/async")) == 1
    assert slack == []


def test_one_metadata_for_all_ids_and_one_for_each(voucherify: LocalVoucherify, run: Run) -> None:
    run("metadata_of_customers")

    assert list(voucherify.customers) == ["c1", "c2", "c3"]
    assert voucherify.customers["c3"]["metadata"] == {"audience": "spring-2027"}
    assert voucherify.customers["c1"]["metadata"]["orders"] == 12


def test_records_of_a_task_become_the_record_that_is_shown(voucherify: LocalVoucherify, run: Run) -> None:
    record = json.loads(json_block("sources", '"address": {'))

    run("customers_from_a_task")

    (request,) = voucherify.requests("POST", "/v1/customers/bulk/async")
    assert json.loads(request.body or b"") == [record]
    assert voucherify.customers["c1"]["address"] == record["address"]


def test_the_rows_of_another_task_s_query_are_named(
    voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    with closing(sqlite3.connect(tmp_path / "shop.sqlite")) as shop, shop:
        shop.execute("CREATE TABLE customers (id, full_name, city)")
        shop.execute("INSERT INTO customers VALUES ('c1', 'Zoë', 'Łódź')")
    connection = {"conn_type": "sqlite", "host": str(tmp_path / "shop.sqlite")}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))

    run("customers_of_another_task")

    assert (voucherify.customers["c1"]["name"], voucherify.customers["c1"]["address"]) == ("Zoë", {"city": "Łódź"})


def test_a_function_gives_the_rows(voucherify: LocalVoucherify, run: Run) -> None:
    run("tiers_of_a_function")

    assert len(voucherify.customers) == 3_000
    assert voucherify.customers["PL-10"]["metadata"] == {"tier": "gold"}


def test_slack_is_told_of_failures(
    voucherify: LocalVoucherify, fill_warehouse: Fill, slack: list[dict[str, Any]], run: Run
) -> None:
    others = (None, None, None, None, None, None, None, "vip")
    fill_warehouse("customers", *((f"c{number}", *others) for number in range(199)), (" ", *others))

    run("customers_with_an_alert")

    assert len(voucherify.customers) == 199
    (message,) = slack
    assert "customers_with_an_alert" in message["text"]
    assert "source_id" in message["text"]


def test_an_asset_event_has_the_summary(voucherify: LocalVoucherify, run: Run) -> None:
    [extra] = run("sync_that_tells").asset_extras("voucherify://api.voucherify.io/customers")

    assert (extra["rows_read"], extra["created"]) == (1, 1)


def test_the_shown_line_of_failures_is_sent_again(
    voucherify: LocalVoucherify, tmp_path: Path, reports: Path, run: Run
) -> None:
    (tmp_path / "failures.jsonl").write_text(json_block("sources", "_failure"), encoding="utf-8")

    run("send_failures_again", {"failures": str(tmp_path / "failures.jsonl")})

    (request,) = voucherify.requests("POST", "/v1/customers/bulk/async")
    assert json.loads(request.body or b"") == [{"source_id": "c1", "name": "Ann"}]


def test_the_retry_policy_names_errors_that_exist(voucherify: LocalVoucherify, run: Run) -> None:
    named = re.findall(r"\{ERRORS\}\.(\w+)", page("errors"))
    assert set(named) == {"VoucherifyNotFoundError", "VoucherifyRateLimitError"}
    assert [name for name in named if not hasattr(exceptions, name)] == []

    run("patient_with_limits")

    assert "c1" in voucherify.customers


def test_a_csv_file_is_imported(voucherify: LocalVoucherify, reports: Path, run: Run) -> None:
    reports.mkdir()
    (reports / "products.csv").write_text("name,source_id,price\nShirt,p1,21\n")

    run("import_products")

    assert (voucherify.products["p1"]["name"], voucherify.products["p1"]["price"]) == ("Shirt", 2100)


def test_a_sensor_waits(voucherify: LocalVoucherify, run: Run) -> None:
    summary = run("two_tasks").xcom("wait")

    assert (summary["resource"], summary["created"]) == ("products", 1)
    assert voucherify.products["p1"]["price"] == 450


def test_the_hook_reads_all_there_is(voucherify: LocalVoucherify, run: Run) -> None:
    with VoucherifyHook() as hook:
        for number, city in enumerate(["Berlin", "Łódź", "Berlin"]):
            hook.create_customer({"source_id": f"c{number}", "address": {"city": city}})

    assert run("read_with_the_hook").xcom("count_customers_of_berlin") == 2


def test_the_hook_sends_what_it_is_given(voucherify: LocalVoucherify, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [code for language, code in blocks_of(page("hook")) if language == "python" and "DAG" not in code]

    exec(code, {})

    assert voucherify.customers["c1"]["name"] == "Ann"
    assert voucherify.customers["c2"]["phone"] == "+48 1"
    status, name = capsys.readouterr().out.splitlines()[-2:]
    assert (status in ("ENQUEUED", "IN_PROGRESS", "DONE"), name) == (True, "Bo")


def test_the_json_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", json_block("connection", "conn_type"))

    settings = VoucherifyHook().settings

    assert (settings.base_url, settings.application_id) == ("https://api.voucherify.io", "my-application-id")
    assert (settings.extra.auth_method, settings.extra.scope) == ("oauth", "customers async-actions")


def _export(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, value = arguments[0].partition("=")
    monkeypatch.setenv(name, value)
    settings = VoucherifyHook().settings
    if "127.0.0.1" in value:
        stand_in = Options()
        keys = (settings.application_id, settings.secret_key.get_secret_value())
        assert (settings.base_url, *keys) == ("http://127.0.0.1:8010", stand_in.app_id, stand_in.secret_key)
    else:
        assert (settings.base_url, settings.application_id) == ("https://us1.api.voucherify.io", "my-application-id")
        assert settings.extra.poll_interval == 30


def _airflow(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.cli.cli_parser import get_parser

    given = get_parser().parse_args(arguments)
    assert arguments[:2] == ["connections", "add"]
    connection = {"conn_type": given.conn_type, "host": given.conn_host}
    connection |= {"login": given.conn_login, "password": given.conn_password}
    monkeypatch.setenv(f"AIRFLOW_CONN_{given.conn_id.upper()}", json.dumps(connection))
    assert VoucherifyHook().settings.base_url == "https://api.voucherify.io"


def _make(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    (target,) = arguments
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed on this machine")
def test_make_says_what_to_install_where_python_has_no_venv(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\necho "No module named ensurepip" >&2\nexit 1\n')
    python.chmod(0o755)

    done = subprocess.run(
        ["make", "install", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stdout
    assert not (tmp_path / "venv").exists()


def _pip(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    """Building and installing is what ``.ci/run`` does."""
    verb, package, option, constraints = arguments
    assert (verb, package, option) == ("install", ".[local]", "--constraint")
    assert (ROOT / constraints).is_file()
    assert "local" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


COMMANDS = {"airflow": _airflow, "export": _export, "make": _make, "pip": _pip}


def commands(text: str) -> list[list[str]]:
    """Return the commands of a page's shell blocks as words; one may go over several lines."""
    lines = "".join(code for language, code in blocks_of(text) if language == "bash").replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"(?:[^\n']|'[^']*')+", lines)]


@pytest.mark.parametrize("words", commands(TEXT))
def test_each_command_of_the_readme(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command, *arguments = words
    COMMANDS[command](arguments, monkeypatch)


@pytest.mark.parametrize(
    "words", [one for one in commands(page("connection")) if one[:2] != ["airflow", "connections"] or one[2] == "add"]
)
def test_each_way_to_keep_a_connection(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command, *arguments = words
    COMMANDS[command](arguments, monkeypatch)
