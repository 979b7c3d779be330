"""The drift report: what differs between a source and Voucherify is told, and set right only if that is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import DagRunResult, run_dag, shown_links
from installed import AIRFLOW

from airflow_provider_voucherify.assets.voucherify import create_asset
from airflow_provider_voucherify.local_voucherify import LocalVoucherify, Status
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.reconcile import VoucherifyReconcileOperator
from airflow_provider_voucherify.plugins.next_steps import next_steps
from airflow_provider_voucherify.sync.results.summary import SyncSummary

BULK = "/v1/customers/bulk/async"
PARTS = ("verified", "differing", "missing", "refused", "superseded")


def customer(number: int, **fields: Any) -> dict[str, Any]:
    return {"source_id": f"c{number}", "name": f"Customer {number}", "segment": "gold", "score": number, **fields}


def reconcile(dag_id: str, records: Any, run_conf: dict[str, Any] | None = None, **arguments: Any) -> DagRunResult:
    with DAG(dag_id, schedule=None) as dag:
        VoucherifyReconcileOperator(task_id="reconcile", **{"resource": "customers", "records": records, **arguments})
    return run_dag(dag, run_conf)


def report(dag_id: str, records: Any, **arguments: Any) -> dict[str, Any]:
    """Run a report that succeeds, and return its summary, after checking that it accounts for every row."""
    run = reconcile(dag_id, records, **arguments)
    assert run.state == "success"
    summary: dict[str, Any] = run.xcom("reconcile")
    assert summary["rows_read"] == sum(summary[name] for name in PARTS)
    return summary


def counts(summary: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(summary[name] for name in names)


def sent(voucherify: LocalVoucherify) -> list[str]:
    bodies = [json.loads(request.body or b"") for request in voucherify.requests("POST", BULK)]
    return [record["source_id"] for body in bodies for record in body]


@pytest.fixture
def stocked(voucherify: LocalVoucherify) -> LocalVoucherify:
    """Give a Voucherify with ten customers, of whom ``c3`` and ``c4`` are not as ``ROWS`` has them."""
    rows = [customer(number) for number in range(10)]
    rows[3]["segment"], rows[4]["name"] = "silver", "Changed by hand"
    stock("customers", rows)
    return voucherify


def stock(resource: str, rows: list[dict[str, Any]]) -> None:
    with DAG("stock", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="stock", resource=resource, records=rows)
    assert run_dag(dag).state == "success"


ROWS = [*(customer(number) for number in range(6)), customer(20), customer(5), {"name": "nobody"}]
"""Three as they are there, two otherwise, one that is not there, two of one customer, one without an id."""


def test_a_report_says_what_differs_and_sends_nothing(
    stocked: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    start = len(stocked.received)
    task_log()
    summary = report("drift", ROWS, report_path=str(tmp_path), fail_if={"failed": 1})

    assert counts(summary, *PARTS, "not_in_source", "unchanged") == (4, 2, 1, 1, 1, 4, 0)
    assert counts(summary, "submitted", "requests", "bytes_sent", "succeeded", "dry_run") == (0, 0, 0, None, False)
    calls = [(request.method, request.path) for request in stocked.received[start:]]
    assert [path for method, path in calls if method != "GET"] == ["/v1/exports"]
    lines = [json.loads(line) for line in (tmp_path / "differences.jsonl").read_text().splitlines()]
    assert lines == summary["preview"]
    assert {line["id"]: line["change"] for line in lines} == {
        "c3": "differing",
        "c4": "differing",
        "c20": "missing",
        **dict.fromkeys(["c6", "c7", "c8", "c9"], "not_in_source"),
    }
    assert lines[0]["fields"] == {"metadata.segment": {"found": "silver", "sent": "gold"}}
    (failed,) = map(json.loads, (tmp_path / "failures.jsonl").read_text().splitlines())
    assert failed["_failure"]["key"] == "missing_key"
    log = task_log()
    assert re.search(r"^c3 +differing +metadata.segment +silver +gold$", log, re.MULTILINE)
    assert "To send" not in log


def test_its_text_and_its_page_say_so(stocked: LocalVoucherify, tmp_path: Path) -> None:
    summary = SyncSummary.model_validate(report("texts", ROWS[:8], report_path=str(tmp_path)))

    first, warning, compared, *_ = summary.text().splitlines()
    assert first == "Voucherify customers: 8 rows - 4 verified, 2 differing, 1 missing, 1 superseded"
    assert warning == (
        "Warning: 3 of 7 records that were read back are not as the source has them (1 missing), and "
        "differing of warn_if is 0"
    )
    assert compared == (
        "At Voucherify: 4 as in the source, 2 different, 1 missing, 4 that the source does not have: "
        f"{tmp_path}/differences.jsonl"
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "2 differing (25.0%)" in page
    assert "<td>silver</td><td>gold</td>" in page
    assert "{&#x27;" not in page
    assert [*summary.parts()] == ["verified", "differing", "missing", "superseded"]


def test_no_next_step_tells_to_send_again_what_was_not_sent(stocked: LocalVoucherify) -> None:
    drifted = SyncSummary.model_validate(report("steps", ROWS[:8]))
    same = SyncSummary.model_validate(report("no_steps", ROWS[:3]))

    steps = next_steps("drift", "failed", drifted, has_state=False, only_compares=True)
    assert [step.lines for step in steps] == ["repair=True", None]
    assert "sends nothing" in steps[1].text
    assert next_steps("drift", "failed", drifted, has_state=True, only_compares=True) == steps
    assert next_steps("drift", "success", same, has_state=False, only_compares=True) == []


def test_a_source_that_is_the_same_warns_of_nothing(stocked: LocalVoucherify) -> None:
    summary = report("same", [customer(number) for number in (0, 1, 2)])
    assert counts(summary, "verified", "not_in_source", "warning") == (3, 7, None)


def test_an_empty_source_is_compared_too(stocked: LocalVoucherify) -> None:
    summary = report("empty", [])
    assert counts(summary, "rows_read", "verified", "not_in_source") == (0, 0, 10)
    assert "the source has no rows at all" in summary["warning"]


def test_an_empty_project_has_none_of_the_records(voucherify: LocalVoucherify) -> None:
    summary = report("nothing_there", [customer(1), customer(2)])
    assert counts(summary, "verified", "missing", "not_in_source") == (0, 2, 0)


def test_of_a_sample_it_is_not_known_what_the_source_lacks(stocked: LocalVoucherify) -> None:
    summary = report("sample", ROWS, sample=2)
    assert counts(summary, "rows_read", "verified", "not_in_source", "preview") == (2, 2, None, [])


@pytest.mark.parametrize(
    ("limits", "state", "warns"),
    [
        ({"fail_if": {"differing": 3}}, "success", True),
        ({"fail_if": {"differing": 2}}, "failed", True),
        ({"warn_if": {"differing": 3}}, "success", False),
        ({"warn_if": {"differing": None}}, "success", False),
        ({"warn_if": {"differing": 1}}, "success", True),
    ],
    ids=str,
)
def test_a_limit_says_how_much_may_differ(
    stocked: LocalVoucherify, limits: dict[str, Any], state: str, warns: bool
) -> None:
    run = reconcile("limits", ROWS[:7], **limits)

    assert run.state == state
    assert (run.xcom("reconcile")["warning"] is not None) is warns


def test_who_is_to_be_told_is_told(stocked: LocalVoucherify) -> None:
    texts: list[str] = []
    report("told", ROWS[:7], on_failed_records_callback=lambda context: texts.append(context["voucherify_text"]))

    assert len(texts) == 1
    assert "2 differing, 1 missing" in texts[0]


def test_its_asset_event_has_the_counts_and_no_record(stocked: LocalVoucherify) -> None:
    asset = create_asset(resource="customers")
    run = reconcile("asset", ROWS[:7], outlets=[asset])

    (extra,) = run.asset_extras(asset.uri)
    assert counts(extra, "verified", "differing", "missing", "not_in_source") == (4, 2, 1, 4)
    assert "c3" not in json.dumps(extra)


def test_its_links_lead_to_the_run_and_the_report(stocked: LocalVoucherify, tmp_path: Path) -> None:
    run = reconcile("links", ROWS[:7], report_path=str(tmp_path))
    assert run.xcom("reconcile")["report_uri"] == str(tmp_path)

    links = shown_links("links", "reconcile")
    assert links["Async actions in Voucherify"]
    assert bool(links.get("Voucherify sync")) is (AIRFLOW >= (3, 1))


def test_hidden_values_are_in_no_text(stocked: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]) -> None:
    task_log()
    summary = report("hidden", ROWS[:7], hide_values=True, report_path=str(tmp_path))

    written = "".join((tmp_path / name).read_text() for name in ("differences.jsonl", "report.html"))
    assert summary["differing"] == 2
    assert not re.search(r"silver|by hand|\bc20\b|\bc9\b", written + json.dumps(summary) + task_log())


def test_a_repair_sends_what_differs_and_nothing_else(stocked: LocalVoucherify) -> None:
    run = reconcile("repair", ROWS[:7], repair=True)
    summary = run.xcom("reconcile")

    assert counts(summary, "updated", "created", "unchanged", "not_in_source") == (2, 1, 4, 4)
    assert sent(stocked)[10:] == ["c3", "c4", "c20"]
    assert report("repaired", ROWS[:7])["verified"] == 7


def test_a_run_leaves_no_differences_of_an_earlier_one(stocked: LocalVoucherify, tmp_path: Path) -> None:
    report("before_repair", ROWS[:7], report_path=str(tmp_path))
    assert reconcile("after_report", ROWS[:7], repair=True, report_path=str(tmp_path)).state == "success"

    assert not (tmp_path / "differences.jsonl").exists()


def test_a_template_says_whether_it_repairs(stocked: LocalVoucherify) -> None:
    arguments = {
        "repair": "{{ dag_run.conf.get('repair', False) }}",
        "read_back": {"compare": True, "sync_mode": "update"},
        "fail_if": {"failed": 1},
    }
    assert counts(reconcile("either", ROWS[:7], **arguments).xcom("reconcile"), "differing", "missing") == (2, 1)
    assert not sent(stocked)[10:]

    repaired = reconcile("either", ROWS[:7], {"repair": True}, **arguments).xcom("reconcile")
    assert counts(repaired, "updated", "created", "refused") == (2, 0, 1)


@pytest.mark.parametrize("resource", ["products", "vouchers"])
def test_products_and_vouchers_have_a_report_too(voucherify: LocalVoucherify, resource: str) -> None:
    key = "code" if resource == "vouchers" else "source_id"
    for number in range(3):
        voucherify.add_voucher(f"v{number}")
    stock(resource, [{key: f"v{number}", "tier": "old"} for number in range(3)])
    rows = [{key: "v0", "tier": "old"}, {key: "v1", "tier": "new"}, {key: "v7", "tier": "new"}]
    assert counts(report("others", rows, resource=resource), *PARTS, "not_in_source") == (1, 1, 1, 0, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"read_back": {"compare": True, "verify": "all"}}, "read_back needs repair=True"),
        ({"read_back": {"compare": True, "sync_mode": "update"}}, "read_back needs repair=True"),
        ({"wait_for_completion": False}, "wait_for_completion= needs repair=True"),
        ({"dry_run": True}, "dry_run= needs repair=True"),
        ({"state": {"conn_id": "books", "on_removed": "report"}}, "on_removed of state needs repair=True"),
        ({"fail_if": {"created": 1}}, "created of fail_if needs repair=True"),
        ({"warn_if": {"newer_runs": 0}}, "newer_runs of warn_if needs repair=True"),
        ({"read_back": {"verify": 3}}, "always compares"),
        ({"full_refresh": True}, "full_refresh="),
        ({"repair": "perhaps"}, "repair must be true or false"),
        ({"resource": "orders"}, "unknown resource"),
        ({"records": None}, "exactly one source"),
    ],
    ids=str,
)
def test_wrong_parameters_are_told_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=re.escape(message)), DAG("wrong", schedule=None):
        VoucherifyReconcileOperator(task_id="reconcile", **{"resource": "customers", "records": [], **arguments})


def test_a_report_that_has_no_right_to_exports_says_so(stocked: LocalVoucherify) -> None:
    stocked.misbehave("/v1/exports", Status(403))
    run = reconcile("forbidden", ROWS[:2])
    assert run.state == "failed"
    assert "403" in run.xcom("reconcile", "voucherify_error")["error_message"]
    assert not sent(stocked)[10:]


@pytest.mark.parametrize("repair", [False, True])
def test_in_its_lineage_voucherify_is_what_a_report_reads_and_what_a_repair_writes(
    voucherify: LocalVoucherify, repair: bool
) -> None:
    with DAG("lineage", schedule=None):
        task = VoucherifyReconcileOperator(task_id="reconcile", resource="customers", records=[], repair=repair)

    lineage = task.get_openlineage_facets_on_failure(None)

    (dataset,) = lineage.outputs if repair else lineage.inputs
    assert not (lineage.inputs if repair else lineage.outputs)
    assert dataset.name == "customers"
    assert dataset.namespace.startswith("voucherify://")
