"""The page about a run in the folder of ``report_path``: whole in itself, with nothing in it that a row could add."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.notifications.report_page import report_page
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sync.results.summary import SyncSummary

HOSTILE = "</td><script>alert(1)</script><img src=x onerror=alert(1)>\x00\u202e{{ 1 / 0 }}"


def sync(folder: Path, **arguments: Any) -> DagRunResult:
    rows = [{"source_id": f"c{number}", "name": "Ann"} for number in range(5)]
    with DAG("nightly", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", report_path=str(folder), **{"records": rows, **arguments}
        )
    return run_dag(dag)


def page(folder: Path) -> ElementTree.Element:
    (doctype, _, html) = (folder / "report.html").read_text(encoding="utf-8").partition("\n")
    assert doctype == "<!DOCTYPE html>"
    return ElementTree.fromstring(html)


def texts(of: ElementTree.Element, path: str) -> list[str]:
    return ["".join(element.itertext()) for element in of.findall(path)]


def test_a_run_leaves_a_page_with_its_numbers(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    rows = [*({"source_id": f"c{number}"} for number in range(5)), {"name": "nobody"}]
    run = sync(tmp_path, records=rows, fail_if={"failed": None}, warn_if={"created": 0})

    summary, shown = run.xcom("sync"), page(tmp_path)
    assert texts(shown, ".//ul[@class='legend']/li") == ["5 created (83.3%)", "1 refused (16.7%)"]
    bar = shown.find(".//svg[@role='img']")
    assert bar is not None
    assert bar.attrib["aria-label"] == "5 created (83.3%), 1 refused (16.7%)"
    assert sum(float(part.attrib["width"]) for part in bar) == pytest.approx(1000)
    names, values = (texts(shown, f".//td[@class='number']{of}") for of in ("/../th", ""))
    numbers = dict(zip(names, values, strict=True))
    assert {name: numbers[name] for name in ("rows_read", "created", "refused")} == {
        "rows_read": "6",
        "created": "5",
        "refused": "1",
    }
    assert texts(shown, ".//span[@class='good']") == ["success"]
    assert summary["warning"] in texts(shown, ".//li")
    assert run.dag_run.run_id in texts(shown, "body/p")[0]
    links = [url for url in (summary["page_url"], summary["log_url"]) if url]
    assert [link.attrib["href"] for link in shown.iter("a")] == links


def test_a_run_that_fails_leaves_one_too_and_says_by_which_limit(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    assert sync(tmp_path, records=[{"source_id": "c1"}, {"name": "nobody"}]).state == "failed"

    shown = page(tmp_path)
    assert texts(shown, ".//span[@class='bad']") == ["failed"]
    assert any("failed of fail_if is 0" in text for text in texts(shown, ".//li"))


def test_what_was_read_back_is_on_the_page(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify.next_actions(applies_records=False)
    assert sync(tmp_path, records=[{"source_id": "c1", "name": "Ann"}], read_back={"verify": "all"}).state == "failed"

    shown = page(tmp_path)
    names, values = (texts(shown, f".//td[@class='number']{of}") for of in ("/../th", ""))
    numbers = dict(zip(names, values, strict=True))
    assert [numbers[name] for name in ("verified", "differing", "missing")] == ["0", "0", "1"]
    assert any("differing of fail_if is 0" in text for text in texts(shown, ".//li"))
    assert "What differs" in texts(shown, ".//h2")


def test_nothing_in_a_row_becomes_part_of_the_page(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify.next_actions(
        result_fields={
            "done_count": 0,
            "failed_count": 1,
            "errors": [{"code": "c1", "key": HOSTILE, "message": HOSTILE, "details": HOSTILE}],
        }
    )
    sync(tmp_path, records=[{"source_id": "c1"}], fail_if={"failed": None})

    shown = page(tmp_path)
    known = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "span", "svg", "rect", "ul", "li", "a"}
    assert {element.tag for element in shown.iter()} <= known | {"table", "tr", "th", "td"}
    assert [name for element in shown.iter() for name in element.attrib if name.startswith("on") or name == "src"] == []
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in content
    assert not re.search(r"url\(|@import|https?://(?!127\.0\.0\.1|localhost)", content), "nothing from another host"


def test_a_page_that_cannot_be_written_is_no_reason_to_fail(
    voucherify: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    (tmp_path / "report.html").mkdir()

    assert sync(tmp_path).state == "success"
    assert "report.html cannot be written" in task_log()


def test_what_was_not_waited_for_is_in_the_bar(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    rows = [{"source_id": "c1"}, {"source_id": "c2"}, {"source_id": "c3"}, {"name": "nobody"}]
    sync(tmp_path, records=rows, wait_for_completion=False, fail_if={"failed": None})

    assert texts(page(tmp_path), ".//ul[@class='legend']/li") == ["1 refused (25.0%)", "3 queued (75.0%)"]


def test_a_dry_run_leaves_the_page_of_the_last_run(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    sync(tmp_path)
    before = (tmp_path / "report.html").read_bytes()

    sync(tmp_path, dry_run=True)

    assert (tmp_path / "report.html").read_bytes() == before


def test_a_few_failures_among_a_million_rows_can_be_seen() -> None:
    counts = {"rows_read": 1_000_000, "unchanged": 999_997, "failed": 3, "succeeded": 0, "submitted": 3}
    nothing = {"refused": 0, "superseded": 0, "requests": 1, "bytes_sent": 9, "async_action_ids": []}
    html = report_page(SyncSummary(resource="customers", **counts, **nothing), {"task": "nightly.sync"}, [])  # type: ignore[arg-type]

    bar = ElementTree.fromstring(html.partition("\n")[2]).find(".//svg[@role='img']")
    assert bar is not None
    widths = [float(part.attrib["width"]) for part in bar]
    assert len(widths) == 2
    assert min(widths) > 5
    assert sum(widths) == pytest.approx(1000, abs=0.1)
    assert "3 failed (less than 0.1%)" in bar.attrib["aria-label"]
