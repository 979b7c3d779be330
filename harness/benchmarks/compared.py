"""
Comparing a source with what Voucherify has, without Airflow and network: one row in a hundred differs, or all are new.

``python -m harness.benchmarks.compared '{"rows": [100000, 1000000], "warehouse": "customers.sqlite"}'`` measures the
CPU of all of it, and beside that, in the same process, of reading the source into a plan and the export as CSV.
"""

from __future__ import annotations

import csv
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from airflow_provider_voucherify.policies import ReadBack
from airflow_provider_voucherify.sync.batches.compared_plan import ComparedPlan
from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords
from airflow_provider_voucherify.sync.rows.sources import from_cursor
from harness import process
from harness.benchmarks.rows import COLUMNS, Source, cursor, row

DIFFERENT_OF_A_HUNDRED = 1
_METADATA = 5
"""The last columns, which are no fields of customers."""


def main() -> None:
    """Measure and print."""
    job = process.job()
    with tempfile.TemporaryDirectory(prefix="voucherify-bench-") as folder:
        measured = []
        for rows in [1_000, *job["rows"]]:
            export = Path(folder, f"{rows}.csv")
            _write_export(export, rows)
            measured.append(_measure(Source("sqlite", job["warehouse"], rows), export))
        print(json.dumps(measured[1:]))


def _measure(source: Source, export: Path) -> dict[str, Any]:
    with _cpu() as reading_source, _plan(source):
        pass
    with _cpu() as reading_export, export.open(encoding="utf-8", newline="") as file:
        for _ in csv.reader(file):
            pass
    with export.open("rb") as records, BytesIO(records.readline()) as nothing:
        all_new = _compare(source, nothing)
        with _cpu() as everything:
            compared = _compare(source, records)
    return {
        "rows": source.rows,
        **compared,
        "reading_source": reading_source[0],
        "reading_export": reading_export[0],
        "cpu": everything[0],
        "peak_mb_all_new": all_new["peak_mb"],
    }


def _compare(source: Source, export: BinaryIO) -> dict[str, Any]:
    base = process.resident_mb()
    process.forget_peak()
    with _plan(source, compares=True) as plan:
        with FoundRecords("source_id", plan.compared_paths, plan.samples()) as found:
            found.expect(plan.records())
            found.read(export)
            plan.compare(found)
        sent = sum(batch.records for batch in plan.batches)
        counts = {"sent": sent, "unchanged": plan.unchanged, "requests": len(plan.batches)}
    return {**counts, "peak_mb": process.peak_mb() - base}


@contextmanager
def _plan(source: Source, *, compares: bool = False) -> Iterator[Any]:
    destination = update_destination("customers")
    with (
        cursor(source) as opened,
        ComparedPlan(ReadBack(compare=True), destination) if compares else Plan(destination) as plan,
    ):
        plan.read(from_cursor(list(COLUMNS), opened.fetchmany))
        yield plan


@contextmanager
def _cpu() -> Iterator[list[float]]:
    """Give a list that gets the CPU seconds of what is done in between."""
    taken: list[float] = []
    began = time.process_time()
    yield taken
    taken.append(time.process_time() - began)


def _write_export(path: Path, rows: int) -> None:
    names = [f"metadata.{name}" if name in COLUMNS[-_METADATA:] else name for name in COLUMNS]
    orders = COLUMNS.index("orders")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for number in range(rows):
            values = list(row(number))
            values[orders] += number % 100 < DIFFERENT_OF_A_HUNDRED
            writer.writerow(values)


if __name__ == "__main__":
    main()
