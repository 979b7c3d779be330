"""
``python -m harness.history.run``: let a week of nights pass in Airflow, and write what its history answers.

Writes the answers, and the size of the changelog, into ``docs/history-queries.md``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from harness.faults.surroundings import throwaway_airflow


def main() -> int:
    """Run, ask and write."""
    with throwaway_airflow(), tempfile.TemporaryDirectory(prefix="voucherify-history-") as name:
        from harness.history.databases import HistoryDatabase
        from harness.history.page import PAGE, answered, with_sizes
        from harness.history.runners import AirflowRunner
        from harness.history.size import sizes

        folder = Path(name)
        database = HistoryDatabase.sqlite(folder)
        database.play(folder, AirflowRunner())
        before = PAGE.read_text(encoding="utf-8")
        after = with_sizes(answered(before, database.name, database.run), sizes(folder))
        PAGE.write_text(after, encoding="utf-8")
    print(f"{PAGE.name} {'is as it was' if after == before else 'has changed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
