"""Files in object storage and on local disk: whole or not there, found again and removed."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath
from dags import DagRunResult, folder_of, run_dag
from fsspec.implementations.arrow import ArrowFSWrapper
from fsspec.spec import AbstractBufferedFile
from object_store import S3

from airflow_provider_voucherify.local_voucherify import Action, LocalVoucherify
from airflow_provider_voucherify.models.endpoints import CSV_IMPORT_ENDPOINTS
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.storage import files
from airflow_provider_voucherify.storage.files import first_line, open_source, replacing
from airflow_provider_voucherify.storage.report_folder import StorageReportFolder
from airflow_provider_voucherify.sync.batches.csv_file import CsvFile
from airflow_provider_voucherify.sync.rows.chunks import Chunk
from airflow_provider_voucherify.sync.rows.sources import from_file
from airflow_provider_voucherify.task.completion import Completion
from airflow_provider_voucherify.task.staging import remove_forgotten


@pytest.fixture(params=["object storage", "local disk"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("bucket") if request.param == "object storage" else str(tmp_path)


def sync(records: list[dict[str, Any]], **kwargs: Any) -> DagRunResult:
    with DAG("storage", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(
            task_id="sync", resource="customers", records=records, fail_if={"failed": None}, **kwargs
        )
    return run_dag(dag)


def read(path: str) -> bytes:
    return bytes(ObjectStoragePath(path).read_bytes())


def names(folder: str) -> list[str]:
    return sorted(StorageReportFolder(folder).names())


def test_three_nights_with_everything_in_object_storage(
    bucket: str, voucherify: LocalVoucherify, defer_at_once: None
) -> None:
    kept = {
        "state": {"path": f"{bucket}/books", "outcomes": "jsonl"},
        "report_path": f"{bucket}/reports",
        "deferrable": True,
    }
    rows = [{"source_id": "a", "v": 1}, {"source_id": "b", "v": 1}, {"source_id": None}]

    nights = [sync(rows, **kept), sync(rows, **kept), sync([{"source_id": "a", "v": 2}, *rows[1:]], **kept)]

    summaries = [night.xcom("sync") for night in nights]
    assert [summary["submitted"] for summary in summaries] == [2, 0, 1]
    assert [summary["unchanged"] for summary in summaries] == [0, 2, 1]
    assert [summary["warning"] for summary in summaries] == [None, None, None]
    assert (nights[0].deferred_tasks(), nights[2].deferred_tasks()) == ({"sync"}, {"sync"})
    own = folder_of(f"{bucket}/books", "storage")
    outcomes_folder = f"{own}/outcomes"
    assert len(names(outcomes_folder)) == 3, "one for each run"
    last = f"{outcomes_folder}/{quote(nights[2].dag_run.run_id, safe='')}"
    [file] = names(last)
    outcomes = [json.loads(line) for line in read(f"{last}/{file}").splitlines()]
    assert [(outcome["id"], outcome["outcome"]) for outcome in outcomes] == [
        ("a", "updated"),
        ("b", "unchanged"),
        (None, "refused"),
    ]
    [refused] = read(f"{bucket}/reports/failures.jsonl").splitlines()
    assert json.loads(refused)["_failure"]["outcome"] == "refused"
    assert names(f"{bucket}/reports") == ["failures.jsonl", "report-00001.csv", "report.html", "set_aside.jsonl"]
    assert names(own) == ["outcomes", "runs", "state"]
    for night in nights:
        recorded = names(f"{own}/runs/{quote(night.dag_run.run_id, safe='')}")
        assert [file.rsplit(".", 2)[1] for file in recorded] == ["running", "success"]


@pytest.mark.parametrize("size", [10, 20_000_000], ids=["one request", "several parts"])
def test_a_write_that_is_broken_off_changes_nothing(folder: str, size: int) -> None:
    for name in ("there", "new"):
        path = f"{folder}/files/{name}"
        if name == "there":
            with replacing(path) as file:
                file.write(b"old")
        with pytest.raises(KeyboardInterrupt), replacing(path) as file:  # noqa: PT012
            file.write(b"x" * size)
            raise KeyboardInterrupt
    gc.collect()

    assert names(f"{folder}/files") == ["there"]
    assert read(f"{folder}/files/there") == b"old"


def test_a_file_system_that_writes_in_place_does_not_hide_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = pytest.importorskip("pyarrow.fs").LocalFileSystem()
    target = SimpleNamespace(protocol="hdfs", fs=ArrowFSWrapper(local), path=str(tmp_path / "state"))
    monkeypatch.setattr(files, "ObjectStoragePath", lambda _: target)

    with pytest.raises(KeyError, match="the real reason"), replacing("hdfs://host/state"):
        raise KeyError("the real reason")


def test_a_broken_off_upload_leaves_no_parts(bucket: str, s3: S3) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(f"{bucket}/new") as file:  # noqa: PT012
        file.write(b"x" * 20_000_000)
        raise KeyboardInterrupt

    assert s3.fs.list_multipart_uploads(bucket.rpartition("@")[2]) == []


def test_a_file_that_is_replaced_is_seen_by_whoever_has_listed_its_folder_before(bucket: str, s3: S3) -> None:
    from s3fs import S3FileSystem

    with replacing(f"{bucket}/books/state") as file:
        file.write(b"one")
    assert names(f"{bucket}/books") == ["state"]
    another_process = S3FileSystem(skip_instance_cache=True)
    another_process.pipe_file(f"{bucket.rpartition('@')[2]}/books/state", b"another and longer one\n")

    assert first_line(f"{bucket}/books/state") == b"another and longer one"


def test_an_empty_file_has_an_empty_first_line(folder: str) -> None:
    with replacing(f"{folder}/empty"):
        pass

    assert first_line(f"{folder}/empty") == first_line(f"{folder}/none") == b""


@pytest.mark.parametrize(
    ("parameter", "place"),
    [("report_path", "object storage"), ("state", "local disk"), ("state", "object storage")],
)
def test_a_place_that_cannot_be_written_to_is_noticed_before_anything_is_sent(
    parameter: str,
    place: str,
    voucherify: LocalVoucherify,
    tmp_path: Path,
    s3: S3,
    task_log: Any,
) -> None:
    (tmp_path / "file").touch()
    folder = "s3://lake@no-such-bucket" if place == "object storage" else str(tmp_path / "file")

    run = sync([{"source_id": "a"}], retries=2, **{parameter: f"{folder}/books"})

    assert run.state == "failed"
    assert run.dag_run.get_task_instance("sync").try_number == 1
    assert f"{'path of ' if parameter == 'state' else ''}{parameter} '{folder}" in task_log()
    assert voucherify.received == []


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "not"])
@pytest.mark.parametrize("parameters", [["report_path"], ["state"], ["report_path", "state"]], ids=" and ".join)
def test_each_place_is_tried_out_once(
    parameters: list[str],
    deferrable: bool,
    voucherify: LocalVoucherify,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, tried = files.replacing_at, []

    def note(target: ObjectStoragePath) -> Any:
        if target.name == ".voucherify-probe":
            tried.append(str(target))
        return write(target)

    monkeypatch.setattr(files, "replacing_at", note)
    places = {name: str(tmp_path / name) for name in parameters}

    run = sync([{"source_id": "a"}], deferrable=deferrable, **places)

    assert run.state == "success"
    assert len(tried) == len(set(tried)) == len(parameters)


def test_what_is_staged_for_a_resumed_task_has_to_be_there(
    voucherify: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_log: Any
) -> None:
    """As on another worker, if report_path is on the first one's disk; its retry has everything at hand again."""
    monkeypatch.setattr(Completion, "worker_seconds", 0.0)

    def look(action: Action, wire: dict[str, Any]) -> dict[str, Any]:
        for staged in tmp_path.glob("staged-*"):
            staged.rename(tmp_path / "on another disk")
            monkeypatch.setattr(Completion, "worker_seconds", 10.0)
        return wire

    voucherify.script_action(look)

    rows = [{"source_id": "a"}, {"source_id": None}]
    run = sync(rows, report_path=str(tmp_path), deferrable=True, retries=1, retry_delay=timedelta(0))

    assert "all workers share" in task_log()
    assert run.dag_run.get_task_instance("sync").try_number == 2
    assert run.xcom("sync")["refused"] == 1
    assert len(read(f"{tmp_path}/failures.jsonl").splitlines()) == 1


def test_what_was_staged_and_forgotten_is_removed_after_a_week(folder: str) -> None:
    reports = StorageReportFolder(folder)
    now = time.time()
    for name, until in (("staged-old", now - 8 * 24 * 3600), ("staged-waiting", now - 3600), ("staged-unknown", None)):
        with reports.write(f"{name}/00001.json") as file:
            file.write(b"[]")
        with reports.write(f"{name}/until.json") as file:
            file.write(json.dumps({"until": until}).encode())

    remove_forgotten(reports)

    assert sorted(reports.names()) == ["staged-unknown", "staged-waiting"]


def test_a_process_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    script = """
import sys, time
from airflow_provider_voucherify.storage.files import replacing
from airflow_provider_voucherify.sync.rows.failure_lines import EarlierFailures
from airflow_provider_voucherify.sync.state.ledger import Ledger
ledger, failures = Ledger("run", "settings"), EarlierFailures()
ledger.add_records(["c1"], [b"{}"])
failures.add([("c1", {})])
with replacing(sys.argv[1] + "/reports/failures.jsonl") as file:
    file.write(b"{}" * 100_000)
    print("ready", flush=True)
    time.sleep(600)
"""
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert any(line == "ready\n" for line in process.stdout)
        process.send_signal(signal.SIGKILL)

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


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
