"""
How many GETs it takes to see a queue to its end: ``python -m harness.benchmarks.waiting '{"queues": [[27, 20]]}'``.

The provider's real trigger, client and settlement run against the counting server, all in one event loop whose clock
is simulated: where nothing is to be received the clock jumps to the next timer. So hours of waiting take seconds, and
nothing in the provider knows. The other policies are counted by arithmetic; each polls an action until it is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from harness import process
from harness.benchmarks import provider
from harness.benchmarks.server import Actions, CountingServer

EPOCH = 1_800_000_000.0
REAL_SECONDS_FOR_AN_ANSWER = 0.005


class SimulatedClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything happens, and otherwise jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.in_threads = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Return the simulated seconds since the loop was made."""
        return self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """Hold the clock until the thread has finished."""
        future = super().run_in_executor(executor, func, *args)
        self.in_threads += 1
        future.add_done_callback(self._back_from_thread)
        return future

    def _back_from_thread(self, _: object) -> None:
        self.in_threads -= 1


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(REAL_SECONDS_FOR_AN_ANSWER)
        if not ready and not self._loop.in_threads:
            self._loop.now += timeout
        return ready


def poll_each(actions: int, seconds: float, interval: float) -> int:
    """Count the polls where every action is polled every ``interval`` seconds, as by a sensor for each."""
    return sum(_polls(seconds * (n + 1), interval) for n in range(actions))


def one_after_the_other(actions: int, seconds: float, interval: float) -> int:
    """Count the polls of a loop that follows one action to its end, then the next, as scripts with an SDK do."""
    now, polls = 0.0, 0
    for number in range(actions):
        polls += 1
        while now < seconds * (number + 1):
            now += interval
            polls += 1
    return polls


def _polls(duration: float, interval: float) -> int:
    return int(-(-duration // interval))


def ours(actions: int, seconds: float, tasks: int) -> dict[str, float]:
    """
    Wait for a queue with real triggers and fetch the results as the resumed tasks do.

    :param tasks: among how many tasks the actions are, in turn; each has a trigger.
    :returns: ``gets`` and ``lists`` overall; ``late``, the mean seconds from an action's end to its task's event.
    """
    with asyncio.Runner(loop_factory=SimulatedClockLoop) as runner:
        loop = runner.get_loop()
        with patch.multiple(time, time=lambda: EPOCH + loop.time(), monotonic=loop.time):
            return runner.run(_ours(actions, seconds, tasks))


async def _ours(actions: int, seconds: float, tasks: int) -> dict[str, float]:
    queue = Actions(actions, seconds, clock=time.time)
    server = CountingServer(queue)
    listening = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    os.environ[f"AIRFLOW_CONN_{provider.CONNECTION_ID.upper()}"] = json.dumps(provider.connection(url))
    shares = [queue.ids[n::tasks] for n in range(tasks)]
    late = await asyncio.gather(*(_task(share, queue, url) for share in shares))
    return {"gets": server.counts.gets, "lists": server.counts.lists, "late": sum(late) / tasks}


async def _task(action_ids: list[str], queue: Actions, url: str) -> float:
    submitted_at = time.time()
    trigger = provider.trigger(action_ids, submitted_at, submitted_at + 1e6)
    statuses = [event.payload["status"] async for event in trigger.run()]
    late = time.time() - queue.ends(queue.ids.index(action_ids[-1]))
    succeeded = await asyncio.to_thread(provider.settle, action_ids, submitted_at, url)
    if statuses != ["finished"] or succeeded != len(action_ids):
        raise RuntimeError(f"{statuses}, {succeeded} of {len(action_ids)}")
    return late


POLICIES: dict[str, Callable[[int, float], int]] = {
    "every action every 5 s": lambda actions, seconds: poll_each(actions, seconds, 5),
    "every action every 30 s": lambda actions, seconds: poll_each(actions, seconds, 30),
    "one after the other, every 5 s": lambda actions, seconds: one_after_the_other(actions, seconds, 5),
}


def main() -> None:
    """Measure and print."""
    results = []
    for actions, seconds, tasks in process.job()["queues"]:
        others = {name: policy(actions, seconds) for name, policy in POLICIES.items()}
        results.append(
            {"actions": actions, "seconds": seconds, "tasks": tasks, "others": others, **ours(actions, seconds, tasks)}
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
