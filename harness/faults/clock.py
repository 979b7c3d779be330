"""Time that passes by itself and jumps over every sleep, so that waits for rate limits of an hour take no time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

_REAL_TIME, _REAL_SLEEP = time.time, time.sleep

_REAL_PAUSE = 0.001
"""Seconds that any sleep really takes, so that whoever is waited for can go on."""


class JumpingClock:
    """
    Replaces ``time.time`` and ``time.sleep`` in this process; ``time.monotonic``, and so all time-outs, are real.

    :ivar on_sleep: called before each sleep.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._lock = threading.Lock()
        self.on_sleep: Callable[[], None] = _nothing

    def time(self) -> float:
        """Return Unix epoch seconds, ahead by what was slept."""
        return _REAL_TIME() + self._ahead

    def sleep(self, seconds: Any) -> None:
        """Let so many seconds pass at once. Two threads that sleep at the same time sleep side by side."""
        until = self.time() + seconds
        self.on_sleep()
        _REAL_SLEEP(min(seconds, _REAL_PAUSE))
        with self._lock:
            self._ahead = max(self._ahead, until - _REAL_TIME())


def _nothing() -> None:
    """Do nothing."""


def install() -> JumpingClock:
    """Replace the process's clock; before anything is imported that takes hold of ``time.time``."""
    clock = JumpingClock()
    time.time, time.sleep = clock.time, clock.sleep
    return clock
