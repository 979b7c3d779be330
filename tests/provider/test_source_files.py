"""``path=``: one file or several, as people and their tools leave them, on a local disk and in object storage."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath
from dags import DagRunResult, last_outcomes, run_dag

from airflow_provider_voucherify.exceptions import VoucherifyConfigurationError
from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.operators.import_csv import VoucherifyImportCsvOperator
from airflow_provider_voucherify.storage.files import open_source
from airflow_provider_voucherify.storage.paths import source_files
from airflow_provider_voucherify.sync.batches.destination import update_destination
from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.rows.chunks import BadLine, Chunk
from airflow_provider_voucherify.sync.rows.sources import from_files


def update(path: Any, **kwargs: Any) -> DagRunResult:
    defaults: dict[str, Any] = {"resource": "customers", "retries": 1, "retry_delay": timedelta(0)}
    with DAG("source_files", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", path=path, **{**defaults, **kwargs})
    return run_dag(dag)


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give a folder with and without object storage."""
    return str(tmp_path) if request.param == "local" else f"{request.getfixturevalue('bucket')}/in"


def write(folder: str, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = ObjectStoragePath(f"{folder}/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def ids(path: Any, **kwargs: Any) -> list[Any]:
    parts = list(from_files(source_files(path), open_source, **kwargs))
    return [part.why if isinstance(part, BadLine) else row[0] for part in parts for row in getattr(part, "rows", [0])]


def test_a_list_of_paths_packed_and_not_is_one_source(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("source_id,name\nc1,Ann\n,\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"source_id,name\nc1,Bob\nc2,Cid\n\n"))

    run = update(
        [tmp_path / "b.csv", str(tmp_path / "a.csv.gz")],
        state={"path": tmp_path / "state", "outcomes": "jsonl"},
    )

    summary = run.xcom("sync")
    assert (summary["rows_read"], summary["superseded"], summary["created"], summary["blank_rows"]) == (3, 1, 2, 2)
    assert voucherify.customers["c1"]["name"] == "Bob", "the last file of the list is read last"
    assert len(last_outcomes(tmp_path / "state").read_text().splitlines()) == 3


def test_a_folder_of_part_files_is_read_in_the_order_of_their_names(folder: str) -> None:
    write(
        f"{folder}/out",
        {
            "part_2.jsonl": b'{"source_id": "c3"}\n[]\n',
            "part_1.jsonl.gz": gzip.compress(b'{"source_id": "c1"}\n{"source_id": "c2"}\n'),
            ".part_1.jsonl.crc": b"crc",
            "_SUCCESS": b"",
        },
    )

    expected = ["c1", "c2", "c3", "part_2.jsonl: line 2 is not a JSON object"]
    assert ids(f"{folder}/out") == ids(f"{folder}/out/") == ids(f"{folder}/out/*") == expected
    assert ids(f"{folder}/o*/part_*.jsonl") == ["c3", "line 2 is not a JSON object"]


def test_a_folder_named_as_a_file_is_a_folder(folder: str) -> None:
    """As Spark writes them; an object store would give an empty file."""
    write(folder, {"customers.csv/part_0.csv": b"source_id\nc1\n"})

    assert ids(f"{folder}/customers.csv") == ["c1"]


@pytest.mark.parametrize(
    ("files", "kind", "said"),
    [
        (["a.csv", "b.jsonl"], VoucherifyConfigurationError, "files of several kinds: .*a.csv and .*b.jsonl"),
        (["a.csv", "part-0001"], VoucherifyConfigurationError, "part-0001' must end in .jsonl, .csv"),
        (["a.csv", "c=PL/a.csv"], VoucherifyConfigurationError, "has folders in it .c=PL., which are not read"),
        (["a.csv", "_delta_log/0.json"], VoucherifyConfigurationError, "is a table ._delta_log."),
        (["a.csv", "_temporary/0/a.csv"], OSError, "is still being written"),
        (["_SUCCESS"], FileNotFoundError, "no files in the folder"),
    ],
    ids=lambda value: str(value) if isinstance(value, list) else "",
)
def test_a_folder_that_is_not_whole_or_not_all_data_is_refused(
    folder: str, files: list[str], kind: type[Exception], said: str
) -> None:
    write(f"{folder}/out", dict.fromkeys(files, b"source_id\nc1\n"))

    with pytest.raises(kind, match=said):
        ids(f"{folder}/out")


def test_a_pattern_that_nothing_matches_may_match_later(folder: str) -> None:
    write(folder, {"a.csv": b"source_id\n"})

    with pytest.raises(FileNotFoundError, match=r"no file matches .*b\*.csv"):
        source_files(f"{folder}/b*.csv")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (5, "path must be a path or an object storage URI, not 5"),
        ("", "path must be a path or an object storage URI, not ''"),
        ([], "path is an empty list"),
        (["a.csv", None], "path must be a path or an object storage URI, not None"),
        (["a.csv", "b.csv", Path("a.csv")], "path has a.csv more than once"),
        (Path("s3://lake@bucket/a.csv"), "takes a slash out of the URI 's3:/lake@bucket/a.csv'"),
    ],
    ids=str,
)
def test_what_is_no_path_is_refused_in_words(path: Any, said: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=said):
        source_files(path)


def test_what_no_retry_can_mend_is_not_retried(
    voucherify: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    (tmp_path / "a.csv").write_text('source_id,name\nc1,"Ann\nc2,Bob\n')

    (tmp_path / "b.jsonl").write_text("{}\n")

    for path, said in ((tmp_path, "files of several kinds"), (tmp_path / "a.csv", "a.csv and ends in line 3")):
        run = update(path, fail_if={"failed": None})
        assert run.task_state("sync") == "failed"
        assert run.dag_run.get_task_instance("sync").try_number == 1
        assert said in task_log()
    assert voucherify.received == []


def test_path_and_dialect_are_checked_when_the_dag_is_parsed(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="path is an empty list"):
        VoucherifyBulkUpdateOperator(task_id="t", resource="customers", path=[])
    with pytest.raises(VoucherifyConfigurationError, match="csv_dialect has an unknown member 'escape'"):
        VoucherifyBulkUpdateOperator(task_id="t", resource="customers", path="a.csv", csv_dialect={"escape": "x"})
    with pytest.raises(VoucherifyConfigurationError, match="csv_dialect= is for the CSV files of path="):
        VoucherifyBulkUpdateOperator(task_id="t", resource="customers", records=[], csv_dialect="excel")
    (tmp_path / "a.csv").write_text('source_id,name\nc1,"TV 27\\""\nc2,Bob\n')

    assert update(tmp_path / "a.csv", csv_dialect={"escapechar": "\\"}).state == "success"
    assert [voucherify.customers[one]["name"] for one in ("c1", "c2")] == ['TV 27"', "Bob"]


@pytest.mark.parametrize("damage", ['c1,"Ann\nc2,Bob\nc3,Cid\n', 'c1,"Ann\nc2,Bob"\nc3,Cid\n'], ids=["open", "closed"])
def test_a_quote_in_the_wrong_place_marks_nobody_as_removed(
    voucherify: LocalVoucherify, tmp_path: Path, damage: str
) -> None:
    whole, damaged = tmp_path / "whole.csv", tmp_path / "damaged.csv"
    whole.write_text("source_id,name\nc1,Ann\nc2,Bob\nc3,Cid\n")
    damaged.write_text(f"source_id,name\n{damage}")
    marks: dict[str, Any] = {
        "fail_if": {"failed": None},
        "state": {
            "path": str(tmp_path / "state"),
            "on_removed": {"metadata": {"active": False}},
            "max_removed_ratio": None,
        },
    }

    assert update(whole, **marks).state == "success"
    assert update(damaged, **marks).state == "failed"

    assert [customer.get("metadata", {}) for customer in voucherify.customers.values()] == [{}, {}, {}]


def test_an_import_takes_one_file(voucherify: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"Source_id,Name\nc1,Ann\n,\n\n"))

    def import_csv(path: Any) -> DagRunResult:
        with DAG("import_one", schedule=None) as dag:
            VoucherifyImportCsvOperator(task_id="import", resource="customers", path=path)
        return run_dag(dag)

    summary = import_csv(tmp_path / "a.csv.gz").xcom("import")
    assert (summary["rows_read"], summary["succeeded"], summary["blank_rows"]) == (1, 1, 2)
    (tmp_path / "b.csv").write_text("Source_id,Name\nc2,Bo\n")
    assert import_csv(tmp_path).state == "failed"
    assert "path has 2 files, and an import takes one: use .expand(path=[...])" in task_log()
    assert list(voucherify.customers) == ["c1"]


def test_what_the_mapping_does_not_find_in_one_of_several_files_names_it(tmp_path: Path) -> None:
    for name, column in (("a.csv", "source_id"), ("b.csv", "id")):
        (tmp_path / name).write_text(f"{column}\nc1\n")

    with (
        Plan(update_destination("customers")) as plan,
        pytest.raises(VoucherifyConfigurationError, match=r"b.csv: no column gives source_id"),
    ):
        plan.read(from_files(source_files(tmp_path), open_source))


def test_a_chunk_of_a_single_file_does_not_name_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("source_id\nc1\n")

    [chunk] = from_files(source_files(tmp_path), open_source)

    assert isinstance(chunk, Chunk)
    assert chunk.file == ""
