"""``VoucherifyExportOperator`` in a DAG: what is at Voucherify in a file or a table, whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, Asset, BaseHook, ObjectStoragePath
from connections import APP_ID, SECRET_KEY, connect
from dags import DagRunResult, clear_and_run, rendered_fields, run_dag, shown_links, tell_to_end
from installed import needs_store
from pyarrow import parquet

from airflow_provider_voucherify.exceptions import VoucherifyConfigurationError, VoucherifyError
from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.local_voucherify import DropAfter, DropBefore, LocalVoucherify, Malformed, Status
from airflow_provider_voucherify.notifications.summary import VoucherifySummaryNotifier
from airflow_provider_voucherify.operators.export import VoucherifyExportOperator
from airflow_provider_voucherify.storage.exported_files import ExportedFile
from airflow_provider_voucherify.sync.results.export_summary import ExportSummary
from airflow_provider_voucherify.sync.rows.exported_rows import ExportedRows
from airflow_provider_voucherify.task.export_run import ExportRun
from airflow_provider_voucherify.triggers.export import VoucherifyExportTrigger

EXPORTS = "/v1/exports"
_numbers = count(1)
FIELDS = ["id", "date", "result", "metadata.Favourite colour"]
ODD = 'a "quoted", two-\nline, żółć 😀\ttab \\ value'
REDEMPTIONS = [
    {"id": "r_1", "date": "2026-11-28T01:00:00.000Z", "result": "SUCCESS", "metadata": {"Favourite colour": "red"}},
    {"id": "r_2", "date": "2026-11-28T02:00:00.000Z", "result": "FAILURE", "metadata": {}},
    {"id": "r_3", "date": "2026-11-28T03:00:00.000Z", "result": "SUCCESS", "metadata": {"Favourite colour": ODD}},
]
VALUES = [
    ["r_1", "2026-11-28T01:00:00.000Z", "SUCCESS", "red"],
    ["r_2", "2026-11-28T02:00:00.000Z", "FAILURE", None],
    ["r_3", "2026-11-28T03:00:00.000Z", "SUCCESS", ODD],
]


@pytest.fixture
def shop(voucherify: LocalVoucherify) -> LocalVoucherify:
    """A project with three redemptions."""
    for redemption in REDEMPTIONS:
        voucherify.add_exported("redemption", redemption)
    return voucherify


@pytest.fixture
def warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """The database of the connection ``warehouse``."""
    path = tmp_path / "warehouse.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with closing(sqlite3.connect(path)) as connection:
        yield connection


def dag_of(**kwargs: Any) -> DAG:
    defaults: dict[str, Any] = {"exported_object": "redemption", "fields": FIELDS, "retry_delay": timedelta(0)}
    with DAG(f"exports_{next(_numbers)}", schedule=None) as dag:
        VoucherifyExportOperator(task_id="sync", **{**defaults, **kwargs})
    return dag


def export(logical_date: datetime | None = None, **kwargs: Any) -> DagRunResult:
    return run_dag(dag_of(**kwargs), logical_date=logical_date)


def calls(voucherify: LocalVoucherify, method: str) -> list[str]:
    return [request.path for request in voucherify.received if request.method == method]


def created(voucherify: LocalVoucherify) -> list[dict[str, Any]]:
    """Return the bodies of the calls that have created exports."""
    return [json.loads(request.body or b"") for request in voucherify.requests("POST", EXPORTS)]


def read(path: str) -> list[list[Any]]:
    """Return the columns' names and the rows of a file in any format."""
    with ObjectStoragePath(path).open("rb") as file:
        content = file.read()
    if path.endswith(".parquet"):
        table = parquet.read_table(io.BytesIO(content))
        return [table.column_names, *map(list, zip(*table.to_pydict().values(), strict=True))]
    content = gzip.decompress(content) if path.endswith(".gz") else content
    if ".csv" in path:
        header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
        return [header, *([value or None for value in row] for row in rows)]
    rows_of_json = [json.loads(line) for line in content.decode().split("\n") if line]
    return [[*rows_of_json[0]] if rows_of_json else [], *([*row.values()] for row in rows_of_json)]


# Where rows go

ENDINGS = ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_rows_are_in_a_file_as_they_are_at_voucherify(shop: LocalVoucherify, tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"new/redemptions.{ending}")

    run = export(path=path)

    assert run.state == "success"
    assert read(path) == [FIELDS, *VALUES]
    assert list((tmp_path / "new").iterdir()) == [Path(path)]
    summary = run.xcom("sync")
    assert (summary["rows"], summary["status"], summary["path"], summary["table"]) == (3, "DONE", path, None)
    assert (summary["columns"], summary["exported_object"]) == (FIELDS, "redemption")
    assert summary["bytes"] > 100
    assert summary["export_id"].startswith("exp_")


@pytest.mark.parametrize("ending", ["csv", "jsonl.gz", "parquet"])
def test_object_storage(shop: LocalVoucherify, bucket: str, ending: str) -> None:
    path = f"{bucket}/lake/{{{{ ds }}}}/redemptions.{ending}"

    run = export(path=path, logical_date=datetime(2026, 10, len(ending), tzinfo=UTC))

    written = f"{bucket}/lake/2026-10-0{len(ending)}/redemptions.{ending}"
    assert run.xcom("sync")["path"] == written
    assert read(written) == [FIELDS, *VALUES]


def test_a_table_is_made_filled_and_replaced(shop: LocalVoucherify, warehouse: sqlite3.Connection) -> None:
    run = export(table="redemptions", conn_id="warehouse")

    assert run.state == "success"
    assert (run.xcom("sync")["table"], run.xcom("sync")["path"]) == ("redemptions", None)
    rows = warehouse.execute("select id, date, result, metadata_favourite_colour from redemptions order by id")
    assert [list(row) for row in rows] == VALUES

    export(table="redemptions", conn_id="warehouse", filters={"result": {"conditions": {"$is": ["FAILURE"]}}})
    assert warehouse.execute("select id from redemptions").fetchall() == [("r_2",)]


def test_rows_that_changed_take_the_place_of_their_old_ones(
    voucherify: LocalVoucherify, warehouse: sqlite3.Connection
) -> None:
    warehouse.execute("create table orders (id text primary key, amount integer, loaded_by text default 'us')")
    warehouse.execute("insert into orders (id, amount) values ('o_1', 1), ('o_2', 2)")
    warehouse.commit()
    for order in ({"id": "o_2", "amount": 20}, {"id": "o_3", "amount": 30, "status": "PAID"}):
        voucherify.add_exported("order", order)
    kwargs: dict[str, Any] = {"exported_object": "order", "fields": ["amount", "status", "id"], "merge_on": "id"}

    for _ in range(2):
        assert export(table="orders", conn_id="warehouse", **kwargs).state == "success"

    rows = warehouse.execute("select id, amount, status, loaded_by from orders order by id").fetchall()
    assert rows == [("o_1", 1, None, "us"), ("o_2", 20, None, "us"), ("o_3", 30, "PAID", "us")]


@pytest.mark.parametrize("merge_on", [None, "id"])
def test_postgresql(
    shop: LocalVoucherify, postgres: str, monkeypatch: pytest.MonkeyPatch, merge_on: str | None
) -> None:
    import psycopg2

    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres)
    server = json.loads(postgres)
    where = {"host": server["host"], "port": server["port"], "user": server["login"], "dbname": server["schema"]}
    with closing(psycopg2.connect(**where)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("drop schema if exists shop cascade; create schema shop")
        cursor.execute('create table shop.redemptions (id text primary key, "date" timestamptz, result text)')
        cursor.execute("insert into shop.redemptions values ('r_1', now(), 'OLD'), ('r_0', now(), 'KEPT')")
        cursor.execute("create view shop.results as select result from shop.redemptions")

        run = export(table="shop.redemptions", conn_id="warehouse", merge_on=merge_on)

        assert run.state == "success"
        cursor.execute(
            "select id, extract(hour from date at time zone 'UTC')::int, metadata_favourite_colour"
            " from shop.redemptions where id <> 'r_0' order by id"
        )
        assert cursor.fetchall() == [("r_1", 1, "red"), ("r_2", 2, None), ("r_3", 3, ODD)]
        cursor.execute("select count(*) from shop.results where result = 'KEPT'")
        assert cursor.fetchall() == [(0 if merge_on is None else 1,)]


def test_an_error_of_the_database_leaves_the_table_as_it_was(
    shop: LocalVoucherify, warehouse: sqlite3.Connection, task_log: Callable[[], str]
) -> None:
    warehouse.execute("create table redemptions (id text check (id <> 'r_3'), result text)")
    warehouse.execute("insert into redemptions values ('old', 'row')")
    warehouse.commit()

    run = export(table="redemptions", conn_id="warehouse", hide_values=True)

    assert run.state == "failed"
    assert warehouse.execute("select id, result from redemptions").fetchall() == [("old", "row")]
    assert "IntegrityError was raised; hide_values leaves out what it says" in task_log()


# What the file is like


@pytest.mark.parametrize("header", ["names", "titles"])
@pytest.mark.parametrize("names", ["prefixed", "bare"])
@pytest.mark.parametrize("columns", ["records", "one"])
def test_columns_are_called_as_the_fields_are_whatever_the_file_calls_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, header: Any, names: Any, columns: Any
) -> None:
    path = str(tmp_path / "c.jsonl")
    options = {"export_header": header, "export_metadata_names": names, "export_metadata_columns": columns}
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, **options) as server:
        connect(monkeypatch, server)
        server.add_exported("redemption", {**REDEMPTIONS[0], "metadata": {"id": "odd", "tier": "gold"}})
        assert export(path=path, fields=["id", "voucher_code", "metadata.tier"]).state == "success"
        assert read(path) == [["id", "voucher_code", "metadata.tier"], ["r_1", None, "gold"]]
        assert export(path=path, fields=["id", "metadata", "voucher_code"]).state == "success"

    of_metadata = {
        ("records", "prefixed"): ["metadata.id", "metadata.tier"],
        ("records", "bare"): ["id_2", "tier"],
    }.get((columns, names), ["metadata"])
    found, _ = read(path)
    assert found == ["id", *of_metadata, "voucher_code"]


def test_many_odd_columns_in_a_table(voucherify: LocalVoucherify, warehouse: sqlite3.Connection) -> None:
    metadata = {"order": 1, "Größe": 2, "größe": 3, "9 lives": 4, "x" * 80: 5, "x" * 81: 6, 'q"uote': 7, "日本": 8}
    voucherify.add_exported("redemption", {"id": "r_1", "metadata": metadata})

    run = export(fields=["id", "metadata"], table="odd", conn_id="warehouse")

    assert run.state == "success"
    cursor = warehouse.execute("select * from odd")
    names = [column[0] for column in cursor.description]
    assert len(names) == 9
    assert {"metadata_order", "metadata_9_lives", "metadata_q_uote", "metadata_groe", "metadata_groe_2"} <= set(names)
    assert sorted(map(str, cursor.fetchone())) == [*"12345678", "r_1"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_export_without_rows(voucherify: LocalVoucherify, tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"empty.{ending}")

    run = export(path=path)

    assert run.state == "success"
    assert run.xcom("sync")["rows"] == 0
    assert read(path) == [[] if "jsonl" in ending else FIELDS]


def test_an_export_without_rows_empties_a_table_and_one_that_is_merged_leaves_it(
    voucherify: LocalVoucherify, warehouse: sqlite3.Connection
) -> None:
    warehouse.execute("create table redemptions (id text, date text, result text, metadata_favourite_colour text)")
    warehouse.execute("insert into redemptions (id) values ('old')")
    warehouse.commit()

    export(table="redemptions", conn_id="warehouse", merge_on="id")
    assert warehouse.execute("select id from redemptions").fetchall() == [("old",)]
    export(table="redemptions", conn_id="warehouse")
    assert warehouse.execute("select id from redemptions").fetchall() == []


# What is asked for


def test_what_changed_yesterday(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    for hour in ("2026-11-27T23:59:59.000Z", "2026-11-28T12:00:00.000Z", "2026-11-29T00:00:01.000Z"):
        voucherify.add_exported("redemption", {"id": hour, "created_at": hour})
    path = str(tmp_path / "file.csv")
    with DAG("daily", schedule="@daily", start_date=datetime(2026, 11, 1, tzinfo=UTC), catchup=False) as dag:
        VoucherifyExportOperator(
            task_id="sync",
            exported_object="redemption",
            fields=["id"],
            filters={
                "junction": "and",
                "created_at": {
                    "conditions": {"$after": ["{{ data_interval_start }}"], "$before": ["{{ data_interval_end }}"]}
                },
            },
            order="-created_at",
            path=path,
        )

    run = run_dag(dag, logical_date=datetime(2026, 11, 29, tzinfo=UTC))

    assert run.state == "success"
    [body] = created(voucherify)
    conditions = body["parameters"]["filters"]["created_at"]["conditions"]
    assert conditions["$after"] == ["2026-11-28T00:00:00.000Z"]
    assert conditions["$before"][0].endswith("T00:00:00.000Z")
    assert body["parameters"]["order"] == "-created_at"
    assert read(path)[1] == ["2026-11-28T12:00:00.000Z"]
    assert "2026-11-28" in str(rendered_fields(run, "sync")["filters"])


def test_three_calls_and_the_polls_whatever_the_number_of_rows(shop: LocalVoucherify, tmp_path: Path) -> None:
    export(path=str(tmp_path / "file.csv"))

    assert calls(shop, "POST") == [EXPORTS]
    gets = calls(shop, "GET")
    assert len(gets) == 3, "a poll, the address of the file, and the file"
    assert len(set(gets)) == 1


def test_all_wrong_parameters_at_once() -> None:
    with pytest.raises(VoucherifyConfigurationError) as raised:
        dag_of(
            exported_object="customer",
            fields=["source_id", "emial", "source_id"],
            filters={"created_at": {"$after": ["2026-01-01"]}, "junction": "xor"},
            order="-colour",
            campaign_id="camp_1",
            path="customers.xlsx",
            table="x",
            merge_on="id",
            fail_if={"failed": 3},
            warn_if={"rows_below": -1},
            deferrable="yes",
            poll_interval=0,
            completion_timeout="soon",
        )

    message = str(raised.value)
    for part in (
        "no field 'emial' (did you mean 'email'?)",
        "fields has a name more than once",
        "created_at of filters must be {'conditions': {...}}",
        "junction of filters must be 'and' or 'or'",
        "order must be one of name, id, email",
        "campaign_id is only for exports of vouchers",
        "give exactly one of path= (a file) and table=",
        "path must end in .csv, .jsonl",
        "merge_on= is for table=",
        "table= and conn_id=",
        "failed of fail_if cannot be checked by VoucherifyExportOperator",
        "rows_below of warn_if must be a number",
        "deferrable must be True or False",
        "poll_interval must be seconds",
        "completion_timeout must be seconds",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("kwargs", "part"),
    [
        ({"exported_object": "customers"}, "unknown exported_object 'customers'"),
        ({"fields": "id"}, "fields must be a list of names"),
        ({"fields": []}, "fields must be a list of names"),
        ({"path": None}, "give exactly one of path="),
        ({"path": None, "table": "a;drop", "conn_id": "x"}, "table must be the name of a table"),
        ({"path": None, "table": "a", "conn_id": "x", "merge_on": "code"}, "merge_on must be one of the fields"),
        ({"filters": [1]}, "filters must be a dict"),
        ({"hide_values": "no"}, "hide_values must be True or False"),
        ({"filters": {"date": {"conditions": {"$is": "x"}}}}, "$is of date in filters must be a condition"),
    ],
)
def test_a_wrong_parameter(kwargs: dict[str, Any], part: str) -> None:
    with pytest.raises(VoucherifyConfigurationError) as raised:
        dag_of(**{"path": "/tmp/x.csv", **kwargs})
    assert part in str(raised.value)


def test_a_run_without_a_data_interval_is_told_so(
    voucherify: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    filters = {"created_at": {"conditions": {"$after": ["{{ params.nothing }}"]}}}
    with DAG("no_interval", schedule=None, params={"nothing": None}) as dag:
        VoucherifyExportOperator(
            task_id="sync", exported_object="redemption", filters=filters, path=str(tmp_path / "x.csv"), retries=2
        )

    assert run_dag(dag).state == "failed"
    assert "$after of created_at in filters has no time" in task_log()
    assert voucherify.received == []


def test_a_field_that_voucherify_refuses_fails_the_task_for_good(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY) as server:
        connect(monkeypatch, server)
        run = export(fields=["id", "zzz"], path=str(tmp_path / "x.csv"), retries=3)

    assert run.state == "failed"
    assert calls(server, "POST") == [EXPORTS]
    assert "does not have 'zzz'" in task_log()


def test_a_place_that_cannot_be_written_to_costs_no_export(voucherify: LocalVoucherify, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    assert export(path=str(tmp_path / "file" / "x.csv")).state == "failed"
    assert voucherify.received == []


def test_mapped_tasks(shop: LocalVoucherify, tmp_path: Path) -> None:
    shop.add_exported("order", {"id": "o_1"})
    with DAG("mapped", schedule=None) as dag:
        VoucherifyExportOperator.partial(task_id="sync", fields=["id"], conn_id=None).expand_kwargs(
            [{"exported_object": name, "path": f"{tmp_path}/{name}.csv"} for name in ("redemption", "order")]
        )

    run = run_dag(dag)

    assert run.state == "success"
    assert [run.xcom("sync", map_index=index)["rows"] for index in (0, 1)] == [3, 1]
    assert read(f"{tmp_path}/order.csv") == [["id"], ["o_1"]]


# Limits, alerts, assets, links


@pytest.mark.parametrize("to", ["file", "table"])
def test_too_few_rows_fail_the_task_and_leave_what_is_there(
    shop: LocalVoucherify, warehouse: sqlite3.Connection, tmp_path: Path, to: str, task_log: Callable[[], str]
) -> None:
    path = tmp_path / "file.csv"
    path.write_text("old")
    warehouse.execute("create table redemptions (id text, date text, result text, metadata_favourite_colour text)")
    warehouse.execute("insert into redemptions (id) values ('old')")
    warehouse.commit()
    where = {"path": str(path)} if to == "file" else {"table": "redemptions", "conn_id": "warehouse"}

    run = export(fail_if={"rows_below": 4}, retries=2, **where)

    assert run.state == "failed"
    assert len(created(shop)) == 1, "the task was retried"
    assert path.read_text() == "old"
    assert warehouse.execute("select id from redemptions").fetchall() == [("old",)]
    assert run.xcom("sync")["warning"] == "the export has 3 rows, and rows_below of fail_if is 4"
    assert "what it was to replace is as it was" in task_log()


def test_few_rows_may_be_warned_of_and_alerts_asset_and_links_tell_of_the_export(
    shop: LocalVoucherify, bucket: str
) -> None:
    told: list[Any] = []
    path = f"{bucket}/exports/file.csv"

    run = export(
        path=path,
        warn_if={"rows_below": 4},
        fail_if={"rows_below": 3},
        outlets=[Asset(uri="s3://lake/redemptions")],
        on_success_callback=VoucherifySummaryNotifier(told.append),
    )

    summary = run.xcom("sync")
    assert summary["warning"] == "the export has 3 rows, and rows_below of warn_if is 4"
    [extra] = run.asset_extras("s3://lake/redemptions")
    assert (extra["rows"], extra["export_id"]) == (3, summary["export_id"])
    text = told[0]["voucherify_text"]
    assert text.startswith(f"Voucherify export of redemption objects: 3 rows in {path} (")
    assert summary["warning"] in text
    assert "<p>Voucherify export of redemption" in told[0]["voucherify_html"]
    links = shown_links(run.dag_run.dag_id, "sync")
    assert links["Exported file"] == (
        f"https://console.aws.amazon.com/s3/buckets/{bucket.rpartition('@')[2]}?prefix=exports/"
    )
    assert links["Voucherify dashboard"] == f"{shop.base_url}/v1/exports"


def test_lineage(voucherify: LocalVoucherify, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow 2 looks into the database for the table, which is there once the rows are."""
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres)
    with closing(BaseHook.get_hook("warehouse").get_conn()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("create schema if not exists shop; create table if not exists shop.redemptions (id text)")
        connection.commit()
    summary = ExportSummary(
        exported_object="redemption", export_id="exp_1", status="DONE", rows=3, bytes=9, columns=["id"], seconds=1
    )
    namespace = f"voucherify://{voucherify.base_url.removeprefix('http://')}"
    server = json.loads(postgres)
    of_table = (f"postgres://{server['host']}:{server['port']}", f"{server['schema']}.shop.redemptions")
    places: list[tuple[dict[str, Any], tuple[str, str]]] = [
        ({"path": "s3://lake@bucket/a/b.csv"}, ("s3://bucket", "a/b.csv")),
        ({"table": "shop.redemptions", "conn_id": "warehouse"}, of_table),
    ]
    for where, output in places:
        task = dag_of(**where).get_task("sync")
        task.summary = summary

        facets = task.get_openlineage_facets_on_complete(None)

        assert [(one.namespace, one.name) for one in facets.inputs] == [(namespace, "redemptions")]
        [written] = facets.outputs
        assert (written.namespace, written.name) == output
        assert written.outputFacets["outputStatistics"].rowCount == 3
        assert facets.run_facets["voucherify"].exportId == "exp_1"


# What goes wrong


def test_an_export_that_failed_is_made_anew_by_the_retry(shop: LocalVoucherify, tmp_path: Path) -> None:
    shop.next_exports(status="ERROR")
    path = str(tmp_path / "file.csv")

    run = export(path=path, retries=1)

    assert run.state == "success"
    assert len(created(shop)) == 2
    assert run.xcom("sync")["resumed"] is False
    assert read(path) == [FIELDS, *VALUES]


def test_without_retries_it_fails_the_task(shop: LocalVoucherify, tmp_path: Path, task_log: Callable[[], str]) -> None:
    shop.next_exports(status="ERROR")

    run = export(path=str(tmp_path / "file.csv"))

    assert run.state == "failed"
    assert "VoucherifyExportError" in task_log()
    assert run.xcom("sync", "voucherify_error")["error_type"] == "VoucherifyExportError"
    assert not (tmp_path / "file.csv").exists()


@pytest.mark.usefixtures("defer_at_once")
def test_a_token_that_has_expired_is_asked_for_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(tmp_path / "file.csv")
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, keep_bodies=True, export_seconds=0.3) as server:
        connect(monkeypatch, server)
        server.add_exported("redemption", REDEMPTIONS[0])
        server.misbehave("export", Status(401))
        run = export(path=path, deferrable=True)

        assert run.state == "success"
        assert read(path)[1:] == VALUES[:1]


@needs_store
@pytest.mark.parametrize("what", ["download", "write"])
def test_a_retry_goes_on_with_the_export_of_an_earlier_try(
    shop: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.storage import exported_files

    def die(*_: Any, **__: Any) -> None:
        undo.undo()
        raise OSError("the process was killed")

    undo = pytest.MonkeyPatch()
    if what == "download":
        undo.setattr(VoucherifyClient, "download_export", die)
    else:
        undo.setitem(exported_files._WRITERS, ".csv", die)
    path = str(tmp_path / "file.csv")

    run = export(path=path, retries=1)

    assert run.state == "success"
    assert len(created(shop)) == 1
    assert run.xcom("sync")["resumed"] is True
    assert read(path) == [FIELDS, *VALUES]


@needs_store
def test_a_retry_goes_on_with_an_export_whose_creation_was_not_answered(shop: LocalVoucherify, tmp_path: Path) -> None:
    path, filters = str(tmp_path / "file.csv"), {"result": {"conditions": {"$is": ["FAILURE"]}}}
    export(path=path, filters=filters)
    shop.misbehave(EXPORTS, DropAfter())

    run = export(path=path, filters=filters, retries=1)

    assert run.state == "success"
    assert len(created(shop)) == 2
    assert run.xcom("sync")["resumed"] is True
    assert run.xcom("sync")["export_id"] == newest_export()
    assert read(path)[1:] == VALUES[1:2]


@needs_store
@pytest.mark.parametrize(
    "other",
    [
        {"fields": FIELDS[:3]},
        {"fields": FIELDS, "order": "-id"},
        {"fields": FIELDS, "filters": {"result": {"conditions": {"$is": ["FAILURE"]}}}},
    ],
    ids=str,
)
def test_a_retry_takes_no_other_export_for_it(
    shop: LocalVoucherify, tmp_path: Path, other: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for has never arrived; before that, and since then, others have made exports of their own."""
    path = str(tmp_path / "file.csv")
    export(path=path)
    shop.misbehave(EXPORTS, DropBefore())

    def by_others(_: Any) -> None:
        with VoucherifyHook() as hook:
            hook.create_export("redemption", **other)
            hook.create_export("customer", fields=["source_id"])

    run = export(path=path, retries=1, on_retry_callback=by_others)

    assert run.state == "success"
    assert run.xcom("sync")["resumed"] is False
    assert run.xcom("sync")["export_id"] == newest_export()
    assert read(path) == [FIELDS, *VALUES]


@needs_store
def test_exports_of_others_with_odd_parameters_are_in_nobodys_way(shop: LocalVoucherify, tmp_path: Path) -> None:
    odd = {"exported_object": "redemption", "created_at": "2099-01-01T00:00:00.000Z", "status": "DONE"}
    exports = [
        {**odd, "id": f"exp_{number}", "parameters": parameters}
        for number, parameters in enumerate([None, {"fields": FIELDS, "filters": ["odd"]}, {"filters": "odd"}])
    ]
    shop.misbehave(EXPORTS, DropBefore())
    shop.misbehave(EXPORTS, Malformed(json.dumps({"exports": exports}).encode()))

    run = export(path=str(tmp_path / "file.csv"), retries=1)

    assert run.state == "success"
    assert run.xcom("sync")["resumed"] is False
    assert read(str(tmp_path / "file.csv")) == [FIELDS, *VALUES]


@needs_store
def test_without_the_list_of_exports_a_retry_makes_another_one(shop: LocalVoucherify, tmp_path: Path) -> None:
    shop.misbehave(EXPORTS, DropAfter())
    shop.misbehave(EXPORTS, Status(404))

    run = export(path=str(tmp_path / "file.csv"), retries=1)

    assert run.state == "success"
    assert len(created(shop)) == 2


def newest_export() -> str:
    with VoucherifyHook() as hook:
        export_id: str = hook.list_exports(order="-created_at").exports[0].id
        return export_id


@needs_store
def test_a_clear_makes_another_export(shop: LocalVoucherify, tmp_path: Path) -> None:
    dag = dag_of(path=str(tmp_path / "file.csv"))
    run = run_dag(dag)
    first = run.xcom("sync")["export_id"]

    clear_and_run(dag, run)

    assert len(created(shop)) == 2
    assert run.xcom("sync")["export_id"] != first


@needs_store
def test_a_file_that_cannot_be_fetched_is_exported_anew(shop: LocalVoucherify, tmp_path: Path) -> None:
    shop.misbehave("export", Status(404), times=2)

    run = export(path=str(tmp_path / "file.csv"), retries=1)

    assert run.state == "success"
    assert len(created(shop)) == 2


def test_a_file_that_is_not_csv_leaves_the_old_one(
    shop: LocalVoucherify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_log: Callable[[], str]
) -> None:
    from airflow_provider_voucherify.client.http import VoucherifyClient

    def truncated(_: Any, __: str, file: Any) -> int:
        return int(file.write(b"id,date,result,tier\n\n\nr_1,2026,SUCCESS,gold\n\nr_2,20"))

    monkeypatch.setattr(VoucherifyClient, "download_export", truncated)
    (tmp_path / "file.csv").write_text("old")

    assert export(path=str(tmp_path / "file.csv")).state == "failed"
    assert (tmp_path / "file.csv").read_text() == "old"
    assert "row 2 of the export has 2 values for 4 columns" in task_log()


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.usefixtures("defer_at_once")
def test_time_is_up(voucherify: LocalVoucherify, tmp_path: Path, deferrable: bool, task_log: Callable[[], str]) -> None:
    voucherify.next_exports(status="IN_PROGRESS")

    run = export(path=str(tmp_path / "file.csv"), deferrable=deferrable, completion_timeout=0.3)

    assert run.state == "failed"
    said = task_log()
    assert "VoucherifyCompletionTimeoutError" in said
    assert "was not finished in time; it continues at Voucherify" in said


@pytest.mark.needs_airflow("3.0", "Airflow 2 itself ends a task after on_kill")
@needs_store
@pytest.mark.parametrize("when", ["waiting", "writing"])
def test_a_task_that_is_killed_ends_and_its_retry_goes_on_with_the_same_export(
    shop: LocalVoucherify, tmp_path: Path, when: str, task_log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.sync.rows import exported_rows

    monkeypatch.setattr(exported_rows, "ROWS_PER_CHECK", 1)
    path = tmp_path / "file.csv"
    fetch, kills = VoucherifyClient.download_export, iter([True])

    def killed_once(client: Any, export_id: str, file: Any) -> int:
        size = fetch(client, export_id, file)
        if next(kills, False):
            os.kill(os.getpid(), signal.SIGTERM)
        return size

    if when == "waiting":
        shop.next_exports(seconds=3)
        tell_to_end(lambda: len(calls(shop, "GET")) > 1)
    else:
        monkeypatch.setattr(VoucherifyClient, "download_export", killed_once)

    run = export(path=str(path), retries=1)

    said = task_log()
    assert (
        f"VoucherifyTaskKilledError: the task was killed while it {'waited for' if when == 'waiting' else 'wrote'}"
        in said
    )
    assert run.state == "success"
    assert len(created(shop)) == 1
    assert run.xcom("sync")["resumed"] is True
    assert read(str(path)) == [FIELDS, *VALUES]


# In the triggerer


@pytest.mark.usefixtures("defer_at_once")
def test_a_deferred_task_leaves_no_token_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task_log: Callable[[], str]
) -> None:
    path = str(tmp_path / "file.csv")
    with LocalVoucherify(app_id=APP_ID, secret_key=SECRET_KEY, export_seconds=0.5) as server:
        connect(monkeypatch, server)
        server.add_exported("redemption", REDEMPTIONS[0])
        with server._project.lock:  # the secret that tokens are made with is the only thing they all have in common
            exports = server._project.exports
        tokens: list[str] = []
        made = exports._token
        monkeypatch.setattr(type(exports), "_token", lambda _, *args: tokens.append(made(*args)) or tokens[-1])
        run = export(path=path, deferrable=True, outlets=[Asset(uri="s3://lake/redemptions")])

    assert run.state == "success"
    assert run.deferred_tasks() == {"sync"}
    assert read(path)[1:] == VALUES[:1]
    assert tokens
    everything = json.dumps([run.xcoms("sync"), run.asset_extras("s3://lake/redemptions"), _triggers()], default=str)
    everything += "\n".join(line for line in task_log().splitlines() if "/v1/exports" not in line)  # the stand-in's own
    for secret in (*(token.partition(".")[2] for token in tokens), "token=", SECRET_KEY):
        assert secret not in everything


def _triggers() -> list[str]:
    from airflow.models.trigger import Trigger
    from airflow.utils.session import create_session

    with create_session() as session:
        return [str(trigger.kwargs) for trigger in session.query(Trigger)]


class Waits:
    """What 20 tasks do that wait for their exports in one triggerer."""

    def __init__(self, number: int, **kwargs: Any) -> None:
        with VoucherifyHook() as hook:
            self.ids = [hook.create_export("redemption").id for _ in range(number)]
        now = time.time()
        given = {"created_at": now, "end_time": now + 30, "poll_interval": 0.1, **kwargs}
        self.triggers = [VoucherifyExportTrigger("voucherify_default", one, **given) for one in self.ids]

    def fire(self) -> list[dict[str, Any]]:
        async def event(trigger: VoucherifyExportTrigger) -> dict[str, Any]:
            [fired] = [fired.payload async for fired in trigger.run()]
            return dict(fired)

        async def all_of_them() -> list[dict[str, Any]]:
            return await asyncio.gather(*map(event, self.triggers))

        return asyncio.run(all_of_them())


def gets(voucherify: LocalVoucherify) -> int:
    return len(calls(voucherify, "GET"))


def test_twenty_exports_cost_as_many_polls_as_one(voucherify: LocalVoucherify) -> None:
    voucherify.next_exports(times=20, seconds=0.5)
    waits = Waits(20)

    events = waits.fire()

    assert [event["export_id"] for event in events] == waits.ids
    assert {event["status"] for event in events} == {"finished"}
    assert gets(voucherify) <= 10
    assert "token" not in json.dumps(events)


def test_exports_that_the_list_does_not_show_are_polled_one_by_one(voucherify: LocalVoucherify) -> None:
    waits = Waits(2)
    Waits(100)

    assert [event["status"] for event in waits.fire()] == ["finished"] * 2
    assert calls(voucherify, "GET")[0] == EXPORTS
    assert {path.rpartition("/")[2] for path in calls(voucherify, "GET")[1:]} == set(waits.ids)


def test_without_the_list_they_are_polled_one_by_one(voucherify: LocalVoucherify) -> None:
    voucherify.misbehave(lambda method, path: method == "GET" and path == EXPORTS, Status(403), times=None)

    assert [event["status"] for event in Waits(3).fire()] == ["finished"] * 3


def test_an_export_that_is_not_there_disturbs_no_other(voucherify: LocalVoucherify) -> None:
    waits = Waits(3)
    with VoucherifyHook() as hook:
        hook.delete_export(waits.ids[1])

    events = waits.fire()

    assert [event["status"] for event in events] == ["finished", "unreachable", "finished"]
    assert "404" in events[1]["message"]


@pytest.mark.parametrize(("status", "outcome"), [(503, "finished"), (401, "unreachable")])
def test_polls_that_fail(voucherify: LocalVoucherify, status: int, outcome: str) -> None:
    voucherify.misbehave(lambda method, path: method == "GET", Status(status), times=3)

    assert [event["status"] for event in Waits(1).fire()] == [outcome]


def test_each_ends_at_its_own_time(voucherify: LocalVoucherify) -> None:
    voucherify.next_exports(times=2, status="SCHEDULED")
    waits = Waits(3)
    for trigger, seconds in zip(waits.triggers, (0.3, 0.6, 30), strict=True):
        trigger.end_time = time.time() + seconds

    events = waits.fire()

    assert [event["status"] for event in events] == ["timeout", "timeout", "finished"]
    assert events[0]["message"] == f"export {waits.ids[0]} was not finished in time"


def test_a_serialised_trigger_is_the_same_trigger() -> None:
    trigger = VoucherifyExportTrigger("c", "exp_1", 1.0, 2.0, 3.0, 4.0, 5, {"resumed": True})

    path, arguments = trigger.serialize()

    assert path == f"{VoucherifyExportTrigger.__module__}.VoucherifyExportTrigger"
    assert VoucherifyExportTrigger(**arguments).serialize() == trigger.serialize()


@pytest.mark.parametrize("event", [None, {}, {"version": 2, "status": "finished"}, {"version": 1, "status": "huh"}])
def test_an_event_that_is_not_understood_is_no_success(event: Any) -> None:
    task = dag_of(path="/tmp/x.csv").get_task("sync")

    with pytest.raises(VoucherifyError, match="cannot be understood"):
        ExportRun(task, {}, lambda: False).resume(event)


# Large


@pytest.mark.parametrize("ending", ["csv", "jsonl.gz", "parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, growth_mb: Callable[[], float], ending: str) -> None:
    """What is written first is what a writer takes by itself, Arrow's pools among it."""
    source = tmp_path / "source.csv"

    def write(number: int) -> float:
        with source.open("w") as file:
            file.write("id,date,result,x\n")
            file.writelines(f"r_{one},2026-11-28T01:00:00.000Z,SUCCESS,{'v' * 60}\n" for one in range(number))
        with (
            source.open("rb") as file,
            ExportedFile(f"{tmp_path}/f.{ending}").replaced_by(rows := ExportedRows(file, FIELDS)),
        ):
            assert rows.count == number
        return growth_mb()

    small = write(60_000)
    assert write(240_000) - small < 15
