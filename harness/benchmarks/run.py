"""
``python -m harness.benchmarks.run``: measure everything, print the tables, say which targets are met.

``--quick`` takes fewer rows and rounds, and measures three things at a time. ``--check`` exits with 1 where a target is
missed by more than its margin, and is so again when its part is measured alone. ``--only`` names parts: row_path,
known, collecting, memory, requests, waiting, triggers, imports, operator, changes, compared. A whole run that is not
quick writes ``docs/performance.md``; others write to ``.bench/``.

The official SDK and other peers live in an environment of their own, ``.bench/``, which ``make bench`` makes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.benchmarks import known, nights, page, tables
from harness.benchmarks.suite import FULL, QUICK, Suite
from harness.benchmarks.tables import Judged, Target
from harness.process import ROOT, MeasurementError

PARTS = (
    *("row_path", "known", "collecting", "memory", "requests", "waiting", "triggers", "imports", "operator"),
    *("changes", "compared"),
)


def main() -> int:
    """Run the parts that are asked for and judge them."""
    parser = argparse.ArgumentParser(prog="harness.benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--peers", default=str(ROOT / ".bench" / "bin" / "python"), help="the peers' interpreter")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown parts {', '.join(sorted(unknown))}")
    if not Path(arguments.peers).exists():
        sys.exit(f"{arguments.peers} is missing: make bench makes it")
    with tempfile.TemporaryDirectory(prefix="voucherify-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        suite = Suite(QUICK if arguments.quick else FULL, arguments.peers, folder)
        with suite.prepared():
            by_part, failures = _measure(suite, parts, quick=arguments.quick, lanes=3 if arguments.quick else 1)
            again = [part for part in parts if part in failures or _missed(by_part[part])] if arguments.check else []
            if again:
                print(f"once more, one after the other: {', '.join(again)}", file=sys.stderr)
                measured, failures = _measure(suite, again, quick=arguments.quick, lanes=1)
                by_part |= measured
    command = shlex.join(["python", "-m", "harness.benchmarks.run", *sys.argv[1:]])
    judged = [by_part[part] for part in PARTS if part in by_part]
    whole = not (arguments.quick or failures) and set(parts) == set(PARTS)
    page.write(ROOT / ("docs" if whole else ".bench"), judged, page.surroundings(command, arguments.peers))
    print(page.tables_and_targets(judged, with_margins=arguments.check))
    missed = [target for one in judged for target in _missed(one)]
    for part, error in failures.items():
        print(f"{part} could not be measured: {error}", file=sys.stderr)
    if arguments.check:
        for target in missed:
            print(f"by more than its margin: {target.line(with_margin=True)}", file=sys.stderr)
    return int(bool(failures or (arguments.check and missed)))


def _missed(judged: Judged) -> list[Target]:
    return [target for target in judged.targets if target.is_missed_by_far]


def _measure(
    suite: Suite, parts: list[str], *, quick: bool, lanes: int
) -> tuple[dict[str, Judged], dict[str, MeasurementError]]:
    """
    Measure, and judge.

    :param lanes: how many parts at a time.
    :returns: what is known of the parts, and why others could not be measured.
    """
    measures: dict[str, Callable[[], Any]] = {
        "operator": suite.operator,
        "changes": suite.changes,
        "compared": suite.compared,
        "known": suite.known,
        "triggers": suite.triggers,
        "collecting": suite.collecting,
        "memory": suite.memory,
        "requests": suite.metadata,
        "imports": suite.imports,
        "waiting": suite.waiting,
    }
    with ThreadPoolExecutor(max_workers=lanes) as pool:
        sending = pool.submit(suite.row_path if {"row_path", "requests"} & set(parts) else dict)
        measuring = {part: pool.submit(measure) for part, measure in measures.items() if part in parts}

    def got(part: str) -> Any:
        return measuring[part].result()

    judges: dict[str, Callable[[], Judged]] = {
        "row_path": lambda: tables.row_path(sending.result(), quick=quick),
        "known": lambda: known.table(got("known")),
        "collecting": lambda: tables.collecting(got("collecting"), suite.sizes, quick=quick),
        "memory": lambda: tables.memory(got("memory"), suite.sizes, quick=quick),
        "requests": lambda: tables.requests(sending.result(), got("requests"), suite.sizes),
        "waiting": lambda: tables.waiting(got("waiting")),
        "triggers": lambda: tables.triggers(got("triggers"), quick=quick),
        "imports": lambda: tables.imports(got("imports"), quick=quick),
        "operator": lambda: tables.operator(got("operator"), quick=quick),
        "changes": lambda: (
            tables.changes(got("changes")["file"], quick=quick) + nights.nights(got("changes"), quick=quick)
        ),
    }
    judges["compared"] = lambda: tables.compared(got("compared"), quick=quick)
    judged: dict[str, Judged] = {}
    failures: dict[str, MeasurementError] = {}
    for part in (part for part in PARTS if part in parts):
        try:
            judged[part] = judges[part]()
        except MeasurementError as error:
            failures[part] = error
    return judged, failures


if __name__ == "__main__":
    sys.exit(main())
