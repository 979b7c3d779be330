"""The tables of outcomes: syncs that end at the same time do not hold each other up, and a crash leaves no half."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from database_fixtures import states_in

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.sync.state.record_state import RecordState
from airflow_provider_voucherify.sync.types.outcome import RowOutcome
from airflow_provider_voucherify.task.staging import remove_forgotten
from airflow_provider_voucherify.warehouse import database
from airflow_provider_voucherify.warehouse.database import Database
from airflow_provider_voucherify.warehouse.outcome_tables import CONTESTED, OutcomeTables
from airflow_provider_voucherify.warehouse.schema import VERSION
from airflow_provider_voucherify.warehouse.staged_table import StagedTable

RECORDS = 60


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that several can write to at the same time, as the connection ``books``."""
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", request.getfixturevalue(request.param))


def outcomes() -> Iterator[RowOutcome]:
    return (RowOutcome(number, f"c{number}", "updated") for number in range(1, RECORDS + 1))


def states(run: str, digest: int = 7, records: int = RECORDS) -> Iterator[RecordState]:
    return (
        RecordState(f"c{number}", "settings", digest, None, 0, "updated", None, None, run, 1_790_000_000.0)
        for number in range(1, records + 1)
    )


def test_a_column_that_tables_of_an_earlier_version_lack_is_added(server: None, request: pytest.FixtureRequest) -> None:
    name, hook = f"older_{request.node.callspec.id}", BaseHook.get_hook("books")
    tables = OutcomeTables("books", name, "first", "customers")
    tables.create()
    tables.write("try", "first/run", outcomes, lambda: states("first/run"))
    for table, column in (("runs", "not_updated"), ("changelog", "content"), ("state", "confirmed_at")):
        hook.run(f"ALTER TABLE {name}_{table} DROP COLUMN {column}")

    with ThreadPoolExecutor(4) as tasks:
        list(tasks.map(lambda _: OutcomeTables("books", name, "first", "customers").create(), range(4)))

    for table, column in (("runs", "not_updated"), ("changelog", "content"), ("state", "confirmed_at")):
        hook.get_records(f"SELECT {column} FROM {name}_{table}")
    assert len(states_in(tables.state)) == RECORDS


def test_tables_of_a_build_before_the_first_version_are_refused(server: None, request: pytest.FixtureRequest) -> None:
    name = f"oldest_{request.node.callspec.id}"
    BaseHook.get_hook("books").run(f"CREATE TABLE {name}_state (record_key varchar(32) primary key)")

    with pytest.raises(VoucherifyConfigurationError, match=f"{name}_state lacks the column sync_key.* drop or rename"):
        OutcomeTables("books", name, "first", "customers").create()


def test_tables_of_a_later_version_are_left_alone(server: None, request: pytest.FixtureRequest) -> None:
    name = f"later_{request.node.callspec.id}"
    OutcomeTables("books", name, "first", "customers").create()
    BaseHook.get_hook("books").run(f"INSERT INTO {name}_schema VALUES ({VERSION + 1}, '2027-01-01 00:00:00')")

    with pytest.raises(VoucherifyConfigurationError, match="later version of this provider"):
        OutcomeTables("books", name, "first", "customers").create()


def test_times_are_times(server: None, request: pytest.FixtureRequest) -> None:
    """A dashboard asks for the last day without a cast, and whatever the session's time zone is."""
    name, hook = f"times_{request.node.callspec.id}", BaseHook.get_hook("books")
    tables = OutcomeTables("books", name, "first", "customers")
    tables.create()
    before = time.time()
    tables.write("try", "first/run", outcomes, lambda: states("first/run"))

    now = "now()" if request.node.callspec.id == "postgres" else "utc_timestamp(6)"
    query = f"SELECT count(*) FROM {name}_changelog WHERE written_at > {now} - interval '1' minute"
    (lines,) = hook.get_first(query)
    assert lines == RECORDS
    (at,) = hook.get_first(f"SELECT max(written_at) FROM {name}_changelog")
    assert before - 1 <= (Database.epoch(at) or 0) <= time.time() + 1
    assert {state.confirmed_at for state in states_in(tables.state)} == {1_790_000_000.0}


def test_tasks_that_are_deferred_at_the_same_time_all_keep_what_they_sent(
    server: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No transaction has to be tried again, unlike two that delete what is not there in MySQL, which locks the gap."""
    monkeypatch.setattr(database, "TRIES", 1)
    staged = StagedTable("books", f"deferred_{request.node.callspec.id}")
    staged.prepare()

    def write(number: int) -> None:
        with staged.write(f"staged-{number}/ledger.sqlite") as file:
            file.write(os.urandom(50_000) + bytes([number]))
        with staged.write(f"staged-{number}/until.json") as file:
            file.write(b"{}")

    with ThreadPoolExecutor(8) as tasks:
        list(tasks.map(write, range(40)))

    assert len(dict(staged.read_each("staged-", "until.json"))) == 40
    last = staged.read("staged-39/ledger.sqlite") or b""
    assert (len(last), last[-1]) == (50_001, 39)


def test_what_many_tasks_have_forgotten_costs_no_connection_for_each(
    server: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = StagedTable("books", f"forgotten_{request.node.callspec.id}")
    staged.prepare()
    hook_class = type(BaseHook.get_hook("books"))
    connect, connections = hook_class.get_conn, []

    def count(hook: Any) -> Any:
        connections.append(hook)
        return connect(hook)

    monkeypatch.setattr(hook_class, "get_conn", count)

    def look(waiting: int) -> int:
        for number in range(waiting):
            for name, until in (("waiting", time.time()), ("forgotten", 0)):
                with staged.write(f"staged-{name}-{number}/until.json") as file:
                    file.write(json.dumps({"until": until if number == 0 else time.time()}).encode())
        connections.clear()
        remove_forgotten(staged)
        return len(connections)

    few, many = look(1), look(20)
    assert few == many
    left = dict(staged.read_each("staged-", "until.json"))
    assert ("staged-waiting-0" in left, "staged-forgotten-0" in left, len(left)) == (True, False, 39)


def test_mapped_tasks_that_end_at_the_same_time_all_write_theirs(server: None, request: pytest.FixtureRequest) -> None:
    """MySQL locks the gap where a row that is deleted is not, and two that insert into it wait for each other."""
    name = f"together_{request.node.callspec.id}"
    OutcomeTables("books", name, "first", "customers").create()

    def write(number: int) -> list[str]:
        run = f"sync{number}/run"
        tables = OutcomeTables("books", name, f"sync{number}", "customers")
        return tables.write(run, run, outcomes, lambda: states(run))

    with ThreadPoolExecutor(8) as tasks:
        warnings = list(tasks.map(write, range(48)))

    (rows,) = BaseHook.get_hook("books").get_records(f"SELECT count(*) FROM {name}_changelog")
    assert rows[0] == 48 * RECORDS
    assert warnings == [[]] * 48
    (kept,) = BaseHook.get_hook("books").get_records(f"SELECT count(*) FROM {name}_state")
    assert kept[0] == 48 * RECORDS


def test_runs_of_one_sync_that_end_at_the_same_time_all_write_theirs(
    server: None, request: pytest.FixtureRequest
) -> None:
    """The records are new to both, so both insert them: one is refused, and then sees what the other has written."""
    name = f"twins_{request.node.callspec.id}"
    tables = OutcomeTables("books", name, "sync", "customers")
    tables.create()

    def write(run: str) -> list[str]:
        return OutcomeTables("books", name, "sync", "customers").write(run, run, outcomes, lambda: states(run))

    with ThreadPoolExecutor(2) as tasks:
        for night in range(20):
            warnings = list(tasks.map(write, (f"sync/{night}/a", f"sync/{night}/b")))
            assert sorted(warnings) == [[], [CONTESTED]], "whoever comes second finds what the first has confirmed"
            assert {state.digest for state in states_in(tables.state)} == {None}
            BaseHook.get_hook("books").run(f"DELETE FROM {name}_state")

    (runs,) = BaseHook.get_hook("books").get_records(f"SELECT count(DISTINCT try_id) FROM {name}_changelog")
    assert runs[0] == 40


def test_a_run_that_is_about_to_send_waits_for_one_that_writes_and_then_has_the_last_word(
    server: None, request: pytest.FixtureRequest
) -> None:
    """Its update waits for rows that the other's transaction replaces."""
    name, records = f"waits_{request.node.callspec.id}", 3_000
    ids = [f"c{number}" for number in range(1, records + 1)]
    tables = OutcomeTables("books", name, "sync", "customers")
    tables.create()
    tables.write("sync/1", "sync/1", outcomes, lambda: states("sync/1", records=records))
    database = Database("books")

    with (
        ThreadPoolExecutor(1) as tasks,
        closing(database.transaction()) as connection,
        closing(connection.cursor()) as cursor,
    ):
        tables.state.write(cursor, states("sync/1", 8, records), "sync/1", database.time())
        announcing = tasks.submit(OutcomeTables("books", name, "sync", "customers").state.doubt, lambda: ids, "sync/2")
        assert not wait([announcing], 1).done, "it waits"
        connection.commit()
        announcing.result()

    assert {state.digest for state in states_in(tables.state)} == {None}
    assert list(tables.state.sent_by_others(ids, "sync/2")) == []


def test_what_cannot_be_written_whole_is_not_written(server: None, request: pytest.FixtureRequest) -> None:
    name = f"whole_{request.node.callspec.id}"
    tables = OutcomeTables("books", name, "sync", "customers")
    tables.create()
    tables.write("sync/1", "sync/1", outcomes, lambda: states("sync/1"))
    tables.state.doubt(lambda: (f"c{number}" for number in range(1, RECORDS + 1)), "sync/2")

    def breaks_off() -> Iterator[RecordState]:
        for number, state in enumerate(states("sync/2", 8)):
            if number == RECORDS - 1:
                raise ConnectionError("the worker is killed")
            yield state

    with pytest.raises(ConnectionError):
        tables.write("sync/2", "sync/2", outcomes, breaks_off)

    assert [state.run for state in states_in(tables.state)] == ["sync/1"] * RECORDS
    runs = BaseHook.get_hook("books").get_records(f"SELECT DISTINCT try_id FROM {name}_changelog")
    assert [run for (run,) in runs] == ["sync/1"]


def test_a_connection_in_autocommit_writes_one_transaction_too(
    postgres: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Snowflake's is by default; here PostgreSQL's is made so by its hook's connection."""
    connection = json.loads(postgres)
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", json.dumps(connection))
    hook_class = type(BaseHook.get_hook("books"))
    opened = hook_class.get_conn

    def in_autocommit(self: Any) -> Any:
        connection = opened(self)
        connection.autocommit = True
        return connection

    monkeypatch.setattr(hook_class, "get_conn", in_autocommit)
    tables = OutcomeTables("books", "autocommit", "sync", "customers")
    tables.create()

    def breaks_off() -> Iterator[RecordState]:
        yield from states("sync/1")
        raise ConnectionError("the worker is killed")

    with pytest.raises(ConnectionError):
        tables.write("sync/1", "sync/1", outcomes, breaks_off)

    assert BaseHook.get_hook("books").get_first("SELECT count(*) FROM autocommit_changelog")[0] == 0


def narrow_tables(mariadb: str, name: str, character_set: str, sql_mode: str) -> str:
    """Make tables that somebody has given a character set; return the connection to them."""
    extra = {"charset": "utf8mb4", "init_command": f"SET sql_mode = '{sql_mode}'"}
    connection = json.dumps(json.loads(mariadb) | {"extra": extra})
    with patch.dict(os.environ, AIRFLOW_CONN_BOOKS=connection):
        OutcomeTables("books", name, "sync", "customers").create()
        for table in ("runs", "changelog", "state"):
            BaseHook.get_hook("books").run(f"ALTER TABLE {name}_{table} CONVERT TO CHARACTER SET {character_set}")
    return connection


IDS = ["c1", "c-é", "c-Ω", "顧客"]


@pytest.mark.parametrize(
    ("character_set", "kept"),
    [("latin1", ["c1", "c-é"]), ("ascii", ["c1"]), ("utf8mb3", IDS), ("utf8mb4", IDS)],
)
@pytest.mark.parametrize("sql_mode", ["", "STRICT_ALL_TABLES"])
def test_an_id_that_the_database_cannot_keep_has_no_state_and_no_ghost(
    mariadb: str, monkeypatch: pytest.MonkeyPatch, character_set: str, kept: list[str], sql_mode: str
) -> None:
    """In such a database ``顧客`` is ``??`` without a word, or an error after everything is sent."""
    name = f"narrow_{character_set}_{bool(sql_mode)}"
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", narrow_tables(mariadb, name, character_set, sql_mode))

    tables = OutcomeTables("books", name, "sync", "customers")
    tables.create()
    warnings = tables.write(
        "sync/1",
        "sync/1",
        lambda: (RowOutcome(number, record_id, "updated") for number, record_id in enumerate(IDS)),
        lambda: (RecordState(i, "settings", 7, None, 0, "updated", None, "見", "sync/1", 1.0) for i in IDS),
    )

    assert sorted(state.id for state in states_in(tables.state)) == sorted(kept)
    assert tables.state.strangers == 0
    assert ("cannot keep" in "".join(warnings)) == (kept != IDS)
    names = BaseHook.get_hook("books").get_records(f"SELECT record_id FROM {name}_changelog ORDER BY entry_number")
    assert names[-1][0] == ("顧客" if kept == IDS else r"\u9867\u5ba2")


@pytest.mark.parametrize("sql_mode", ["", "STRICT_ALL_TABLES"])
def test_values_and_messages_that_the_database_cannot_keep_are_escaped(
    mariadb: str, monkeypatch: pytest.MonkeyPatch, sql_mode: str
) -> None:
    """By whichever process writes them: the one that resumes has not made the tables."""
    name = f"narrow_values_{bool(sql_mode)}"
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", narrow_tables(mariadb, name, "latin1", sql_mode))
    content = '{"source_id": "c1", "name": "顧客 😀"}'

    tables = OutcomeTables("books", name, "sync", "customers", keep_values=True)
    begun = {"try_id": "1", "run_key": "1", "dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1}
    begun |= {"try_number": 1, "dry_run": False, "started_at": 1.0}
    tables.write(
        "1",
        "1",
        lambda: [RowOutcome(1, "c1", "updated", content=content)],
        lambda: [RecordState("c1", "s", 7, None, 0, "updated", None, None, "1", 1.0, content=content)],
    )
    resumed = OutcomeTables("books", name, "sync", "customers")
    resumed.history.close(begun | {"status": "failed", "finished_at": 2.0, "error_message": "顧客 is wrong"})

    hook = BaseHook.get_hook("books")
    for table in ("changelog", "state"):
        ((kept,),) = hook.get_records(f"SELECT content FROM {name}_{table}")
        assert json.loads(kept) == json.loads(content)
    ((status, message),) = hook.get_records(f"SELECT status, error_message FROM {name}_runs")
    assert (status, message) == ("failed", r"\u9867\u5ba2 is wrong")


def test_ids_that_differ_in_case_alone_are_different_records_in_the_changelog(
    mariadb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BOOKS", mariadb)
    tables = OutcomeTables("books", "cases", "sync", "customers")
    tables.create()
    ids = ["0015g00001aBcDe", "0015g00001abcde"]
    tables.write("1", "1", lambda: [RowOutcome(n, one, "created") for n, one in enumerate(ids)], tuple)

    found = "SELECT record_id FROM cases_changelog WHERE record_id = '0015g00001abcde'"
    assert list(BaseHook.get_hook("books").get_records(found)) == [(ids[1],)]
