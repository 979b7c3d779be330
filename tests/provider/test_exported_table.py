"""An export in a table, in each kind of database: all rows are replaced, or those with the same id."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseHook
from dags import DagRunResult, run_dag
from database_fixtures import connection_of

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.export import VoucherifyExportOperator

Execute = Callable[..., list[tuple[Any, ...]]]

ODD = 'a "quoted", two-\nline, żółć 😀\ttab \\ value'
_numbers = count(1)

TIMES = {"sqlite": "text", "postgres": "timestamptz", "mariadb": "varchar(30)", "duckdb": "timestamptz"}
"""Types that read the times of an export as they are."""


@pytest.fixture(params=["sqlite", "postgres", "mariadb", "duckdb"])
def execute(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Give what executes a statement in the database of the connection ``warehouse``, and returns its rows."""
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", connection_of(request, tmp_path))

    def execute(*statements: str) -> list[tuple[Any, ...]]:
        with closing(BaseHook.get_hook("warehouse").get_conn()) as connection, closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
            if statements[-1].startswith("select"):
                return [tuple(row) for row in cursor.fetchall()]
            connection.commit()
        return []

    return execute


@pytest.fixture
def shop(voucherify: LocalVoucherify) -> LocalVoucherify:
    """A project with three redemptions."""
    for number, note in ((1, ODD), (2, ""), (3, "plain")):
        at, result = f"2026-11-28T0{number}:00:00.000Z", "FAILURE" if number == 2 else "SUCCESS"
        redemption = {"id": f"r_{number}", "order_amount": 10 * number, "date": at, "result": result}
        voucherify.add_exported("redemption", {**redemption, "metadata": {"Note": note}})
    return voucherify


def export(table: str, **kwargs: Any) -> DagRunResult:
    fields = ["id", "order_amount", "date", "metadata.Note"]
    with DAG(f"exports_{next(_numbers)}", schedule=None) as dag:
        VoucherifyExportOperator(
            task_id="export",
            **{"exported_object": "redemption", "fields": fields, "table": table, "conn_id": "warehouse", **kwargs},
            retry_delay=timedelta(0),
        )
    return run_dag(dag)


ONLY_THE_SECOND = {"result": {"conditions": {"$is": ["FAILURE"]}}}


@pytest.mark.parametrize("merge_on", [None, "id"])
def test_a_table_is_made_and_filled_and_filled_again(shop: LocalVoucherify, execute: Execute, merge_on: Any) -> None:
    table = f"made_{next(_numbers)}"
    assert export(table, merge_on=merge_on).state == "success"
    rows = execute(f"select id, order_amount, date, metadata_note from {table} order by id")
    assert rows == [
        ("r_1", "10", "2026-11-28T01:00:00.000Z", ODD),
        ("r_2", "20", "2026-11-28T02:00:00.000Z", None),
        ("r_3", "30", "2026-11-28T03:00:00.000Z", "plain"),
    ]

    assert export(table, merge_on=merge_on, filters=ONLY_THE_SECOND).state == "success"
    left = [("r_2",)] if merge_on is None else [("r_1",), ("r_2",), ("r_3",)]
    assert execute(f"select id from {table} order by id") == left


@pytest.mark.parametrize("merge_on", [None, "id"])
def test_a_table_with_a_key_and_types_of_its_own_keeps_them(
    shop: LocalVoucherify, execute: Execute, request: pytest.FixtureRequest, merge_on: Any
) -> None:
    table, kind = f"typed_{next(_numbers)}", request.node.callspec.params["execute"]
    execute(
        f"create table {table} (id varchar(20) primary key, order_amount bigint, date {TIMES[kind]}, "
        "loaded_by varchar(9) default 'us')",
        f"insert into {table} (id, order_amount) values ('r_0', 1), ('r_2', 2)",
    )

    for _ in range(2):
        assert export(table, merge_on=merge_on).state == "success"

    kept = [] if merge_on is None else [("r_0", 1, None, "us")]
    rows = execute(f"select id, order_amount, metadata_note, loaded_by from {table} order by id")
    assert rows == [*kept, ("r_1", 10, ODD, "us"), ("r_2", 20, None, "us"), ("r_3", 30, "plain", "us")]


@pytest.mark.parametrize("merge_on", [None, "id"])
def test_what_the_database_does_not_take_leaves_the_old_rows(
    shop: LocalVoucherify, execute: Execute, merge_on: Any
) -> None:
    table = f"refusing_{next(_numbers)}"
    execute(
        f"create table {table} (id varchar(20) primary key, order_amount bigint check (order_amount < 30))",
        f"insert into {table} values ('r_1', 1), ('r_9', 9)",
    )

    assert export(table, merge_on=merge_on).state == "failed"
    assert execute(f"select id, order_amount from {table} order by id") == [("r_1", 1), ("r_9", 9)]


def test_rows_without_an_id_of_their_own_cannot_be_merged(shop: LocalVoucherify, execute: Execute) -> None:
    table = f"without_key_{next(_numbers)}"
    execute(f"create table {table} (id varchar(20), note varchar(20))", f"insert into {table} values ('r_9', 'old')")

    assert export(table, merge_on="metadata.Note").state == "failed"
    assert execute(f"select id, note from {table}") == [("r_9", "old")]
