"""
A thousand waiting triggers in one event loop, as in a triggerer: ``python -m harness.benchmarks.triggers '{...}'``.

Each waits for an action of its own in a queue that works off one in 10 s. The memory before is that of a process that
has imported the triggers' module and runs an event loop. ``client_each`` is what one writes first: a client for each
trigger, which polls every 5 s.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any

from harness import process

NAIVE_INTERVAL = 5.0


async def _ours(action_id: str) -> None:
    from harness.benchmarks import provider

    now = time.time()
    async for _ in provider.trigger([action_id], now, now + 86_400).run():
        pass


async def _client_each(action_id: str, url: str) -> None:
    import httpx

    async with httpx.AsyncClient() as client:
        while True:
            action = (await client.get(f"{url}/v1/async-actions/{action_id}")).json()
            if action["status"] == "DONE":
                return
            await asyncio.sleep(NAIVE_INTERVAL)


async def _wait(job: dict[str, Any]) -> dict[str, Any]:
    action_ids = [f"aa_queued_{number:06}" for number in range(job["triggers"])]
    base, cpu = process.resident_mb(), time.process_time()
    waiting = [
        asyncio.create_task(_ours(action_id) if job["kind"] == "ours" else _client_each(action_id, job["url"]))
        for action_id in action_ids
    ]
    done, unfinished = await asyncio.wait(waiting, timeout=job["seconds"])
    for task in done:
        task.result()
    counts = await asyncio.to_thread(process.ask, f"{job['url']}/_counts")
    result = {
        "triggers": job["triggers"],
        "seconds": job["seconds"],
        "base_mb": base,
        "peak_mb": process.peak_mb(),
        "cpu": time.process_time() - cpu,
        "gets": counts["gets"] + counts["lists"],
        "fired": len(done),
    }
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)
    return result


def main() -> None:
    """Measure and print."""
    job = process.job()
    if job["kind"] == "ours":
        import airflow_provider_voucherify.triggers.async_action  # noqa: F401
        from harness.benchmarks import provider

        os.environ[f"AIRFLOW_CONN_{provider.CONNECTION_ID.upper()}"] = json.dumps(provider.connection(job["url"]))
    else:
        import httpx  # noqa: F401
    process.forget_peak()
    print(json.dumps(asyncio.run(_wait(job))))


if __name__ == "__main__":
    main()
