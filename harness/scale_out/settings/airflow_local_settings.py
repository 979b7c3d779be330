"""Airflow's own place for changes to DAGs of others: the example DAG's requests get smaller, so that there are many."""

from __future__ import annotations

import os
from typing import Any


def task_policy(task: Any) -> None:
    """Limit the records of a request of the mapped task."""
    if task.task_id == "sync_partition":
        task.partial_kwargs["requests"] = {"max_records": int(os.environ["SCALE_OUT_BATCH_RECORDS"])}
