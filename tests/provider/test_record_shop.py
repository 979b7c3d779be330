"""A record shop's database, end to end: its customers with their lifetime value, its tracks as products."""

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

TABLES = """
    CREATE TABLE Customer (
        CustomerId INTEGER PRIMARY KEY, FirstName NVARCHAR(40) NOT NULL, LastName NVARCHAR(20) NOT NULL,
        Company NVARCHAR(80), Address NVARCHAR(70), City NVARCHAR(40), State NVARCHAR(40), Country NVARCHAR(40),
        PostalCode NVARCHAR(10), Phone NVARCHAR(24), Email NVARCHAR(60) NOT NULL
    );
    CREATE TABLE Invoice (
        InvoiceId INTEGER PRIMARY KEY, CustomerId INTEGER NOT NULL REFERENCES Customer, InvoiceDate DATETIME NOT NULL,
        Total NUMERIC(10, 2) NOT NULL
    );
    CREATE TABLE Genre (GenreId INTEGER PRIMARY KEY, Name NVARCHAR(120));
    CREATE TABLE Track (
        TrackId INTEGER PRIMARY KEY, Name NVARCHAR(200) NOT NULL, GenreId INTEGER REFERENCES Genre,
        Composer NVARCHAR(220), UnitPrice NUMERIC(10, 2) NOT NULL
    );
"""
NAMES = [
    ("Lúcia", "Magalhães"),
    ("Jørgen", "Ødegård"),
    ("Zoë", "D'Arcy"),
    ("Łukasz", "Żółć"),
    ("Mária", "Ştefănescu"),
    ("Ἑλένη", "Παπαδοπούλου"),
    ("花子", "山田"),
    ("نور", "الهدى"),
    ("Jean-Luc", 'de "La" Tour'),
    ("Ann", "O\u00a0Neil"),
]
PLACES = [
    ("Av. São João, 1", "São Paulo", "SP", "Brazil", "01035-000"),
    ("Ullevålsveien 14", "Oslo", None, "Norway", "0171"),
    ("1 Microsoft Way; Bldg \\5", "Redmond", "WA", "USA", "98052-8300"),
    ("Theodor-Heuss-Straße 34", "Stuttgart", None, "Germany", "70174"),
    ("9, Place Louis Barthou", "Bordeaux", "", "France", None),
    ("Tauentzienstraße 8", None, None, None, None),
]
TITLES = [
    "Fast As a Shark",
    "¿Qué Pasa?",
    "Für Elise, 2nd mov.",
    'The "Best" of…',
    "99% Rock\t& Roll",
    "夜想曲",
    "Ça ira 🎸",
    "<b>Bold</b>; --",
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with what real ones have: names of all scripts, quotes, empty and missing values, decimal prices."""
    file = tmp_path_factory.mktemp("shop") / "shop.sqlite"
    customers = [
        (
            *(number, *NAMES[number % len(NAMES)], None if number % 5 else f"Records & Söhne №{number}"),
            *(
                *PLACES[number % len(PLACES)],
                None if number % 7 == 0 else f"+47 22 44 22 {number:02}",
                f"c{number}@x.no",
            ),
        )
        for number in range(1, 60)
    ]
    invoices = [(n, 1 + n % 59, f"2024-{1 + n % 12:02}-01 00:00:00", (99 * (1 + n % 14)) / 100) for n in range(1, 413)]
    genres = [(number, name) for number, name in enumerate(["Rock", "Bossa Nova", "Hip Hop/Rap", "R&B/Soul", None], 1)]
    tracks = [
        (
            number,
            f"{TITLES[number % len(TITLES)]} ({number})",
            1 + number % 5,
            None if number % 4 else "Bach, J. S.",
            price,
        )
        for number in range(1, 3504)
        for price in [1.99 if number % 10 == 0 else 0.99]
    ]
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(TABLES)
        for table, rows in (("Customer", customers), ("Invoice", invoices), ("Genre", genres), ("Track", tracks)):
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    return file


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
def _warehouse(monkeypatch: pytest.MonkeyPatch, shop: Path) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(shop)}))


def source(shop: Path, sql: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{shop}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def sync(resource: str, sql: str, mapping: dict[str, str]) -> dict[str, Any]:
    with DAG("record_shop", schedule=None) as dag:
        VoucherifyBulkUpdateOperator(task_id="sync", resource=resource, sql=sql, sql_conn_id="shop", mapping=mapping)
    summary: dict[str, Any] = run_dag(dag).xcom("sync")
    return summary


def test_customers_arrive_complete_with_their_lifetime_value(voucherify: LocalVoucherify, shop: Path) -> None:
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

    rows = source(shop, CUSTOMERS)
    assert summary["rows_read"] == summary["created"] == len(rows) == 59
    for row in rows:
        stored = voucherify.customers[str(row["CustomerId"])]
        assert stored["name"] == row["Name"]
        assert stored["address"].get("state") == row["State"]
        assert stored["address"].get("postal_code") == row["PostalCode"]
        assert stored.get("phone") == row["Phone"]
        assert stored["metadata"]["lifetime_value"] == row["LifetimeValue"]
        assert stored["metadata"].get("company") == row["Company"]
    assert voucherify.customers["3"]["name"] == "Łukasz Żółć"


def test_tracks_arrive_complete_as_products(voucherify: LocalVoucherify, shop: Path) -> None:
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

    rows = source(shop, TRACKS)
    assert summary["rows_read"] == summary["created"] == len(rows) == 3503
    for row in rows:
        stored = voucherify.products[str(row["TrackId"])]
        assert (stored["name"], stored["price"]) == (row["Name"], row["Price"])
        assert stored["metadata"].get("composer") == row["Composer"]
