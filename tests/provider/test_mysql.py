"""MySQL, played by MariaDB: its drivers fetch the whole result, or want all of it read; we do not let them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest

from airflow_provider_voucherify.compat import BaseHook
from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.warehouse.queries import query

GrowthMb = Callable[[], float]
LARGE = "SELECT seq, repeat('x', 200) FROM seq_1_to_1000000 WHERE seq <= %s"
SIZE_OF_LARGE = 200_000_000


@pytest.fixture(autouse=True, params=["mysqlclient", "mysql-connector-python", "pymysql"])
def driver(mariadb: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The first two are the hook's own; pymysql can stand in for mysqlclient (``pymysql.install_as_MySQLdb()``)."""
    extra = {}
    if request.param == "pymysql":
        monkeypatch.setitem(sys.modules, "MySQLdb", pytest.importorskip("pymysql"))
    elif request.param == "mysqlclient":
        pytest.importorskip("MySQLdb")
    else:
        pytest.importorskip("mysql.connector")
        extra = {"client": request.param}
    monkeypatch.setenv("AIRFLOW_CONN_MYSQL", json.dumps(json.loads(mariadb) | {"extra": extra}))
    return str(request.param)


def read(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with query("mysql", sql, parameters) as rows:
        return [tuple(row) for chunk in rows if isinstance(chunk, Chunk) for row in chunk.rows]


def test_a_large_result_is_streamed(growth_mb: GrowthMb) -> None:
    with query("mysql", LARGE, [1_000_000]) as rows:
        first = [chunk.rows[0][0] for chunk in islice(rows, 50) if isinstance(chunk, Chunk)]
        assert growth_mb() < 40, "a client-side cursor would hold some 250 MB"

    assert first[:3] == [1, 51, 1051]


def test_a_result_is_read_to_its_end() -> None:
    assert [row[0] for row in read("SELECT seq FROM seq_1_to_2500")] == list(range(1, 2_501))
    assert read("SELECT 1 AS source_id FROM seq_1_to_1 WHERE seq > 1") == []


def test_values_keep_their_types() -> None:
    with query("mysql", "SELECT 1.50 AS price, 'Łódź' AS city, NULL AS nothing, 9007199254740993 AS n") as rows:
        [chunk] = list(rows)

    assert isinstance(chunk, Chunk)
    assert chunk.columns == ("price", "city", "nothing", "n")
    assert chunk.rows[0] == (Decimal("1.50"), "Łódź", None, 9007199254740993)


def test_bits_are_integers_and_other_bytes_stay_bytes() -> None:
    """A flag of type BIT that became a control character would put customers into no segment."""
    execute(
        "CREATE OR REPLACE TABLE test_bits "
        "(flag bit, flags bit(10), doc json, raw binary(4), folded text COLLATE utf8mb4_bin)",
        "INSERT INTO test_bits VALUES (b'1', 513, '{\"a\": 1}', 'abcd', 'Łódź'), (NULL, 0, NULL, 'abcd', NULL)",
    )

    one, two = read("SELECT * FROM test_bits ORDER BY flag DESC")

    assert (*one[:3], bytes(one[3]), one[4]) == (1, 513, '{"a": 1}', b"abcd", "Łódź")
    assert two[:3] == (None, 0, None)


@pytest.mark.parametrize("sql", ["SELECT 'c1' AS source_id, x'01' AS flag", "SELECT BINARY 'abcd' AS source_id"])
def test_bytes_refuse_their_row_with_advice(sql: str) -> None:
    with query("mysql", sql) as rows, Plan(update_destination("customers")) as plan:
        plan.read(rows)

    assert plan.refused == 1
    assert "has bytes, which have no JSON form; cast BIT to integer" in str(plan.refused_sample[0].message)


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("-- 100% of them;\nWITH a AS (SELECT 1 AS n UNION ALL SELECT 2) SELECT n FROM a", None),
        ("SELECT seq FROM seq_1_to_9 WHERE seq IN (%s, %s)", [1, 2]),
        ("SELECT seq FROM seq_1_to_9 WHERE seq BETWEEN %(from)s AND %(to)s", {"from": 1, "to": 2}),
    ],
)
def test_statements_and_parameters_of_all_kinds_are_streamed(sql: str, parameters: Any) -> None:
    assert read(sql, parameters) == [(1,), (2,)]


def test_rows_that_nobody_wants_are_not_received() -> None:
    """As with ``sample=``: closing a cursor of MySQL receives all rows that are left, or complains of them."""
    before = bytes_sent()

    with query("mysql", LARGE, [1_000_000]) as rows:
        next(rows)

    assert open_connections() == 0
    assert bytes_sent() - before < SIZE_OF_LARGE / 4


def test_a_failure_in_the_middle_is_told_as_it_is_and_leaves_nothing_open() -> None:
    with pytest.raises(RuntimeError, match="the task fails"), query("mysql", LARGE, [1_000_000]) as rows:  # noqa: PT012
        next(rows)
        assert open_connections() == 1
        raise RuntimeError("the task fails")

    assert open_connections() == 0


def execute(*statements: str) -> None:
    connection = BaseHook.get_hook("mysql").get_conn()
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    connection.commit()
    cursor.close()
    connection.close()


def open_connections() -> int:
    """Count those beside the one that asks; the server ends a session a moment after its connection is closed."""
    sql = """
        SELECT count(*) FROM information_schema.processlist, (SELECT sleep(0.5)) moment
        WHERE user = 'airflow' AND id <> connection_id()
    """
    ((count,),) = read(sql)
    assert isinstance(count, int)
    return count


def bytes_sent() -> int:
    ((_, sent),) = read("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")
    return int(sent)
