"""Many rows at once, through every driver: what is written is what is read, whatever it is and however much."""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_voucherify.warehouse import bulk_load as module
from airflow_provider_voucherify.warehouse.bulk_load import bulk_load, dialect_of

GrowthMb = Callable[[], float]
DRIVERS = ["psycopg", "psycopg2", "sqlite3", "MySQLdb", "pymysql", "mysql.connector", "duckdb", "any"]
COLUMNS = ("id", "number", "day", "flag")

TEXTS = [
    *("", " ", "a\tb", "a\nb", "a\rb", "a\\b", "\\N", "\\.", "ends\\", "NULL", "{}", "x" * 4_000),
    *("a'b\"c`d;--", "100 % %s ? :x $1", "顧客 Ω 𝄞", "\u2028\u0085", "\x7f\x1f"),
    *("\x01", "\x02", "\x03", "\x01\x02\x03\t\\"),
]


class AnyCursor:
    """A cursor of a driver that nobody knows."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.statements = 0

    def execute(self, *values: Any) -> Any:
        self.statements += 1
        return self._cursor.execute(*values)

    def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    def close(self) -> None:
        self._cursor.close()


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    pytest.importorskip("sqlite3" if name == "any" else name)
    return name


@pytest.fixture
def connection(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with closing(connect(driver, request, tmp_path)) as opened:
        yield opened


@pytest.fixture
def cursor(connection: Any, driver: str) -> Any:
    """A cursor in a transaction, with a table ``rows_of_test``."""
    if driver == "duckdb":
        opened = connection.begin()
    else:
        opened = AnyCursor(connection.cursor()) if driver == "any" else connection.cursor()
    opened.execute("DROP TABLE IF EXISTS rows_of_test")
    text = "VARCHAR(4000)"
    if driver in ("MySQLdb", "pymysql", "mysql.connector"):
        text += " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    opened.execute(f"CREATE TABLE rows_of_test (id {text}, number BIGINT, day TIMESTAMP NULL, flag BOOLEAN)")
    connection.commit()
    if driver == "duckdb":
        connection.begin()
    return opened


def connect(driver: str, request: pytest.FixtureRequest, folder: Path) -> Any:
    if driver in ("sqlite3", "any"):
        return sqlite3.connect(folder / "rows.db")
    if driver == "duckdb":
        import duckdb

        return duckdb.connect(folder / "rows.duckdb")
    server = json.loads(request.getfixturevalue("postgres" if driver.startswith("psycopg") else "mariadb"))
    there = {"host": server["host"], "port": server["port"], "user": server["login"]}
    match driver:
        case "psycopg":
            import psycopg

            return psycopg.connect(**there, dbname="postgres")
        case "psycopg2":
            import psycopg2

            return psycopg2.connect(**there, dbname="postgres")
        case "MySQLdb":
            import MySQLdb

            return MySQLdb.connect(**there, db=server["schema"], charset="utf8mb4")
        case "pymysql":
            import pymysql

            return pymysql.connect(**there, db=server["schema"], charset="utf8mb4")
    import mysql.connector

    return mysql.connector.connect(**there, database=server["schema"], charset="utf8mb4")


def mark_of(driver: str) -> str:
    return "?" if driver in ("sqlite3", "any", "duckdb") else "%s"


def read(cursor: Any, what: str = "*") -> list[tuple[Any, ...]]:
    cursor.execute(f"SELECT {what} FROM rows_of_test ORDER BY number")
    return [tuple(row) for row in cursor.fetchall()]


def test_every_text_and_nothing_come_back_as_they_were(cursor: Any, driver: str) -> None:
    rows = [(text, number, None, number % 2 == 0) for number, text in enumerate(TEXTS)]
    rows.append((None, -(2**63), "2026-11-21 02:00:00.123", None))  # type: ignore[arg-type]

    assert bulk_load(cursor, "rows_of_test", COLUMNS, rows, mark=mark_of(driver)) == len(rows)

    back = read(cursor)
    assert [row[0] for row in back] == [None, *TEXTS]
    assert [row[1] for row in back] == [-(2**63), *range(len(TEXTS))]
    assert str(back[0][2]).startswith("2026-11-21 02:00:00")
    assert back[1][2] is None
    assert [row[3] for row in back[:3]] == [None, True, False]


def test_texts_between_others_come_back_too(cursor: Any, driver: str) -> None:
    """One strange text among a thousand takes another way."""
    texts = ["plain"] * 3_000
    texts[1_500] = "\x01\\\t\x03"

    bulk_load(cursor, "rows_of_test", ("id", "number"), zip(texts, range(3_000), strict=True), mark=mark_of(driver))

    assert [row[0] for row in read(cursor, "id")] == texts


def test_nothing_is_written_if_there_is_nothing(cursor: Any, driver: str) -> None:
    assert bulk_load(cursor, "rows_of_test", COLUMNS, [], mark=mark_of(driver)) == 0
    assert read(cursor) == []


def test_it_is_a_part_of_the_transaction(cursor: Any, connection: Any, driver: str) -> None:
    bulk_load(cursor, "rows_of_test", ["number"], ((number,) for number in range(10_000)), mark=mark_of(driver))
    assert len(read(cursor)) == 10_000

    connection.rollback()

    assert read(cursor) == []


def test_an_error_of_the_rows_is_raised_as_it_is(cursor: Any, connection: Any, driver: str) -> None:
    def rows() -> Iterator[tuple[int]]:
        yield from ((number,) for number in range(5_000))
        raise ConnectionError("the worker is killed")

    with pytest.raises(ConnectionError, match="the worker is killed"):
        bulk_load(cursor, "rows_of_test", ["number"], rows(), mark=mark_of(driver))

    connection.rollback()
    assert read(cursor) == []


def test_an_error_of_the_database_is_raised_as_it_is(cursor: Any, driver: str) -> None:
    with pytest.raises(Exception, match="no_such_table") as error:
        bulk_load(cursor, "no_such_table", ["number"], [(1,)], mark=mark_of(driver))

    assert "Error" in str([kind.__name__ for kind in type(error.value).__mro__])


def test_memory_does_not_grow_with_the_rows(cursor: Any, driver: str, growth_mb: GrowthMb) -> None:
    number = 200_000
    if driver == "duckdb":  # what grows there is the database itself, as far as it may
        cursor.execute("SET memory_limit = '80MB'; SET threads = 1")
        number = 700_000
    rows = (("x" * 400, place) for place in range(number))

    assert bulk_load(cursor, "rows_of_test", ("id", "number"), rows, mark=mark_of(driver)) == number

    assert growth_mb() < (200 if driver == "duckdb" else 30), "all rows are 290 MB and 90 MB"


def test_texts_that_do_not_fit_one_statement_go_into_several(cursor: Any, driver: str) -> None:
    cursor.execute("DROP TABLE rows_of_test")
    text = {"psycopg": "TEXT", "psycopg2": "TEXT"}.get(driver, "LONGTEXT" if mark_of(driver) == "%s" else "VARCHAR")
    cursor.execute(f"CREATE TABLE rows_of_test (id {text}, number BIGINT)")
    rows = (("'" * 1_000_000, number) for number in range(25))

    bulk_load(cursor, "rows_of_test", ("id", "number"), rows, mark=mark_of(driver))

    assert read(cursor, "length(id), number") == [(1_000_000, number) for number in range(25)]


def test_the_log_says_how_far_it_is(
    cursor: Any, driver: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOGS", 0.1)
    caplog.set_level(logging.INFO)

    def rows() -> Iterator[tuple[int]]:
        yield from ((number,) for number in range(1_000))
        time.sleep(0.35)
        yield (1_000,)

    bulk_load(cursor, "rows_of_test", ["number"], rows(), mark=mark_of(driver))

    lines = [line for line in caplog.messages if "rows into the table rows_of_test" in line]
    assert 2 <= len(lines) <= 4
    assert "so far" in lines[-1]


def test_an_unknown_driver_gets_statements_of_many_rows(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "rows.db")) as connection:
        cursor = AnyCursor(connection.cursor())
        cursor.execute("CREATE TABLE rows_of_test (id VARCHAR(10), number BIGINT)")

        bulk_load(cursor, "rows_of_test", ("id", "number"), ((f"c{n}", n) for n in range(5_000)), mark="?")

        assert cursor.statements == 1 + 5
        assert len(read(cursor)) == 5_000


def test_duckdb_without_pyarrow_gets_statements_of_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with closing(duckdb.connect(tmp_path / "rows.duckdb")) as connection:
        connection.execute("CREATE TABLE rows_of_test (id VARCHAR, number BIGINT)")

        bulk_load(connection, "rows_of_test", ("id", "number"), ((f"c{n}", n) for n in range(5_000)), mark="?")

        assert len(read(connection)) == 5_000


@pytest.mark.parametrize("module", ["psycopg", "psycopg2"])
def test_redshift_has_the_drivers_of_postgresql_and_none_of_its_means(module: str) -> None:
    cls = type("Cursor", (), {"__module__": f"{module}.extensions"})
    cursor: Any = cls()
    cursor.connection = SimpleNamespace(info=SimpleNamespace(server_version=80_002))
    statements: list[str] = []
    cursor.execute = lambda statement, _: statements.append(statement)

    assert dialect_of(cursor) == "other"
    bulk_load(cursor, "t", ["a"], [(1,), (2,)])

    assert statements == ["insert into t (a) values (%s), (%s)"]
