"""Which measurements are made, of how many rows, in which order. Gives figures; ``tables`` judges and prints them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import process
from harness.benchmarks.rows import Kind, Source, largest_chunk, write_csv, write_jsonl, write_postgres, write_sqlite

Figures = dict[str, Any]

WARM_UP_ROWS = 1_000
FLOORS = ("floor_msgspec", "floor_orjson")
CONFIRMED = ("ours_confirmed", "ours_tracked")
"""Variants that collect what became of the rows."""

IMPORTED = {
    "plugin": ["airflow_provider_voucherify.plugins.syncs"],
    "ours": [
        f"airflow_provider_voucherify.{name}"
        for name in (
            *("operators.bulk", "operators.import_csv", "operators.export", "operators.reconcile"),
            *("sensors.async_action", "decorators", "hooks.voucherify", "notifications.summary", "policies"),
        )
    ],
    "common_sql": ["airflow.providers.common.sql.operators.sql"],
}
"""What the plugin manager imports in every component, every class that a DAG file may need, and a peer."""
QUEUES = ((27, 20, 1), (1_000, 10, 1), (100, 10, 100))
"""Actions, seconds of each, and among how many tasks they are."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    How much is measured.

    :param rows: of the main comparison, from SQLite and PostgreSQL.
    :param other_rows: of the sources that are no database.
    :param slow_rows: of the official SDK and of tools for pipelines; scaled to a million in the tables. Whole chunks of
        the largest size.
    :param xcom_rows: of the list that goes through XCom; scaled too.
    :param rounds: interleaved rounds of the main comparison.
    :param slow_rounds: rounds of these, the SDK's import included, and of XCom.
    :param peers_on_postgres: whether PostgreSQL's rows are also sent by every peer.
    :param memory: rows of the memory table.
    :param growth: between which two of them memory must not grow.
    :param xcom_memory: the same of the list that goes through XCom.
    :param trigger_seconds: for how long triggers are watched.
    :param naive_triggers: how many have a client each.
    :param import_rounds: fresh interpreters per import.
    :param operator_rows: of the runs under ``dag.test()``.
    :param known: of whom is measured what they know of their rows afterwards; quickly, of the one that has targets.
    :param nights: rows of two nights, of which few change; the last number for a file and PostgreSQL alone.
    """

    rows: int
    other_rows: int
    slow_rows: int
    xcom_rows: int
    rounds: int
    slow_rounds: int
    peers_on_postgres: bool
    memory: tuple[int, ...]
    growth: tuple[int, int]
    xcom_memory: tuple[int, ...]
    trigger_seconds: int
    naive_triggers: int
    import_rounds: int
    operator_rows: tuple[int, int]
    nights: tuple[int, int, int]
    known: tuple[str, ...]
    ids: int = 1_000_000
    triggers: int = 1_000


FULL = Sizes(
    rows=1_000_000,
    other_rows=300_000,
    slow_rows=3 * largest_chunk(),
    xcom_rows=200_000,
    rounds=3,
    slow_rounds=3,
    peers_on_postgres=True,
    memory=(100_000, 300_000, 1_000_000, 3_000_000),
    growth=(300_000, 3_000_000),
    xcom_memory=(100_000, 300_000, 1_000_000),
    trigger_seconds=60,
    naive_triggers=1_000,
    import_rounds=5,
    operator_rows=(100_000, 1_000_000),
    nights=(100_000, 200_000, 1_000_000),
    known=("ours", "http_operator", "sdk_largest", "dlt", "airbyte"),
)
QUICK = Sizes(
    rows=100_000,
    other_rows=50_000,
    slow_rows=largest_chunk(),
    xcom_rows=50_000,
    rounds=3,
    slow_rounds=1,
    peers_on_postgres=False,
    memory=(100_000, 300_000),
    growth=(100_000, 300_000),
    xcom_memory=(100_000,),
    trigger_seconds=20,
    naive_triggers=100,
    import_rounds=5,
    operator_rows=(100_000, 300_000),
    nights=(50_000, 100_000, 300_000),
    known=("ours",),
)


@dataclass
class Suite:
    """
    Makes measurements, each in a process of its own and against a server of its own.

    :param sizes: how much.
    :param peers_python: the interpreter of the peers' environment.
    :param folder: for the sources.
    """

    sizes: Sizes
    peers_python: str
    folder: Path
    _postgres: str | None = field(default=None, init=False)
    _started: float = field(default_factory=time.monotonic, init=False)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Write the sources, and run PostgreSQL where it is installed."""
        from harness.cluster import free_port, postgres, postgres_programs

        sizes = self.sizes
        most = max(*sizes.memory, *sizes.operator_rows, *sizes.nights, sizes.rows)
        with ExitStack() as stack:
            self._say("writing rows")
            write_sqlite(self.folder / "customers.sqlite", most)
            for rows in (WARM_UP_ROWS, sizes.other_rows):
                write_jsonl(self.folder / f"customers-{rows}.jsonl", rows)
                write_csv(self.folder / f"customers-{rows}.csv", rows)
            if postgres_programs() is not None:
                port = free_port()
                stack.enter_context(postgres(self.folder, port))
                # Else a scan may begin where another one is, so that LIMIT would give other rows each time.
                options = "options='-c synchronize_seqscans=off'"
                where = f"host=127.0.0.1 port={port} user=airflow dbname=postgres {options}"
                write_postgres(where, most)
                self._postgres = where
            yield

    @property
    def databases(self) -> tuple[Kind, ...]:
        """The databases that are at hand."""
        return ("sqlite", "postgres") if self._postgres else ("sqlite",)

    def row_path(self) -> dict[Kind, dict[str, list[Figures]]]:
        """Send the same rows in every way, in rounds: by source and variant, the figures of each round."""
        sizes = self.sizes
        floors = ["read", *FLOORS, "ours"]
        peers = ["http_operator", "xcom", "sdk_100", "sdk_largest", "dlt", "airbyte"]
        plans: dict[Kind, list[str]] = dict.fromkeys(("records", "jsonl", "csv"), floors)
        for kind in self.databases:
            everything = kind == "sqlite" or sizes.peers_on_postgres
            plans[kind] = [*floors, *peers] if everything else floors
        slow = dict.fromkeys(("sdk_100", "sdk_largest", "dlt", "airbyte"), sizes.slow_rows)
        rows = {"xcom": sizes.xcom_rows, **slow}
        measured: dict[Kind, dict[str, list[Figures]]] = {}
        for kind in (*self.databases, "records", "jsonl", "csv"):
            variants = plans[kind]
            measured[kind] = {variant: [] for variant in variants}
            usual = sizes.rows if kind in self.databases else sizes.other_rows
            for number in range(sizes.rounds):
                turn = number % len(variants)
                for variant in variants[turn:] + variants[:turn]:
                    if variant not in rows or number < sizes.slow_rounds:
                        figures = self._send(variant, kind, rows.get(variant, usual))
                        measured[kind][variant].append(figures)
            _check_same_records(kind, measured[kind])
        return measured

    def collecting(self) -> dict[str, list[Figures]]:
        """Send the same rows and collect their outcomes, in rounds, beside floors that only send: by variant."""
        variants = [*FLOORS, *CONFIRMED]
        measured: dict[str, list[Figures]] = {variant: [] for variant in variants}
        for number in range(self.sizes.rounds):
            turn = number % len(variants)
            for variant in variants[turn:] + variants[:turn]:
                measured[variant].append(self._send(variant, "sqlite", self.sizes.rows))
        for rows in self.sizes.growth:
            measured[f"{CONFIRMED[0]}, {rows}"] = [self._send(CONFIRMED[0], "sqlite", rows)]
        return measured

    def memory(self) -> dict[str, dict[int, Figures]]:
        """Send more and more rows: by variant and source, then by rows."""
        measured = {
            f"ours, {kind}": {rows: self._send("ours", kind, rows) for rows in self.sizes.memory}
            for kind in self.databases
        }
        measured["xcom, sqlite"] = {rows: self._send("xcom", "sqlite", rows) for rows in self.sizes.xcom_memory}
        return measured

    def metadata(self) -> dict[str, Figures]:
        """Give many ids the same metadata."""
        return {
            "ours_metadata": self._send("ours_metadata", "records", self.sizes.ids),
            "metadata_records": self._send("metadata_records", "records", self.sizes.rows),
        }

    def waiting(self) -> list[Figures]:
        """Wait for queues under a simulated clock."""
        self._say("waiting")
        measured: Any = process.measured("waiting", {"queues": QUEUES})
        return list(measured)

    def triggers(self) -> dict[str, Figures]:
        """Watch many triggers, and coroutines with a client each; then let many start and end at once."""
        still = "36000"
        return {
            "ours": self._triggers("ours", self.sizes.triggers),
            "client_each": self._triggers("client_each", self.sizes.naive_triggers),
            "one": self._triggers("ours", 1, still),
            "ten_thousand": self._triggers("ours", 10_000, still),
            "rush": self._rush(2_000, 400),
        }

    def imports(self) -> dict[str, list[Figures]]:
        """Import what a DAG file imports; the first interpreter writes the bytecode and does not count."""
        measured: dict[str, list[Figures]] = {"airflow": [], "sdk": []}
        for number in range(self.sizes.import_rounds + 1):
            self._say(f"imports {number}")
            figures = process.measured("imports", {"modules": IMPORTED})
            if number:
                measured["airflow"].append(figures)
        for _ in range(self.sizes.slow_rounds):
            job = {"modules": {"sdk": ["voucherify"]}, "with_airflow": False}
            measured["sdk"].append(process.measured("imports", job, python=self.peers_python))
        return measured

    def operator(self) -> list[Figures]:
        """Run the operator under ``dag.test()``."""
        self._say("operator")
        measured: Any = process.measured(
            "operator_run", {"rows": self.sizes.operator_rows, "warehouse": str(self.folder / "customers.sqlite")}
        )
        return list(measured)

    def changes(self) -> dict[str, list[Figures]]:
        """Sync the same rows twice, of which few have changed: by where the state is."""
        from harness.benchmarks.nights import place, places

        measured: dict[str, list[Figures]] = {}
        for name in places():
            self._say(f"changes, {name}")
            rows = self.sizes.nights if name in ("file", "postgres") else self.sizes.nights[:-1]
            with place(name, self.folder) as books:
                job = {"rows": rows, "warehouse": str(self.folder / "customers.sqlite"), "books": books}
                figures: Any = process.measured("changes", job)
                measured[name] = list(figures)
        return measured

    def compared(self) -> list[Figures]:
        """Compare a source with an export, where few records differ."""
        self._say("compared")
        job = {"rows": self.sizes.nights[-2:], "warehouse": str(self.folder / "customers.sqlite")}
        measured: Any = process.measured("compared", job)
        return list(measured)

    def known(self) -> dict[str, dict[str, Figures]]:
        """Let rows fail, requests be refused and processes be killed: by variant, what it knows, and what is true."""
        from harness.benchmarks.known import known

        return known(self.sizes.known, self.peers_python, self.folder, self._say)

    def _send(self, variant: str, kind: Kind, rows: int) -> Figures:
        self._say(f"{kind} {variant} {rows:,}")
        job = {"variant": variant, "source": self._source(kind, rows), "warm_up": self._source(kind, WARM_UP_ROWS)}
        python = sys.executable if variant.startswith("ours") else self.peers_python
        reports = ("--reports",) if variant in CONFIRMED else ()
        with process.serving("harness.benchmarks.server", *reports) as url:
            figures = process.measured("send", job | {"url": url}, python=python)
        if figures["refused"]:
            raise process.MeasurementError(f"{variant} sent {figures['refused']} bodies that are too large")
        return figures

    def _source(self, kind: Kind, rows: int) -> Figures:
        where = {
            "sqlite": str(self.folder / "customers.sqlite"),
            "postgres": self._postgres or "",
            "records": "",
        }.get(kind, str(self.folder / f"customers-{rows}.{kind}"))
        return asdict(Source(kind, where, rows))

    def _rush(self, triggers: int, late: int) -> Figures:
        self._say(f"rush {triggers:,}")
        with process.serving("harness.benchmarks.server", "--queue", f"{triggers}:36000") as url:
            return process.measured("rush", {"url": url, "triggers": triggers, "late": late, "seconds": 8})

    def _triggers(self, kind: str, triggers: int, seconds_each: str = "10") -> Figures:
        self._say(f"triggers {kind} {triggers:,}")
        with process.serving("harness.benchmarks.server", "--queue", f"{triggers}:{seconds_each}") as url:
            job = {"kind": kind, "url": url, "triggers": triggers, "seconds": self.sizes.trigger_seconds}
            return process.measured("triggers", job)

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {what}", file=sys.stderr, flush=True)


def _check_same_records(kind: Kind, measured: dict[str, list[Figures]]) -> None:
    """Make sure that all variants have sent the same records: their warm-up's were kept and compared."""
    digests = {variant: figures[0]["digest"] for variant, figures in measured.items() if variant != "read"}
    if len(set(digests.values())) > 1:
        raise process.MeasurementError(f"the variants do not send the same records from {kind}: {digests}")
