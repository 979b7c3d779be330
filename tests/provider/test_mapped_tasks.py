"""Dynamic task mapping: one task per file, one sensor over all of their actions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task, task_group
from dags import DagRunResult, run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

MARK = {"metadata": {"active": False}}


def rendered_records(run: DagRunResult) -> dict[str, Any]:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(RenderedTaskInstanceFields).filter_by(run_id=run.dag_run.run_id).all()
        return {row.task_id: row.rendered_fields["records"] for row in found if "records" in row.rendered_fields}


def test_each_mapped_task_sends_its_file_and_keeps_its_own_reports(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"source_id": "{name}"}}\n{{"source_id": null}}\n')
    with DAG("mapped", schedule=None) as dag:
        VoucherifyBulkUpdateOperator.partial(
            task_id="sync", resource="customers", report_path=str(tmp_path / "reports"), fail_if={"failed": 1}
        ).expand(path=[str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])

    run = run_dag(dag)

    assert run.state == "success"
    assert {"a", "b"} == set(voucherify.customers)
    for index, name in enumerate("ab"):
        folder = tmp_path / "reports" / f"map_index={index}"
        assert (folder / "report-00001.csv").read_text().splitlines()[1] == f"{name},false,true"
        assert run.xcom("sync", map_index=index)["report_uri"] == str(folder)


def test_one_sensor_waits_for_all_mapped_tasks(voucherify: LocalVoucherify) -> None:
    with DAG("mapped_with_sensor", schedule=None) as dag:
        submit = VoucherifyBulkUpdateOperator.partial(
            task_id="submit", resource="customers", wait_for_completion=False
        ).expand(records=[[{"source_id": "a"}], [{"source_id": "b"}, {"source_id": "c"}]])
        VoucherifyAsyncActionSensor(
            task_id="wait", async_action_ids=submit.output["async_action_ids"], poke_interval=0.02
        )

    summary = run_dag(dag).xcom("wait")

    assert summary["created"] == 3
    assert len(summary["async_action_ids"]) == 2


def test_records_are_those_of_all_tasks_of_a_mapped_one(voucherify: LocalVoucherify) -> None:
    with DAG("mapped_upstream", schedule=None) as dag:

        @task
        def of_shop(shop: str, count: int) -> list[dict[str, str]]:
            return [{"source_id": f"{shop}{number}", "name": "do-not-store"} for number in range(count)]

        @task
        def one_id(shop: str) -> str:
            return shop

        parts = of_shop.partial(shop="a").expand(count=[2, 0, 3])
        VoucherifyBulkUpdateOperator(task_id="lists", resource="customers", records=parts)
        VoucherifyBulkUpdateOperator.partial(task_id="mapped", resource="products", records=parts).expand(sample=[4])
        VoucherifyBulkMetadataOperator(
            task_id="ids", resource="customers", records=one_id.expand(shop=["b", "c"]), metadata={"open": True}
        )

    run = run_dag(dag)

    assert run.state == "success"
    assert sorted(voucherify.customers) == ["a0", "a1", "a2", "b", "c"]
    assert (run.xcom("lists")["rows_read"], run.xcom("lists")["superseded"]) == (5, 2)
    assert run.xcom("mapped", map_index=0)["rows_read"] == 4
    stored = rendered_records(run)
    assert stored == dict.fromkeys(("lists", "mapped", "ids"), "<an unknown number of records, not shown>")


def test_each_mapped_task_has_parameters_of_its_own_from_another_task(voucherify: LocalVoucherify) -> None:
    with DAG("mapped_kwargs", schedule=None) as dag:

        @task
        def tags() -> list[dict[str, object]]:
            return [
                {"resource": "customers", "records": ["c1", "c2"], "metadata": {"tag": "a"}},
                {"resource": "products", "records": ["p1"], "metadata": {"tag": "b"}},
            ]

        VoucherifyBulkMetadataOperator.partial(task_id="tag").expand_kwargs(tags())

    run = run_dag(dag)

    assert run.state == "success"
    assert [run.xcom("tag", map_index=index)["created"] for index in range(2)] == [2, 1]
    assert voucherify.customers["c2"]["metadata"] == {"tag": "a"}
    assert voucherify.products["p1"]["metadata"] == {"tag": "b"}


def test_one_deferred_sensor_waits_for_all_mapped_tasks(voucherify: LocalVoucherify, defer_at_once: None) -> None:
    with DAG("mapped_with_deferred_sensor", schedule=None) as dag:
        submit = VoucherifyBulkUpdateOperator.partial(
            task_id="submit", resource="customers", wait_for_completion=False
        ).expand(records=[[{"source_id": "a"}], [{"source_id": "b"}, {"source_id": "c"}], []])
        VoucherifyAsyncActionSensor(
            task_id="wait", async_action_ids=submit.output["async_action_ids"], poke_interval=0.02, deferrable=True
        )

    run = run_dag(dag)

    assert run.deferred_tasks() == {"wait"}
    assert (run.xcom("wait")["created"], len(run.xcom("wait")["async_action_ids"])) == (3, 2)


@pytest.mark.parametrize(
    ("shared", "own", "said"),
    [
        ({}, [{"on_removed": MARK, "sync_name": "PL"}, {"on_removed": MARK, "sync_name": "IE"}], "cannot be used in"),
        ({"on_removed": "report"}, None, "needs a state with a sync_name"),
        ({"on_removed": "report", "sync_name": "the same"}, None, "needs a state with a sync_name"),
        ({"on_removed": "report", "sync_name": "part {{ ti.map_index }}"}, None, "needs a state with a sync_name"),
        ({"on_removed": "report", "sync_name": "{{ 'the same' }}"}, None, "needs a state with a sync_name"),
        ({}, [{"on_removed": "report"}, {"on_removed": "report"}], "needs a state with a sync_name"),
        ("default", None, "needs a state with a sync_name"),
    ],
    ids=["marks", "no name", "one name", "map index", "template", "no name of its own", "default"],
)
def test_a_mapped_task_takes_nobody_for_removed_who_may_be_in_another_s_rows(
    voucherify: LocalVoucherify,
    tmp_path: Path,
    task_log: Callable[[], str],
    shared: Any,
    own: list[dict[str, Any]] | None,
    said: str,
) -> None:
    state = {"path": str(tmp_path / "state")}
    defaults = {"state": state | {"on_removed": "report", "sync_name": "the same"}} if shared == "default" else {}
    partial = {} if own or shared == "default" else {"state": state | shared}
    states = [{"state": state | one} for one in own] if own else [{}, {}]
    with DAG("mapped_removals", schedule=None, default_args=defaults) as dag:
        VoucherifyBulkUpdateOperator.partial(task_id="sync", resource="customers", **partial).expand_kwargs(
            [{"records": [{"source_id": name}], **one} for name, one in zip("ab", states, strict=True)]
        )

    run = run_dag(dag)

    assert run.state == "failed"
    assert said in task_log()
    assert not voucherify.received, "something was sent"


@pytest.mark.parametrize("name", ["the same", "{{ 'part' }} {{ ti.map_index }}", None])
def test_a_task_of_a_mapped_group_takes_nobody_for_removed(
    voucherify: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str], name: str | None
) -> None:
    with DAG("group_removals", schedule=None) as dag:

        @task_group
        def part(rows: list[dict[str, str]]) -> None:
            VoucherifyBulkUpdateOperator(
                task_id="sync",
                resource="customers",
                records=rows,
                state={"path": str(tmp_path / "state"), "on_removed": "report", "sync_name": name},
            )

        part.expand(rows=[[{"source_id": "a"}], [{"source_id": "b"}]])

    run = run_dag(dag)

    assert run.state == "failed"
    assert "needs a state with a sync_name" in task_log()
    assert not voucherify.received, "something was sent"


def test_a_named_part_of_a_source_reports_who_has_left_it_wherever_it_comes(
    voucherify: LocalVoucherify, tmp_path: Path
) -> None:
    state = {"path": str(tmp_path), "on_removed": "report", "max_removed_ratio": None}

    def night(*parts: tuple[str, list[str]]) -> DagRunResult:
        with DAG("mapped_parts", schedule=None) as dag:
            VoucherifyBulkUpdateOperator.partial(task_id="sync", resource="customers").expand_kwargs(
                [
                    {"state": state | {"sync_name": f"customers of {name}"}, "records": [{"source_id": i} for i in ids]}
                    for name, ids in parts
                ]
            )
        return run_dag(dag)

    night(("PL", ["p1", "p2"]), ("IE", ["i1"]))

    second = night(("IE", ["i1"]), ("PL", ["p2"]))

    assert second.state == "success"
    ie, pl = (second.xcom("sync", map_index=index) for index in range(2))
    assert (ie["removed"], ie["unchanged"]) == (0, 1)
    assert (pl["removed"], pl["unchanged"]) == (1, 1)
