"""What two nights of a sync cost with the state in a file and in the tables of each database, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.benchmarks.tables import Judged, Table, Target
from harness.process import ROOT

Figures = dict[str, Any]

PLACES = {
    "file": "a file",
    "postgres": "tables in PostgreSQL",
    "mariadb": "tables in MariaDB",
    "sqlite": "tables in SQLite",
    "duckdb": "tables in DuckDB",
}

WHAT_IS_COUNTED = (
    "In the first night every row is new, in the second one in a hundred has changed. Seconds are from the task's "
    "begin to its end, Airflow's own included; CPU and memory (above the process's) are those of the task, without the "
    "server's."
)


@contextmanager
def place(name: str, folder: Path) -> Iterator[dict[str, Any] | None]:
    """
    Run the database of a place; give its Airflow connection, None for a file.

    :param folder: for the databases that are a file.
    """
    if name == "file":
        yield None
        return
    if name in ("sqlite", "duckdb"):
        yield {"conn_type": name, "host": str(folder / f"books.{name}")}
        return
    servers = _servers()
    with ExitStack() as stack:
        yield stack.enter_context(
            {"postgres": servers.postgres_server, "mariadb": servers.mariadb_server}[name](durable=True)
        )


def places() -> list[str]:
    """Return the places for which everything is installed."""
    servers = _servers()
    there = {
        "postgres": servers.PG_CTL is not None,
        "mariadb": servers.MARIADBD is not None and find_spec("airflow.providers.mysql") is not None,
        "duckdb": find_spec("duckdb_provider") is not None,
    }
    return [name for name in PLACES if there.get(name, True)]


def nights(measured: Mapping[str, Sequence[Figures]], *, quick: bool) -> Judged:
    """
    Judge the nights.

    :param measured: by place, the figures of ``changes`` for each number of rows.
    """
    header = ["state in", "rows", "first night, s", "CPU s", "peak MB", "second night, s", "CPU s", "peak MB"]
    judged = Judged([], [])
    lines = [header]
    for name, by_rows in measured.items():
        for figures in by_rows:
            first = figures["first"]
            lines.append(
                [
                    PLACES[name],
                    f"{figures['rows']:,}",
                    *(f"{first['wall']:.1f}", f"{first['cpu']:.1f}", f"{first['peak_mb'] - figures['base_mb']:.0f}"),
                    *(f"{figures['wall']:.1f}", f"{figures['cpu']:.1f}"),
                    f"{figures['peak_mb'] - figures['base_mb']:.0f}",
                ]
            )
        judged.targets += _growth(PLACES[name], by_rows, quick=quick)
    if {"file", "postgres"} <= measured.keys():
        file, tables = measured["file"][-1], measured["postgres"][-1]
        rows = f"{file['rows']:,} rows"
        margin = 3.0 * quick  # both are missed with a million rows; a quick run only notices if that gets much worse
        judged.targets += [
            Target(
                f"first night of {rows} with tables in PostgreSQL, × that with a file",
                tables["first"]["wall"] / file["first"]["wall"],
                1.5,
                unit="×",
                margin=margin,
                digits=2,
            ),
            Target(
                f"second night of {rows} with tables in PostgreSQL, × that with a file",
                tables["wall"] / file["wall"],
                1.3,
                unit="×",
                margin=margin,
                digits=2,
            ),
        ]
    about = (
        "The same two nights with the state in a file and in tables, on the same machine as the database's server. "
        + WHAT_IS_COUNTED
    )
    judged.tables.append(Table("State in a file and in tables", about, lines))
    return judged


def _growth(where: str, by_rows: Sequence[Figures], *, quick: bool) -> Iterator[Target]:
    few = by_rows[0]
    for many in by_rows[1:]:
        times = many["rows"] / few["rows"]
        for night, longer, shorter in (("first", many["first"], few["first"]), ("second", many, few)):
            yield Target(
                f"{night} night of {many['rows']:,} rows with {where}, × that of {few['rows']:,}",
                longer["wall"] / shorter["wall"],
                1.1 * times,
                unit="×",
                margin=0.5 * quick,
                digits=1,
            )
    many = by_rows[-1]
    if where != PLACES["duckdb"]:  # which takes as much memory as it may
        yield Target(
            f"growth of the first night's peak memory from {few['rows']:,} to {many['rows']:,} rows with {where}",
            (many["first"]["peak_mb"] - many["base_mb"]) - (few["first"]["peak_mb"] - few["base_mb"]),
            20,
            unit=" MB",
            margin=1.5 * quick,
        )


def _servers() -> Any:
    """Return the module that runs the servers of the tests."""
    sys.path.insert(0, str(ROOT / "tests" / "provider"))
    try:
        import database_servers  # type: ignore[import-not-found]
    finally:
        del sys.path[0]
    return database_servers
