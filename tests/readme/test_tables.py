"""The tables of README.md name what the code has: each thing once, and nothing else. Its links lead somewhere."""

from __future__ import annotations

import inspect
import re

from example_dags import EXAMPLES
from readme_file import ROOT, TEXT, first_column

from airflow_provider_voucherify.client.settings import ConnectionExtra
from airflow_provider_voucherify.notifications.texts import ready_texts
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.sync.summary import SyncSummary


def parameters(operator: type) -> list[str]:
    return [name for name in inspect.signature(operator.__init__).parameters if name not in ("self", "kwargs")]


def test_operator_parameters() -> None:
    assert sorted(first_column("Parameters of both bulk operators:")) == sorted(
        parameters(VoucherifyBulkUpdateOperator)
    )
    also = first_column("`VoucherifyBulkMetadataOperator` also takes")
    assert sorted(["resource", *also]) == sorted(parameters(VoucherifyBulkMetadataOperator))


def test_import_parameters() -> None:
    assert sorted(first_column("Its parameters:")) == sorted(parameters(VoucherifyImportCsvOperator))


def test_sensor_parameters() -> None:
    assert sorted(first_column("Parameters of the sensor")) == sorted(parameters(VoucherifyAsyncActionSensor))


def test_summary_members() -> None:
    assert sorted(first_column("return the same summary")) == sorted(SyncSummary.model_fields)


def test_names_for_the_templates_of_notifiers() -> None:
    summary = SyncSummary(
        resource=None, rows_read=0, submitted=0, refused=0, superseded=0, async_action_ids=[], requests=0, bytes_sent=0
    )
    assert sorted(first_column("Its context, and so")) == sorted(ready_texts(summary.as_xcom()))


def test_connection_extras() -> None:
    assert sorted(first_column("## Connection")) == sorted(ConnectionExtra.model_fields)


def test_example_dags() -> None:
    assert sorted(first_column("has more.")) == sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_folders() -> None:
    assert [folder for folder in first_column("the ones that take longest.") if not (ROOT / folder).is_dir()] == []


def test_links() -> None:
    links = re.findall(r"\]\((?!https:)([^)]+)\)", TEXT)

    assert len(links) > 2
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_what_it_costs_is_what_was_measured() -> None:
    """Every figure of the section is on the page that ``make bench`` has written."""
    section = TEXT.partition("## What it costs")[2].partition("\n## ")[0]
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    figures = re.findall(r"\d[\d,.]*\d|\d", section.partition("[Performance]")[0])
    spelled = {"100", "5", "20", "27", "277"}  # of the setting, and in names

    assert len(figures) > 20
    assert [
        figure for figure in figures if figure not in spelled and not re.search(rf"(?<![\d,.]){figure}\b", page)
    ] == []
