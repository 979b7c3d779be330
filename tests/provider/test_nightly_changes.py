"""
Six nights of one sync: the warehouse changes, rows fail and are fixed, an answer is lost, the mapping changes.

After each night the warehouse, Voucherify and the outcomes agree, row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseHook
from connections import APP_ID, SECRET_KEY, connect
from dags import run_dag, with_state
from database_fixtures import connection_of
from installed import HAS_TASK_STATE_STORE

from airflow_provider_voucherify.local_voucherify import DropAfter, LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

TIERS = {"properties": {"tier": {"type": "string", "array": False, "optional": True, "eq": ["gold", "silver"]}}}
MAPPING = {"id": "source_id", "name": "name", "tier": "metadata.tier"}


@dataclass
class Nights:
    """The warehouse, Voucherify, and the sync between the two."""

    voucherify: LocalVoucherify
    books: dict[str, Any]
    mapping: dict[str, str] = field(default_factory=lambda: dict(MAPPING))
    number: int = 0

    def execute(self, *statements: str) -> None:
        with closing(BaseHook.get_hook("warehouse").get_conn()) as connection, closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in BaseHook.get_hook("warehouse").get_records(statement)]

    def night(self, *statements: str, **state: Any) -> dict[str, Any]:
        """Change the warehouse, run the sync, and check that everybody agrees."""
        self.execute(*statements)
        self.number += 1
        before = len(self.voucherify.actions)
        with DAG(f"nightly_{id(self)}_{self.number}", schedule=None) as dag:
            VoucherifyBulkUpdateOperator(
                task_id="sync",
                resource="customers",
                fail_if={"failed": None},
                requests={"max_attempts": 3},
                sql="SELECT id, name, tier, note FROM customers ORDER BY place",
                sql_conn_id="warehouse",
                mapping=self.mapping,
                retries=1,
                retry_delay=timedelta(0),
                **with_state(self.books, sync_name="nightly", **state),
            )
        run = run_dag(dag)
        assert run.state == "success"
        summary: dict[str, Any] = run.xcom("sync")
        summary["actions"] = len(self.voucherify.actions) - before
        self.check(summary)
        return summary

    def check(self, summary: dict[str, Any]) -> None:
        accounted = ("succeeded", "unchanged", "not_updated", "failed", "refused", "superseded", "not_reported")
        assert summary["rows_read"] + summary["removed_to_mark"] == sum(summary[name] for name in accounted)
        rows = self.query("SELECT id, name, tier, note FROM customers WHERE id IS NOT NULL ORDER BY place")
        wanted = {row[0]: dict(zip(("id", "name", "tier", "note"), row, strict=True)) for row in rows}
        for record_id, row in wanted.items():
            if row["tier"] == "tin":
                continue
            found = self.voucherify.customers[record_id]
            assert (found["name"], found["metadata"]["tier"]) == (row["name"], row["tier"])
            if "note" in self.mapping:
                assert found["metadata"]["note"] == row["note"]
        if "conn_id" in self.books["state"]:
            self.check_tables(summary, wanted)

    def check_tables(self, summary: dict[str, Any], wanted: dict[str, Any]) -> None:
        runs = self.query(
            "SELECT try_id, status, dag_id, rows_read, failed, unchanged FROM sync_runs ORDER BY started_at"
        )
        assert len({dag_id for _, _, dag_id, *_ in runs}) == self.number
        try_id, *last = runs[-1]
        assert tuple(last) == (
            *("success", f"nightly_{id(self)}_{self.number}"),
            *(summary[name] for name in ("rows_read", "failed", "unchanged")),
        )
        changelog = self.query(f"SELECT outcome, source_row, record_id FROM sync_changelog WHERE try_id = '{try_id}'")
        counts = Counter(outcome for outcome, *_ in changelog)
        for outcome in ("failed", "refused", "superseded"):
            assert counts[outcome] == summary[outcome], outcome
        if summary["created"] is None:  # the records of a request that was sent twice
            assert counts["succeeded"] == summary["succeeded"]
        else:
            assert counts["created"] == summary["created"]
            assert counts["updated"] + summary["removed_to_mark"] == summary["updated"]
        assert counts["removed"] == summary["removed"]
        assert len({row for _, row, _ in changelog if row is not None}) == summary["rows_read"] - summary["unchanged"]
        states = dict(self.query("SELECT record_id, outcome FROM sync_state"))
        assert {name for name, outcome in states.items() if outcome != "removed"} == set(wanted)
        assert {name for name, outcome in states.items() if outcome == "failed"} == {
            name for name, row in wanted.items() if row["tier"] == "tin" and states[name] != "refused"
        }


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def warehouse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", connection_of(request, tmp_path))
    yield
    with closing(BaseHook.get_hook("warehouse").get_conn()) as opened, closing(opened.cursor()) as cursor:
        for table in ("customers", "sync_runs", "sync_changelog", "sync_state", "sync_staged", "sync_schema"):
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
        opened.commit()


@pytest.fixture(params=["tables", "files"])
def nights(
    request: pytest.FixtureRequest, warehouse: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Nights]:
    books: dict[str, Any] = {"state": {"conn_id": "warehouse", "table": "sync"}}
    if request.param == "files":
        books = {"state": {"path": str(tmp_path / "state"), "outcomes": "jsonl"}}
    options = {"app_id": APP_ID, "secret_key": SECRET_KEY, "metadata_schemas": {"customer": TIERS}, "keep_bodies": True}
    with LocalVoucherify(**options) as server:
        connect(monkeypatch, server)
        yield Nights(server, books)


def test_six_nights(nights: Nights) -> None:
    rows = ", ".join(f"({n}, 'c{n:02}', 'Name {n}', 'gold', 'n{n}')" for n in range(40))

    first = nights.night(
        "CREATE TABLE customers (place INTEGER, id VARCHAR(20), name VARCHAR(50), tier VARCHAR(20), note VARCHAR(20))",
        f"INSERT INTO customers VALUES {rows}",
        "UPDATE customers SET tier = 'tin' WHERE id = 'c07'",
        "INSERT INTO customers VALUES (100, 'c03', 'The later one', 'silver', 'x')",
        "INSERT INTO customers VALUES (101, NULL, 'Nobody', 'gold', 'x')",
    )
    assert (first["created"], first["failed"], first["refused"], first["superseded"]) == (39, 1, 1, 1)

    second = nights.night(
        "DELETE FROM customers WHERE id IS NULL OR place = 3",
        "UPDATE customers SET name = 'New name' WHERE id IN ('c10', 'c11')",
        "INSERT INTO customers VALUES (200, 'c99', 'Inserted', 'gold', 'x')",
        "DELETE FROM customers WHERE id = 'c05'",
        on_removed="report",
    )
    assert (second["updated"], second["created"], second["failed"], second["removed"]) == (2, 1, 1, 1)
    assert (second["unchanged"], second["requests"]) == (36, 1)

    nights.voucherify.misbehave("submit", DropAfter())
    third = nights.night("UPDATE customers SET tier = 'silver' WHERE id = 'c07'", on_removed="report")
    # The retry after the lost answer sends the record a second time, and knows so only from a journal.
    created, updated = (None, None) if HAS_TASK_STATE_STORE else (0, 1)
    assert (third["succeeded"], third["created"], third["updated"], third["actions"]) == (1, created, updated, 2)
    assert (third["unchanged"], third["removed"]) == (39, 0)

    fourth = nights.night(on_removed="report")
    assert (fourth["unchanged"], fourth["requests"], fourth["actions"]) == (40, 0, 0)

    nights.mapping["note"] = "metadata.note"
    fifth = nights.night(on_removed="report")
    assert (fifth["updated"], fifth["unchanged"], fifth["requests"]) == (40, 0, 1)

    sixth = nights.night(
        "INSERT INTO customers VALUES (300, 'c05', 'Back again', 'gold', 'y')",
        "DELETE FROM customers WHERE id = 'c09'",
        "UPDATE customers SET tier = 'silver' WHERE id = 'c01'",
        on_removed={"metadata": {"tier": "silver", "left": True}},
    )
    assert (sixth["removed"], sixth["removed_to_mark"], sixth["unchanged"]) == (1, 1, 38)
    assert nights.voucherify.customers["c09"]["metadata"]["left"] is True

    assert nights.night(on_removed={"metadata": {"left": True}})["requests"] == 0


def test_a_record_that_fails_for_ever_is_set_aside(nights: Nights) -> None:
    nights.night(
        "CREATE TABLE customers (place INTEGER, id VARCHAR(20), name VARCHAR(50), tier VARCHAR(20), note VARCHAR(20))",
        "INSERT INTO customers VALUES (1, 'good', 'A', 'gold', ''), (2, 'bad', 'B', 'tin', '')",
    )
    assert [nights.night()["failed"] for _ in range(2)] == [1, 1]

    fourth = nights.night()

    assert (fourth["failed"], fourth["refused"], fourth["requests"]) == (0, 1, 0)
    assert fourth["failures"][0]["key"] == "max_attempts"
    assert "failed 3 times with the same content" in fourth["failures"][0]["message"]
    fixed = nights.night("UPDATE customers SET tier = 'gold' WHERE id = 'bad'")
    assert (fixed["created"], fixed["refused"], fixed["unchanged"]) == (1, 0, 1)


def test_an_empty_source_removes_nothing(nights: Nights) -> None:
    nights.night(
        "CREATE TABLE customers (place INTEGER, id VARCHAR(20), name VARCHAR(50), tier VARCHAR(20), note VARCHAR(20))",
        "INSERT INTO customers VALUES (1, 'a', 'A', 'gold', '')",
    )
    nights.execute("CREATE TABLE kept AS SELECT * FROM customers", "DELETE FROM customers")
    before = len(nights.voucherify.actions)
    nights.books = with_state(nights.books, sync_name="nightly", on_removed={"metadata": {"left": True}})

    with DAG("empty", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync",
            resource="customers",
            sql="SELECT id, name FROM customers",
            sql_conn_id="warehouse",
            mapping={"id": "source_id", "name": "name"},
            **nights.books,
        )
    run = run_dag(dag)

    nights.execute("DROP TABLE kept")
    assert (run.xcom("sync")["removed"], len(nights.voucherify.actions)) == (0, before)
