"""A transaction is one in every database, whatever its driver does by default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from database_fixtures import connection_of, states_in

from airflow_provider_voucherify.sync.state.record_state import RecordState
from airflow_provider_voucherify.sync.types.outcome import RowOutcome
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.outcome_tables import OutcomeTables


@pytest.fixture(params=["sqlite", "postgres", "mariadb", "duckdb"])
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Database]:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", connection_of(request, tmp_path))
    database = Database("books")
    with closing(database.transaction()) as opened:
        database.create(opened, "entries", "CREATE TABLE entries (name VARCHAR(20) PRIMARY KEY, number BIGINT)")
    yield database
    with closing(database.hook.get_conn()) as opened, closing(opened.cursor()) as cursor:
        cursor.execute("DROP TABLE entries")
        opened.commit()


def write(database: Database, *names: str) -> None:
    with closing(database.transaction()) as connection, closing(connection.cursor()) as cursor:
        for name in names:
            database.insert(cursor, "entries", ("name", "number"), [(name, 1)])
            if name == "breaks":
                raise ConnectionError("the worker is killed")
            if name == "undone":
                connection.rollback()
        connection.commit()


def names(database: Database) -> list[str]:
    return [name for (name,) in database.hook.get_records("SELECT name FROM entries ORDER BY name")]


def test_what_is_committed_is_there(database: Database) -> None:
    write(database, "a", "b")

    assert names(database) == ["a", "b"]


def test_what_breaks_off_leaves_nothing(database: Database) -> None:
    with pytest.raises(ConnectionError):
        write(database, "a", "breaks")

    assert names(database) == []


def test_after_a_rollback_another_transaction_begins(database: Database) -> None:
    write(database, "a", "undone", "b")
    assert names(database) == ["b"]

    with pytest.raises(ConnectionError):
        write(database, "c", "undone", "d", "breaks")

    assert names(database) == ["b"]


def test_whether_a_table_is_there_can_be_asked_within_a_transaction(database: Database) -> None:
    with closing(database.transaction()) as connection, closing(connection.cursor()) as cursor:
        assert not database.exists(connection, "no_such_table")
        database.insert(cursor, "entries", ("name", "number"), [("a", 1)])
        assert database.exists(connection, "entries", ("name",))
        connection.commit()

    assert names(database) == ["a"]


def test_the_tables_of_a_state_are_made_written_and_read(database: Database) -> None:
    def states() -> Iterator[RecordState]:
        for name in ("顧客", "b"):
            yield RecordState(name, "settings", -7, 8, 2, "updated", None, "It's", "run", 1.5, '["name"]', None)

    for _ in range(2):
        tables = OutcomeTables("books", "made", "sync", "customers")
        tables.create()
        tables.history.open({"try_id": "t", "run_key": "r", "dag_id": "d", "task_id": "t", "run_id": "r",
                             "map_index": -1, "try_number": 1, "started_at": 1.0, "dry_run": False})  # fmt: skip
        tables.write("t", "run", lambda: [RowOutcome(1, "b", "updated")], states)

    assert sorted(states_in(tables.state), key=lambda state: state.id) == sorted(states(), key=lambda state: state.id)
    assert database.hook.get_first("SELECT count(*) FROM made_changelog")[0] == 1
    for table in ("runs", "changelog", "state", "schema"):
        database.hook.run(f"DROP TABLE made_{table}")
