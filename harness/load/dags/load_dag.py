"""A task with thousands of instances that never run: ``harness.load.run`` sets them to wait in the triggerer."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, BaseOperator

from harness.load import INSTANCES


class Waits(BaseOperator):
    """Has an instance for each number."""

    def __init__(self, number: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def execute(self, context: Any) -> None:
        """Do nothing."""


with DAG("load", schedule=None):
    Waits.partial(task_id="wait").expand(number=list(range(INSTANCES)))
