"""
``python -m harness.benchmarks.growth``: two nights of one, three and ten million rows, with the state in PostgreSQL.

``--rows`` takes other numbers of rows. Each has its processes to itself; the whole takes about half an hour, and 20 GB
of disk. It writes ``docs/ten-million-rows.md``, or with other numbers ``.bench/ten-million-rows.md``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import process
from harness.benchmarks import nights, page
from harness.benchmarks.rows import write_sqlite
from harness.benchmarks.tables import Judged, Target
from harness.process import ROOT

MILLIONS = (1_000_000, 3_000_000, 10_000_000)


def main() -> int:
    """Measure, write the page, and fail where rows are not accounted for or cost grows faster than the rows."""
    parser = argparse.ArgumentParser(prog="harness.benchmarks.growth", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=list(MILLIONS))
    sizes = sorted(parser.parse_args().rows)
    with tempfile.TemporaryDirectory(prefix="voucherify-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        warehouse = folder / "customers.sqlite"
        write_sqlite(warehouse, sizes[-1])
        measured = [_two_nights(rows, warehouse, folder) for rows in sizes]
    judged = _judged(measured)
    command = shlex.join(["python", "-m", "harness.benchmarks.growth", *sys.argv[1:]])
    text = _page(judged, command)
    to = ROOT / ("docs" if sizes == list(MILLIONS) else ".bench") / "ten-million-rows.md"
    to.parent.mkdir(exist_ok=True)
    to.write_text(text, encoding="utf-8")
    print(text)
    return int(any(target.missed_by for target in judged.targets))


def _page(judged: Judged, command: str) -> str:
    return f"""# Ten million rows

Two nights of a sync of up to ten million rows, from SQLite, with outcomes and state in tables of PostgreSQL on the same
machine: what a night costs, and that time grows with the rows in a straight line while memory does not grow.
`make bench-growth` measures everything anew and writes this page.

{page.surroundings(command)}

{page.tables_and_targets([judged])}
"""


def _two_nights(rows: int, warehouse: Path, folder: Path) -> nights.Figures:
    print(f"{rows:,} rows", file=sys.stderr, flush=True)
    with nights.place("postgres", folder) as books:
        job = {"rows": [rows], "warehouse": str(warehouse), "books": books}
        measured: Any = process.measured("changes", job)
    figures: nights.Figures = measured[0]
    return figures


def _judged(measured: list[nights.Figures]) -> Judged:
    both = nights.nights({"postgres": measured}, quick=False)
    table = replace(both.tables[0], title="Two nights", about=nights.WHAT_IS_COUNTED)
    return Judged([table], both.targets + _targets(measured))


def _targets(measured: list[nights.Figures]) -> list[Target]:
    few = measured[0]
    lost = sum(abs(figures["rows"] - figures["first"]["written"]) for figures in measured)
    lost += sum(abs(figures["rows"] - figures["written"] - figures["unchanged"]) for figures in measured)
    changed = max(figures["written"] / figures["rows"] for figures in measured)
    targets = [
        Target("rows of the two nights that are neither written nor unchanged", lost, 0),
        Target("share of rows that the second night sends; one in a hundred has changed", changed, 0.01, digits=4),
    ]
    for many in measured[1:]:
        times = many["rows"] / few["rows"]
        for night, longer, shorter in (("first", many["first"], few["first"]), ("second", many, few)):
            name = f"CPU of the {night} night of {many['rows']:,} rows, × that of {few['rows']:,}"
            targets.append(Target(name, longer["cpu"] / shorter["cpu"], 1.1 * times, unit="×", digits=1))
    return targets


if __name__ == "__main__":
    sys.exit(main())
