"""One poller for all triggers of a connection in one event loop: ``sync.waiting.queue_watch`` says what it does."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING, Protocol

from airflow_provider_voucherify.models.errors import VoucherifyError
from airflow_provider_voucherify.sync.waiting.look import Look
from airflow_provider_voucherify.sync.waiting.queue_watch import QueueWatch
from airflow_provider_voucherify.sync.waiting.waits import End, Wait

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import AsyncVoucherifyClient

LAST_LOOK_SECONDS = 30.0
"""How long after its end time a wait may go on for the sake of its last look; that may be held up by a rate limit."""

QUIET_SECONDS = 300.0
"""How often a trigger that is not the next one says that it waits."""


WOKEN_AT_ONCE = 20
"""Triggers that are told in one turn of the event loop; of hundreds that end together each takes half a millisecond."""


class Log(Protocol):
    """The part of a logger that is needed here."""

    def info(self, message: str, /, *args: object) -> object:
        """Log a line."""

    def warning(self, message: str, /, *args: object) -> object:
        """Log a line."""


class Poller:
    """
    Looks at async actions for whoever waits; nothing runs while nobody does.

    Its task has a context of its own, so that its log lines do not end up in the log of the trigger that came first.
    What concerns a trigger is logged by the trigger, in a thread: a triggerer's log goes to another process, and where
    that has no time to read it a line written in the event loop would hold up everybody.

    :param client: whoever opened it closes it.
    """

    def __init__(self, client: AsyncVoucherifyClient) -> None:
        self._client = client
        self._watch = QueueWatch()
        self._news: dict[Wait, asyncio.Event] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def gave_up(self) -> bool:
        """Whether looking has failed for everybody, so that whoever waits next should connect anew."""
        return self._watch.gave_up

    async def wait_for(self, wait: Wait, log: Log) -> End:
        """
        Return how a wait ends.

        :param log: is told of each look that concerns the wait, and every few minutes where none does.
        """
        news = self._news[wait] = asyncio.Event()
        self._watch.add(wait, time.time())
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_while_awaited(), context=contextvars.Context())
            self._task.add_done_callback(self._wake_all)
        latest = max(wait.end_time, time.time()) + LAST_LOOK_SECONDS
        try:
            while wait.end is None:
                left = latest - time.time()
                if left <= 0:
                    return End("timeout", f"async action {wait.key} was not finished in time")
                try:
                    async with asyncio.timeout(min(left, QUIET_SECONDS)):
                        await news.wait()
                except TimeoutError:
                    pass
                news.clear()
                if wait.end is None:
                    if self._task.done():
                        self._task.result()  # a bug, which should not pass for an action that takes long
                    await self._log_progress(wait, log)
            return wait.end
        finally:
            del self._news[wait]
            self._watch.remove(wait)
            self._changed.set()

    async def aclose(self) -> None:
        """End the task; a look that is under way is given up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _wake_all(self, _: asyncio.Task[None]) -> None:
        for news in self._news.values():
            news.set()

    async def _look_while_awaited(self) -> None:
        while (look := self._watch.next_look(time.time())) is not None:
            self._changed.clear()
            if (pause := look.at - time.time()) > 0:
                try:
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            await self._look(look)

    async def _look(self, look: Look) -> None:
        asked_at = time.time()
        try:
            answer = await self._client.send(look.call_for_status)
        except VoucherifyError as error:
            news = self._watch.failed(look, error, asked_at, time.time())
        else:
            news = self._watch.found(look, answer, asked_at, time.time())
        for number, wait in enumerate(news, start=1):
            if wait in self._news:
                self._news[wait].set()
            if number % WOKEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _log_progress(self, wait: Wait, log: Log) -> None:
        if (rate_limit := self._watch.rate_limit) is not None:
            until = time.strftime("%H:%M:%S", time.gmtime(rate_limit.until))
            await asyncio.to_thread(log.info, "No poll before %s UTC, nor a failure: %s", until, rate_limit.why)
            return
        if wait.failure is not None:
            failed = "Poll %d of %d failed: %s"
            await asyncio.to_thread(log.warning, failed, wait.failures, wait.most_failures, wait.failure)
            return
        ahead = self._watch.waits.position(wait)
        behind = f"; waiting ahead of it here: {ahead}" if ahead else ""
        if wait.status is None:
            await asyncio.to_thread(log.info, "Async action %s has not been polled yet%s", wait.key, behind)
        else:
            line = "Async action %s is %s (%s %%)%s"
            await asyncio.to_thread(log.info, line, wait.key, wait.status, wait.progress or 0, behind)
