"""A real database, end to end: Chinook's customers with their lifetime value, its tracks as products."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from dags import run_dag

from airflow_provider_voucherify.local_voucherify import LocalVoucherify
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

CHINOOK = Path(__file__).parents[3] / "shared" / "data" / "chinook.sqlite"

pytestmark = pytest.mark.skipif(not CHINOOK.exists(), reason=f"the Chinook database is not there ({CHINOOK})")

CUSTOMERS = """
    SELECT c.CustomerId, c.FirstName || ' ' || c.LastName AS Name, c.Email, c.Phone, c.Address, c.City, c.State,
           c.Country, c.PostalCode, c.Company, ROUND(SUM(i.Total), 2) AS LifetimeValue, COUNT(*) AS Invoices
    FROM Customer c JOIN Invoice i USING (CustomerId) GROUP BY c.CustomerId
"""
TRACKS = """
    SELECT t.TrackId, t.Name, CAST(ROUND(t.UnitPrice * 100) AS INTEGER) AS Price, t.Composer, g.Name AS Genre
    FROM Track t JOIN Genre g USING (GenreId)
"""


@pytest.fixture(autouse=True)
def _warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CHINOOK", json.dumps({"conn_type": "sqlite", "host": str(CHINOOK)}))


def source(sql: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{CHINOOK}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def sync(resource: str, sql: str, mapping: dict[str, str]) -> dict[str, Any]:
    with DAG("chinook", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource=resource, sql=sql, sql_conn_id="chinook", mapping=mapping)
    summary: dict[str, Any] = run_dag(dag).xcom("sync")
    return summary


def test_customers_arrive_complete_with_their_lifetime_value(voucherify: LocalVoucherify) -> None:
    summary = sync(
        "customers",
        CUSTOMERS,
        {
            "CustomerId": "source_id",
            "Name": "name",
            "Email": "email",
            "Phone": "phone",
            "Address": "address.line_1",
            "City": "address.city",
            "State": "address.state",
            "Country": "address.country",
            "PostalCode": "address.postal_code",
            "Company": "metadata.company",
            "LifetimeValue": "metadata.lifetime_value",
            "Invoices": "metadata.invoices",
        },
    )

    rows = source(CUSTOMERS)
    assert summary["rows_read"] == summary["created"] == len(rows) == 59
    for row in rows:
        stored = voucherify.customers[str(row["CustomerId"])]
        assert stored["name"] == row["Name"]
        assert stored["address"].get("state") == row["State"]
        assert stored["metadata"]["lifetime_value"] == row["LifetimeValue"]
        assert stored["metadata"].get("company") == row["Company"]
    assert voucherify.customers["1"]["name"] == "Luís Gonçalves"


def test_tracks_arrive_complete_as_products(voucherify: LocalVoucherify) -> None:
    summary = sync(
        "products",
        TRACKS,
        {
            "TrackId": "source_id",
            "Name": "name",
            "Price": "price",
            "Composer": "metadata.composer",
            "Genre": "metadata.genre",
        },
    )

    rows = source(TRACKS)
    assert summary["rows_read"] == summary["created"] == len(rows) == 3503
    for row in rows:
        stored = voucherify.products[str(row["TrackId"])]
        assert (stored["name"], stored["price"]) == (row["Name"], row["Price"])
        assert stored["metadata"].get("composer") == row["Composer"]
