"""
``python -m harness.faults.random_run --syncs 500 --seed 1``: the faults mixed, over many small syncs.

Each sync suffers up to five of them at random places and moments, with retries as Airflow does them, until it ends or
the faults do. After each the sum of the outcomes, every record at Voucherify and the number of times that it was sent
are checked. Prints a table; exits with 1, and the seeds of the syncs, where something is wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from harness.faults import clock as clocks
from harness.faults.surroundings import throwaway_airflow

TRIES = 8


def main() -> int:
    """Run, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--syncs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1, help="the n-th sync has the seed SEED + n")
    parser.add_argument("--verbose", action="store_true", help="log what the syncs log")
    arguments = parser.parse_args()
    clocks.install()
    with throwaway_airflow():
        if arguments.verbose:
            logging.disable(logging.NOTSET)
        from harness.faults.mixture import run_sync

        began = time.monotonic()
        totals: Counter[str] = Counter()
        wrong = []
        for seed in range(arguments.seed, arguments.seed + arguments.syncs):
            told, violations = run_sync(seed, TRIES)
            totals.update(told)
            if violations:
                wrong.append(seed)
                print(f"VIOLATED by the sync of seed {seed}: {', '.join(violations)}", file=sys.stderr)
    print("| what | count |\n| --- | --- |")
    for name, count in totals.items():
        print(f"| {name} | {count:,} |")
    print(f"\nSeeds {arguments.seed} to {seed}, {time.monotonic() - began:.0f} s, {len(wrong)} syncs in violation.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
