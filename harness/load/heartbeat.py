"""A trigger that waits for nothing and writes down how the event loop of its triggerer does."""

from __future__ import annotations

import asyncio
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


class HeartbeatTrigger(BaseTrigger):
    """
    Beats until it is cancelled, and writes a line of JSON each second.

    A line has ``at`` (Unix epoch seconds), ``blocked`` (the longest that the loop did not come back to this trigger, in
    seconds), ``cpu`` (the most CPU seconds that the loop's thread used meanwhile; the rest it was blocked or had no
    processor) and ``mb`` (resident memory of the process). The file with ``.stacks`` at the end gets the stack of the
    loop's thread whenever it is late.

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
    """A thread that looks at the loop's thread when that is late."""

    def __init__(self, path: str) -> None:
        self.beat_at = time.monotonic()
        self.ended = False
        self._path = path
        self._thread = threading.get_ident()

    def run(self) -> None:
        """Look until it has ended; of one delay one stack is written."""
        told = 0.0
        with Path(self._path).open("a", encoding="utf-8", buffering=1) as file:
            while not self.ended:
                time.sleep(BEAT)
                beat_at = self.beat_at
                if beat_at != told and time.monotonic() - beat_at > BEAT + LATE:
                    told = beat_at
                    frame = sys._current_frames().get(self._thread)
                    stack = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_stack(frame)]
                    file.write(json.dumps({"at": time.time(), "stack": stack[-12:]}) + "\n")


async def _second(watch: _Watch) -> dict[str, float]:
    end = time.monotonic() + 1
    blocked = cpu = 0.0
    while (before := time.monotonic()) < end:
        cpu_before = time.thread_time()
        watch.beat_at = before
        await asyncio.sleep(BEAT)
        blocked = max(blocked, time.monotonic() - before - BEAT)
        cpu = max(cpu, time.thread_time() - cpu_before)
    return {"at": time.time(), "blocked": blocked, "cpu": cpu, "mb": _resident_mb()}


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


class SleepingTrigger(BaseTrigger):
    """Waits for nothing at all, as a yardstick: what remains is what the triggerer itself does."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and no arguments."""
        return "harness.load.heartbeat.SleepingTrigger", {}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep."""
        await asyncio.sleep(36_000)
        yield TriggerEvent({})
