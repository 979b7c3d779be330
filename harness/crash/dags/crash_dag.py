"""
A sync that is interrupted at a moment that the run's conf names, once; and the obvious operator as the yardstick.

``conf`` has ``moment`` (see ``harness.crash.moments``), ``prefix`` (of the records' ids) and ``marker`` (a file that
does not exist until the interruption). Task code is wrapped here, in the DAG, so that the provider knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.task.completion import Completion
from airflow_provider_voucherify.triggers.async_action import VoucherifyAsyncActionTrigger
from harness.crash import moments
from harness.crash.dags import BATCHES_OF_A_RUN, RECORDS_OF_A_RUN, RETRIES, RETRIES_FILE

RECORDS_PER_BATCH = RECORDS_OF_A_RUN // BATCHES_OF_A_RUN
KILLED_BATCH = BATCHES_OF_A_RUN // 2
DEFAULTS = {"retries": RETRIES, "retry_delay": timedelta(seconds=4)}
PAUSE_SECONDS = 120


def records(conf: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the run's records."""
    return [{"source_id": f"{conf['prefix']}-{i}", "name": f"customer {i}"} for i in range(RECORDS_OF_A_RUN)]


class Killer:
    """
    Interrupts this process when a moment has come, unless that has been done before.

    It is killed with SIGKILL, or fails, or waits for what ``harness.crash.run`` does to the cluster, by the moment.
    """

    def __init__(self, conf: dict[str, Any]) -> None:
        self._moment = conf["moment"]
        self._marker = Path(conf["marker"])
        self._calls = 0

    def at(self, *here: str, after: int = 0) -> None:
        """Say that moments have come; the first ``after`` times they are let pass."""
        if (moment := self._moment) not in here or self._marker.exists():
            return
        self._calls += 1
        if self._calls <= after:
            return
        if moment in moments.PAUSED:
            self._pause()
        elif moment == moments.CLEARED_BETWEEN_TRIES:
            raise AirflowException("to be tried again")
        elif moment == moments.CLEARED_AFTER_FAILURE:
            raise AirflowFailException("not to be tried again")
        else:
            self._marker.touch()
            if moment == moments.WITH_ITS_SUPERVISOR:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    def _pause(self) -> None:
        self._marker.with_suffix(".paused").touch()
        deadline = time.monotonic() + PAUSE_SECONDS
        while not self._marker.exists() and time.monotonic() < deadline:
            time.sleep(0.1)

    def announce(self) -> None:
        """Write down this process's id, for the server to kill it in the middle of a request."""
        if self._moment == moments.ACCEPTED:
            self._marker.with_suffix(".pid").write_text(str(os.getpid()))


def before(call: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """Return a call that acts first."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        act()
        return call(*args, **kwargs)

    return wrapped


def after(call: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """Return a call that acts afterwards."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value = call(*args, **kwargs)
        act()
        return value

    return wrapped


class CrashingOperator(VoucherifyBulkUpdateOperator):
    """The provider's operator, with the killer standing at each moment."""

    def execute(self, context: Any) -> Any:
        from airflow_provider_voucherify.sync.batches.spool import Batch
        from airflow_provider_voucherify.sync.sending.journal import Journal

        conf = context["dag_run"].conf
        killer = Killer(conf)
        killer.announce()
        Completion.worker_seconds = 0.5
        self.records = records(conf)
        Journal.intend = before(Journal.intend, lambda: killer.at(moments.BEFORE_THE_FIRST_POST))
        Journal.posted = before(
            Journal.posted, lambda: killer.at(moments.BETWEEN_ANSWER_AND_JOURNAL, after=KILLED_BATCH)
        )
        Journal.posted = after(Journal.posted, lambda: killer.at(*moments.HALF_WAY, after=KILLED_BATCH))
        Batch.call = before(Batch.call, lambda: killer.at(moments.BETWEEN_INTENT_AND_POST, after=KILLED_BATCH))
        return super().execute(context)

    def defer(self, **kwargs: Any) -> Any:
        from airflow.sdk import get_current_context

        Killer(get_current_context()["dag_run"].conf or {}).at(moments.BEFORE_DEFERRING)
        return super().defer(**kwargs)

    def execute_complete(self, context: Any, event: Any = None) -> Any:
        from airflow_provider_voucherify.client.http import VoucherifyClient

        killer = Killer(context["dag_run"].conf)
        killer.at(moments.AFTER_THE_EVENT)
        VoucherifyClient.download = before(
            VoucherifyClient.download, lambda: killer.at(moments.WHILE_DOWNLOADING, after=5)
        )
        return super().execute_complete(context, event)


class ObviousOperator(BaseOperator):
    """Submit in ``execute``, defer, be done: what one writes first."""

    def execute(self, context: Any) -> None:
        conf = context["dag_run"].conf
        killer = Killer(conf)
        killer.announce()
        ids = []
        rows = records(conf)
        with VoucherifyHook() as hook:
            for start in range(0, len(rows), RECORDS_PER_BATCH):
                number = start // RECORDS_PER_BATCH
                killer.at(moments.BEFORE_THE_FIRST_POST)
                killer.at(moments.BETWEEN_INTENT_AND_POST, after=KILLED_BATCH)
                ids.append(hook.update_customers_in_bulk(rows[start : start + RECORDS_PER_BATCH]))
                killer.at(moments.BETWEEN_ANSWER_AND_JOURNAL, after=KILLED_BATCH)
                killer.at(*moments.HALF_WAY, after=KILLED_BATCH)
                self.log.info("batch %d", number)
        killer.at(moments.BEFORE_DEFERRING)
        now = time.time()
        trigger = VoucherifyAsyncActionTrigger(
            "voucherify_default", ids, submitted_at=now, end_time=now + 300, poll_interval=2, not_before=now + 2
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any = None) -> None:
        killer = Killer(context["dag_run"].conf)
        killer.at(moments.AFTER_THE_EVENT)
        killer.at(moments.WHILE_DOWNLOADING)


SYNC: dict[str, Any] = {
    "task_id": "sync",
    "resource": "customers",
    "records": [],
    "requests": {"max_records": RECORDS_PER_BATCH},
    "deferrable": True,
    "poll_interval": 2,
}

with DAG("crash_durable", schedule=None, max_active_runs=100, max_active_tasks=100, default_args=DEFAULTS):
    CrashingOperator(**SYNC)

with DAG("crash_lowered", schedule=None, max_active_runs=100, max_active_tasks=100, default_args=DEFAULTS):
    CrashingOperator(**SYNC, retries=int(Path(os.environ[RETRIES_FILE]).read_text()))

with DAG("crash_obvious", schedule=None, max_active_runs=100, max_active_tasks=100, default_args=DEFAULTS):
    ObviousOperator(task_id="sync")
