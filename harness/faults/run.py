"""
``python -m harness.faults.run``: every fault at every place, one at a time, as a table.

``--write`` puts the table into ``docs/faults.md``; ``--only TEXT`` runs the faults with that text in their name. Exits
with 1 where a record was lost or sent twice without being counted, or where requests or memory are not bounded.
"""

from __future__ import annotations

import argparse
import sys
import time

from harness.faults import clock as clocks
from harness.faults.surroundings import throwaway_airflow
from harness.faults.tls import trusted_certificate


def main() -> int:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/faults.md")
    parser.add_argument("--only", default="", help="only faults with this text in their name")
    parser.add_argument("--verbose", action="store_true", help="print each row when it is done, and its seconds")
    arguments = parser.parse_args()
    clock = clocks.install()

    rows = []
    with throwaway_airflow(), trusted_certificate():
        from harness.faults.cases import cases
        from harness.faults.matrix import run_case, table, write_page

        for case in cases():
            if arguments.only in case.fault:
                began = time.monotonic()
                rows.append(run_case(case, clock))
                if arguments.verbose:
                    seconds = time.monotonic() - began
                    print(f"{seconds:6.2f} s  {table(rows[-1:]).splitlines()[-1]}", file=sys.stderr, flush=True)
    print(table(rows))
    if arguments.write:
        write_page(rows)
    bad = [row for row in rows if row.violations]
    for row in bad:
        print(f"VIOLATED {row.case.fault} at {row.case.place}: {', '.join(row.violations)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
