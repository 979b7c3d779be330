"""Waking many triggers without blocking their event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

WOKEN_AT_ONCE = 20
"""Triggers woken in one turn of the event loop: if hundreds end together, each takes half a millisecond."""


async def in_turns(waiting: Iterable[asyncio.Future[None]]) -> None:
    """Wake those that wait, some in each turn of the event loop, and return once all of them have been resumed."""
    for number, future in enumerate(waiting, start=1):
        if not future.done():
            future.set_result(None)
        if number % WOKEN_AT_ONCE == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
