"""
What waiting costs a triggerer: memory, CPU and GETs of 1 and of 1,000 triggers in one event loop.

``python harness/benchmarks/waiting_triggers.py [seconds]`` lets triggers of one action each wait for a queue that does
not move, each number of triggers in a process of its own, against a local Voucherify in another process. Memory is
counted from a process that has loaded Airflow's triggers and nothing of this provider. It prints one line for each, and
exits with 1 where 1,000 triggers take more than 100 MB, or half as many GETs again as one does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from harness import ROOT

TRIGGERS = (0, 1, 1_000)
SECONDS = 60.0
MAX_MB = 100


class CountGets(logging.Filter):
    """Counts the requests that httpx logs."""

    gets = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Count, and log nothing."""
        self.gets += "HTTP Request" in str(record.msg)
        return False


def resident_mb() -> float:
    """Return how much memory this process has now, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


async def wait(ids: list[str], seconds: float) -> dict[str, float]:
    """Let a trigger for each action wait, and return what that took."""
    counter = CountGets()
    logging.getLogger("httpx").setLevel(logging.INFO)
    logging.getLogger("httpx").addFilter(counter)
    gc.collect()
    before, cpu, now = resident_mb(), time.process_time(), time.time()

    async def one(action_id: str) -> None:
        from airflow_provider_voucherify.triggers.async_action import VoucherifyAsyncActionTrigger

        async for _ in VoucherifyAsyncActionTrigger("voucherify_default", [action_id], now, now + 3_600).run():
            pass

    tasks = [asyncio.create_task(one(action_id)) for action_id in ids]
    await asyncio.sleep(seconds)
    taken = {"mb": resident_mb() - before, "cpu": time.process_time() - cpu, "gets": float(counter.gets)}
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return taken


def run_one() -> None:
    """Measure in this process: ids and seconds come as JSON on standard input, what it took goes to standard output."""
    import airflow.triggers.base  # noqa: F401  what a triggerer has in memory anyway

    ids, seconds = json.load(sys.stdin)
    print(json.dumps(asyncio.run(wait(ids, seconds))))


def measure(triggers: int, seconds: float, home: str) -> dict[str, float]:
    """Start a local Voucherify, submit an action for each trigger, and measure in another process."""
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.client.settings import ConnectionSettings

    command = [sys.executable, "-m", "airflow_provider_voucherify.local_voucherify", "--host", "127.0.0.1"]
    options = ["--port", "0", "--app-id", "app", "--secret-key", "secret", "--action-seconds", "36000"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            base_url = re.findall(r"http://[\w.:]+", server.stdout.readline())[0]
            settings = ConnectionSettings.build(application_id="app", secret_key="secret", host=base_url)
            with VoucherifyClient(settings) as client:
                ids = [client.bulk_update("customers", [{"source_id": f"c{number}"}]) for number in range(triggers)]
            connection = {"conn_type": "voucherify", "host": base_url, "login": "app", "password": "secret"}
            surroundings = {
                "AIRFLOW_HOME": home,
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
                "AIRFLOW_CONN_VOUCHERIFY_DEFAULT": json.dumps(connection),
                "PYTHONPATH": str(ROOT),
            }
            done = subprocess.run(
                [sys.executable, __file__, "--one"],
                env=os.environ | surroundings,
                input=json.dumps([ids, seconds]),
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        finally:
            server.kill()
    taken: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return taken


def main() -> int:
    """Measure each number of triggers and compare."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    taken = {}
    for triggers in TRIGGERS:
        with tempfile.TemporaryDirectory() as home:
            taken[triggers] = one = measure(triggers, seconds, home)
        print(
            f"{triggers:>5} triggers for {seconds:.0f} s: {one['mb']:6.1f} MB more, {one['cpu']:5.2f} s of CPU, "
            f"{one['gets']:.0f} GETs",
            flush=True,
        )
    many, single = taken[TRIGGERS[-1]], taken[1]
    return int(many["mb"] > MAX_MB or many["gets"] > 1.5 * single["gets"] + 1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--one"]:
        run_one()
    else:
        sys.exit(main())
