"""A thousand rows each: waited for on the worker, in the triggerer, and a task that defers and does nothing else."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator

from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator
from harness.load.heartbeat import SleepingTrigger

WORKER_SECONDS, ASLEEP_SECONDS = 10.0, 6.0
"""How long the task that only sleeps does so, on the worker and then in the triggerer."""


def note(dag_id: str, what: str) -> None:
    """Write down when something happened."""
    with Path(os.environ["SMALL_SYNC_TIMES"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"dag": dag_id, "what": what, "at": time.time()}) + "\n")


class Timed(VoucherifyBulkUpdateOperator):
    """Writes down when its methods begin and end."""

    def execute(self, context: Any) -> Any:
        """Sync."""
        note(self.dag_id, "execute")
        try:
            return super().execute(context)
        finally:
            note(self.dag_id, "left")

    def execute_complete(self, context: Any, event: Any = None) -> Any:
        """Go on."""
        note(self.dag_id, "resume")
        try:
            return super().execute_complete(context, event)
        finally:
            note(self.dag_id, "done")


class OnlySleeps(BaseOperator):
    """Sleeps on the worker, then in the triggerer."""

    def execute(self, context: Any) -> None:
        """Sleep and defer."""
        note(self.dag_id, "execute")
        time.sleep(WORKER_SECONDS)
        note(self.dag_id, "left")
        until = time.time() + ASLEEP_SECONDS
        self.defer(trigger=SleepingTrigger(until), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any = None) -> None:
        """Do nothing."""
        note(self.dag_id, "resume")
        note(self.dag_id, "done")


for name, deferrable in {"on_worker": False, "deferrable": True, "deferred": True}.items():
    with DAG(f"small_{name}", schedule=None):
        Timed(
            task_id="sync",
            resource="customers",
            sql="SELECT * FROM customers",
            sql_conn_id="warehouse",
            deferrable=deferrable,
        )

with DAG("small_sleeps", schedule=None):
    OnlySleeps(task_id="sync")
