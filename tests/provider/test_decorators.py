"""``@task.voucherify_bulk_update`` and ``@task.voucherify_bulk_metadata``: a function's rows reach Voucherify."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import DAG, task
from dags import DagRunResult, run_dag
from installed import AIRFLOW, needs_store

from airflow_provider_voucherify.decorators.bulk import voucherify_bulk_update_task
from airflow_provider_voucherify.exceptions import VoucherifyConfigurationError
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.sensors.async_action import VoucherifyAsyncActionSensor


def rendered_fields(run: DagRunResult) -> list[dict[str, Any]]:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    with create_session() as session:
        found = session.query(RenderedTaskInstanceFields).filter_by(run_id=run.dag_run.run_id).all()
        return [row.rendered_fields for row in found]


@pytest.mark.parametrize("yields", [True, False], ids=["yields", "returns"])
def test_the_rows_of_a_function_arrive_and_the_task_returns_the_summary(
    voucherify: LocalVoucherify, yields: bool
) -> None:
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_update(resource="customers", mapping={"id": "source_id", "who": "name"})
        def sync(count: int, who: str) -> Any:
            rows = ({"id": f"c{n}", "who": who} for n in range(count))
            return rows if yields else list(rows)

        sync(3, who="{{ dag.dag_id }}")

    run = run_dag(dag)

    assert run.state == "success"
    assert {record_id: customer["name"] for record_id, customer in voucherify.customers.items()} == {
        "c0": "decorated",
        "c1": "decorated",
        "c2": "decorated",
    }
    assert run.xcom("sync")["created"] == run.xcom("sync")["rows_read"] == 3


def test_a_function_gives_the_ids_that_get_one_metadata(voucherify: LocalVoucherify) -> None:
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_metadata(resource="customers", metadata={"audience": "{{ params.audience }}"})
        def tag() -> Iterator[str]:
            yield from ("c1", "c2")

        tag()

    run = run_dag(dag, {"audience": "spring"})

    assert run.state == "success"
    assert voucherify.customers["c2"]["metadata"] == {"audience": "spring"}
    (request,) = voucherify.requests("POST", "/v1/customers/metadata/async")
    assert json.loads(request.body or b"")["source_ids"] == ["c1", "c2"]


class Row(dict[str, Any]):
    """A row that can be watched."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def test_what_is_yielded_is_streamed_and_never_stored(voucherify: LocalVoucherify) -> None:
    alive: weakref.WeakSet[Row] = weakref.WeakSet()
    most = 0
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_update(resource="customers")
        def sync() -> Iterator[dict[str, Any]]:
            nonlocal most
            for n in range(10_000):
                row = Row(source_id=f"c{n}", name="do-not-store")
                alive.add(row)
                most = max(most, len(alive))
                yield row

        sync()

    run = run_dag(dag)

    assert run.xcom("sync")["created"] == 10_000
    assert most < 5_000
    assert "do-not-store" not in json.dumps(run.xcoms("sync"))


def test_rows_of_another_task_are_not_stored_with_the_rendered_fields(voucherify: LocalVoucherify) -> None:
    with DAG("decorated", schedule=None) as dag:

        @task
        def extract() -> list[dict[str, str]]:
            return [{"source_id": "c1", "name": "do-not-store"}]

        @task.voucherify_bulk_update(resource="customers")
        def sync(rows: list[dict[str, str]], *, more: list[dict[str, str]], prefix: str) -> Iterator[dict[str, str]]:
            for row in [*rows, *more]:
                yield {**row, "source_id": prefix + row["source_id"]}

        sync(extract(), more=[{"source_id": "c2", "name": "do-not-store"}], prefix="shop-")

    run = run_dag(dag)

    assert sorted(voucherify.customers) == ["shop-c1", "shop-c2"]
    fields = rendered_fields(run)
    assert "do-not-store" not in json.dumps(fields)
    (of_sync,) = [one for one in fields if "voucherify_conn_id" in one]
    op_args, op_kwargs = of_sync["op_args"], of_sync["op_kwargs"]
    if AIRFLOW < (3, 2):  # which stores as text what has something else than JSON in it
        assert (op_args, op_kwargs) == (
            "[<1 record, not shown>]",
            "{'more': <1 record, not shown>, 'prefix': 'shop-'}",
        )
    else:
        assert op_args == ["<1 record, not shown>"]
        assert op_kwargs == {"more": "<1 record, not shown>", "prefix": "shop-"}


class Order(NamedTuple):
    """Something else than a list that may hold rows."""

    rows: list[dict[str, str]]


def test_rows_inside_of_an_argument_are_not_stored_with_the_rendered_fields(voucherify: LocalVoucherify) -> None:
    def row(record_id: str) -> dict[str, str]:
        return {"source_id": record_id, "name": "do-not-store"}

    with DAG("decorated", schedule=None) as dag:

        @task
        def extract() -> dict[str, Any]:
            return {"country": "PL", "rows": [row("c1")], "deeper": {"rows": [row("c2")]}}

        @task.voucherify_bulk_update(resource="customers")
        def sync(export: dict[str, Any], orders: dict[str, Any], names: set[str]) -> Iterator[dict[str, str]]:
            assert (type(orders["open"]), type(names)) == (Order, set)
            for customer in [*export["rows"], *export["deeper"]["rows"], *orders["open"].rows]:
                yield {**customer, "address_country": export["country"]}

        sync(extract(), orders={"open": Order([row("c3")])}, names={"do-not-store"})

    run = run_dag(dag)

    assert {record_id: one["address"]["country"] for record_id, one in voucherify.customers.items()} == {
        "c1": "PL",
        "c2": "PL",
        "c3": "PL",
    }
    stored = json.dumps(rendered_fields(run))
    assert "do-not-store" not in stored
    assert "country" in stored
    assert stored.count("<1 record, not shown>") == 4


def test_it_is_deferred_and_the_function_runs_once(
    voucherify: LocalVoucherify, defer_at_once: None, tmp_path: Path
) -> None:
    calls = []
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_update(
            resource="products", deferrable=True, report_path=f"{tmp_path}/{{{{ ti.task_id }}}}"
        )
        def sync(ti: Any = None) -> Iterator[dict[str, Any]]:
            calls.append(ti.try_number)
            yield {"source_id": "p1", "price": 450}
            yield {"source_id": "p2", "price": "dear"}

        sync.override(fail_if={"failed": 1})()

    run = run_dag(dag)

    assert run.state == "success"
    assert run.deferred_tasks() == {"sync"}
    assert calls == [1]
    assert (run.xcom("sync")["created"], run.xcom("sync")["refused"]) == (1, 1)
    assert json.loads((tmp_path / "sync" / "failures.jsonl").read_text())["source_id"] == "p2"


@needs_store
def test_a_retry_runs_the_function_again_and_sends_nothing_twice(voucherify: LocalVoucherify) -> None:
    calls = []
    voucherify.next_actions(stuck="ENQUEUED")
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_update(resource="customers", completion_timeout=0.1, retries=1, retry_delay=timedelta(0))
        def sync(ti: Any = None) -> Iterator[dict[str, str]]:
            calls.append(ti.try_number)
            yield {"source_id": "c1"}

        sync()

    run = run_dag(dag)

    assert run.task_state("sync") == "failed"
    assert calls == [1, 2]
    assert len(voucherify.requests("POST", "/v1/customers/bulk/async")) == 1


def test_one_mapped_task_for_each_argument_and_one_sensor_for_all(
    voucherify: LocalVoucherify, defer_at_once: None
) -> None:
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_update(resource="customers", wait_for_completion=False)
        def submit(shop: str, customers: list[str]) -> Iterator[dict[str, str]]:
            for customer in customers:
                yield {"source_id": f"{shop}-{customer}"}

        @task
        def shops() -> list[list[str]]:
            return [["a"], ["b", "c"]]

        submitted = submit.partial(shop="s1").expand(customers=shops())
        VoucherifyAsyncActionSensor(
            task_id="wait", async_action_ids=submitted["async_action_ids"], poke_interval=0.02, deferrable=True
        )

    run = run_dag(dag)

    assert run.state == "success"
    assert sorted(voucherify.customers) == ["s1-a", "s1-b", "s1-c"]
    assert run.xcom("wait")["created"] == 3
    assert len(run.xcom("wait")["async_action_ids"]) == 2


def test_each_mapped_task_has_arguments_of_its_own(voucherify: LocalVoucherify) -> None:
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_update(resource="customers")
        def sync(shop: str, count: int) -> list[dict[str, str]]:
            return [{"source_id": f"{shop}-{n}"} for n in range(count)]

        sync.expand_kwargs([{"shop": "a", "count": 1}, {"shop": "b", "count": 2}])

    run = run_dag(dag)

    assert sorted(voucherify.customers) == ["a-0", "b-0", "b-1"]
    assert [run.xcom("sync", map_index=index)["created"] for index in range(2)] == [1, 2]


def test_one_function_takes_the_output_of_all_mapped_tasks(voucherify: LocalVoucherify) -> None:
    with DAG("decorated", schedule=None) as dag:

        @task
        def extract(shop: str) -> list[dict[str, str]]:
            return [{"source_id": f"{shop}-1", "name": "do-not-store"}, {"source_id": f"{shop}-2"}]

        @task.voucherify_bulk_update(resource="customers")
        def sync(shops: list[list[dict[str, str]]]) -> Iterator[dict[str, str]]:
            for rows in shops:
                yield from rows

        sync(extract.expand(shop=["a", "b"]))

    run = run_dag(dag)

    assert sorted(voucherify.customers) == ["a-1", "a-2", "b-1", "b-2"]
    assert "do-not-store" not in json.dumps(rendered_fields(run))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "<lambda> returned None instead of rows: did you forget return?"),
        ("c1", "not as a text"),
        ({"source_id": "c1"}, "not as one dict (put a single row into a list)"),
        (7, "not as int"),
    ],
    ids=["nothing", "a text", "one row", "a number"],
)
def test_a_function_that_gives_no_rows_is_told_so_and_nothing_is_sent(
    voucherify: LocalVoucherify, given: Any, said: str, task_log: Callable[[], str]
) -> None:
    with DAG("decorated", schedule=None) as dag:
        task.voucherify_bulk_update(resource="customers", task_id="sync")(lambda: given)()

    assert run_dag(dag).task_state("sync") == "failed"
    assert said in task_log()
    assert voucherify.received == []


def test_a_generator_that_fails_half_way_sends_nothing_and_is_closed(voucherify: LocalVoucherify) -> None:
    closed = []
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_update(resource="customers")
        def sync() -> Iterator[dict[str, str]]:
            try:
                yield from ({"source_id": f"c{n}"} for n in range(3_000))
                raise RuntimeError("the source broke")
            finally:
                closed.append(True)

        sync()

    assert run_dag(dag).task_state("sync") == "failed"
    assert closed == [True]
    assert voucherify.received == []


def test_an_async_function_or_a_second_source_is_refused_when_the_dag_is_parsed() -> None:
    async def coroutine() -> list[str]:
        return ["c1"]

    async def generator() -> Any:
        yield "c1"

    for function in (coroutine, generator):
        with pytest.raises(VoucherifyConfigurationError, match="not an async one"):
            voucherify_bulk_update_task(resource="customers")(function)()

    def plain() -> list[str]:
        return ["c1"]

    for source in ({"path": "x.csv"}, {"records": []}, {"sql_conn_id": "warehouse"}, {"sql_parameters": []}):
        with pytest.raises(VoucherifyConfigurationError, match=f"{next(iter(source))}: the function gives the rows"):
            voucherify_bulk_update_task(resource="customers", **source)(plain)()


def test_a_function_that_returns_nothing_is_asked_for_its_return(
    voucherify: LocalVoucherify, task_log: Callable[[], str]
) -> None:
    with DAG("decorated", schedule=None) as dag:

        @task.voucherify_bulk_update(resource="customers")
        def forgetful() -> None:
            [{"source_id": "c1"}]  # noqa: B018

        forgetful()

    assert run_dag(dag).state == "failed"
    assert "forgetful returned None instead of rows: did you forget return?" in task_log()
    assert voucherify.received == []
