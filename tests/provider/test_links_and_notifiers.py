"""What people see beside the log: the extra links, and messages through any notifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.bases.notifier import BaseNotifier
from dags import run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.endpoints import dashboard_url
from airflow_provider_voucherify.notifications.summary import VoucherifySummaryNotifier
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

RECORDS = [{"source_id": "c1"}, {"source_id": "c2", "birthdate": "soon"}]


class Messages(BaseNotifier):
    """A notifier as Airflow's providers have them: a template, rendered with the callback's context."""

    template_fields = ("text",)
    sent: list[str]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.sent = []

    def notify(self, context: Any) -> None:
        self.sent.append(self.text)


def dag_with(**kwargs: Any) -> DAG:
    with DAG("links_and_notifiers", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=RECORDS, max_failed_records=1, **kwargs
        )
    return dag


def test_a_notifier_is_told_of_failed_records_while_the_task_is_green(voucherify: LocalVoucherify) -> None:
    notifier = Messages("{{ voucherify_summary.refused }} refused in {{ dag.dag_id }}: {{ voucherify_text }}")

    assert run_dag(dag_with(on_failed_records_callback=notifier)).state == "success"

    [text] = notifier.sent
    assert text.startswith("1 refused in links_and_notifiers: Voucherify customers: 2 rows - 1 created, 1 refused")
    assert "c2: birthdate must be a date" in text


def test_a_summary_notifier_brings_the_summary_to_airflow_s_own_callbacks(voucherify: LocalVoucherify) -> None:
    notifier = Messages("{{ voucherify_text }}")

    run_dag(dag_with(on_success_callback=VoucherifySummaryNotifier(notifier)))

    assert notifier.sent[0].startswith("Voucherify customers: 2 rows")


def test_the_links_are_in_xcom_even_of_a_task_that_failed(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    voucherify.next_actions(stuck="ENQUEUED")

    run = run_dag(dag_with(completion_timeout=0.1, report_path=str(tmp_path)))

    assert run.task_state("sync") == "failed"
    assert run.xcom("sync", "_link_VoucherifyAsyncActionsLink") == f"{voucherify.base_url}/v1/async-actions"
    assert run.xcom("sync", "_link_VoucherifyReportLink") == str(tmp_path)


@pytest.mark.parametrize(
    ("base_url", "dashboard"),
    [
        ("https://api.voucherify.io", "https://app.voucherify.io"),
        ("https://us1.api.voucherify.io", "https://us1.app.voucherify.io"),
        ("https://dedicated.example.com", "https://dedicated.example.com/v1/async-actions"),
    ],
)
def test_the_dashboard_is_the_one_of_the_region(base_url: str, dashboard: str) -> None:
    assert dashboard_url(base_url) == dashboard
