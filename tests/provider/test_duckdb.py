"""DuckDB, through the community's provider: its results stream by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.warehouse.queries import query

GrowthMb = Callable[[], float]
SMALL_MEMORY = "SET memory_limit = '50MB'; SET threads = 1; "

pytest.importorskip("duckdb_provider", reason="airflow-provider-duckdb is not installed (make test-drivers does it)")


@pytest.fixture(autouse=True)
def _warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DUCK", json.dumps({"conn_type": "duckdb", "host": str(tmp_path / "x.duckdb")}))


def read(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with query("duck", sql, parameters) as rows:
        return [tuple(row) for chunk in rows if isinstance(chunk, Chunk) for row in chunk.rows]


def test_a_large_result_is_streamed(growth_mb: GrowthMb) -> None:
    with query("duck", "SELECT i, repeat('x', 200) || i FROM range(1, 3000001) r(i)") as rows:
        first = [chunk.rows[0][0] for chunk in islice(rows, 2_000) if isinstance(chunk, Chunk)]
        grown = growth_mb()

    assert first[:3] == [1, 51, 1051], "the first fetch is small"
    assert grown < 150, "the whole result takes some 650 MB"


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("-- all;\nWITH a AS (SELECT 1 AS n UNION ALL SELECT 2) SELECT n FROM a ORDER BY n; -- done", None),
        ("SELECT i FROM range(?, ?) r(i)", [1, 3]),
        ("SELECT i FROM range($from, $to) r(i)", {"from": 1, "to": 3}),
        (f"{SMALL_MEMORY} SELECT i FROM range(?, ?) r(i)", [1, 3]),
    ],
)
def test_statements_and_parameters_of_all_kinds_are_streamed(sql: str, parameters: Any) -> None:
    assert read(sql, parameters) == [(1,), (2,)]


def test_a_blob_is_no_text() -> None:
    with (
        query("duck", "SELECT 'c1' AS source_id, 'ab'::BLOB AS flag") as rows,
        Plan(update_destination("customers")) as plan,
    ):
        plan.read(rows)

    assert plan.refused == 1
    assert "has bytes, which have no JSON form" in str(plan.refused_sample[0].message)


def test_a_file_can_be_opened_again_after_a_failure_in_the_middle() -> None:
    with pytest.raises(RuntimeError, match="the task fails"), query("duck", "SELECT * FROM range(100000)") as rows:  # noqa: PT012
        next(rows)
        raise RuntimeError("the task fails")

    assert read("SELECT 1") == [(1,)]
