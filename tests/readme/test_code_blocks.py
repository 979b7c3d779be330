"""Every code block of README.md does what the text around it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from dags import DagRunResult, run_dag
from readme_file import BLOCKS, ROOT, blocks

from airflow_provider_voucherify import exceptions
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Options
from airflow_provider_voucherify.local_voucherify.__main__ import _parser as local_voucherify_parser

Fill = Callable[..., None]

FAILURE = next(code for code in blocks("json") if "_failure" in code)
CONNECTION = next(code for code in blocks("json") if "conn_type" in code)
RECORD = next(code for code in blocks("json") if code not in (FAILURE, CONNECTION))


def dag_of(code: str, tmp_path: Path) -> DAG:
    """Load a block as Airflow loads a DAG file."""
    from airflow.dag_processing.dagbag import DagBag

    file = tmp_path / "from_readme.py"
    file.write_text(code, encoding="utf-8")
    bag = DagBag(file)
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    return dag


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., DagRunResult]:
    """Give a function that runs the block with a DAG of that id."""

    def run(dag_id: str, conf: dict[str, Any] | None = None) -> DagRunResult:
        (code,) = [code for code in blocks("python") if f'DAG("{dag_id}"' in code]
        finished = run_dag(dag_of(code, tmp_path), conf)
        assert finished.state == "success"
        return finished

    return run


Run = Callable[..., DagRunResult]


def test_every_block_has_a_test_here() -> None:
    """The text block is the demo's output: ``test_examples.py`` compares it with what the demo's DAG gives."""
    assert [block.language for block in BLOCKS if block.language not in ("bash", "json", "python")] == ["text"]
    tested = Path(__file__).read_text(encoding="utf-8")
    dag_ids = re.findall(r'DAG\("(\w+)"', "".join(blocks("python")))
    assert len(dag_ids) == len(blocks("python")) - 1, "all Python blocks but the hook's have one DAG"
    assert [dag_id for dag_id in dag_ids if f'run("{dag_id}"' not in tested] == []
    assert len(blocks("json")) == 3


def test_the_first_dag(voucherify: LocalVoucherify, fill_warehouse: Fill, run: Run) -> None:
    row = ("c1", "Zoë", None, None, None, None, "Łódź", "PL", "vip")
    fill_warehouse("customers", row)

    run("customers_to_voucherify")

    customer = voucherify.customers["c1"]
    assert (customer["name"], customer["address"], customer["metadata"]) == (
        "Zoë",
        {"city": "Łódź"},
        {"segment": "vip"},
    )


def test_one_metadata_for_all_ids(voucherify: LocalVoucherify, run: Run) -> None:
    run("tag_customers")

    assert list(voucherify.customers) == ["c1", "c2", "c3"]
    assert voucherify.customers["c3"]["metadata"] == {"audience": "spring-2027"}


def test_records_of_a_task_become_the_record_that_is_shown(voucherify: LocalVoucherify, run: Run) -> None:
    run("customers_from_a_task")

    (request,) = voucherify.requests("POST", "/v1/customers/bulk/async")
    assert json.loads(request.body or b"") == [json.loads(RECORD)]
    assert voucherify.customers["c1"]["address"] == json.loads(RECORD)["address"]


def test_a_function_gives_the_rows(voucherify: LocalVoucherify, run: Run) -> None:
    run("customers_of_a_function")

    assert list(voucherify.customers) == ["c0", "c1", "c2"]
    assert voucherify.customers["c2"]["metadata"] == {"segment": "new"}


def test_slack_is_told_of_failures(
    voucherify: LocalVoucherify, fill_warehouse: Fill, reports: Path, slack: list[dict[str, Any]], run: Run
) -> None:
    voucherify.add_voucher("KNOWN")
    fill_warehouse("vouchers", ("KNOWN", "app"), ("UNKNOWN", "app"))

    run("vouchers_with_an_alert")

    assert voucherify.vouchers["KNOWN"]["metadata"] == {"channel": "app"}
    (message,) = slack
    assert "UNKNOWN" in message["text"]
    assert json.loads((reports / "vouchers" / "failures.jsonl").read_text())["code"] == "UNKNOWN"


def test_an_asset_event_has_the_summary(voucherify: LocalVoucherify, run: Run) -> None:
    [extra] = run("customers_with_an_asset").asset_extras("voucherify://api.voucherify.io/customers")

    assert (extra["rows_read"], extra["created"]) == (2, 2)


def test_the_shown_line_of_failures_is_sent_again(voucherify: LocalVoucherify, tmp_path: Path, run: Run) -> None:
    (tmp_path / "failures.jsonl").write_text(FAILURE, encoding="utf-8")

    run("send_failures_again", {"failures": str(tmp_path / "failures.jsonl")})

    (request,) = voucherify.requests("POST", "/v1/customers/bulk/async")
    assert json.loads(request.body or b"") == [{"source_id": "c1", "name": "Ann"}]


def test_the_retry_policy_names_errors_that_exist(voucherify: LocalVoucherify, run: Run) -> None:
    (code,) = [code for code in blocks("python") if "ExceptionRetryPolicy" in code]
    named = re.findall(r"airflow_provider_voucherify\.exceptions\.(\w+)", code)
    assert set(named) == {"VoucherifyNotFoundError", "VoucherifyRateLimitError"}
    assert [name for name in named if not hasattr(exceptions, name)] == []

    run("retries")

    assert "c1" in voucherify.customers


def test_a_csv_file_is_imported(voucherify: LocalVoucherify, reports: Path, run: Run) -> None:
    reports.mkdir()
    (reports / "products.csv").write_text("name,source_id,price\nShirt,p1,21\n")

    run("import_products")

    assert (voucherify.products["p1"]["name"], voucherify.products["p1"]["price"]) == ("Shirt", 2100)


def test_a_sensor_waits(voucherify: LocalVoucherify, run: Run) -> None:
    summary = run("send_then_wait").xcom("wait")

    assert (summary["resource"], summary["created"]) == ("products", 1)
    assert voucherify.products["p1"]["price"] == 450


def test_the_hook_sends_what_it_is_given(voucherify: LocalVoucherify, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [code for code in blocks("python") if "DAG" not in code]

    exec(code, {})

    assert voucherify.customers["c1"]["name"] == "Ann"
    assert voucherify.customers["c2"]["phone"] == "+48 1"
    status, name = capsys.readouterr().out.splitlines()[-2:]
    assert (status in ("ENQUEUED", "IN_PROGRESS", "DONE"), name) == (True, "Bo")


def test_the_json_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VOUCHERIFY_DEFAULT", CONNECTION)

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


def _python(arguments: list[str], _: pytest.MonkeyPatch) -> None:
    assert arguments[:2] == ["-m", "airflow_provider_voucherify.local_voucherify"]
    assert local_voucherify_parser().parse_args(arguments[2:]).action_seconds == 5


COMMANDS = {"airflow": _airflow, "export": _export, "make": _make, "pip": _pip, "python": _python}


@pytest.mark.parametrize("line", "".join(blocks("bash")).splitlines())
def test_each_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command, *arguments = shlex.split(line)
    COMMANDS[command](arguments, monkeypatch)
