"""
What an import adds to that of ``airflow.sdk``, in CPU seconds: ``python -m harness.benchmarks.imports '{"modules":
[...]}'``.

With ``"with_airflow": false`` it is the time of the import alone.
"""

from __future__ import annotations

import json
import time
from importlib import import_module

from harness import process


def main() -> None:
    """Measure and print."""
    job = process.job()
    before = time.process_time()
    if job.get("with_airflow", True):
        import_module("airflow.sdk")
    between = time.process_time()
    for name in job["modules"]:
        import_module(name)
    print(json.dumps({"base": between - before, "added": time.process_time() - between}))


if __name__ == "__main__":
    main()
