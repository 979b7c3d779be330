"""How much room the changelog takes: many of its lines, written by what writes them, in SQLite and PostgreSQL."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

from airflow_provider_voucherify.sync.types.outcome import RowOutcome
from airflow_provider_voucherify.warehouse.outcome_tables import OutcomeTables
from harness import ROOT

LINES = 100_000
LINES_PER_FAILURE = 10

CONN_ID = "size_of_history"


def sizes(folder: Path) -> dict[str, list[str]]:
    """Return the cells of the page's table, by database; PostgreSQL only if it is installed."""
    sys.path[:0] = [str(ROOT / "tests" / "provider")]
    from database_servers import PG_CTL, postgres_server  # type: ignore[import-not-found]

    cells = {"SQLite": _of(json.dumps({"conn_type": "sqlite", "host": str(folder / "size.sqlite")}))}
    if PG_CTL is not None:
        with postgres_server() as connection:
            cells["PostgreSQL"] = _of(json.dumps(connection))
    return cells


def _of(connection: str) -> list[str]:
    """Return the cells of a database: without values, and with them. Bytes per line are MB per million lines."""
    with patch.dict("os.environ", {f"AIRFLOW_CONN_{CONN_ID.upper()}": connection}):
        grown = [_bytes_per_line("plain", has_values=False), _bytes_per_line("full", has_values=True)]
    return [f"{size:.0f}" for size in grown]


def _bytes_per_line(table: str, *, has_values: bool) -> float:
    """Write lines into tables of a name, and return by how many bytes the changelog grows for each."""
    tables = OutcomeTables(CONN_ID, table, "nightly_customers/sync", "customers")
    tables.create()
    before = _bytes(tables, table)
    tables.write("0" * 32, "night", lambda: _outcomes(has_values), lambda: ())
    return (_bytes(tables, table) - before) / LINES


def _bytes(tables: OutcomeTables, table: str) -> int:
    query = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    if tables.history._database.kind == "postgres":
        query = f"SELECT pg_total_relation_size('{table}_changelog')"
    with closing(tables.history._database.transaction()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def _outcomes(has_values: bool) -> Iterator[RowOutcome]:
    for number in range(1, LINES + 1):
        record = {
            "source_id": f"crm-{number:08}",
            "name": f"Customer {number}",
            "email": f"customer{number}@example.com",
            "metadata": {"segment": "regular", "lifetime_value": 101.5},
        }
        content = json.dumps(record, separators=(",", ":")) if has_values else None
        action = f"aa_{number // 50_000:018}"
        if number % LINES_PER_FAILURE:
            yield RowOutcome(number, f"crm-{number:08}", "updated", async_action_id=action, content=content)
        else:
            yield RowOutcome(
                number,
                f"crm-{number:08}",
                "failed",
                "metadata_validation_failed",
                "Metadata validation failed",
                "segment: must be a string, must be equal to one of new,regular,vip (actual value is 'platinum')",
                action,
                content,
            )
