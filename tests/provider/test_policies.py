"""``fail_if``, ``warn_if``, ``requests``, ``state``: values or dicts, with templates in them, readable everywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, task
from dags import folder_of, rendered_fields, run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.policies import Limits, Requests, State
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor

ROWS = [{"source_id": f"c{number}"} for number in range(4)] + [{"name": "nobody"}]


@pytest.mark.parametrize("form", ["values", "dicts"])
def test_a_value_and_a_dict_say_the_same(voucherify: LocalVoucherify, tmp_path: Path, form: str) -> None:
    given = {
        "values": {
            "fail_if": Limits(failed=1),
            "warn_if": Limits(created=3),
            "requests": Requests(max_records=2),
            "state": State(path=f"{tmp_path}/{{{{ params.folder }}}}", on_removed="report"),
        },
        "dicts": {
            "fail_if": {"failed": 1},
            "warn_if": {"created": 3},
            "requests": {"max_records": 2},
            "state": {"path": f"{tmp_path}/{{{{ params.folder }}}}", "on_removed": "report"},
        },
    }[form]
    with DAG("policies", schedule=None, params={"folder": "nightly"}) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=ROWS, **given)

    run = run_dag(dag)

    summary = run.xcom("sync")
    assert (run.state, summary["requests"], summary["refused"]) == ("success", 2, 1)
    assert summary["warning"] == "4 records were created, and created of warn_if is 3"
    assert Path(folder_of(tmp_path / "nightly", "policies"), "state").exists()


def test_a_value_that_two_tasks_share_is_rendered_for_each(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    shared = State(path=f"{tmp_path}/{{{{ task.task_id }}}}")
    with DAG("shared", schedule=None) as dag:
        for name in ("one", "two"):
            VoucherifyBulkUpdateOperator(task_id=name, resource="customers", records=ROWS[:1], state=shared)

    run_dag(dag)

    assert [Path(folder_of(tmp_path / name, "shared", name), "state").exists() for name in ("one", "two")] == [True] * 2
    assert shared == State(path=f"{tmp_path}/{{{{ task.task_id }}}}")


def test_mapped_tasks_take_values_and_dicts(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    with DAG("mapped_policies", schedule=None) as dag:
        VoucherifyBulkUpdateOperator.partial(
            task_id="sync", resource="customers", records=ROWS, fail_if=Limits(failed=1)
        ).expand(requests=[Requests(max_records=1), {"max_records": 4}])

    run = run_dag(dag)

    assert [run.xcom("sync", map_index=index)["requests"] for index in (0, 1)] == [4, 1]


def test_rendered_fields_show_what_was_given(voucherify: LocalVoucherify) -> None:
    with DAG("rendered_policies", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            records=ROWS,
            fail_if=Limits(failed=100, created=1_000),
            requests={"max_in_flight": 1},
        )

    fields = rendered_fields(run_dag(dag), "sync")

    assert fields["fail_if"] in ({"failed": 100, "created": 1_000}, "Limits(failed=100, created=1000)")
    assert fields["requests"] == {"max_in_flight": 1}


SERIALISE = """
import json
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor
from airflow_provider_voucherify.policies import Limits, Requests, State
try:
    from airflow.serialization.serialized_objects import DagSerialization as Serialized
except ImportError:
    from airflow.serialization.serialized_objects import SerializedDAG as Serialized
with DAG("stable", schedule=None) as dag:
    VoucherifyBulkUpdateOperator(
        task_id="sync", resource="customers", records=[], warn_if={"created": 5},
        fail_if=Limits(failed_ratio=0.1, failed=None),
        requests=Requests(max_records=5),
        state=State(conn_id="warehouse", on_removed={"metadata": {"left": True}}),
    )
    mapped = VoucherifyBulkUpdateOperator.partial(task_id="mapped", resource="customers", fail_if=Limits(failed=1))
    mapped.expand(records=[[]])
print(json.dumps(Serialized.to_dict(dag), sort_keys=True))
"""


def test_the_serialized_dag_is_the_same_in_every_process() -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", SERIALISE],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.splitlines()[-1]
        for seed in ("1", "2")
    }

    (text,) = texts
    assert " at 0x" not in text
    dag = json.loads(text)["dag"]
    assert dag.get("dag_id", dag.get("_dag_id")) == "stable"


@pytest.mark.parametrize(
    ("value", "given", "shown"),
    [
        (Limits(), {}, "Limits()"),
        (Limits(failed=0), {"failed": 0}, "Limits(failed=0)"),
        (Limits(expected_keys=["a"]), {"expected_keys": ["a"]}, "Limits(expected_keys=['a'])"),
        (Limits(failed=None, newer_runs=0), {"failed": None, "newer_runs": 0}, "Limits(failed=None, newer_runs=0)"),
        (State.of("state", "warehouse"), {"conn_id": "warehouse"}, "State(conn_id='warehouse')"),
        (State.of("state", "s3://bucket/x"), {"path": "s3://bucket/x"}, "State(path='s3://bucket/x')"),
    ],
    ids=str,
)
def test_a_value_shows_what_was_given_and_no_default(value: Any, given: dict[str, Any], shown: str) -> None:
    assert value.serialize() == given
    assert repr(value) == shown


def test_what_a_value_does_not_have_is_refused() -> None:
    with pytest.raises(VoucherifyConfigurationError, match=r"fail_if has no 'failures' .did you mean 'failed'"):
        Limits.of("fail_if", {"failures": 1})
    with pytest.raises(VoucherifyConfigurationError, match=r"requests must be Requests\(\.\.\.\) or a dict"):
        Requests.of("requests", 5)  # type: ignore[arg-type]


def test_the_defaults_of_the_two_limits_differ() -> None:
    assert (Limits().to_fail.failed, Limits().to_warn.failed) == (0, None)
    assert (Limits().to_fail.newer_runs, Limits().to_warn.newer_runs) == (None, 0)
    assert (Limits(failed_ratio=0.1).to_fail.failed, Limits(failed=0, failed_ratio=0.1).to_fail.failed) == (None, 0)
    assert Limits(created=5).to_fail.failed == 0, "another limit does not let rows fail"


def test_what_another_task_returns_goes_into_a_dict(voucherify: LocalVoucherify) -> None:
    """Airflow looks for the tasks that a task depends on in dicts, and not in values of ours."""
    with DAG("outputs", schedule=None) as dag:

        @task
        def limit() -> int:
            return 1

        output = limit()
        for value in (
            lambda: Limits(failed=output),
            lambda: State(conn_id="w", on_removed={"metadata": {"n": [output]}}),
        ):
            with pytest.raises(VoucherifyConfigurationError, match="comes from another task: give a dict instead"):
                value()
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=ROWS, fail_if={"failed": output})

    assert dag.get_task("sync").upstream_task_ids == {"limit"}
    assert run_dag(dag).state == "success"


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("state", ["{{ params.place }}", {"path": "{{ params.place }}"}])
def test_a_state_that_renders_to_nothing_is_not_taken_for_none(
    voucherify: LocalVoucherify, task_log: Any, state: Any, native: bool
) -> None:
    """Without its state a sync would send every row, and be green."""
    given: dict[str, Any] = {"params": {"place": None if native else ""}, "render_template_as_native_obj": native}
    with DAG("empty_state", schedule=None, **given) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", records=ROWS[:1], state=state)

    assert run_dag(dag).state == "failed"
    assert re.search("state is empty|state needs conn_id", task_log())
    assert voucherify.received == []


def test_the_sensor_renders_values_too(voucherify: LocalVoucherify) -> None:
    with DAG("sensor_values", schedule=None, render_template_as_native_obj=True) as dag:
        sent = VoucherifyBulkUpdateOperator(
            task_id="send", resource="customers", records=ROWS[:1], wait_for_completion=False
        )
        VoucherifyAsyncActionSensor(
            task_id="wait",
            async_action_ids=sent.output["async_action_ids"],
            poke_interval=0.02,
            fail_if=Limits(created="{{ 5 }}"),  # type: ignore[arg-type]
        )

    assert run_dag(dag).state == "success"


def test_tasks_of_one_sync_name_keep_the_outcomes_of_each(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    state = {"path": str(tmp_path), "sync_name": "shared", "outcomes": "jsonl"}
    with DAG("shared_name", schedule=None) as dag:
        first, second = (
            VoucherifyBulkUpdateOperator(task_id=name, resource="customers", records=ROWS[:number], state=state)
            for number, name in enumerate(("one", "two"), start=1)
        )
        first >> second

    run_dag(dag)

    assert sorted(len(file.read_text().splitlines()) for file in tmp_path.rglob("outcomes/*/try=*")) == [1, 2]
