"""Stories about results in their several shapes and about report files."""

from __future__ import annotations

import csv
import io

import httpx
import pytest


def _rows(text):
    return list(csv.reader(io.StringIO(text)))[1:]


def test_a_report_needs_its_token_and_by_default_no_credentials(shop):
    url = shop.update("customers", [{"source_id": "c1"}])["result"]["reports"][0]

    assert httpx.get(url).status_code == 200
    assert httpx.get(url.partition("?")[0]).status_code == 401
    assert httpx.get(url + "x").status_code == 401


def test_a_report_can_need_credentials_too(open_shop):
    shop = open_shop(reports_need_auth=True)
    url = shop.update("customers", [{"source_id": "c1"}])["result"]["reports"][0]

    assert httpx.get(url).status_code == 401
    assert shop.http.get(url).status_code == 200


def test_ids_are_quoted_as_csv_demands(shop):
    ids = ['a,"b"', "line\nbreak", "zażółć", ""]
    url = shop.update("customers", [{"source_id": source_id} for source_id in ids])["result"]["reports"][0]

    assert [row[0] for row in _rows(shop.http.get(url).text)] == ids


@pytest.mark.parametrize("status", [404, 410])
def test_a_report_is_gone_after_its_time(open_shop, clock, status):
    shop = open_shop(report_seconds=60, expired_report_status=status, clock=clock)
    result = shop.update("customers", [{"source_id": "c1"}])["result"]

    assert result["reports_available_till"] == "2027-01-15T08:01:00.000Z"
    clock.turn(59)
    assert shop.http.get(result["reports"][0]).status_code == 200
    clock.turn(1)
    assert shop.http.get(result["reports"][0]).status_code == status


def test_several_reports_hold_all_rows_together(open_shop):
    shop = open_shop(result_shape="several_reports")
    ids = [f"c{number}" for number in range(20_000)]
    reports = shop.update("customers", [{"source_id": source_id} for source_id in ids])["result"]["reports"]

    assert len(reports) == 3
    assert [row[0] for url in reports for row in _rows(shop.http.get(url).text)] == ids


def test_reports_can_be_on_a_host_of_their_own(open_shop):
    shop = open_shop(report_host="separate")
    url = shop.update("customers", [{"source_id": "c1"}])["result"]["reports"][0]

    assert not url.startswith(shop.server.base_url)
    assert httpx.get(url).status_code == 200


def test_report_urls_can_point_anywhere(open_shop):
    shop = open_shop(report_host="https://reports.example.com/")
    url = shop.update("customers", [])["result"]["reports"][0]

    assert url.startswith("https://reports.example.com/v1/reports/report_")


def test_a_result_can_have_errors_only(open_shop):
    result = open_shop(result_shape="errors_only").update("customers", [{"name": "Jane"}])["result"]

    assert list(result) == ["errors"]
    assert result["errors"][0]["key"] == "invalid_payload"


def test_a_result_can_come_without_reports(open_shop):
    result = open_shop(result_shape="no_report").update("customers", [{"source_id": "c1"}])["result"]

    assert result == {"done_count": 1, "failed_count": 0, "errors": []}


def test_a_result_can_have_the_shape_of_before_august_2024(open_shop):
    shop = open_shop(result_shape="legacy", missing_vouchers="done")
    shop.server.add_voucher("A")

    assert shop.update("vouchers", [{"code": code, "metadata": {}} for code in "AB"])["result"] == {
        "results": [{"code": "A", "updated": True, "found": True}, {"code": "B", "updated": False, "found": False}],
        "done_count": 2,
    }
