"""From figures to tables and to targets that are met or missed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import mean, median
from typing import Any, Literal

from harness.benchmarks.rows import MAX_BODY_BYTES, Kind, largest_chunk
from harness.benchmarks.suite import FLOORS, Sizes

Figures = dict[str, Any]

MILLION = 1_000_000
SOURCES: dict[Kind, str] = {
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "records": "a generator of dicts",
    "jsonl": "a JSON lines file",
    "csv": "a CSV file",
}
VARIANTS = {
    "read": "reading the rows, nothing else",
    "floor_msgspec": "floor: dicts, msgspec, raw socket, unchecked",
    "floor_orjson": "floor: dicts, orjson, raw socket, unchecked",
    "ours": "**this provider**: checked, on disk, journalled",
    "http_operator": f"HttpOperator-like: `json.dumps` of {largest_chunk():,}, requests",
    "xcom": "the same, the whole list through XCom",
    "sdk_100": "official SDK, 100 per request",
    "sdk_largest": f"official SDK, {largest_chunk():,} per request",
    "dlt": f"dlt, a custom destination, {largest_chunk():,} per request",
    "airbyte": f"Airbyte's CDK, a destination, {largest_chunk():,} per request",
}


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table with a title and a few words before it.

    :param lines: cells as they are shown, the header first.
    """

    title: str
    about: str
    lines: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the section."""
        head, *rest = self.lines
        ruled = [head, ["---", *["---:"] * (len(head) - 1)], *rest]
        drawn = "\n".join(f"| {' | '.join(line)} |" for line in ruled)
        return "\n\n".join(filter(None, (f"## {self.title}", self.about, drawn)))


@dataclass(frozen=True, slots=True)
class Target:
    """
    Something that was promised.

    :param name: what is measured.
    :param value: what was measured.
    :param bound: what was promised.
    :param kind: whether the value may be at most, or must be at least, the bound.
    :param unit: of both.
    :param margin: the part of the bound (0.5 is half of it) by which ``--check`` lets it be missed.
    :param digits: how many decimals are shown.
    """

    name: str
    value: float
    bound: float
    kind: Literal["at most", "at least"] = "at most"
    unit: str = ""
    margin: float = 0.0
    digits: int = 0

    @property
    def missed_by(self) -> float:
        """How far the value is on the wrong side, 0 where it is not."""
        return max(0.0, self.value - self.bound if self.kind == "at most" else self.bound - self.value)

    @property
    def is_missed_by_far(self) -> bool:
        """Whether it is missed by more than the margin."""
        return self.missed_by > self.margin * self.bound

    def line(self, *, with_margin: bool = False) -> str:
        """Say what was promised, what was measured, and the verdict."""

        def shown(value: float) -> str:
            return f"{value:,.{self.digits}f}{self.unit}"

        verdict = "missed" if self.missed_by else "met"
        side = "more" if self.kind == "at most" else "less"
        margin = f"; --check allows {self.margin:.0%} {side}" if with_margin and self.margin else ""
        return f"- **{verdict}**: {self.name}: {shown(self.value)} ({self.kind} {shown(self.bound)}{margin})"


@dataclass
class Judged:
    """Tables, targets, and what the plot shows."""

    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    bars: list[tuple[str, float, str]] = field(default_factory=list)

    def __add__(self, other: Judged) -> Judged:
        """Return both."""
        return Judged(self.tables + other.tables, self.targets + other.targets, self.bars + other.bars)


def row_path(measured: Mapping[Kind, Mapping[str, list[Figures]]], *, quick: bool) -> Judged:
    """Compare the CPU time that a million rows take."""
    judged = Judged()
    for kind, variants in measured.items():
        floor = min(FLOORS, key=lambda name: _median(variants[name], _cpu))
        lines = [["", "rows", "CPU s per million", "slowest/fastest", "× floor", "rows/s", "requests", "peak MB"]]
        times: dict[str, float] = {}
        for variant in sorted(variants, key=list(VARIANTS).index):
            rounds = variants[variant]
            cpu = [_cpu(figures) for figures in rounds]
            times[variant] = median(one / _cpu(other) for one, other in zip(cpu, variants[floor], strict=False))
            lines.append(
                [
                    VARIANTS[variant],
                    f"{rounds[0]['rows']:,}",
                    f"{median(cpu):.2f}",
                    f"{max(cpu) / min(cpu):.2f}" if len(cpu) > 1 else "one round",
                    f"{times[variant]:.2f}",
                    f"{_median(rounds, lambda figures: figures['rows'] / figures['wall']):,.0f}",
                    f"{len(rounds[0]['sizes']):,}",
                    f"{_median(rounds, _extra_mb):.0f}",
                ]
            )
            if kind == "sqlite":
                judged.bars.append((VARIANTS[variant].replace("*", "").replace("`", ""), median(cpu), variant))
        judged.tables.append(Table(f"Row path: from {SOURCES[kind]}", "", lines))
        bound, margin = 1.1 if kind == "records" else 1.15, 0.6 if quick else 0.1
        name = f"row path from {SOURCES[kind]}, × floor"
        judged.targets.append(Target(name, times["ours"], bound, unit="×", margin=margin, digits=2))
    return judged


def collecting(measured: Mapping[str, list[Figures]], sizes: Sizes, *, quick: bool) -> Judged:
    """Compare the CPU time of the whole way, from SQL to outcomes, and of collecting alone, with that of the floor."""
    floor = min(FLOORS, key=lambda name: _median(measured[name], _cpu))
    names = {
        floor: VARIANTS[floor],
        "ours_confirmed": "**this provider**, to the outcomes in the summary",
        "ours_tracked": "this provider, to the outcome of each row in its ledger",
    }
    whole, alone = (
        {
            name: median(cpu(one) / _cpu(other) for one, other in zip(measured[name], measured[floor], strict=True))
            for name in names
        }
        for cpu in (_cpu, _collecting_cpu)
    )
    lines = [["", "rows", "CPU s per million", "× floor", "of it collecting", "× floor", "MB while collecting"]]
    for name, shown in names.items():
        rounds = measured[name]
        line = [shown, f"{rounds[0]['rows']:,}", f"{_median(rounds, _cpu):.2f}", f"{whole[name]:.2f}"]
        if name == floor:
            lines.append([*line, "–", "–", "–"])
        else:
            memory = _median(rounds, lambda figures: figures["collecting_mb"])
            cells = [f"{_median(rounds, _collecting_cpu):.2f}", f"{alone[name]:.2f}", f"{memory:.0f}"]
            lines.append([*line, *cells])
    few, many = (measured[f"ours_confirmed, {rows}"][0]["collecting_mb"] for rows in sizes.growth)
    about = (
        "From SQLite to the outcome of each row, without Airflow: requests, actions that are done at once, and a CSV "
        "report of each, of which every second row has been created. The floor only sends. With a ledger, planning "
        "writes every row into it."
    )
    margin = 0.6 if quick else 0.1
    ours, growth = "ours_confirmed", f"from {sizes.growth[0]:,} to {sizes.growth[1]:,} rows"
    return Judged(
        [Table("Collecting outcomes", about, lines)],
        [
            Target("from SQL to the outcomes, × floor", whole[ours], 1.25, unit="×", margin=margin, digits=2),
            Target("collecting alone, × floor", alone[ours], 0.28, unit="×", margin=margin, digits=2),
            Target(f"growth of memory while collecting {growth}", many - few, 10, unit=" MB"),
        ],
    )


def memory(measured: Mapping[str, Mapping[int, Figures]], sizes: Sizes, *, quick: bool) -> Judged:
    """Compare peaks of memory."""
    judged = Judged()
    lines = [["", *(f"{rows:,} rows" for rows in sizes.memory)]]
    for name, by_rows in measured.items():
        variant, _, kind = name.partition(", ")
        shown = "this provider" if variant == "ours" else "the whole list through XCom"
        cells = [f"{_extra_mb(by_rows[rows]):,.0f}" if rows in by_rows else "–" for rows in sizes.memory]
        lines.append([f"{shown}, from {SOURCES[kind]}", *cells])
        if variant == "ours":
            few, many = sizes.growth
            growth = by_rows[many]["peak_mb"] - by_rows[few]["peak_mb"]
            source = SOURCES[kind]
            judged.targets += [
                Target(f"growth of peak memory from {few:,} to {many:,} rows of {source}", growth, 10, unit=" MB"),
                Target(
                    f"peak memory above the imports with {many:,} rows of {source}",
                    _extra_mb(by_rows[many]),
                    100,
                    unit=" MB",
                    margin=0.1 if quick else 0.0,
                ),
            ]
    about = (
        "Highest resident memory, in MB (10⁶ bytes) above that of the process after its imports. The last line is the "
        "same rows as one list that is passed on as JSON."
    )
    judged.tables.append(Table("Memory", about, lines))
    return judged


def requests(
    measured: Mapping[Kind, Mapping[str, list[Figures]]], metadata: Mapping[str, Figures], sizes: Sizes
) -> Judged:
    """Compare requests and their bytes."""
    judged = Judged()
    lines = [["", "rows", "requests", "fewest possible", "bytes", "filled", "requests per million rows"]]

    def add(name: str, figures: Figures) -> None:
        bodies, rows = figures["sizes"], figures["rows"]
        full = _but_the_smallest(bodies) or bodies
        lines.append(
            [
                name,
                f"{rows:,}",
                f"{len(bodies):,}",
                f"{_fewest(sum(bodies)):,}",
                f"{sum(bodies):,}",
                f"{mean(full) / MAX_BODY_BYTES:.1%}",
                f"{ceil(len(bodies) * MILLION / rows):,}",
            ]
        )

    for kind, variants in measured.items():
        ours = variants["ours"][0]
        beyond = len(ours["sizes"]) - _fewest(sum(ours["sizes"]))
        full = min(_but_the_smallest(ours["sizes"]), default=MAX_BODY_BYTES) / MAX_BODY_BYTES * 100
        judged.targets += [
            Target(f"requests from {SOURCES[kind]} beyond the fewest possible", beyond, 1),
            Target(
                f"fill of any body but the smallest, from {SOURCES[kind]}", full, 97, "at least", unit=" %", digits=1
            ),
        ]
    for variant in ("ours", "http_operator", "sdk_largest", "sdk_100"):
        add(VARIANTS[variant], measured["sqlite"][variant][0])
    add("**this provider**: one metadata for all ids", metadata["ours_metadata"])
    add("the same as records of 100,000", metadata["metadata_records"])
    judged.targets.append(
        Target(f"requests of one metadata for {sizes.ids:,} ids", len(metadata["ours_metadata"]["sizes"]), 2)
    )
    about = (
        f"A body may have {MAX_BODY_BYTES:,} bytes. Filled is the mean of all bodies but the smallest. Requests are "
        "what Voucherify limits."
    )
    judged.tables.append(Table("Requests", about, lines))
    return judged


def waiting(measured: Sequence[Figures]) -> Judged:
    """Compare GETs until a queue has been seen to its end."""
    judged = Judged()
    others = list(measured[0]["others"])
    lines = [["", "**this provider**", "of these, results", "mean delay, s", *others]]
    for figures in measured:
        actions, seconds, tasks = figures["actions"], figures["seconds"], figures["tasks"]
        gets = figures["gets"] + figures["lists"]
        of = f"one task with {actions:,} actions" if tasks == 1 else f"{tasks:,} tasks with {actions // tasks:,} each"
        name = f"{of}, {seconds} s each"
        cells = [f"{gets:,}", f"{actions:,}", f"{figures['late']:.0f}", *(f"{n:,}" for n in figures["others"].values())]
        lines.append([name, *cells])
        bound = {(27, 20, 1): 45, (1_000, 10, 1): 1_300}.get((actions, seconds, tasks))
        if bound is not None:
            judged.targets.append(Target(f"GETs for {name}", gets, bound))
    about = (
        "GETs until every action of a first-in-first-out queue is known to have ended and its result has been fetched. "
        "Measured with the real trigger and client under a simulated clock; the other policies are arithmetic. The "
        "delay is from the end of a task's last action to its event."
    )
    judged.tables.append(Table("Waiting", about, lines))
    return judged


def triggers(measured: Mapping[str, Figures], *, quick: bool) -> Judged:
    """Compare what waiting triggers cost the triggerer."""
    judged = Judged()
    lines = [["", "triggers", "peak MB above the process's", "MB per trigger", "GETs per minute", "CPU s per minute"]]
    names = {
        "ours": "**this provider's triggers**",
        "client_each": "a client each, every 5 s",
        "one": "this provider's, the queue does not move",
        "ten_thousand": "this provider's, the queue does not move",
    }
    for variant, name in names.items():
        figures = measured[variant]
        per_minute = 60 / figures["seconds"]
        lines.append(
            [
                name,
                f"{figures['triggers']:,}",
                f"{_extra_mb(figures):.0f}",
                f"{_extra_mb(figures) / figures['triggers']:.2f}",
                f"{figures['gets'] * per_minute:,.0f}",
                f"{figures['cpu'] * per_minute:.1f}",
            ]
        )
    ours = measured["ours"]
    judged.targets += [
        Target(
            f"memory of {ours['triggers']:,} waiting triggers", _extra_mb(ours), 100, unit=" MB", margin=0.1 * quick
        ),
        Target(
            f"GETs of {ours['triggers']:,} triggers in {ours['seconds']} s, one a second",
            ours["gets"],
            ours["seconds"],
            margin=0.5 * quick,
        ),
        Target("memory of 10,000 waiting triggers", _extra_mb(measured["ten_thousand"]), 60, unit=" MB", margin=0.1),
        Target(
            f"GETs of 10,000 triggers in {ours['seconds']} s, as with one",
            measured["ten_thousand"]["gets"],
            measured["one"]["gets"],
            margin=1.0,
        ),
    ]
    about = (
        f"Triggers of one connection in one event loop, watched for {ours['seconds']} s after they have started all at "
        "once; each waits for an action of its own in a queue that takes 10 s for one."
    )
    judged.tables.append(Table("Triggers", about, lines))
    return judged + rush(measured["rush"], quick=quick)


def rush(measured: Figures, *, quick: bool) -> Judged:
    """Say for how long many triggers that start or end at once block their event loop."""
    names = {
        "start": f"{measured['triggers']:,} start at once",
        "end": f"{measured['late']:,} of them run out of time at once",
    }
    lines = [["", "computed at a stretch, ms", "garbage collector, ms", "not come back for, ms", "CPU ms for one"]]
    targets = []
    for phase, name in names.items():
        figures = measured[phase]
        in_ms = [1_000 * figures[what] for what in ("computed", "collected", "blocked")]
        lines.append([name, *(f"{ms:.0f}" for ms in in_ms), f"{figures['each']:.2f}"])
        targets.append(Target(f"{name}: computed at a stretch", in_ms[0], 100, unit=" ms", margin=1.0 * quick))
    about = (
        "The worst that the event loop did before it came back to a task that beats all the time. The garbage "
        "collector goes through all that Airflow has loaded, whoever's triggers wait, and is told by itself. The time "
        "for which the loop did not come back has both in it, and whatever else had the processor meanwhile."
    )
    return Judged([Table("Triggers that start and end at once", about, lines)], targets)


def imports(measured: Mapping[str, list[Figures]], *, quick: bool) -> Judged:
    """Compare import times."""

    def least(whose: str) -> float:
        return 1_000 * min(float(figures[whose]) for figures in measured["sdk" if whose == "sdk" else "airflow"])

    base, ours, plugin = least("base"), least("ours"), least("plugin")
    lines = [
        ["", "CPU ms"],
        ["`airflow.sdk`, with the classes that any operator needs", f"{base:,.0f}"],
        ["**every class of this provider**, added to that", f"{ours:,.0f}"],
        ["`airflow.providers.common.sql.operators.sql`, added to that", f"{least('common_sql'):,.0f}"],
        ["this provider's plugin, which every component of Airflow imports", f"{plugin:,.1f}"],
        ["the official SDK, alone", f"{least('sdk'):,.0f}"],
    ]
    about = (
        "In fresh interpreters with bytecode on disk, the least of several rounds. Every parse of a DAG file pays this."
    )
    targets = [
        Target("importing every class, × importing `airflow.sdk`", ours / base, 0.02, margin=1.0 * quick, digits=3),
        Target("importing the plugin, × importing `airflow.sdk`", plugin / base, 0.016, margin=1.0 * quick, digits=3),
    ]
    return Judged([Table("Import", about, lines)], targets)


def operator(measured: Sequence[Figures], *, quick: bool) -> Judged:
    """Judge runs under ``dag.test()``."""
    lines = [["rows", "written", "requests", "bytes", "CPU s per million", "wall s", "peak MB above the process's"]]
    for figures in measured:
        lines.append(
            [
                f"{figures['rows']:,}",
                f"{figures['written']:,}",
                f"{figures['requests']:,}",
                f"{figures['bytes']:,}",
                f"{_cpu(figures):.2f}",
                f"{figures['wall']:.1f}",
                f"{_extra_mb(figures):.0f}",
            ]
        )
    few, many = measured
    unwritten = sum(figures["rows"] - figures["written"] for figures in measured)
    growth = many["peak_mb"] - few["peak_mb"]
    about = (
        "`VoucherifyBulkUpdateOperator` under `dag.test()`, from SQLite through waiting and reports to the summary, "
        "against the local stand-in. CPU includes Airflow's own for a DAG run."
    )
    return Judged(
        [Table("Operator", about, lines)],
        [
            Target("rows that the operator's summary does not count as written", unwritten, 0),
            Target("requests of the operator beyond the fewest possible", many["requests"] - _fewest(many["bytes"]), 1),
            Target(
                f"growth of the operator's peak memory from {few['rows']:,} to {many['rows']:,} rows",
                growth,
                10,
                unit=" MB",
                margin=0.5 * quick,
            ),
        ],
    )


def changes(measured: Sequence[Figures], *, quick: bool) -> Judged:
    """Judge syncs of which few rows have changed."""
    header = ["rows", "sent", "requests", "CPU s", "of it reading", "peak MB above the process's", "state, MB"]
    lines = [header]
    for figures in measured:
        lines.append(
            [
                f"{figures['rows']:,}",
                f"{figures['written']:,}",
                f"{figures['requests']:,}",
                f"{figures['cpu']:.2f}",
                f"{figures['reading_cpu']:.2f}",
                f"{_extra_mb(figures):.0f}",
                f"{figures['state_bytes'] / 1e6:.0f}",
            ]
        )
    few, many = measured[0], measured[-1]
    beyond = sum(figures["rows"] - figures["written"] - figures["unchanged"] for figures in measured)
    finding = many["cpu"] - many["reading_cpu"]
    # Seconds are those of a machine. Where reading a million takes 1.74 s, these bounds are 2 s, and at most 8 s.
    times = Target(
        "CPU of finding the changes, × reading the rows", finding / many["reading_cpu"], 1.15, margin=3.0, digits=2
    )
    about = (
        "Only what changed, under `dag.test()`, from SQLite, with the state in a file: the second of two nights, "
        "between which one row in a hundred has changed. CPU includes Airflow's own for a DAG run."
    )
    return Judged(
        [Table("Only what changed", about, lines)],
        [
            Target("rows neither sent nor unchanged", beyond, 0),
            Target("requests for one changed row in a hundred", many["requests"], 1),
            times,
            Target(
                f"growth of the peak memory from {few['rows']:,} to {many['rows']:,} rows, of which few have changed",
                many["peak_mb"] - few["peak_mb"],
                10,
                unit=" MB",
                margin=0.5 * quick,
            ),
        ],
    )


def compared(measured: Sequence[Figures], *, quick: bool) -> Judged:
    """Judge comparing a source with what Voucherify has."""
    header = ["rows", "sent", "requests", "CPU s", "of it reading the source", "and the export", "peak MB above before"]
    names = ("cpu", "reading_source", "reading_export")
    lines = [header]
    for figures in measured:
        counts = [f"{figures[name]:,}" for name in ("rows", "sent", "requests")]
        lines.append([*counts, *(f"{figures[name]:.2f}" for name in names), f"{figures['peak_mb']:.0f}"])
    few, many = measured[0], measured[-1]
    finding = many["cpu"] - many["reading_source"] - many["reading_export"]
    reading = many["reading_source"] + many["reading_export"]
    times = Target("CPU of comparing with an export, × reading both", finding / reading, 0.7, margin=3.0, digits=2)
    sizes = f"from {few['rows']:,} to {many['rows']:,} compared records"
    about = (
        "What differs from Voucherify's export, from SQLite, without Airflow and network: twelve fields a record, of "
        "which one in a hundred has one that differs."
    )
    return Judged(
        [Table("Compared with what Voucherify has", about, lines)],
        [
            Target("requests for one different record in a hundred", many["requests"], 1),
            Target("records neither sent nor the same", many["rows"] - many["sent"] - many["unchanged"], 0),
            times,
            *(
                Target(
                    f"growth of the peak memory {sizes}{what}",
                    many[name] - few[name],
                    80,  # ids and hashes of the first million that are expected
                    unit=" MB",
                    margin=0.5 * quick,
                )
                for name, what in (("peak_mb", ""), ("peak_mb_all_new", ", all of them new"))
            ),
        ],
    )


def _fewest(size: int) -> int:
    return ceil(size / MAX_BODY_BYTES)


def _but_the_smallest(sizes: Sequence[int]) -> list[int]:
    """Leave the body out that has what remains; two are on their way at once, so it need not arrive last."""
    return sorted(sizes)[1:]


def _median(rounds: Sequence[Figures], of: Callable[[Figures], float]) -> float:
    return median(of(figures) for figures in rounds)


def _cpu(figures: Figures) -> float:
    seconds: float = figures["cpu"] * MILLION / figures["rows"]
    return seconds


def _collecting_cpu(figures: Figures) -> float:
    seconds: float = figures.get("collecting_cpu", 0.0) * MILLION / figures["rows"]
    return seconds


def _extra_mb(figures: Figures) -> float:
    extra: float = max(0.0, figures["peak_mb"] - figures["base_mb"])
    return extra
