"""Object storage: a Parquet file is fetched once, and what a task keeps there is found and removed."""

from __future__ import annotations

import os

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_voucherify.storage import StorageReportFolder, open_source
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
