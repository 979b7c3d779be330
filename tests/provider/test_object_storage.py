"""Object storage: a Parquet file is fetched once, and what a task keeps there is found and removed."""

from __future__ import annotations

import os
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.spec import AbstractBufferedFile

from airflow_provider_voucherify.models.endpoints import CSV_IMPORT_ENDPOINTS
from airflow_provider_voucherify.storage import StorageReportFolder, open_source
from airflow_provider_voucherify.sync.csv_file import CsvFile
from airflow_provider_voucherify.sync.sources import Chunk, from_file


def test_a_folder_is_removed_with_what_is_in_it(bucket: str) -> None:
    folder = StorageReportFolder(f"{bucket}/reports")
    assert folder.names() == []
    for name in ("failures.jsonl", "staged-a/00001.json", "staged-a/refused.jsonl", "staged-b/00001.json"):
        with folder.write(name) as file:
            file.write(b"[]")

    folder.remove_folder("staged-a")
    folder.remove_folder("staged-none")
    folder.remove("none.jsonl")

    assert sorted(folder.names()) == ["failures.jsonl", "staged-b"]
    assert folder.read("staged-a/00001.json") is None
    assert folder.read("staged-b/00001.json") == b"[]"


def test_a_parquet_file_in_object_storage_is_read_from_a_copy_on_local_disk(bucket: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = ObjectStoragePath(f"{bucket}/customers.parquet")
    with path.open("wb") as file:
        parquet.write_table(pyarrow.table({"source_id": ["c1", "c2"]}), file)

    with open_source(str(path)) as file:
        assert os.fstat(file.fileno()).st_size == path.stat().st_size
        [chunk] = list(from_file(file, str(path)))

    assert isinstance(chunk, Chunk)
    assert chunk.rows == [("c1",), ("c2",)]


@pytest.mark.parametrize(
    ("name", "first", "line"),
    [("rows.jsonl", "", '{{"source_id": "c{}"}}\n'), ("rows.csv", "source_id\n", "c{}\n")],
)
def test_lines_in_object_storage_are_read_in_blocks(
    bucket: str, monkeypatch: pytest.MonkeyPatch, name: str, first: str, line: str
) -> None:
    """Each read of fsspec's may copy a whole block of 50 MiB: one for each line would take hours for a million."""
    path = f"{bucket}/{name}"
    ObjectStoragePath(path).write_text(first + "".join(map(line.format, range(5_000))))
    read, reads = AbstractBufferedFile.read, []
    monkeypatch.setattr(AbstractBufferedFile, "read", lambda *args: reads.append(args) or read(*args))
    rows: Any = None

    with open_source(path) as file:
        rows = sum(len(chunk.rows) for chunk in from_file(file, path) if isinstance(chunk, Chunk))
    assert (rows, len(reads) < 50) == (5_000, True)

    if name.endswith(".csv"):
        reads.clear()
        with open_source(path) as file, CsvFile(CSV_IMPORT_ENDPOINTS["customers"], 1_000_000) as copy:
            copy.read(file)
            assert (copy.rows, len(reads) < 50) == (5_000, True)
