"""
What imports add to those of every DAG file, in CPU seconds: ``python -m harness.benchmarks.imports '{"modules":
{"ours": [...]}}'``.

What every DAG file imports is ``airflow.sdk`` with the classes that any operator needs; with ``"with_airflow": false``
it is nothing.
"""

from __future__ import annotations

import json
import time
from importlib import import_module

from harness import process

NAMES = ("DAG", "Asset", "BaseHook", "BaseNotifier", "BaseOperator", "BaseOperatorLink", "BaseSensorOperator", "task")
"""``airflow.sdk`` imports each when it is asked for it."""


def main() -> None:
    """Measure and print."""
    job = process.job()
    before = time.process_time()
    if job.get("with_airflow", True):
        sdk = import_module("airflow.sdk")
        for name in NAMES:
            getattr(sdk, name)
    figures = {"base": time.process_time() - before}
    for whose, names in job["modules"].items():
        before = time.process_time()
        for name in names:
            import_module(name)
        figures[whose] = time.process_time() - before
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
