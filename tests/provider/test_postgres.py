"""PostgreSQL: both drivers would fetch the whole result at once; we do not let them."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest

from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.warehouse.queries import query

GrowthMb = Callable[[], float]
LARGE = "SELECT i, repeat('x', 200) FROM generate_series(1, %(n)s) i"


@pytest.fixture(autouse=True, params=["psycopg", "psycopg2"])
def driver(postgres: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Airflow's hook takes psycopg where it is installed, and psycopg2 otherwise."""
    from airflow.providers.postgres.hooks import postgres as hook

    takes_psycopg = getattr(hook, "USE_PSYCOPG3", False)
    if request.param == "psycopg" and not takes_psycopg:
        pytest.skip("Airflow's PostgreSQL hook takes psycopg only with SQLAlchemy 2, which this Airflow does not have")
    if request.param == "psycopg2" and takes_psycopg:
        monkeypatch.setattr("airflow.providers.postgres.hooks.postgres.USE_PSYCOPG3", False)
    monkeypatch.setenv("AIRFLOW_CONN_PG", postgres)
    return str(request.param)


def read(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with query("pg", sql, parameters) as rows:
        return [tuple(row) for chunk in rows if isinstance(chunk, Chunk) for row in chunk.rows]


def test_a_large_result_is_streamed(growth_mb: GrowthMb) -> None:
    with query("pg", LARGE, {"n": 1_000_000}) as rows:
        first = [chunk.rows[0][0] for chunk in islice(rows, 50) if isinstance(chunk, Chunk)]

    assert first[:3] == [1, 51, 1051]
    assert growth_mb() < 40, "a client-side cursor would hold some 250 MB"


def test_columns_are_known_even_without_rows() -> None:
    with query("pg", "SELECT 1 AS source_id, 2.50 AS price WHERE false") as rows:
        [chunk] = list(rows)

    assert isinstance(chunk, Chunk)
    assert (chunk.columns, list(chunk.rows)) == (("source_id", "price"), [])


def test_values_keep_their_types() -> None:
    with query("pg", "SELECT 1.50::numeric AS price, DATE '2026-01-02' AS day, NULL AS nothing") as rows:
        [chunk] = list(rows)

    assert isinstance(chunk, Chunk)
    assert chunk.columns == ("price", "day", "nothing")
    assert chunk.rows[0][0] == Decimal("1.50")
    assert chunk.rows[0][2] is None


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("-- 100% of them;\nWITH a AS (SELECT 1 AS n UNION ALL SELECT 2) /* ; */ SELECT n FROM a; -- done", None),
        ("  VALUES (1), (2)", None),
        ("SELECT i FROM generate_series(%s::int, %s) i WHERE i %% 100 > 0", [1, 2]),
        ("SELECT i FROM generate_series(%(from)s::int, %(to)s) i", {"from": 1, "to": 2}),
        ("SELECT i FROM generate_series(1, 9) i WHERE i = ANY(%s)", ([1, 2],)),
    ],
)
def test_statements_and_parameters_of_all_kinds_are_streamed(sql: str, parameters: Any) -> None:
    assert read(sql, parameters) == [(1,), (2,)]


def test_bytes_are_text_only_if_a_column_of_text_gave_them(
    postgres: str, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg does not decode text in this encoding, psycopg2 decodes ASCII."""
    extra = {"options": "-c client_encoding=SQL_ASCII"}
    monkeypatch.setenv("AIRFLOW_CONN_PG", json.dumps(json.loads(postgres) | {"extra": extra}))
    character, text = ("chr(97)", "a") if driver == "psycopg2" else ("chr(321)", "Ł")

    ((char, varchar, nothing, raw),) = read(
        f"SELECT {character}::char(4) AS a, {character}::varchar AS b, NULL::text AS c, '\\x6162'::bytea"
    )

    assert (char.rstrip(), varchar, nothing, bytes(raw)) == (text, text, None, b"ab")


def test_an_object_is_sent_without_its_missing_members_and_bytes_are_refused() -> None:
    sql = """
        SELECT 'c1' AS source_id, jsonb_build_object('plan', NULL, 'n', 1234567890123456.78) AS metadata
        UNION ALL SELECT 'c2', jsonb_build_object('plan', NULL)
    """
    with query("pg", sql) as rows, Plan(update_destination("customers")) as plan:
        plan.read(rows)
        bodies = [b"".join(batch.body()) for batch in plan.batches]
    with (
        query("pg", "SELECT 'c1' AS source_id, '\\x0102'::bytea AS flag") as rows,
        Plan(update_destination("customers")) as refusing,
    ):
        refusing.read(rows)

    assert bodies == [b'[{"source_id":"c1","metadata":{"n":1234567890123456.78}},{"source_id":"c2"}]']
    assert "has bytes, which have no JSON form" in str(refusing.refused_sample[0].message)


@pytest.mark.parametrize("cursor", ["dictcursor", "namedtuplecursor"])
def test_the_connections_own_kind_of_rows_does_not_matter(
    postgres: str, monkeypatch: pytest.MonkeyPatch, cursor: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PG", json.dumps(json.loads(postgres) | {"extra": {"cursor": cursor}}))

    assert read("SELECT 1 AS a, 'x' AS b UNION ALL SELECT 2, 'y'") == [(1, "x"), (2, "y")]


def test_a_connection_in_autocommit_is_streamed_too(
    postgres: str, monkeypatch: pytest.MonkeyPatch, driver: str, growth_mb: GrowthMb
) -> None:
    """A named cursor lives in a transaction. Of Airflow's hook, only psycopg's connection can be given the extra."""
    if driver == "psycopg":
        monkeypatch.setenv("AIRFLOW_CONN_PG", json.dumps(json.loads(postgres) | {"extra": {"autocommit": True}}))
    else:
        from airflow.providers.postgres.hooks import postgres as hook

        owner, name = (hook, "ppg2_connect") if hasattr(hook, "ppg2_connect") else (hook.psycopg2, "connect")
        made = getattr(owner, name)

        def connect(**kwargs: Any) -> Any:
            connection = made(**kwargs)
            connection.autocommit = True
            return connection

        monkeypatch.setattr(owner, name, connect)

    with query("pg", LARGE, {"n": 1_000_000}) as rows:
        assert len(list(islice(rows, 50))) == 50
    assert growth_mb() < 40


def test_a_failure_in_the_middle_is_told_as_it_is_and_leaves_nothing_open() -> None:
    with pytest.raises(RuntimeError, match="the task fails"), query("pg", LARGE, {"n": 1_000_000}) as rows:  # noqa: PT012
        next(rows)
        assert open_connections() == 1
        raise RuntimeError("the task fails")

    assert open_connections() == 0


def test_a_row_that_the_server_cannot_give_is_told_as_it_is_and_leaves_nothing_open() -> None:
    with pytest.raises(Exception, match="division by zero"):
        read("SELECT 1 / (i - 1500) FROM generate_series(1, 2000) i")

    assert open_connections() == 0


def open_connections() -> int:
    """Count those beside the one that asks; the server ends a session a moment after its connection is closed."""
    sql = """
        SELECT count(*) FROM pg_sleep(0.1), pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    """
    ((count,),) = read(sql)
    assert isinstance(count, int)
    return count
