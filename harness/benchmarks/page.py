"""The page that a run writes: machine and versions, tables, targets, and a plot as SVG."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path

from harness.benchmarks.suite import FLOORS
from harness.benchmarks.tables import Judged, Target

PLOT = "performance.svg"
COLOURS = {"ours": "#3b4cca", **dict.fromkeys(("read", *FLOORS), "#6b8e23")}
PEER_COLOUR = "#b0b7c3"
PACKAGES = ("apache-airflow", "httpx", "msgspec", "pydantic")
PEERS = ("voucherify", "dlt", "airbyte-cdk", "requests", "msgspec", "orjson", "psycopg2-binary")


def surroundings(command: str, peers_python: str | None = None) -> str:
    """
    Say on what machine, with which versions, when and by which command the figures came about.

    :param peers_python: the interpreter of the peers' environment; None where there are no peers.
    """
    ours = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        ("Machine", f"{os.cpu_count()} × {_cpu_model()}, {_memory_gb():.0f} GB, {platform.system()}"),
        ("Python", f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, {_postgres()}"),
        ("Provider with", ours),
        *([("Peers", _peers(peers_python))] if peers_python else []),
        ("Date", datetime.now(UTC).strftime("%Y-%m-%d")),
        ("Command", f"`{command}`"),
    ]
    return "| | |\n| --- | --- |\n" + "\n".join(f"| {name} | {value} |" for name, value in lines)


def tables_and_targets(judged: Sequence[Judged], *, with_margins: bool = False) -> str:
    """Return what is printed: every table, then the targets."""
    parts = [table.markdown() for each in judged for table in each.tables]
    parts.append("## Targets\n\n" + "\n".join(target.line(with_margin=with_margins) for target in targets_of(judged)))
    return "\n\n".join(parts)


def targets_of(judged: Sequence[Judged]) -> list[Target]:
    """Return all targets."""
    return [target for each in judged for target in each.targets]


def write(folder: Path, judged: Sequence[Judged], surrounded: str) -> None:
    """Write ``performance.md`` and the plot into a folder."""
    bars = [bar for each in judged for bar in each.bars]
    plot = f"![CPU seconds per million rows]({PLOT})\n\n" if bars else ""
    text = f"""# Performance

What the provider costs, beside the least that is possible and what people use or write today. `make bench` measures
everything anew and writes this page. A sync that remembers its records, with `state`, costs more than one that only
sends: the tables "Only what changed" and "State in a file and in tables" say how much.

{surrounded}

{plot}How it is measured: every figure comes from a process of its own, against a server in another process that counts
requests and bytes and throws bodies away. CPU is that of the sending process, all its threads, the kernel's work for
it included. Variants take turns; figures are medians, ratios those of the same round. Times are those after a thousand
rows have been sent, so imports do not count; these rows are compared, and all variants send the same. "Peak MB" is
above the process's memory after its imports. Where a slow variant sends fewer rows, its time is scaled to a million.
dlt and Airbyte's CDK have a destination as their documentation writes one, which posts with `requests`; Airbyte's is
given messages in its own process, without the JSON that its platform pipes from a source to a destination.

{tables_and_targets(judged)}
"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "performance.md").write_text(text, encoding="utf-8")
    if bars:
        (folder / PLOT).write_text(plot_svg(bars), encoding="utf-8")


def plot_svg(bars: Sequence[tuple[str, float, str]]) -> str:
    """
    Draw a bar for each variant.

    :param bars: label, CPU seconds per million rows, variant.
    """
    left, width, height, top = 330, 420, 26, 46
    longest = max(value for _, value, _ in bars)
    total = top + height * len(bars) + 14
    drawn = []
    for number, (label, value, variant) in enumerate(bars):
        y = top + number * height
        colour = COLOURS.get(variant, PEER_COLOUR)
        weight = ' font-weight="bold"' if variant == "ours" else ""
        length = max(1.0, value / longest * width)
        drawn.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end"{weight}>{escape(label)}</text>'
            f'<rect x="{left}" y="{y + 2}" width="{length:.1f}" height="{height - 9}" rx="2" fill="{colour}"/>'
            f'<text x="{left + length + 6:.1f}" y="{y + 14}"{weight}>{value:.1f}</text>'
        )
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {total}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#1f2430">\n'
        "<title>CPU seconds per million rows from SQLite</title>\n"
        f'<rect width="{left + width + 60}" height="{total}" fill="#ffffff"/>\n'
        '<text x="16" y="26" font-size="15" font-weight="bold">CPU seconds per million rows from SQLite</text>\n'
        f"{body}\n</svg>\n"
    )


def _peers(python: str) -> str:
    code = f"from importlib.metadata import version\nfor name in {PEERS}: print(name, version(name))"
    said = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    return ", ".join(said.splitlines())


def _cpu_model() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _memory_gb() -> float:
    found = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return int(found[1]) * 1024 / 1e9 if found else 0.0


def _postgres() -> str:
    from harness.cluster import postgres_programs

    programs = postgres_programs()
    if programs is None:
        return "no PostgreSQL"
    said = subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    return f"PostgreSQL {said.split()[2]}"
