"""What the probe promises beside right answers: few calls, nothing left behind, no secrets, and no production."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openapi
import pytest
from connections import APP_ID, SECRET_KEY

from airflow_provider_voucherify.local_voucherify import Delay, LocalVoucherify, Status
from airflow_provider_voucherify.probe.command import MAX_CALLS, main
from airflow_provider_voucherify.probe.counting import CountingClient
from airflow_provider_voucherify.probe.rounds import CALLS_OUTSIDE_ROUNDS, CALLS_WHILE_REMOVING, new_rounds
from harness.process import ROOT
from tests.probe.probe_runs import Probed, run_probe

Open = Callable[..., LocalVoucherify]


def nothing_is_left(server: LocalVoucherify) -> bool:
    return not [*server.customers, *server.products, *server.vouchers]


def test_its_calls_are_few_and_it_says_how_many(open_shop: Open, tmp_path: Path) -> None:
    server = open_shop(api_calls=(100, 3600.0), action_seconds=0.01)

    probed = run_probe(server, tmp_path / "observed.json", "--yes")

    assert probed.status == 0
    assert probed.content["calls"] == len(server.received) <= MAX_CALLS
    assert not [one for one in server.received if one.status == 429]


def test_all_rounds_fit_into_the_calls_of_a_sandbox() -> None:
    rounds = new_rounds()
    records = {own for one in rounds for own in one.own}

    needed = sum(one.calls for one in rounds) + len(records) + CALLS_OUTSIDE_ROUNDS + CALLS_WHILE_REMOVING
    assert needed <= MAX_CALLS


def test_its_requests_are_what_the_contract_says_but_for_those_that_are_wrong_on_purpose(
    open_shop: Open, tmp_path: Path
) -> None:
    server = open_shop(keep_bodies=True)
    run_probe(server, tmp_path / "observed.json", "--yes")

    wrong = []
    for request in server.received:
        try:
            openapi.assert_valid_requests([request])
        except Exception:
            wrong.append(f"{request.method} {request.path}?{request.query}")
    assert sorted(wrong) == [
        "GET /v1/customers?limit=100&page=100",
        "GET /v1/products?limit=100&page=101",
        "POST /v1/customers/bulk/async?",
        "POST /v1/customers/bulk/async?",
        "POST /v1/customers/bulk/async?",
        "POST /v1/customers/bulk/async?",
    ]


@pytest.mark.parametrize("calls", [1, 20, 40, 60])
def test_with_fewer_calls_it_leaves_questions_unasked(open_shop: Open, tmp_path: Path, calls: int) -> None:
    server = open_shop()

    probed = run_probe(server, tmp_path / "observed.json", "--yes", "--max-calls", str(calls))

    assert len(server.received) == probed.content["calls"] <= calls
    assert list(probed.readings.values()).count("not asked") > 5
    assert nothing_is_left(server)
    _no_wrong_answer(probed, open_shop, tmp_path)


def _no_wrong_answer(probed: Probed, open_shop: Open, tmp_path: Path) -> None:
    whole = run_probe(open_shop(), tmp_path / "whole.json", "--yes").readings
    unanswered = {"not asked", "unknown"}
    assert {q: r for q, r in probed.readings.items() if r not in unanswered | {whole[q]}} == {}


def test_calls_that_others_have_used_are_taken_into_account(open_shop: Open, tmp_path: Path) -> None:
    server = open_shop(api_calls=(60, 3600.0))
    run_probe(server, tmp_path / "before.json", "--yes", "--max-calls", "20")
    before = len(server.received)

    probed = run_probe(server, tmp_path / "observed.json", "--yes", "--patience", "0")

    assert len(server.received) - before <= 60 - before
    assert "not asked" in probed.readings.values()
    assert nothing_is_left(server)


def test_a_bulk_limit_of_one_call_an_hour_leaves_an_answer_or_none_but_never_a_wrong_one(
    open_shop: Open, tmp_path: Path
) -> None:
    server = open_shop(api_calls=(100, 3600.0), bulk_api_calls=(1, 3600.0))

    probed = run_probe(server, tmp_path / "observed.json", "--yes", "--patience", "0")

    assert probed.readings["Does `customers/bulk/async` merge metadata?"] == "merged"
    assert probed.readings["Does `vouchers/bulk/async` merge metadata?"] == "not asked"
    assert "bulk_api_calls limit is used up until" in probed.evidence["Does `vouchers/bulk/async` merge metadata?"]
    assert nothing_is_left(server)


@pytest.mark.parametrize("after", [6, 30, 50])
def test_after_an_error_nothing_is_left(
    open_shop: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    server = open_shop(action_seconds=0.02)
    asked = CountingClient.ask

    def fail(client: CountingClient, *arguments: Any) -> Any:
        if client.counter.sent == after:
            monkeypatch.undo()
            raise ZeroDivisionError
        return asked(client, *arguments)

    monkeypatch.setattr(CountingClient, "ask", fail)
    with pytest.raises(ZeroDivisionError):
        run_probe(server, tmp_path / "observed.json", "--yes")

    assert len(server.received) > after
    assert nothing_is_left(server)


def test_an_outage_costs_answers_and_leaves_nothing(open_shop: Open, tmp_path: Path) -> None:
    server = open_shop()
    server.misbehave("/v1/products", Status(500), times=2, after=5)
    server.misbehave(lambda method, path: method != "DELETE", Status(403), times=None, after=40)

    probed = run_probe(server, tmp_path / "observed.json", "--yes")

    _no_wrong_answer(probed, open_shop, tmp_path)
    assert list(probed.readings.values()).count("unknown") > 5
    assert nothing_is_left(server)


def test_what_cannot_be_removed_is_told(open_shop: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = open_shop()
    server.misbehave(lambda method, path: method == "DELETE" and "/products/" in path, Status(403), times=None)

    probed = run_probe(server, tmp_path / "observed.json", "--yes")

    [left] = server.products
    assert probed.content["left"] == [f"products {left}"]
    assert f"could not be removed: products {left}" in capsys.readouterr().err


@contextmanager
def started(server: LocalVoucherify, output: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the probe in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.probe.probe_runs", server.base_url, str(output)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def connection_of(server: LocalVoucherify) -> str:
    return json.dumps({"conn_type": "voucherify", "host": server.base_url, "login": APP_ID, "password": SECRET_KEY})


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interrupt_nothing_is_left(open_shop: Open, tmp_path: Path, ending: signal.Signals) -> None:
    server = open_shop(action_seconds=0.3)
    with started(server, tmp_path / "observed.json") as process:
        while not server.actions:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(ending)
        output, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert "interrupted; removing what was made" in errors
    assert "`not asked`" in output
    assert nothing_is_left(server)
    assert all(action.status(time.time()) == "DONE" for action in server.actions.values())


def test_a_second_interrupt_leaves_records_and_names_them(
    open_shop: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = open_shop()
    asked = CountingClient.ask

    def interrupted(client: CountingClient, call: Any, headers: Any = None) -> Any:
        if client.counter.sent == 20:  # as long as nothing more is sent: while asking, and again while removing
            raise KeyboardInterrupt
        return asked(client, call, headers)

    monkeypatch.setattr(CountingClient, "ask", interrupted)
    probed = run_probe(server, tmp_path / "observed.json", "--yes")

    left = [f"customers {one}" for one in server.customers]
    left += [f"products {one}" for one in server.products] + [f"vouchers {one}" for one in server.vouchers]
    named = capsys.readouterr().err
    assert probed.status == 130
    assert left
    assert [
        one for one in left if one not in probed.content["left"] or f"could not be removed: {one}" not in named
    ] == []


def test_without_yes_it_says_what_it_would_do(
    open_shop: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = open_shop()

    probed = run_probe(server, tmp_path / "observed.json")

    said = capsys.readouterr().out
    assert (probed.status, server.received, probed.content) == (1, [], {})
    assert "Nothing was done. With --yes the probe asks" in said
    assert "- Does `customers/bulk/async` merge metadata?" in said
    assert "at most 80 API calls" in said
    assert "up to 11 records" in said


@pytest.mark.parametrize(
    ("conn_id", "options", "customers", "sign"),
    [
        ("voucherify_prod", {}, 0, "the connection's id says 'prod'"),
        ("Production", {}, 0, "the connection's id says 'production'"),
        ("shop", {"api_calls": (2_000, 60.0)}, 0, "its rate limit is 2,000 calls"),
        ("shop", {}, 1_001, "the project has 1,001 customers"),
    ],
)
def test_a_project_that_looks_like_production_is_left_alone(
    open_shop: Open,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    conn_id: str,
    options: dict[str, Any],
    customers: int,
    sign: str,
) -> None:
    server = open_shop(**options)
    at = "2026-01-01T00:00:00.000Z"
    for number in range(customers):
        server.customers.update(str(number), {}, "merge", at)

    refused = run_probe(server, tmp_path / "observed.json", "--yes", conn_id=conn_id)

    assert refused.status == 1
    assert sign in capsys.readouterr().err
    assert [one for one in server.received if one.method != "GET"] == []
    allowed = run_probe(server, tmp_path / "observed.json", "--yes", "--allow-production", conn_id=conn_id)
    assert allowed.status == 0
    assert len(server.customers) == customers


def test_names_that_only_contain_such_a_word_are_no_sign(open_shop: Open, tmp_path: Path) -> None:
    probed = run_probe(open_shop(), tmp_path / "observed.json", "--yes", conn_id="voucherify_products_delivery")

    assert probed.status == 0


@pytest.mark.parametrize("auth_method", ["api_keys", "oauth"])
def test_no_secret_is_printed_or_written(
    open_shop: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str], auth_method: str
) -> None:
    """Not even one that Voucherify repeats in an error, and no id of a record but the probe's own names."""
    server = open_shop(reports_need_auth=True)
    quoting = Status(400, body={"key": "invalid_payload", "message": f"{APP_ID} {SECRET_KEY}", "details": SECRET_KEY})
    server.misbehave("/v1/products/metadata/async", quoting)

    probed = run_probe(server, tmp_path / "observed.json", "--yes", auth_method=auth_method)

    said = capsys.readouterr()
    written = (tmp_path / "observed.json").read_text(encoding="utf-8")
    secrets = [SECRET_KEY, APP_ID, *server.tokens, "token="]
    assert [secret for secret in secrets if secret in said.out + said.err + written] == []
    # Airflow 2 prints its log, in which requests have their paths
    printed = "\n".join(line for line in (said.out + said.err).splitlines() if not line.startswith("[20"))
    ids = ["/v1/reports/", "cust_", "prod_", "aa_", "v-"]
    assert [one for one in ids if one in printed + written] == []
    assert "invalid_payload" in written
    assert probed.content["auth_method"] == auth_method
    assert probed.content["facts"]["record after customers/bulk"]["body"]["metadata"] == {"seeded": 1, "bulk": 2}


def test_a_connection_that_does_not_work_is_told(
    open_shop: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = open_shop()
    server.misbehave("/v1/customers", Status(401))

    assert run_probe(server, tmp_path / "observed.json", "--yes").status == 1
    assert "the connection does not work: 401" in capsys.readouterr().err
    assert len(server.received) == 1


def test_a_folder_that_is_not_there_is_told_before_anything_is_asked(
    open_shop: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = open_shop()

    assert run_probe(server, tmp_path / "nowhere" / "observed.json", "--yes").status == 1
    assert "observed.json cannot be written" in capsys.readouterr().err
    assert server.received == []


def test_credentials_go_to_no_host_that_is_not_voucherify_s(
    open_shop: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = open_shop()
    monkeypatch.setenv("AIRFLOW_CONN_SANDBOX", connection_of(server))

    with pytest.raises(SystemExit) as ended:
        main(["--conn-id", "sandbox", "--yes", "--other-region", "https://example.com"])

    assert ended.value.code == 1
    assert "credentials are not sent there" in capsys.readouterr().err
    assert server.received == []


def test_a_connection_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--conn-id", "no_such_connection", "--yes"])

    assert ended.value.code == 1
    assert "no_such_connection" in capsys.readouterr().err


def test_actions_that_do_not_end_are_told_and_waited_for(
    open_shop: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = open_shop()
    server.next_actions(stuck="IN_PROGRESS")

    probed = run_probe(server, tmp_path / "observed.json", "--yes")

    question = "Does `customers/bulk/async` merge metadata?"
    assert probed.readings[question] == "unknown"
    assert "its action did not finish" in probed.evidence[question]
    assert "Some updates had not finished" in capsys.readouterr().err


def test_slow_answers_are_waited_for(open_shop: Open, tmp_path: Path) -> None:
    server = open_shop()
    server.misbehave("submit", Delay(0.2), times=2)

    assert run_probe(server, tmp_path / "observed.json", "--yes").status == 0


def test_the_module_is_a_command() -> None:
    command = [sys.executable, "-m", "airflow_provider_voucherify.probe", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "--allow-production" in done.stdout


def test_it_finds_the_connection_and_ends_with_a_status(
    open_shop: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SANDBOX", connection_of(server := open_shop()))

    with pytest.raises(SystemExit) as ended:
        main(["--conn-id", "sandbox"])

    assert ended.value.code == 1
    assert f"With --yes the probe asks the project at {server.base_url}" in capsys.readouterr().out


@pytest.mark.needs_airflow("3.2", "providers have no commands of Airflow's before")
def test_airflow_has_the_command(
    open_shop: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow.cli.cli_parser import get_parser

    monkeypatch.setenv("AIRFLOW_CONN_SANDBOX", connection_of(server := open_shop()))
    given = get_parser().parse_args(["voucherify", "probe", "--conn-id", "sandbox"])

    with pytest.raises(SystemExit) as ended:
        given.func(given)

    assert ended.value.code == 1
    assert f"With --yes the probe asks the project at {server.base_url}" in capsys.readouterr().out


@pytest.mark.needs_airflow("3.2", "providers have no commands of Airflow's before")
def test_airflow_s_own_command_line_shows_its_help() -> None:
    airflow = Path(sys.executable).with_name("airflow")
    done = subprocess.run([airflow, "voucherify", "probe", "--help"], capture_output=True, text=True, timeout=180)

    assert done.returncode == 0, done.stderr
    assert "--allow-production" in done.stdout
