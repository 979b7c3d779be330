"""Waiting for an export in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_voucherify.sync.waiting.pauses import DEFAULT_POLL_INTERVAL, MAX_FAILED_POLLS
from airflow_provider_voucherify.triggers.async_action import end_of

EVENT_VERSION = 1


class VoucherifyExportTrigger(BaseTrigger):
    """
    Waits until an export has ended.

    It only says *when*: the worker that resumes the task asks for the file's address itself, since that holds a token.
    All triggers of the same connection in the same triggerer share a poller, which reads the list of exports while it
    waits for several of them. All times are absolute, so the trigger can be moved or restarted at any moment.

    There is deliberately no ``on_kill``: the export costs nothing more, and a retry goes on with it.

    The event is a dict with ``version``, ``status``, ``message``, ``export_id`` and ``state``. ``status`` is
    ``finished``, whether there is a file or not; ``timeout`` (``end_time`` has passed); or ``unreachable`` (polling
    failed for good).

    :param voucherify_conn_id: connection of type ``voucherify``.
    :param export_id: ``exp_…``.
    :param created_at: when the export was created, Unix epoch seconds.
    :param end_time: when to give up, Unix epoch seconds.
    :param poll_interval: longest pause between two polls, in seconds.
    :param not_before: earliest time of an event, Unix epoch seconds; see ``VoucherifyAsyncActionTrigger``.
    :param max_consecutive_failures: number of consecutive failed polls after which the status is ``unreachable``.
    :param state: plain JSON, returned in the event unchanged.
    """

    def __init__(
        self,
        voucherify_conn_id: str,
        export_id: str,
        created_at: float,
        end_time: float,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        not_before: float = 0.0,
        max_consecutive_failures: int = MAX_FAILED_POLLS,
        state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.voucherify_conn_id = voucherify_conn_id
        self.export_id = export_id
        self.created_at = created_at
        self.end_time = end_time
        self.poll_interval = poll_interval
        self.not_before = not_before
        self.max_consecutive_failures = max_consecutive_failures
        self.state = state

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments of an equal trigger."""
        return (
            "airflow_provider_voucherify.triggers.export.VoucherifyExportTrigger",
            {
                "voucherify_conn_id": self.voucherify_conn_id,
                "export_id": self.export_id,
                "created_at": self.created_at,
                "end_time": self.end_time,
                "poll_interval": self.poll_interval,
                "not_before": self.not_before,
                "max_consecutive_failures": self.max_consecutive_failures,
                "state": self.state,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the export has ended, time is up, or polling has failed for good; then fire once."""
        from airflow_provider_voucherify.sync.waiting.waits import Wait

        wait = Wait(
            [self.export_id],
            self.created_at,
            self.end_time,
            self.poll_interval,
            self.not_before,
            self.max_consecutive_failures,
        )
        end = await end_of(wait, self.voucherify_conn_id, self.log, "exports")
        await asyncio.to_thread(self.log.info, "Stopped waiting for the export %s: %s", self.export_id, end.status)
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        event = {
            "version": EVENT_VERSION,
            "status": end.status,
            "message": end.message,
            "export_id": self.export_id,
            "state": self.state,
        }
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]
