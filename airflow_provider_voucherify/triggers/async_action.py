"""Waiting for async actions in the triggerer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_voucherify.models.errors import VoucherifyError
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.sync.waiting.pauses import DEFAULT_POLL_INTERVAL, MAX_FAILED_POLLS, pause
from airflow_provider_voucherify.triggers.shared_poller import OPENING_SECONDS, Kind, SharedPoller, shared_poller

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.waiting.waits import End, Wait

EVENT_VERSION = 2
"""Version 1 had no ``async_action_ids``: they were in its ``state``."""

MIN_OPENING_SECONDS = 10.0
"""The same as ``OPENING_SECONDS`` for a trigger whose end time is near or past, such as one that has been restarted."""

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
            line = f"Stopped waiting for {counted(len(wait.async_action_ids), 'async action')}: {end.status}"
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

    opened = await _open(wait, voucherify_conn_id, log, kind)
    if isinstance(opened, End):
        return opened
    async with opened as poller:
        return await poller.wait_for(wait, log)


async def _open(wait: Wait, conn_id: str, log: Any, kind: Kind) -> SharedPoller | End:
    """
    Return the connection's poller, or how the wait ends because there is none.

    A missing connection may be transient: Airflow reports one too if a secrets backend fails for a moment.
    """
    from airflow_provider_voucherify.sync.waiting.waits import End

    began, failures = time.time(), 0
    while True:
        try:
            timeout = max(MIN_OPENING_SECONDS, min(OPENING_SECONDS, wait.end_time - time.time()))
            return await shared_poller(conn_id, timeout, kind)
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
