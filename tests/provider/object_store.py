"""An object store for the tests that need one: moto's S3 server, used through s3fs as Airflow does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

from database_servers import free_port
from installed import AIRFLOW

CONN_ID = "lake"

_numbers = count(1)


class S3:
    """
    A running S3 server.

    :param url: of the server.
    :param fs: a filesystem of it.
    :param log: has a line for each request.
    """

    def __init__(self, url: str, fs: Any, log: Path) -> None:
        self.url, self.fs, self._log = url, fs, log

    def bucket(self) -> str:
        """Make a bucket; return its URI with a connection, as ``ObjectStoragePath`` takes it."""
        name = f"bucket-{next(_numbers)}"
        self.fs.mkdir(name)
        return f"s3://{CONN_ID}@{name}"

    def environment(self) -> dict[str, str]:
        """Return what another process needs to find the server under URIs without a connection."""
        return {"AWS_ENDPOINT_URL": self.url, **_CREDENTIALS}

    def requests(self) -> list[str]:
        """Return the requests so far, e.g. ``GET /bucket-1/reports/failures.jsonl``."""
        return re.findall(r"([A-Z]+ \S+) HTTP/", self._log.read_text())


_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[S3]:
    """Start an S3 server on a free port of 127.0.0.1, and let Airflow find it by the connection ``lake`` or none."""
    from s3fs import S3FileSystem

    port = free_port()
    with tempfile.TemporaryDirectory(prefix="s3-") as folder:
        log = Path(folder, "log")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with log.open("wb") as out:
            server = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            while server.poll() is None and "Running on" not in log.read_text():
                time.sleep(0.05)
            assert server.poll() is None, log.read_text()
            s3 = S3(f"http://127.0.0.1:{port}", None, log)
            os.environ.update(s3.environment())
            s3.fs = S3FileSystem()
            store = import_module("airflow.sdk.io" if AIRFLOW >= (3, 0) else "airflow.io.store")
            for conn_id in (None, CONN_ID):
                store.attach("s3", conn_id, fs=s3.fs)
            yield s3
        finally:
            for name in ("AWS_ENDPOINT_URL", *_CREDENTIALS):
                os.environ.pop(name, None)
            server.kill()
            server.wait()
