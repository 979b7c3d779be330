"""Database servers and an object store for the tests that need one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import object_store
import pytest
from database_fixtures import mariadb, postgres

__all__ = ["mariadb", "postgres"]

pytest.register_assert_rewrite("nights")


@pytest.fixture(scope="session")
def s3() -> Iterator[object_store.S3]:
    """Give an S3 server."""
    with object_store.s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: object_store.S3) -> str:
    """Give the URI of a bucket of its own, e.g. ``s3://lake@bucket-1``."""
    return s3.bucket()


@pytest.fixture
def growth_mb() -> Callable[[], float]:
    """Give a function that returns by how many MB this process's memory has grown since the test began."""
    before = _resident_mb()
    return lambda: _resident_mb() - before


def _resident_mb() -> float:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024
