"""Texts that come from Voucherify, or from the rows, steer no file name, add no line to a log, start no formula."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from connections import APP_ID, SECRET_KEY, connect
from dags import run_dag
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Malformed, Status
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sync.state.ledger import RowOutcome
from airflow_provider_voucherify.sync.state.outcome_file import write_outcomes

HOSTILE = "harmless\n::group::evil\r\n[2026-11-21] ERROR everything is lost\x1b[31mred\x07\u2028\x85end"


def sync(records: list[dict[str, Any]], **kwargs: Any) -> Any:
    with DAG("hostile", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=records, **kwargs)
    return run_dag(dag)


@pytest.fixture
def hostile_voucherify(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalVoucherify]:
    """One whose answers lead to addresses that the vendor's description does not have."""
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY) as server:
        connect(monkeypatch, server)
        yield server


def test_no_report_and_no_id_steers_a_file_name(hostile_voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify = hostile_voucherify
    base = f"{voucherify.base_url}/v1/reports"
    names = ["../../evil.csv", "..%2f..%2fevil.csv", "C:%5Cevil", "%00evil", "x?token=a/../../../evil.csv"]
    voucherify.next_actions(result_fields={"reports": [f"{base}/{name}" for name in names]})
    content = b"source_id,found,updated\r\n../../evil,true,true\r\n"
    voucherify.misbehave("/evil", Status(200, content), times=None)
    voucherify.misbehave("report", Status(200, content), times=None)

    sync([{"source_id": "../../evil", "name": "/etc/evil"}], report_path=str(tmp_path / "a" / "b" / "reports"))

    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert "a/b/reports/report-00001-3.csv" in written
    assert {str(Path(path).parent) for path in written} == {"a/b/reports"}
    assert all(
        name.startswith(("report-00001-", "report.html", "failures.jsonl", "set_aside.jsonl"))
        for name in (Path(path).name for path in written)
    )


@pytest.mark.parametrize("async_action_id", ["aa_1\n::group::evil", "aa\x1b[31m"])
def test_an_id_that_could_add_a_line_is_no_id(
    voucherify: LocalVoucherify,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    async_action_id: str,
) -> None:
    voucherify.misbehave("submit", Malformed(json.dumps({"async_action_id": async_action_id}).encode()), times=None)

    with caplog.at_level(logging.INFO):
        assert sync([{"source_id": "c1"}]).state == "failed"

    assert_harmless(caplog, capsys.readouterr().out)


@pytest.mark.parametrize("options", [{}, {"fail_if": {"failed": 9}}, {"dry_run": True}], ids=str)
def test_no_text_from_outside_adds_lines_or_colours_to_a_log(
    voucherify: LocalVoucherify,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
) -> None:
    hostile_error = {"source_id": "c1" + HOSTILE, "key": HOSTILE, "message": HOSTILE, "details": HOSTILE}
    voucherify.next_actions(
        result_fields={"errors": [hostile_error], "failed_count": 1, "done_count": 0}, operation_status=HOSTILE
    )
    records = [
        {"source_id": "c1" + HOSTILE, "metadata": {HOSTILE: HOSTILE}},
        {"source_id": "c2" + HOSTILE, "birthdate": HOSTILE},
        {"source_id": HOSTILE * 500, HOSTILE: object()},
    ]

    with caplog.at_level(logging.INFO):
        sync(records, **options)

    assert_harmless(caplog, capsys.readouterr().out)


def test_no_error_page_adds_lines_or_colours_to_a_log(
    voucherify: LocalVoucherify, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    voucherify.misbehave("submit", Status(403, {"message": HOSTILE, "details": HOSTILE, "key": HOSTILE}), times=None)

    with caplog.at_level(logging.INFO):
        assert sync([{"source_id": "c1"}]).state == "failed"

    assert_harmless(caplog, capsys.readouterr().out)


def assert_harmless(caplog: pytest.LogCaptureFixture, printed: str) -> None:
    """Hold each line of each message, and of what went to standard output, against what a hostile one would be."""
    assert "hostile" in printed
    assert not {"\x1b", "\x07", "\u2028", "\x85"} & set(printed)
    assert not any(line.lstrip().startswith(("::group::evil", "[2026-11-21] ERROR")) for line in printed.split("\n"))
    for record in caplog.records:
        message = record.getMessage() + str(record.exc_info[1] if record.exc_info else "")
        assert not {"\x1b", "\x07", "\r", "\u2028", "\x85"} & set(message), record
        assert not any(line.lstrip().startswith(("::", "[2026")) for line in message.splitlines()), record


CELLS = st.none() | st.builds(
    str.__add__, st.sampled_from(["=", "+", "-", "@", "\t", "\r", "", "a"]), st.text(max_size=5)
)


TEXTS = [name for name in RowOutcome.__struct_fields__ if name != "row"]


@given(values=st.lists(CELLS, min_size=len(TEXTS), max_size=len(TEXTS)))
def test_no_cell_of_a_csv_of_outcomes_starts_a_formula(
    values: list[str | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "outcomes"
    outcome = RowOutcome(**{"row": 1, **dict(zip(TEXTS, values, strict=True))})  # type: ignore[arg-type]

    with path.open("wb") as file:
        write_outcomes([outcome], "outcomes.csv", file)

    header, cells = csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
    assert len(header) == len(cells)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
