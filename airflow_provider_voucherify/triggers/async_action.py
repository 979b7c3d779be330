"""Waiting for async actions in the triggerer."""

from __future__ import annotations

import asyncio
import json
import time
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_voucherify.models.errors import VoucherifyError
from airflow_provider_voucherify.sync.waiting.pauses import DEFAULT_POLL_INTERVAL, MAX_FAILED_POLLS, pause

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import AsyncVoucherifyClient
    from airflow_provider_voucherify.sync.waiting.waits import End, Wait
    from airflow_provider_voucherify.triggers.poller import Poller, Watch

Kind = Literal["async actions", "exports"]
"""What is waited for: each kind has a poller of its own."""

EVENT_VERSION = 2
"""Version 1 had no ``async_action_ids``: they were in its ``state``."""

OPENING_SECONDS = 30.0
"""Longest time for one attempt to open a connection: a secrets backend that hangs must not block a trigger forever."""

MIN_OPENING_SECONDS = 10.0
"""The same for a trigger whose end time is near or past, such as one that has been restarted."""

MAX_STORED_BYTES = 48_000
"""
Bytes of a trigger's arguments as JSON that every metadata database of Airflow can store: MySQL has room for 65,535
bytes, and Airflow's encryption adds a third.
"""


class VoucherifyAsyncActionTrigger(BaseTrigger):
    """
    Waits until a set of async actions has finished.

    It only says *when* results are ready, never what they are: results can be large, so the worker that resumes the
    task reads them. It sends only GETs, through a poller that all triggers of the same connection in the same triggerer
    share (see ``sync.waiting.queue_watch`` for what is polled). Everything that it needs is in its arguments,
    and all times are absolute, so it can be moved or restarted at any moment.

    There is deliberately no ``on_kill``: the API has no way to cancel an async action, and after a clear the next try
    may be waiting for the same one. The action continues at Voucherify, whatever happens to the task.

    The event is a dict with ``version``, ``status``, ``message``, ``async_action_ids`` and ``state``. ``status`` is
    ``finished``; ``timeout`` (``end_time`` has passed, and the last poll found the action unfinished); or
    ``unreachable`` (polling failed for good: the resumed task should poll once more and so hit the error itself). A
    connection that cannot be read counts as a failed poll.

    The size of a trigger that every Airflow can store is limited (``fits``): about 1,800 actions, or 1,400 if no two
    consecutive batches have the same number of records.

    :param voucherify_conn_id: connection of type ``voucherify``.
    :param async_action_ids: in the order of submission; the last one is polled first. Returned in the event.
    :param submitted_at: when the last one was submitted, Unix epoch seconds.
    :param end_time: when to give up, Unix epoch seconds.
    :param poll_interval: longest pause between two polls, in seconds.
    :param not_before: earliest time of an event, Unix epoch seconds. Airflow 3.3.2 fails a task whose trigger fires in
        the seconds in which the worker's exit has not been noticed yet.
    :param max_consecutive_failures: number of consecutive failed polls after which the status is ``unreachable``.
    :param state: plain JSON, returned in the event unchanged.
    :param unfinished_from: index in ``async_action_ids`` of an action that was found unfinished although a later one
        has finished: it and those after it are waited for, and it is polled first. None waits for all;
        ``len(async_action_ids)`` waits only for ``not_before``.
    """

    def __init__(
        self,
        voucherify_conn_id: str,
        async_action_ids: Sequence[str],
        submitted_at: float,
        end_time: float,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        not_before: float = 0.0,
        max_consecutive_failures: int = MAX_FAILED_POLLS,
        state: dict[str, Any] | None = None,
        unfinished_from: int | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.voucherify_conn_id = voucherify_conn_id
        self.async_action_ids = list(async_action_ids)
        self.submitted_at = submitted_at
        self.end_time = end_time
        self.poll_interval = poll_interval
        self.not_before = not_before
        self.max_consecutive_failures = max_consecutive_failures
        self.state = state
        self.unfinished_from = unfinished_from

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of an equal trigger."""
        return (
            "airflow_provider_voucherify.triggers.async_action.VoucherifyAsyncActionTrigger",
            {
                "voucherify_conn_id": self.voucherify_conn_id,
                "async_action_ids": self.async_action_ids,
                "submitted_at": self.submitted_at,
                "end_time": self.end_time,
                "poll_interval": self.poll_interval,
                "not_before": self.not_before,
                "max_consecutive_failures": self.max_consecutive_failures,
                "state": self.state,
                "unfinished_from": self.unfinished_from,
            },
        )

    @property
    def fits(self) -> bool:
        """Whether every metadata database that Airflow supports can store the trigger."""
        return len(json.dumps(self.serialize()[1])) <= MAX_STORED_BYTES

    @property
    def waiting_for(self) -> list[str]:
        """The actions to wait for; the last one is polled first."""
        first = self.unfinished_from
        if first is None:
            return self.async_action_ids
        return self.async_action_ids[first + 1 :] + self.async_action_ids[first : first + 1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the actions have finished, time is up, or polling has failed for good; then fire once."""
        from airflow_provider_voucherify.sync.waiting.waits import End, Wait

        wait = Wait(
            self.waiting_for,
            self.submitted_at,
            self.end_time,
            self.poll_interval,
            self.not_before,
            self.max_consecutive_failures,
        )
        if wait.async_action_ids:
            end = await end_of(wait, self.voucherify_conn_id, self.log)
            line = f"Stopped waiting for {len(wait.async_action_ids)} async actions: {end.status}"
        else:
            end = End("finished")
            line = f"Waiting until {time.strftime('%H:%M:%S', time.gmtime(self.not_before))} UTC"
        await asyncio.to_thread(self.log.info, line)
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        event = {
            "version": EVENT_VERSION,
            "status": end.status,
            "message": end.message,
            "async_action_ids": self.async_action_ids,
            "state": self.state,
        }
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]


async def end_of(wait: Wait, voucherify_conn_id: str, log: Any, kind: Kind = "async actions") -> End:
    """Wait through the poller that all triggers of a connection share, and return how the wait has ended."""
    from airflow_provider_voucherify.sync.waiting.waits import End

    async with AsyncExitStack() as stack:
        opened = await _open(stack, wait, voucherify_conn_id, log, kind)
        return opened if isinstance(opened, End) else await opened.wait_for(wait, log)


async def _open(stack: AsyncExitStack, wait: Wait, conn_id: str, log: Any, kind: Kind) -> Poller | End:
    """
    Return the connection's poller, or how the wait ends because there is none.

    A missing connection may be transient: Airflow reports one too if a secrets backend fails for a moment.
    """
    from airflow_provider_voucherify.sync.waiting.waits import End

    began, failures = time.time(), 0
    while True:
        try:
            timeout = max(MIN_OPENING_SECONDS, min(OPENING_SECONDS, wait.end_time - time.time()))
            return await stack.enter_async_context(shared_poller(conn_id, timeout, kind))
        except Exception as error:
            failures += 1
            reason = f"{type(error).__name__}: {error}".partition("\n")[0][:300]
            why = f"the connection {conn_id} cannot be opened: {reason}"
            next_at = time.time() + pause(time.time() - began, wait.poll_interval)
            is_permanent = isinstance(error, VoucherifyError)
            if is_permanent or failures >= wait.max_failures or next_at >= wait.end_time:
                return End("unreachable", why)
        await asyncio.to_thread(log.warning, "Poll %d of %d failed: %s", failures, wait.max_failures, why)
        await asyncio.sleep(max(0.0, next_at - time.time()))


@dataclass(eq=False)
class _Shared:
    """A connection's client and poller, and the number of triggers that use them."""

    client: AsyncVoucherifyClient
    poller: Poller
    users: int = 0


@dataclass(eq=False)
class _Opening:
    """An attempt to open a connection, and the number of triggers that wait for it."""

    task: asyncio.Task[None]
    waiting: int = 0


@dataclass
class _Loop:
    """What the triggers of one event loop share, by connection id and what they wait for."""

    opening: dict[tuple[str, Kind], _Opening] = field(default_factory=dict)
    shared: dict[tuple[str, Kind], _Shared] = field(default_factory=dict)

    async def wait_for(self, place: tuple[str, Kind], seconds: float) -> _Shared:
        """
        Return what a connection's triggers share.

        Only one attempt at a time opens a connection, and it continues after those waiting for it have given up: a
        thread that hangs in a secrets backend cannot be stopped, and a second one would hang beside it.
        """
        try:
            async with asyncio.timeout(seconds) as limit:
                while place not in self.shared:
                    if place not in self.opening:
                        self.opening[place] = _Opening(asyncio.create_task(self._open(place)))
                        self.opening[place].task.add_done_callback(lambda task: task.cancelled() or task.exception())
                    opening = self.opening[place]
                    opening.waiting += 1
                    try:
                        await asyncio.wait([opening.task])
                    finally:
                        opening.waiting -= 1
                    opening.task.result()
        except TimeoutError:
            if limit.expired():
                raise TimeoutError(f"looking it up took more than {seconds:.0f} s") from None
            raise
        return self.shared[place]

    async def _open(self, place: tuple[str, Kind]) -> None:
        """Open a connection; close it again if no trigger waits for it by then."""
        from asgiref.sync import ThreadSensitiveContext

        from airflow_provider_voucherify.client.retry import RetryPolicy
        from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
        from airflow_provider_voucherify.triggers.poller import Poller

        try:
            hook = VoucherifyHook(place[0], retry=RetryPolicy(attempts=2, max_rate_limit_wait=600))
            async with ThreadSensitiveContext():  # its own thread, not the one that all others share
                client = await hook.get_async_conn()
            if self.opening[place].waiting:
                self.shared[place] = _Shared(client, Poller(client, _watch_of(place[1])))
            else:
                await client.aclose()
        finally:
            del self.opening[place]


def _watch_of(kind: Kind) -> Watch:
    from airflow_provider_voucherify.sync.waiting.export_watch import ExportWatch
    from airflow_provider_voucherify.sync.waiting.queue_watch import QueueWatch

    return ExportWatch() if kind == "exports" else QueueWatch()


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()


@asynccontextmanager
async def shared_poller(
    voucherify_conn_id: str, seconds: float = OPENING_SECONDS, kind: Kind = "async actions"
) -> AsyncIterator[Poller]:
    """
    Yield the poller that all triggers of a connection and a kind in this event loop share; the last one to leave closes
    it.

    A client for each trigger would cost 0.9 MB, block the loop for 20 ms, and send as many GETs as there are triggers.
    After polling has failed for all of them the next trigger gets a new poller: the connection may have been changed.

    :param seconds: how long opening the connection may take.
    :param kind: what is waited for.
    :raises TimeoutError: it took longer.
    """
    here, place = _loops.setdefault(asyncio.get_running_loop(), _Loop()), (voucherify_conn_id, kind)
    shared = await here.wait_for(place, seconds)
    shared.users += 1
    try:
        yield shared.poller
    finally:
        shared.users -= 1
        if (not shared.users or shared.poller.gave_up) and here.shared.get(place) is shared:
            del here.shared[place]
        if not shared.users:
            await shared.poller.aclose()
            await shared.client.aclose()
