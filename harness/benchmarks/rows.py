"""
The rows of every measurement: customers with an address of five and metadata of five, some 277 bytes each as JSON.

The same rows come from a SQLite file, a PostgreSQL table, a generator of dicts, a JSON lines file and a CSV file.
Nothing here needs more than the standard library (and psycopg2 for PostgreSQL), since it also runs beside the peers.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

MAX_BODY_BYTES = 10_485_760
ROWS_PER_FETCH = 1_000

COLUMNS = (
    *("source_id", "name", "email", "address_line_1", "address_city", "address_state", "address_country"),
    *("address_postal_code", "tier", "ltv", "orders", "vip", "last_order"),
)
TIERS = ("bronze", "silver", "gold")

Kind = Literal["sqlite", "postgres", "records", "jsonl", "csv"]
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where the rows come from.

    :param kind: ``records`` is a generator of dicts.
    :param where: a file's path, or PostgreSQL's connection string.
    :param rows: how many of them.
    """

    kind: Kind
    where: str
    rows: int


Sender = Callable[[Source, str], dict[str, float] | None]
"""Sends a source's rows to the server at a URL; returns what it has measured itself, if anything."""


def row(i: int) -> tuple[Any, ...]:
    """Return the row with a number."""
    return (
        f"crm-{i:07}",
        f"Zoë Lenz {i}",
        f"z{i}@example.com",
        f"{i % 997} Rue Élie",
        "Montréal",
        "QC",
        "CA",
        f"H{i % 10}Z {i % 9}X9",
        TIERS[i % 3],
        (i % 100_000) / 100,
        i % 50,
        i % 2,
        f"2026-{i % 12 + 1:02}-{i % 28 + 1:02}",
    )


def record(row: Row) -> dict[str, Any]:
    """Build the API's record of a row, as one writes it by hand."""
    source_id, name, email, line_1, city, state, country, postal_code, tier, ltv, orders, vip, last_order = row
    return {
        "source_id": source_id,
        "name": name,
        "email": email,
        "address": {"line_1": line_1, "city": city, "state": state, "country": country, "postal_code": postal_code},
        "metadata": {"tier": tier, "ltv": ltv, "orders": orders, "vip": vip, "last_order": last_order},
    }


def record_of_dict(row: dict[str, Any]) -> dict[str, Any]:
    """Build the API's record of a row that is a dict, as one writes it by hand."""
    return {
        "source_id": row["source_id"],
        "name": row["name"],
        "email": row["email"],
        "address": {
            "line_1": row["address_line_1"],
            "city": row["address_city"],
            "state": row["address_state"],
            "country": row["address_country"],
            "postal_code": row["address_postal_code"],
        },
        "metadata": {
            "tier": row["tier"],
            "ltv": row["ltv"],
            "orders": row["orders"],
            "vip": row["vip"],
            "last_order": row["last_order"],
        },
    }


def dicts(rows: int) -> Iterator[dict[str, Any]]:
    """Give rows as dicts."""
    return (dict(zip(COLUMNS, row(i), strict=True)) for i in range(rows))


def largest_chunk() -> int:
    """Return how many records, in thousands, fit into a body that ``json.dumps`` writes as it does by default."""
    widest = len(json.dumps(record((*row(2_999_999)[:-1], date(2026, 12, 31))), default=str)) + len(", ")
    return MAX_BODY_BYTES // widest // 1_000 * 1_000


def write_sqlite(path: Path, rows: int) -> None:
    """Fill a table ``customers`` of a new database."""
    types = ["TEXT"] * 9 + ["REAL", "INTEGER", "INTEGER", "TEXT"]
    with closing(sqlite3.connect(path)) as database, database:
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(COLUMNS, types, strict=True))
        database.execute(f"CREATE TABLE customers ({columns})")
        marks = ", ".join("?" * len(COLUMNS))
        database.executemany(f"INSERT INTO customers VALUES ({marks})", map(row, range(rows)))


def write_postgres(where: str, rows: int) -> None:
    """Fill a table ``customers`` with rows that differ in type only: ``vip`` is a boolean, ``last_order`` a date."""
    import psycopg2

    with closing(psycopg2.connect(where)) as database, database, database.cursor() as cursor:
        cursor.execute(
            """
            CREATE UNLOGGED TABLE customers AS SELECT
              'crm-' || lpad(i::text, 7, '0') AS source_id, 'Zoë Lenz ' || i AS name,
              'z' || i || '@example.com' AS email, i %% 997 || ' Rue Élie' AS address_line_1,
              'Montréal' AS address_city, 'QC' AS address_state, 'CA' AS address_country,
              'H' || i %% 10 || 'Z ' || i %% 9 || 'X9' AS address_postal_code,
              (ARRAY['bronze', 'silver', 'gold'])[i %% 3 + 1] AS tier, (i %% 100000)::float8 / 100 AS ltv,
              i %% 50 AS orders, i %% 2 = 1 AS vip, make_date(2026, i %% 12 + 1, i %% 28 + 1) AS last_order
            FROM generate_series(0, %s - 1) AS i
            """,
            (rows,),
        )


def write_jsonl(path: Path, rows: int) -> None:
    """Write a line for each row, its members named as the columns."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(each, ensure_ascii=False, separators=(",", ":")) + "\n" for each in dicts(rows))


def write_csv(path: Path, rows: int) -> None:
    """Write a header and a line for each row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(map(row, range(rows)))


@contextmanager
def cursor(source: Source) -> Iterator[Any]:
    """Run the query on SQLite or PostgreSQL (where a named cursor makes the server keep the result)."""
    query = f"SELECT {', '.join(COLUMNS)} FROM customers LIMIT {source.rows}"
    if source.kind == "sqlite":
        with closing(sqlite3.connect(source.where)) as database:
            yield database.execute(query)
    else:
        import psycopg2

        with closing(psycopg2.connect(source.where)) as database, database.cursor(name="benchmark") as opened:
            opened.itersize = ROWS_PER_FETCH
            opened.execute(query)
            yield opened
