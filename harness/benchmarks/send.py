"""
One measurement of sending rows, in a process of its own: ``python -m harness.benchmarks.send '{"variant": ..., ...}'``.

After the imports a thousand rows are sent, so that what happens once in a process is not counted for every row; CPU
time (of all threads), wall time and requests are those of what comes after. The memory before is that before the
thousand rows, with everything imported that a variant imports first.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from harness import process
from harness.benchmarks.rows import Source


def main() -> None:
    """Measure and print."""
    job = process.job()
    url, variant = job["url"], job["variant"]
    if variant.startswith("ours"):
        from harness.benchmarks import provider

        send = provider.sender(variant)
    else:
        from harness.benchmarks import peers

        send = peers.sender(variant, Path(os.environ["AIRFLOW_HOME"]))
    if job["source"]["kind"] == "postgres":
        import psycopg2  # noqa: F401
    base = process.resident_mb()
    send(Source(**job["warm_up"]), url)
    warmed_up = process.ask(f"{url}/_reset", "POST")
    source = Source(**job["source"])
    cpu, wall = time.process_time(), time.monotonic()
    more = send(source, url) or {}
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    measured = {"rows": source.rows, "cpu": cpu, "wall": wall, "base_mb": base, "peak_mb": process.peak_mb()}
    print(json.dumps(measured | more | warmed_up | process.ask(f"{url}/_counts")))


if __name__ == "__main__":
    main()
