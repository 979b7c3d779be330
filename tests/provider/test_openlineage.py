"""OpenLineage: what Airflow's own provider writes to a file of the provider's tasks."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.sync.results.summary import SyncSummary

OPENLINEAGE = tuple(map(int, version("apache-airflow-providers-openlineage").split(".")[:2]))


class Written(NamedTuple):
    """The events of all runs, and the namespace of the Voucherify that they went to."""

    events: list[dict[str, Any]]
    namespace: str
    folder: Path

    def one(self, job: str, event_type: str) -> dict[str, Any]:
        [event] = [e for e in self.events if (e["job"]["name"], e["eventType"]) == (job, event_type)]
        return event


@pytest.fixture(scope="module")
def warehouse(postgres: str) -> str:
    """A database of its own with customers and their orders; gives its connection as JSON."""
    import psycopg2

    server = {**json.loads(postgres), "schema": "lineage"}
    where = {"host": server["host"], "port": server["port"], "user": server["login"]}
    with closing(psycopg2.connect(**where, dbname="postgres")) as connection:
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE lineage")
    with closing(psycopg2.connect(**where, dbname="lineage")) as connection, connection:
        connection.cursor().execute(
            "CREATE TABLE customers (customer_id text, name text, country text); CREATE SCHEMA shop; "
            "CREATE TABLE shop.orders (customer_id text, cents int); "
            "INSERT INTO customers VALUES ('c1', 'Ann', 'PL'), ('c2', 'Bo', 'PL'), ('c3', 'Cy', 'IE'); "
            "INSERT INTO shop.orders VALUES ('c1', 100), ('c1', 200), ('c2', 300), ('c3', 400)"
        )
    return json.dumps(server)


@pytest.fixture(scope="module")
def written(warehouse: str, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("openlineage")
    script = Path(__file__).with_name("openlineage_run.py")
    events = folder / "events.jsonl"
    run = subprocess.run(
        [sys.executable, str(script), str(events), str(folder), warehouse],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5_000:] + run.stderr[-5_000:]
    base_url = (folder / "base_url").read_text()
    return Written(
        [json.loads(line) for line in events.read_text().splitlines()],
        f"voucherify://{base_url.removeprefix('http://')}",
        folder,
    )


def named(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((dataset["namespace"], dataset["name"]) for dataset in datasets)


def test_the_tables_of_a_query_are_inputs_as_airflow_s_own_sql_operators_name_them(
    written: Written, warehouse: str
) -> None:
    event = written.one("from_postgres.sync", "COMPLETE")

    namespace = f"postgres://127.0.0.1:{json.loads(warehouse)['port']}"
    assert named(event["inputs"]) == [(namespace, "lineage.public.customers"), (namespace, "lineage.shop.orders")]
    assert "%(country)s" in event["job"]["facets"]["sql"]["query"]
    columns = {i["name"]: [field["name"] for field in i["facets"]["schema"]["fields"]] for i in event["inputs"]}
    assert columns["lineage.shop.orders"] == ["customer_id", "cents"]


def test_the_output_is_the_resource_of_the_host_with_rows_and_bytes(written: Written) -> None:
    event = written.one("from_postgres.sync", "COMPLETE")

    (output,) = event["outputs"]
    assert (output["namespace"], output["name"]) == (written.namespace, "customers")
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (2, event["run"]["facets"]["voucherify"]["bytesSent"])
    assert statistics["size"] > 50


def test_the_run_facet_has_the_counts_of_the_summary_after_a_deferral_too(written: Written) -> None:
    facet = written.one("from_postgres.sync", "COMPLETE")["run"]["facets"]["voucherify"]

    counts = {"rowsRead": 2, "submitted": 2, "created": 2, "updated": 0, "failed": 0, "refused": 0, "requests": 1}
    assert counts.items() <= facet.items()
    assert len(facet["asyncActionIds"]) == 1
    starts = [e for e in written.events if (e["job"]["name"], e["eventType"]) == ("from_postgres.sync", "START")]
    assert len(starts) == 2, "before and after the deferral"


@pytest.mark.skipif(OPENLINEAGE < (2, 16), reason="Airflow's OpenLineage provider looks at outlets from 2.16 on")
def test_an_outlet_is_the_same_dataset(written: Written) -> None:
    start = next(e for e in written.events if e["job"]["name"] == "from_postgres.sync")

    assert named(start["outputs"]) == [(written.namespace, "customers")]


def test_a_query_whose_hook_cannot_tell_has_no_inputs_and_its_text(written: Written) -> None:
    event = written.one("from_sqlite.sync", "COMPLETE")

    assert event["inputs"] == []
    assert event["job"]["facets"]["sql"]["query"] == "SELECT sku AS source_id FROM products"
    assert named(event["outputs"]) == [(written.namespace, "products")]


def test_a_file_is_the_input_with_the_rows_read(written: Written) -> None:
    event = written.one("from_a_file.sync", "COMPLETE")

    (source,) = event["inputs"]
    assert (source["namespace"], source["name"]) == ("file", f"{written.folder}/vouchers.jsonl")
    assert source["inputFacets"]["inputStatistics"]["rowCount"] == 1


def test_too_many_failures_are_an_error_with_the_counts(written: Written) -> None:
    event = written.one("too_many_failures.sync", "FAIL")

    assert event["run"]["facets"]["errorMessage"]["message"].startswith("1 of 2 rows failed or was refused")
    facet = event["run"]["facets"]["voucherify"]
    assert (facet["refused"], facet["succeeded"]) == (1, 1)
    assert "private" not in json.dumps(facet)
    (output,) = event["outputs"]
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 1


def test_an_error_before_anything_is_known_is_an_error_without_counts(written: Written) -> None:
    event = written.one("wrong_key.sync", "FAIL")

    assert "answered with 401" in event["run"]["facets"]["errorMessage"]["message"]
    assert "voucherify" not in event["run"]["facets"]
    assert named(event["outputs"]) == [(written.namespace, "customers")]
    assert "wrong-key-123" not in json.dumps(written.events)


def test_a_dry_run_has_no_output(written: Written) -> None:
    event = written.one("dry_run.sync", "COMPLETE")

    assert event["outputs"] == []
    assert event["run"]["facets"]["voucherify"]["dryRun"] is True


def test_a_function_and_a_sensor_have_the_output_that_they_know_of(written: Written) -> None:
    sent, waited = (written.one(f"function_and_sensor.{name}", "COMPLETE") for name in ("sync", "wait"))

    assert named(sent["outputs"]) == named(waited["outputs"]) == [(written.namespace, "products")]
    statistics = [e["outputs"][0]["outputFacets"]["outputStatistics"] for e in (sent, waited)]
    assert [("rowCount" in one, "size" in one) for one in statistics] == [(False, True), (True, False)]


@pytest.mark.parametrize(
    ("path", "dataset"),
    [
        ("s3://aws_default@bucket/in/customers.csv", ("s3://bucket", "in/customers.csv")),
        ("gs://bucket/customers.parquet", ("gs://bucket", "customers.parquet")),
        ("file:///var/in/customers.csv", ("file", "/var/in/customers.csv")),
        ("/var/in/customers.csv", ("file", "/var/in/customers.csv")),
    ],
)
def test_a_file_is_named_by_openlineage_s_rules_and_without_the_connection(path: str, dataset: tuple[str, str]) -> None:
    operator = VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", path=path, dry_run=True)
    operator.summary = SyncSummary(
        resource="customers",
        rows_read=1,
        submitted=None,
        refused=0,
        superseded=0,
        async_action_ids=[],
        requests=1,
        bytes_sent=9,
        dry_run=True,
    )

    assert [(i.namespace, i.name) for i in operator.get_openlineage_facets_on_complete(None).inputs] == [dataset]


@pytest.mark.parametrize("connection", [None, '{"conn_type": "voucherify"}'], ids=["no connection", "an empty one"])
def test_without_a_usable_connection_the_inputs_are_told_alone(
    monkeypatch: pytest.MonkeyPatch, connection: str | None
) -> None:
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_TO_BE_MADE", connection)
    operator = VoucherifyBulkUpdateOperator(
        task_id="sync", resource="customers", path="s3://bucket/customers.csv", voucherify_conn_id="to_be_made"
    )

    lineage = operator.get_openlineage_facets_on_failure(None)

    assert [(i.namespace, i.name) for i in lineage.inputs] == [("s3://bucket", "customers.csv")]
    assert lineage.outputs == []
