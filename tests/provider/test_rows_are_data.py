"""What other tasks return is data: it is never rendered as a template, and never kept among the rendered fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseNotifier, task
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.notifications.summary import VoucherifySummaryNotifier
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator

BRACES = "{{ conn.voucherify_default.password }} {% raw"
ROW = {"source_id": "c1", "name": BRACES}


def rendered_fields(run: DagRunResult) -> str:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(RenderedTaskInstanceFields).filter_by(run_id=run.dag_run.run_id).all()
        return json.dumps([row.rendered_fields for row in found if row.task_id != "give"])


def test_rows_of_expand_kwargs_are_not_rendered_and_what_the_dag_says_is(voucherify: LocalVoucherify) -> None:
    with DAG("kwargs", schedule=None, params={"key": "tag", "name": "Bob"}) as dag:

        @task
        def give() -> list[dict[str, Any]]:
            return [{"records": [ROW], "mapping": {"source_id": "source_id", "name": "name"}}]

        @task(task_id="give")
        def more() -> list[dict[str, Any]]:
            return [{"records": ["c2"], "metadata": {"tag": BRACES}}]

        VoucherifyBulkUpdateOperator.partial(
            task_id="rows", resource="customers", report_path="/tmp/{{ dag.dag_id }}-{{ run_id }}"
        ).expand_kwargs(give())
        VoucherifyBulkMetadataOperator.partial(task_id="tag", resource="customers").expand_kwargs(
            more.override(task_id="give2")()
        )
        VoucherifyBulkUpdateOperator.partial(task_id="literal", resource="customers").expand_kwargs(
            [{"records": [{"source_id": "c3", "name": "{{ params.name }}"}]}]
        )

        @task.voucherify_bulk_update(
            resource="customers", mapping={"id": "source_id", "name": "metadata.{{ params.key }}"}
        )
        def of_function(rows: list[dict[str, str]], note: str, day: str) -> Iterator[dict[str, str]]:
            assert (note, day) == (BRACES, "Bob")
            for row in rows:
                yield {"id": "c4", "name": row["name"]}

        @task
        def arguments() -> list[dict[str, Any]]:
            return [{"rows": [ROW], "note": BRACES}]

        of_function.partial(day="{{ params.name }}").expand_kwargs(arguments())

    run = run_dag(dag)

    assert run.state == "success"
    assert voucherify.customers["c1"]["name"] == BRACES
    assert voucherify.customers["c2"]["metadata"] == {"tag": BRACES}
    assert voucherify.customers["c3"]["name"] == "Bob"
    assert voucherify.customers["c4"]["metadata"] == {"tag": BRACES}
    assert run.xcom("rows", map_index=0)["report_uri"].startswith("/tmp/kwargs-")
    assert "c1" not in rendered_fields(run)


def test_texts_without_a_template_stay_what_they_are_also_with_native_rendering(voucherify: LocalVoucherify) -> None:
    with DAG(
        "native", schedule=None, render_template_as_native_obj=True, params={"rows": [{"source_id": "0x1F"}]}
    ) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="rows",
            resource="customers",
            records=[{"source_id": "1_000", "phone": "+48100200300", "zip": "94105", "note": "line\n", "none": "None"}],
        )
        VoucherifyBulkUpdateOperator(task_id="template", resource="customers", records="{{ params.rows }}")
        VoucherifyBulkMetadataOperator(
            task_id="tag", resource="customers", records=["2_000"], metadata={"zip": "94105", "flag": "True"}
        )

    run = run_dag(dag)

    assert run.state == "success"
    assert sorted(voucherify.customers) == ["0x1F", "1_000", "2_000"]
    customer = voucherify.customers["1_000"]
    assert customer["phone"] == "+48100200300"
    assert customer["metadata"] == {"zip": "94105", "note": "line\n", "none": "None"}
    assert voucherify.customers["2_000"]["metadata"] == {"zip": "94105", "flag": "True"}


class Messages(BaseNotifier):
    """Keeps what would be sent, rendered."""

    template_fields = ("text",)

    def __init__(self, text: str, sent: list[str]) -> None:
        super().__init__()
        self.text, self.sent = text, sent

    def notify(self, context: Any) -> None:
        self.sent.append(self.text)


def test_one_notifier_may_be_used_for_several_callbacks(voucherify: LocalVoucherify) -> None:
    sent: list[str] = []
    notifier = Messages("{{ dag.dag_id }}: {{ voucherify_text }}", sent)
    with DAG("told_twice", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=[{"source_id": "c{{ 1 }}", "birthdate": "{{ '{{' }} conn.voucherify_default.password }}"}],
            on_failed_records_callback=[notifier, notifier],
            on_failure_callback=[VoucherifySummaryNotifier(notifier), VoucherifySummaryNotifier(notifier)],
        )

    run_dag(dag)

    assert len(sent) == 4
    assert {text.count("told_twice: Voucherify") for text in sent} == {1}
    assert {text.count("{{ conn.voucherify_default.password }}") for text in sent} == {1}
    assert "secret-" not in "".join(sent)
    assert notifier.text == "{{ dag.dag_id }}: {{ voucherify_text }}"
