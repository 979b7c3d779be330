"""The state's table: all rows at once, in every database, with a temporary staging table and without one."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from database_fixtures import connection_of, states_in
from msgspec.structs import replace

from airflow_provider_voucherify.sync.state.record_state import RecordState
from airflow_provider_voucherify.sync.types.outcome import RowOutcome
from airflow_provider_voucherify.warehouse import bulk_load, staging_table
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.outcome_tables import OutcomeTables
from airflow_provider_voucherify.warehouse.state_table import StateTable

DATABASES = ["sqlite", "postgres", "mariadb", "duckdb"]


@pytest.fixture(params=DATABASES)
def books(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The connection ``books``; gives the database's name."""
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", connection_of(request, tmp_path))
    return str(request.param)


@pytest.fixture(params=["temporary", "shared", "unknown database"])
def way(request: pytest.FixtureRequest, books: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """How rows are staged; nothing but the standard's SQL is used with a database that is not known."""
    if request.param == "shared":
        monkeypatch.setattr(staging_table, "_CREATE", {})
    if request.param == "unknown database":
        monkeypatch.setattr(bulk_load, "_DIALECTS", {})
    return str(request.param)


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def tables(name: str, sync: str = "sync", *, keep_values: bool = False) -> OutcomeTables:
    made = OutcomeTables("books", name, sync, "customers", keep_values=keep_values)
    made.create()
    return made


def state_of(record_id: str, run: str = "run 1", digest: int | None = 7, **others: Any) -> RecordState:
    begin = ("settings", digest, None, 0, "updated", None, None, run, 1_790_000_000.5)
    return replace(RecordState(record_id, *begin), **others)


def failed(record_id: str, run: str = "run 1") -> RecordState:
    return state_of(record_id, run, None, failed_digest=9, attempts=2, outcome="failed", key="bad", message="It's bad")


def write(state: StateTable, run: str, *states: RecordState) -> tuple[int, int]:
    database = Database("books")
    with closing(database.transaction()) as connection, closing(connection.cursor()) as cursor:
        counts = state.write(cursor, states, run, database.time(1_790_000_000.0))
        connection.commit()
    return counts


def read(state: StateTable) -> dict[str, RecordState]:
    return {one.id: one for one in states_in(state)}


def contents(name: str) -> dict[str, str | None]:
    return dict(BaseHook.get_hook("books").get_records(f"SELECT record_id, content FROM {name}_state"))


def test_new_and_changed_records_are_written_and_others_stay(way: str, name: str) -> None:
    state, other = tables(name).state, tables(name, "other sync").state
    write(other, "run 1", state_of("a", digest=1))
    write(state, "run 1", state_of("a"), failed("b"), state_of("顧客 \\ \t", fields='["name"]', not_cleared='["x"]'))
    state.doubt(lambda: ["b", "c"], "run 2")

    changed = [state_of("b", "run 2", failing_since=1.25), state_of("c", "run 2", -(2**63))]
    assert write(state, "run 2", *changed) == (0, 0)

    assert read(state) == {
        "a": state_of("a"),
        "b": changed[0],
        "c": changed[1],
        "顧客 \\ \t": state_of("顧客 \\ \t", fields='["name"]', not_cleared='["x"]'),
    }
    assert read(other) == {"a": state_of("a", digest=1)}


def test_nothing_is_written_if_there_is_nothing(way: str, name: str) -> None:
    state = tables(name).state

    assert write(state, "run 1") == (0, 0)
    state.doubt(list, "run 1")
    assert list(state.sent_by_others([], "run 1")) == []
    assert read(state) == {}


def test_a_record_that_another_run_was_about_to_send_is_contested(way: str, name: str) -> None:
    state = tables(name).state
    marked = state_of("marked", digest=None, outcome="removed", key="marked")
    reported = replace(marked, id="reported", key="reported")
    before = [state_of("a"), state_of("b"), failed("bad"), marked, reported]
    write(state, "run 0", *before)
    state.doubt(lambda: ["a", "b", "bad", "marked", "reported"], "run 1")
    state.doubt(lambda: ["a", "bad", "marked", "reported"], "run 2")
    assert sorted(state.sent_by_others(["a", "b", "bad", "nobody"], "run 1")) == ["a", "bad"]
    assert list(state.sent_by_others(["a", "bad"], "run 2")) == []

    assert write(state, "run 1", *before) == (2, 0), "of those that say what Voucherify has"

    assert read(state) == {
        "a": state_of("a", digest=None),
        "b": state_of("b"),
        "bad": failed("bad"),
        "marked": replace(marked, key="reported"),
        "reported": reported,
    }
    assert sorted(state.sent_by_others(["a", "b"], "run 1")) == ["a"], "nobody has the last word"
    assert write(state, "run 2", state_of("a", "run 2"), state_of("b", "run 2")) == (2, 0)
    assert write(state, "run 3", state_of("a", "run 3")) == (1, 0)
    state.doubt(lambda: ["a"], "run 4")
    assert write(state, "run 4", state_of("a", "run 4")) == (0, 0)
    assert read(state)["a"].digest == 7


def test_what_a_run_is_about_to_send_is_not_confirmed_until_it_has_written(way: str, name: str) -> None:
    state = tables(name).state
    write(state, "run 1", *(state_of(f"c{number}") for number in range(3_000)))

    state.doubt(lambda: (f"c{number}" for number in range(1, 2_999)), "run 2")

    assert sorted(key for key, one in read(state).items() if one.digest is not None) == ["c0", "c2999"]
    assert sorted(state.sent_by_others((f"c{number}" for number in range(3_000)), "run 2")) == ["c0", "c2999"]


def test_what_was_confirmed_last_is_kept_where_values_are_kept(way: str, name: str) -> None:
    state = tables(name, keep_values=True).state
    write(state, "run 1", state_of("a", content='{"v": 1}'), state_of("b", content='{"v": "顧客\\n"}'))
    state.doubt(lambda: ["a", "b"], "run 2")
    write(state, "run 2", failed("a"), state_of("b", content='{"v": 2}'))
    assert contents(name) == {"a": '{"v": 1}', "b": '{"v": 2}'}

    write(tables(name).state, "run 3", state_of("b"))

    assert contents(name) == {"a": '{"v": 1}', "b": None}


def test_more_lines_than_the_database_keeps_in_memory_are_written_with_the_states(way: str, name: str) -> None:
    """SQLite lets nobody read while it writes more than its cache holds, which is 2 MB."""
    lines = [RowOutcome(number, f"c{number}", "failed", "bad", "x" * 500) for number in range(6_000)]

    assert tables(name).write("try", "run 1", lambda: lines, lambda: [state_of("a")]) == []

    assert set(read(tables(name).state)) == {"a"}


def test_ids_that_the_table_cannot_keep_are_counted(way: str, name: str) -> None:
    state = tables(name).state

    assert write(state, "run 1", state_of("a\0"), state_of("x" * 501), state_of("x" * 500)) == (0, 2)
    assert list(read(state)) == ["x" * 500]
    state.doubt(lambda: ["a\0", "x" * 500], "run 2")
    assert list(state.sent_by_others(["a\0", "x" * 500], "run 3")) == ["x" * 500]


def test_nothing_stays_staged(way: str, books: str, name: str) -> None:
    state = tables(name).state
    write(state, "run 1", state_of("a"))
    state.doubt(lambda: ["a"], "run 2")
    list(state.sent_by_others(["a"], "run 1"))

    def breaks_off() -> Iterator[RecordState]:
        yield from (state_of(f"c{number}") for number in range(5_000))
        raise ConnectionError("the worker is killed")

    database = Database("books")
    with (
        pytest.raises(ConnectionError),
        closing(database.transaction()) as connection,
        closing(connection.cursor()) as cursor,
    ):
        state.write(cursor, breaks_off(), "run 2", database.time())

    catalog = "sqlite_master" if books == "sqlite" else "information_schema.tables"
    column = "name" if books == "sqlite" else "table_name"
    there = [row[0] for row in database.hook.get_records(f"SELECT {column} FROM {catalog}")]
    kept = {f"{name}_{kind}" for kind in ("runs", "changelog", "state", "schema")}
    indexes = tuple(f"{table}_by_" for table in (*kept, f"{name}_staging")) if books == "sqlite" else ()
    staged = [table for table in there if table.startswith(name) and table not in kept]
    staged = [table for table in staged if not table.startswith(indexes)]
    assert staged in ([], [f"{name}_staging"])
    assert bool(staged) == (way != "temporary")
    if staged:
        assert database.hook.get_first(f"SELECT count(*) FROM {name}_staging")[0] == 0


WAYS_TOGETHER = [
    *(("postgres", way) for way in ("temporary", "shared", "unknown database")),
    *(("mariadb", way) for way in ("temporary", "shared")),  # it locks all rows that it looks at for a subquery
]


@pytest.mark.parametrize(("books", "way"), WAYS_TOGETHER, indirect=True)
def test_runs_of_many_syncs_that_end_together_do_not_take_each_others_rows(books: str, way: str, name: str) -> None:
    tables(name)

    def run(number: int) -> tuple[int, int]:
        state = OutcomeTables("books", name, f"sync {number}", "customers").state
        Database.retrying("what a test writes")(
            lambda: write(state, "run 1", *(state_of(f"c{place}", digest=number) for place in range(200)))
        )
        state.doubt(lambda: [f"c{place}" for place in range(100)], "run 2")
        return Database.retrying("what a test writes")(
            lambda: write(state, "run 2", *(state_of(f"c{place}", digest=-number) for place in range(100)))
        )

    with ThreadPoolExecutor(4) as tasks:
        assert list(tasks.map(run, range(1, 13))) == [(0, 0)] * 12

    for number in range(1, 13):
        found = read(OutcomeTables("books", name, f"sync {number}", "customers").state)
        assert [found[f"c{place}"].digest for place in (0, 99, 100, 199)] == [-number, -number, number, number]


@pytest.mark.parametrize("books", ["postgres", "mariadb"], indirect=True)
def test_a_connection_that_may_not_make_temporary_tables_stages_in_one_of_its_own(
    books: str, name: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    hook = BaseHook.get_hook("books")
    connection = json.loads(request.getfixturevalue(books))
    if books == "postgres":
        statements = (
            *(f"CREATE ROLE {name} LOGIN", f"CREATE DATABASE {name}"),
            f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
            f"ALTER DATABASE {name} OWNER TO {name}",
            f"REVOKE TEMPORARY ON DATABASE {name} FROM {name}",
        )
        for statement in statements:
            hook.run(statement, autocommit=True)
    else:
        hook.run([f"CREATE DATABASE {name}", f"CREATE USER {name}@'127.0.0.1'"])
        rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER"
        hook.run(f"GRANT {rights} ON {name}.* TO {name}@'127.0.0.1'")
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", json.dumps(connection | {"login": name, "schema": name}))
    state = tables("narrow").state

    write(state, "run 1", state_of("a"), state_of("b"))
    state.doubt(lambda: ["a"], "run 2")

    assert read(state) == {"a": state_of("a", digest=None), "b": state_of("b")}
    assert BaseHook.get_hook("books").get_first("SELECT count(*) FROM narrow_staging")[0] == 0


@pytest.mark.parametrize("books", DATABASES[1:], indirect=True)
def test_tables_in_a_schema_of_their_own(way: str, books: str, name: str) -> None:
    BaseHook.get_hook("books").run(f"CREATE SCHEMA {name}")
    state = tables(f"{name}.voucherify", keep_values=True).state

    write(state, "run 1", state_of("a"), failed("b"))
    state.doubt(lambda: ["a"], "run 2")
    write(state, "run 2", state_of("a", "run 2"), failed("b"))

    assert read(state) == {"a": state_of("a", "run 2"), "b": failed("b")}
    assert list(state.sent_by_others(["a", "b"], "run 2")) == []


def test_the_log_says_that_a_merge_takes_its_time(
    books: str, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bulk_load, "SECONDS_BETWEEN_LOGS", 0.001)
    caplog.set_level(logging.INFO)
    state = tables(name).state
    write(state, "run 1", state_of("a"))

    write(state, "run 2", *(state_of(f"c{number}") for number in range(3_000)))

    assert any(f"states into the table {name}_state" in line for line in caplog.messages)
