"""One poller for all triggers of a connection in an event loop; a policy of ``sync.waiting`` decides what it polls."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_voucherify.models.errors import VoucherifyError
from airflow_provider_voucherify.sync.waiting.waits import End, Wait
from airflow_provider_voucherify.triggers.turns import in_turns

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.calls import Call
    from airflow_provider_voucherify.client.http import AsyncVoucherifyClient
    from airflow_provider_voucherify.sync.waiting.poll import PollLimit

LAST_POLL_SECONDS = 30.0
"""How long a wait may outlast its end time for its last poll, which a rate limit may delay."""

QUIET_SECONDS = 300.0
"""How often a trigger without news logs that it is still waiting."""


class Log(Protocol):
    """The part of a logger that the poller needs."""

    def info(self, message: str, /, *args: object) -> object:
        """Log a line."""

    def warning(self, message: str, /, *args: object) -> object:
        """Log a line."""


class Poll(Protocol):
    """The next poll, as ``sync.waiting.poll`` and ``sync.waiting.export_watch`` have it."""

    @property
    def at(self) -> float:
        """When, Unix epoch seconds."""

    @property
    def call_for_status(self) -> Call[Any]:
        """The call to send."""


class Watch(Protocol):
    """A policy that decides what to poll, and when: ``QueueWatch`` describes it."""

    what: str
    gave_up: bool
    rate_limit: PollLimit | None

    def add(self, wait: Wait, now: float) -> None:
        """Poll for a wait from now on."""

    def remove(self, wait: Wait) -> None:
        """Stop polling for a wait."""

    def next_poll(self, now: float) -> Any:
        """Return the next poll; None if nothing is waited for."""

    def note_answer(self, poll: Any, answer: Any, asked_at: float, now: float) -> Sequence[Wait]:
        """Take in the answer to a poll, and return the waits with news."""

    def note_error(self, poll: Any, error: VoucherifyError, asked_at: float, now: float) -> Sequence[Wait]:
        """Take in the error of a poll, and return the waits with news."""

    def progress_of(self, wait: Wait) -> str:
        """Say what the last poll for a wait has shown."""


class Poller:
    """
    Polls for all waits; nothing runs while there are none.

    Its task has its own context, so that its log lines do not end up in the log of the trigger that came first. Each
    trigger logs its own news, in a thread: a triggerer's log goes to another process, and if that process is slow to
    read, a line written in the event loop would block all triggers.

    :param client: closed by the caller.
    :param watch: decides what is polled, and when.
    """

    def __init__(self, client: AsyncVoucherifyClient, watch: Watch) -> None:
        self._client = client
        self._watch = watch
        self._news: dict[Wait, asyncio.Future[None]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def gave_up(self) -> bool:
        """Whether polling has failed for all waits, so that the next one should open a new connection."""
        return self._watch.gave_up

    async def wait_for(self, wait: Wait, log: Log) -> End:
        """
        Return how a wait ends.

        :param log: gets a line for each poll that concerns the wait, and every few minutes if none does.
        """
        news = self._news[wait] = asyncio.get_running_loop().create_future()
        self._watch.add(wait, time.time())
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll_while_awaited(), context=contextvars.Context())
            self._task.add_done_callback(self._wake_all)
        latest = max(wait.end_time, time.time()) + LAST_POLL_SECONDS
        try:
            while wait.end is None:
                seconds_left = latest - time.time()
                if seconds_left <= 0:
                    return End("timeout", f"{self._watch.what} {wait.key} was not finished in time")
                try:
                    async with asyncio.timeout(min(seconds_left, QUIET_SECONDS)):
                        await news
                except TimeoutError:
                    pass
                if wait.end is None:
                    news = self._news[wait] = asyncio.get_running_loop().create_future()
                    if self._task.done():
                        self._task.result()  # a bug must not pass for an action that takes long
                    await self._log_progress(wait, log)
            return wait.end
        finally:
            del self._news[wait]
            self._watch.remove(wait)
            self._changed.set()

    async def aclose(self) -> None:
        """End the task, and any poll in progress."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _wake_all(self, _: asyncio.Task[None]) -> None:
        for news in self._news.values():
            if not news.done():
                news.set_result(None)

    async def _poll_while_awaited(self) -> None:
        while (poll := self._watch.next_poll(time.time())) is not None:
            self._changed.clear()
            if (pause := poll.at - time.time()) > 0:
                try:
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                continue
            await self._poll(poll)

    async def _poll(self, poll: Poll) -> None:
        asked_at = time.time()
        try:
            answer = await self._client.send(poll.call_for_status)
        except VoucherifyError as error:
            news = self._watch.note_error(poll, error, asked_at, time.time())
        else:
            news = self._watch.note_answer(poll, answer, asked_at, time.time())
        await in_turns(self._news[wait] for wait in news if wait in self._news)

    async def _log_progress(self, wait: Wait, log: Log) -> None:
        if (rate_limit := self._watch.rate_limit) is not None:
            until = time.strftime("%H:%M:%S", time.gmtime(rate_limit.until))
            await asyncio.to_thread(log.info, "No poll before %s UTC (rate limit): %s", until, rate_limit.why)
            return
        if wait.failure is not None:
            line = "Poll %d of %d failed: %s"
            await asyncio.to_thread(log.warning, line, wait.failures, wait.max_failures, wait.failure)
            return
        await asyncio.to_thread(log.info, "%s", self._watch.progress_of(wait))
