"""Time that begins where it is told to, and goes on from there."""

from __future__ import annotations

import time
from datetime import datetime
from types import TracebackType
from unittest.mock import patch


class MovedClock:
    """Replaces ``time.time`` while it is entered; the history has its times from there, and Airflow has its own."""

    def __init__(self) -> None:
        self._time = time.time
        self._ahead = 0.0
        self._replaced = patch("time.time", self._now)

    def move(self, moment: datetime) -> None:
        """Go on from a moment."""
        self._ahead = moment.timestamp() - self._time()

    def _now(self) -> float:
        return self._time() + self._ahead

    def __enter__(self) -> MovedClock:
        self._replaced.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._replaced.stop()
