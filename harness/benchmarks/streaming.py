"""
How much memory reading rows takes, at 300,000 and at 3,000,000 rows, for every source that this machine has.

``python harness/benchmarks/streaming.py [source ...]`` reads each source alone, without the checks and requests that
follow, in a process of its own, and prints by how much its memory grew at most; it exits with 1 where ten times the
rows take over 10 MB more. Databases whose server or driver is not installed are left out.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from harness import ROOT

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "provider")]

import database_servers  # type: ignore[import-not-found]  # noqa: E402

ROWS = (300_000, 3_000_000)
MAX_GROWTH_MB = 10
"""Not asked of DuckDB, which keeps what it reads of its file up to its ``memory_limit``."""

COLUMNS = ("source_id", "name", "email", "city", "note", "lifetime_value", "orders")
FILES = ("jsonl", "csv", "parquet", "parquet, one row group")
MYSQL_DRIVERS = {"mysqlclient": "MySQLdb", "mysql-connector-python": "mysql.connector", "pymysql": "pymysql"}
DUCKDB = ("duckdb", "duckdb, memory_limit 100 MB", "duckdb, sorted", "duckdb, sorted, memory_limit 100 MB")


def customers(rows: int) -> Iterator[tuple[str, str, str, str, str, float, int]]:
    """Give rows of some 300 bytes as JSON."""
    for i in range(rows):
        note = str(i * 2_654_435_761) * 12
        name, email = f"Zoë Müller {i}", f"zoe.muller.{i}@example.com"
        yield (f"crm-{i:08}", name, email, "Montréal", note[:120], (i % 100_000) / 100, i % 50)


def write_file(path: Path, rows: int, row_group_size: int = 100_000) -> None:
    """Write customers to a file of the kind that its name's ending says."""
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        columns = zip(*customers(rows), strict=True)
        table = pyarrow.table(dict(zip(COLUMNS, columns, strict=True)))
        parquet.write_table(table, path, row_group_size=row_group_size)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(customers(rows))
        else:
            for row in customers(rows):
                file.write(json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) + "\n")


def prepare(source: str, rows: int, folder: Path, servers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Make the rows of a source; return what ``read`` needs to read them."""
    ending, _, kind = source.partition(", ")
    path = folder / f"{rows}.{ending}"
    if source in FILES:
        write_file(path, rows, rows if kind else 100_000)
        return {"path": str(path)}
    note = "repeat(cast({0} as {1}), 12)"
    if ending == "sqlite":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"create table customers ({', '.join(COLUMNS)})")
            connection.executemany("insert into customers values (?, ?, ?, ?, ?, ?, ?)", customers(rows))
        return {"connection": {"conn_type": "sqlite", "host": str(path)}, "sql": "select * from customers"}
    if ending == "duckdb":
        import duckdb

        with duckdb.connect(str(path)) as opened:
            opened.execute(
                "create table if not exists customers as select 'crm-' || i as source_id, 'Zoë Müller' as name, "
                f"'Montréal' as city, sha256(cast(i as text)) || {note.format('i', 'text')} as note "
                f"from range({rows}) r(i)"
            )
        limit = "set memory_limit = '100MB'; set threads = 1; " if "limit" in kind else ""
        order = " order by note" if "sorted" in kind else ""
        connection_ = {"conn_type": "duckdb", "host": str(path)}
        return {"connection": connection_, "sql": f"{limit}select * from customers{order}"}
    if source in MYSQL_DRIVERS:
        extra = {"client": source} if source == "mysql-connector-python" else {}
        sql = (
            f"select concat('crm-', seq) as source_id, 'Zoë Müller' as name, {note.format('seq', 'char')} as note "
            f"from seq_1_to_{rows}"
        )
        return {"connection": servers["mariadb"] | {"extra": extra}, "sql": sql, "driver": source}
    sql = (
        f"select 'crm-' || i as source_id, 'Zoë Müller' as name, {note.format('i', 'text')} as note "
        f"from generate_series(1, {rows}) i"
    )
    return {"connection": servers["postgres"], "sql": sql, "driver": source}


def read(wanted: dict[str, Any]) -> dict[str, float]:
    """Read a source to its end in this process; return rows, MB and seconds."""
    from airflow_provider_voucherify.sync.rows.chunks import Chunk
    from airflow_provider_voucherify.sync.rows.sources import from_file

    if "path" in wanted:
        if wanted["path"].endswith(".parquet"):
            import pyarrow.parquet  # noqa: F401
        base, cpu, wall = memory_mb("VmRSS"), time.process_time(), time.monotonic()
        with open(wanted["path"], "rb") as file:
            rows = sum(len(chunk.rows) for chunk in from_file(file, wanted["path"]) if isinstance(chunk, Chunk))
    else:
        os.environ["AIRFLOW_CONN_WAREHOUSE"] = json.dumps(wanted["connection"])
        if wanted.get("driver") == "pymysql":
            import pymysql

            pymysql.install_as_MySQLdb()
        elif wanted.get("driver") == "psycopg2":
            sys.modules["psycopg"] = None  # type: ignore[assignment]
        from airflow_provider_voucherify.warehouse.queries import query

        with query("warehouse", "select 1 as warm_up") as chunks:
            list(chunks)
        base, cpu, wall = memory_mb("VmRSS"), time.process_time(), time.monotonic()
        with query("warehouse", wanted["sql"]) as chunks:
            rows = sum(len(chunk.rows) for chunk in chunks if isinstance(chunk, Chunk))
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return {"rows": rows, "peak_mb": memory_mb("VmHWM") - base, "cpu": cpu, "wall": wall}


def memory_mb(which: str) -> float:
    """Return this process's resident memory (``VmRSS``) or the highest so far (``VmHWM``), in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(which + r":\s+(\d+)", status)[0]) * 1024 / 1e6


def available() -> list[str]:
    """Return the sources that this machine has."""
    found = [*FILES, "sqlite"]
    if database_servers.PG_CTL is not None:
        found += ["psycopg", "psycopg2"]
    if database_servers.MARIADBD is not None and importlib.util.find_spec("airflow.providers.mysql") is not None:
        found += [driver for driver, module in MYSQL_DRIVERS.items() if importlib.util.find_spec(module) is not None]
    if importlib.util.find_spec("duckdb_provider") is not None:
        found += DUCKDB
    return found


def main(sources: list[str]) -> int:
    """Read every source at both sizes and judge it."""
    failed = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with ExitStack() as stack:
        servers = {}
        if {"psycopg", "psycopg2"} & set(sources):
            servers["postgres"] = stack.enter_context(database_servers.postgres_server())
        if MYSQL_DRIVERS.keys() & set(sources):
            servers["mariadb"] = stack.enter_context(database_servers.mariadb_server())
        print(f"| source | peak MB at {ROWS[0]:,} | at {ROWS[1]:,} | growth | CPU s at {ROWS[1]:,} | wall s |")
        print("|---|---|---|---|---|---|")
        for source in sources:
            got = []
            for rows in ROWS:
                with tempfile.TemporaryDirectory(prefix="voucherify-bench-") as folder:
                    wanted = prepare(source, rows, Path(folder), servers)
                    environment = os.environ | {
                        "AIRFLOW_HOME": f"{folder}/airflow",
                        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
                    }
                    command = [sys.executable, __file__, "--read", json.dumps(wanted)]
                    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
                got.append(json.loads(done.stdout.splitlines()[-1]))
                if got[-1]["rows"] != rows:
                    failed.append(f"{source}: {got[-1]['rows']:,} rows instead of {rows:,}")
            few, many = got
            growth = many["peak_mb"] - few["peak_mb"]
            if growth > MAX_GROWTH_MB and source not in DUCKDB:
                failed.append(f"{source} grows by {growth:.1f} MB")
            print(
                f"| {source} | {few['peak_mb']:.1f} | {many['peak_mb']:.1f} | {growth:.1f} | {many['cpu']:.1f} | "
                f"{many['wall']:.1f} |",
                flush=True,
            )
    print("", *failed, sep="\n")
    return int(bool(failed))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        print(json.dumps(read(json.loads(sys.argv[2]))))
    else:
        sys.exit(main(sys.argv[1:] or available()))
