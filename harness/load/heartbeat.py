"""A trigger that waits for nothing and writes down how the event loop of its triggerer does."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

BEAT = 0.01
"""Seconds between two beats; what a beat is late, the loop was blocked."""

LATE = 0.05
"""Seconds after which a thread writes down what the loop is doing."""

OURS = "airflow_provider_voucherify"


class HeartbeatTrigger(BaseTrigger):
    """
    Beats until it is cancelled, and writes a line of JSON each second.

    A line has ``at`` (Unix epoch seconds), ``blocked`` (the longest that the loop did not come back to this trigger, in
    seconds), ``cpu`` (the most CPU seconds that the loop's thread used meanwhile; the rest it was blocked or had no
    processor), ``collected`` (the longest time that Python's garbage collector took meanwhile), ``ours`` (the longest
    that the loop was in code called by this provider, without the collector's time and that in which the thread was
    ready to run and had no processor) and ``mb`` (resident memory of the process). The file with ``.stacks`` at the end
    gets the stack of the loop's thread whenever it is late.

    :param path: file to append to.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of an equal trigger."""
        return "harness.load.heartbeat.HeartbeatTrigger", {"path": self.path}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Beat."""
        watch = _Watch(f"{self.path}.stacks")
        threading.Thread(target=watch.run, daemon=True).start()
        file = await asyncio.to_thread(Path(self.path).open, "a", encoding="utf-8", buffering=1)
        try:
            while True:
                file.write(json.dumps(await _second(watch)) + "\n")
        finally:
            watch.ended = True
            file.close()
        yield TriggerEvent({})


class _Watch:
    """A thread that looks at the loop's thread while that is late, and a count of what the collector takes."""

    def __init__(self, path: str) -> None:
        self.ended = False
        self._path = path
        self._thread = threading.get_ident()
        self._scheduling = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._collecting = 0.0
        gc.callbacks.append(self._collector)
        self.beat()

    def beat(self) -> None:
        """Begin anew."""
        self.beat_at, self.collected, self.looks, self.looks_at_ours = time.monotonic(), 0.0, 0, 0

    def queued(self) -> float:
        """Return for how many seconds the loop's thread has been ready to run and had no processor, all in all."""
        return int(self._scheduling.read_text(encoding="ascii").split()[1]) / 1e9

    @property
    def ours(self) -> float:
        """Which part of the looks since the last beat found the loop in this provider."""
        return self.looks_at_ours / self.looks if self.looks else 0.0

    def run(self) -> None:
        """Look until it has ended; of one delay one stack is written."""
        told = 0.0
        with Path(self._path).open("a", encoding="utf-8", buffering=1) as file:
            while not self.ended:
                time.sleep(BEAT)
                beat_at = self.beat_at
                late = time.monotonic() - beat_at - BEAT
                if late < LATE / 2:
                    continue
                frame = sys._current_frames().get(self._thread)
                stack = traceback.extract_stack(frame)
                self.looks += 1
                self.looks_at_ours += any(OURS in f.filename for f in stack)
                if beat_at != told and late > LATE:
                    told = beat_at
                    shown = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in stack[-12:]]
                    file.write(json.dumps({"at": time.time(), "stack": shown}) + "\n")

    def _collector(self, phase: str, _: object) -> None:
        if phase == "start":
            self._collecting = time.monotonic()
        else:
            self.collected += time.monotonic() - self._collecting


async def _second(watch: _Watch) -> dict[str, float]:
    end = time.monotonic() + 1
    worst = {"blocked": 0.0, "cpu": 0.0, "collected": 0.0, "ours": 0.0}
    while (before := time.monotonic()) < end:
        cpu_before, queued_before = time.thread_time(), watch.queued()
        watch.beat()
        await asyncio.sleep(BEAT)
        blocked = time.monotonic() - before - BEAT
        beat = {
            "blocked": blocked,
            "cpu": time.thread_time() - cpu_before,
            "collected": watch.collected,
            "ours": watch.ours * max(0.0, blocked - watch.collected - (watch.queued() - queued_before)),
        }
        worst = {name: max(worst[name], beat[name]) for name in worst}
    return {"at": time.time(), **worst, "mb": _resident_mb()}


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


class SleepingTrigger(BaseTrigger):
    """
    Waits for a time and nothing else, as a yardstick: what remains is what the triggerer itself does.

    :param until: Unix epoch seconds.
    """

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of an equal trigger."""
        return "harness.load.heartbeat.SleepingTrigger", {"until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep."""
        await asyncio.sleep(self.until - time.time())
        yield TriggerEvent({})
