"""What README.md and the docstrings list is what the code has: each thing once, and nothing else."""

from __future__ import annotations

import inspect
import re

import pytest
from example_dags import EXAMPLES
from readme_file import ROOT, TEXT, first_column, page

from airflow_provider_voucherify.notifications.texts import ready_texts
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.export import VoucherifyExportOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.types.outcome import OUTCOMES


def parameters(operator: type) -> list[str]:
    return [name for name in inspect.signature(operator.__init__).parameters if name not in ("self", "kwargs")]


def documented(operator: type) -> list[str]:
    return re.findall(r":param (\w+):", operator.__doc__ or "")


@pytest.mark.parametrize(
    "operator",
    [
        VoucherifyBulkUpdateOperator,
        VoucherifyExportOperator,
        VoucherifyImportCsvOperator,
        VoucherifyAsyncActionSensor,
    ],
)
def test_every_parameter_is_documented_once(operator: type) -> None:
    assert sorted(documented(operator)) == sorted(parameters(operator))


def test_the_metadata_operator_documents_what_only_it_has() -> None:
    own = set(parameters(VoucherifyBulkMetadataOperator)) - set(parameters(VoucherifyBulkUpdateOperator))

    assert own == {"metadata", "plan"}
    assert own <= set(documented(VoucherifyBulkMetadataOperator))


def test_names_for_the_templates_of_notifiers() -> None:
    summary = SyncSummary(
        resource=None, rows_read=0, submitted=0, refused=0, superseded=0, async_action_ids=[], requests=0, bytes_sent=0
    )
    assert sorted(first_column(page("alerts"), "Its context has,")) == sorted(ready_texts(summary.as_xcom()))


def test_each_outcome_is_documented_once() -> None:
    assert sorted(first_column(page("change-detection"), "## One outcome per row")) == sorted(OUTCOMES)


def test_every_example_dag_is_among_the_recipes_or_in_the_readme() -> None:
    there = {path.name for path in EXAMPLES.glob("*.py")}

    assert set(re.findall(r"dags_examples/(\w+\.py)", page("recipes") + TEXT)) == there


def test_the_folders_that_contributing_names_are_there() -> None:
    folders = first_column(page("CONTRIBUTING"), "Beside the package:")

    assert len(folders) > 10
    assert [folder for folder in folders if not (ROOT / folder).exists()] == []


def test_the_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= 160
