"""
Many triggers that start, and many that run out of time, at once: ``python -m harness.benchmarks.rush '{...}'``.

In one event loop, made as fast as Airflow's triggerer makes them, against a queue that does not move. It tells for how
long the loop did not come back to a task that beats all the time, and how much of that it computed: other processes may
have had the processor meanwhile. The garbage collector, which goes through all that Airflow has loaded, is left out:
what it takes is told beside it. ``each`` is what 1,000 triggers cost, so that one sees whether that grows with them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from typing import Any

from harness import process

BEAT = 0.005


class Beats:
    """What the loop did from one beat to the next, at worst."""

    def __init__(self) -> None:
        self._collecting = self._collected = 0.0
        gc.callbacks.append(self._collector)
        self.begin()

    def begin(self) -> None:
        """Forget what has been."""
        self._cpu = time.process_time()
        self.worst = {"blocked": 0.0, "computed": 0.0, "collected": 0.0}

    def end(self, triggers: int) -> dict[str, float]:
        """Return the worst of each since the beginning, and what that cost for 1,000 triggers, in seconds."""
        return {**self.worst, "each": (time.process_time() - self._cpu) / triggers * 1_000}

    async def beat(self) -> None:
        """Beat until this is cancelled."""
        while True:
            before, cpu, self._collected = time.monotonic(), time.thread_time(), 0.0
            await asyncio.sleep(BEAT)
            now = {
                "blocked": time.monotonic() - before - BEAT,
                "computed": time.thread_time() - cpu - self._collected,
                "collected": self._collected,
            }
            self.worst = {name: max(self.worst[name], seconds) for name, seconds in now.items()}

    def _collector(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting


async def _wait(action_id: str, submitted_at: float, end_time: float) -> None:
    from harness.benchmarks import provider

    async for _ in provider.trigger([action_id], submitted_at, end_time).run():
        pass


async def _rush(job: dict[str, Any]) -> dict[str, Any]:
    triggers, late = job["triggers"], job["late"]
    beats, now = Beats(), time.time()
    beating = asyncio.create_task(beats.beat())
    await asyncio.sleep(10 * BEAT)
    beats.begin()
    end_time = now + job["seconds"]
    waiting = []
    for number in range(triggers):
        ends = end_time if number < late else now + 86_400
        at = now - 1 + number / triggers
        waiting.append(asyncio.create_task(_wait(f"aa_queued_{number:06}", at, ends)))
        await asyncio.sleep(0)
    await asyncio.sleep(1)
    result: dict[str, Any] = {"triggers": triggers, "late": late, "start": beats.end(triggers)}
    await asyncio.sleep(end_time - 0.5 - time.time())
    beats.begin()
    await asyncio.wait(waiting[:late], timeout=60)
    result |= {"end": beats.end(late), "ended": sum(one.done() for one in waiting)}
    beating.cancel()
    for one in waiting:
        one.cancel()
    await asyncio.gather(beating, *waiting, return_exceptions=True)
    return result


def main() -> None:
    """Measure and print."""
    import airflow.jobs.triggerer_job_runner
    import airflow.sdk.execution_time.context
    import airflow.sdk.execution_time.supervisor  # noqa: F401  what a triggerer has in memory anyway
    import anyio.lowlevel

    import airflow_provider_voucherify.triggers.async_action  # noqa: F401
    from harness.benchmarks import provider

    job = process.job()
    os.environ[f"AIRFLOW_CONN_{provider.CONNECTION_ID.upper()}"] = json.dumps(provider.connection(job["url"]))

    async def as_in_a_triggerer() -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        return await _rush(job)

    print(json.dumps(asyncio.run(as_in_a_triggerer())))


if __name__ == "__main__":
    main()
