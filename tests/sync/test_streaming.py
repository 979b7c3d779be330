"""Files are read piece by piece: what is held does not grow with them."""

from __future__ import annotations

import csv
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.sync.rows.sources import from_file

Row = dict[str, str | int]


def customers(rows: int) -> Iterator[Row]:
    """Give rows of some 440 bytes that hardly compress."""
    dice = random.Random(rows)
    return ({"source_id": f"c{n}", "name": dice.randbytes(200).hex(), "n": n} for n in range(rows))


def write_jsonl(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in customers(rows))


def write_csv(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("source_id", "name", "n"))
        writer.writerows(row.values() for row in customers(rows))


def write_parquet_of_one_row_group(path: Path, rows: int) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(list(customers(rows))), path, row_group_size=rows)


def write_parquet_of_many_row_groups(path: Path, rows: int) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(list(customers(rows))), path, row_group_size=2_500)


@pytest.mark.parametrize(
    ("write", "ending"),
    [
        (write_jsonl, "jsonl"),
        (write_csv, "csv"),
        (write_parquet_of_one_row_group, "parquet"),
        (write_parquet_of_many_row_groups, "parquet"),
    ],
)
def test_ten_times_the_rows_take_no_more_memory(
    write: Callable[[Path, int], None], ending: str, tmp_path: Path
) -> None:
    """The large file has some 10 MB. What pyarrow reads from a file is counted, what it makes of that is not."""
    few, many = tmp_path / f"few.{ending}", tmp_path / f"many.{ending}"
    write(few, 2_500)
    write(many, 25_000)

    assert peak_mb(few, 2_500) < 5
    assert peak_mb(many, 25_000) < 5


def peak_mb(path: Path, rows: int) -> float:
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            assert sum(len(chunk.rows) for chunk in from_file(file, path.name) if isinstance(chunk, Chunk)) == rows
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()
