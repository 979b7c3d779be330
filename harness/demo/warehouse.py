"""The demo's warehouse: a SQLite file with a table of customers, some of them bad on purpose."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

CUSTOMERS = 3_000
KNOWN_CUSTOMERS = 1_800
"""How many of them Voucherify knows already, from the sync of the night before."""

SEED = 20_261_121

Row = dict[str, Any]

_FIRST_NAMES = ("Zoë", "Łukasz", "François", "Jürgen", "Søren", "Γιώργος", "Олена", "佐藤 愛", "Mária", "José", "Ann")
_LAST_NAMES = ("Gonçalves", "Müller", "Wójcik", "Ødegård", "Παπαδόπουλος", "Шевченко", "山田", "O'Neill", "Smith")
_CITIES = (("Łódź", "PL"), ("São Paulo", "BR"), ("Zürich", "CH"), ("Αθήνα", "GR"), ("東京", "JP"), ("Cork", "IE"))
_SEGMENTS = ("new", "regular", "vip")

METADATA_SCHEMAS = {
    "customer": {
        "properties": {
            "segment": {"type": "string", "optional": True, "eq": list(_SEGMENTS)},
            "lifetime_value": {"type": "number", "optional": True, "gte": 0},
        }
    }
}
"""What the demo's Voucherify demands of metadata, as ``GET /v1/metadata-schemas`` describes it."""


def build(path: Path) -> int:
    """Write the warehouse anew and return its number of rows."""
    path.unlink(missing_ok=True)
    rows = [*good_rows(), *bad_rows()]
    columns = list(rows[0])
    with closing(sqlite3.connect(path)) as warehouse, warehouse:
        warehouse.execute(f"CREATE TABLE customers ({', '.join(columns)})")
        marks = ", ".join(f":{name}" for name in columns)
        warehouse.executemany(f"INSERT INTO customers VALUES ({marks})", rows)
    return len(rows)


def good_rows() -> Iterator[Row]:
    """Give customers with nothing wrong; the same ones each time."""
    chance = random.Random(SEED)
    for number in range(1, CUSTOMERS + 1):
        city, country = chance.choice(_CITIES)
        yield {
            "customer_id": f"crm-{number:05}",
            "full_name": f"{chance.choice(_FIRST_NAMES)} {chance.choice(_LAST_NAMES)}",
            "email": f"customer{number}@example.com",
            "birthdate": str(date(1950, 1, 1) + timedelta(days=chance.randrange(20_000))),
            "city": city,
            "country": country,
            "segment": chance.choice(_SEGMENTS),
            "lifetime_value": round(chance.expovariate(1 / 250), 2),
        }


def bad_rows() -> Iterator[Row]:
    """Give rows as every warehouse has some: refused before they are sent, refused by Voucherify, or doubled."""
    customer = next(good_rows())
    for number in range(3):
        yield {**customer, "customer_id": None, "email": f"import{number}@example.com"}
    for number, birthdate in enumerate(("31.02.1990", "unknown")):
        yield {**customer, "customer_id": f"crm-9000{number}", "birthdate": birthdate}
    yield {**customer, "customer_id": "crm-90010", "lifetime_value": float("inf")}
    for number in range(4):
        yield {**customer, "customer_id": f"crm-9002{number}", "segment": "platinum"}
    for number in range(2):
        yield {**customer, "customer_id": f"crm-9003{number}", "lifetime_value": -19.99}
    for moved in islice(good_rows(), 5):
        yield {**moved, "city": "Kraków", "country": "PL"}


def known_ids() -> list[str]:
    """Return the ids of the customers that Voucherify knows already."""
    return [row["customer_id"] for row in good_rows()][:KNOWN_CUSTOMERS]
