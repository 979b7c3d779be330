"""A Parquet file in object storage is fetched once."""

from __future__ import annotations

import os
from importlib import import_module

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem
from installed import AIRFLOW

from airflow_provider_voucherify.storage import open_source
from airflow_provider_voucherify.sync.sources import Chunk, from_file


def test_a_parquet_file_in_object_storage_is_read_from_a_copy_on_local_disk() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    import_module("airflow.sdk.io" if AIRFLOW >= (3, 0) else "airflow.io.store").attach("memory", fs=MemoryFileSystem())
    path = ObjectStoragePath("memory://bucket/customers.parquet")
    with path.open("wb") as file:
        parquet.write_table(pyarrow.table({"source_id": ["c1", "c2"]}), file)

    with open_source(str(path)) as file:
        assert os.fstat(file.fileno()).st_size == path.stat().st_size
        [chunk] = list(from_file(file, str(path)))

    assert isinstance(chunk, Chunk)
    assert chunk.rows == [("c1",), ("c2",)]
