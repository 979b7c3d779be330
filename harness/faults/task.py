"""
One task of ``VoucherifyBulkUpdateOperator`` with its tries, as Airflow runs it: what a try raises decides about the
next one, and the task state store outlives them.

The operator is the real one; around it is as little of Airflow as it needs, since ``dag.test()`` takes a second for
each task.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_voucherify.client import auth, budgets
from airflow_provider_voucherify.compat import AirflowFailException
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkUpdateOperator

CONNECTION = "AIRFLOW_CONN_VOUCHERIFY_DEFAULT"


class Store:
    """Airflow's task state store."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default."""
        return json.loads(self._values[key]) if key in self._values else default

    def set(self, key: str, value: Any, retention: Any = None) -> None:
        """Write a JSON value."""
        self._values[key] = json.dumps(value)


@dataclass
class TaskInstance:
    """What the operator asks of a task instance."""

    max_tries: int
    try_number: int = 1
    dag_id: str = "faults"
    task_id: str = "sync"
    run_id: str = "manual__2026-01-01T00:00:00+00:00"
    map_index: int = -1
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        """Keep an XCom, which must be JSON."""
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int, include_prior_dates: bool = False) -> Any:
        """Return an XCom of this task; there is no run before this one."""
        return None if include_prior_dates else self.xcoms.get(key)

    def get_task_states(self, **which: Any) -> dict[str, dict[str, str]]:
        """Return the states of the task in other runs: there are none."""
        return {}


@dataclass
class Ended:
    """
    How a task ended.

    :param tries: the errors of its tries, oldest first; None for the one that succeeded.
    :param summary: its summary, None where there is none.
    :param rows: what it says of each row; None where it says nothing.
    """

    tries: list[BaseException | None]
    summary: dict[str, Any] | None
    rows: list[dict[str, Any]] | None

    @property
    def outcomes(self) -> Mapping[str, str] | None:
        """Return what it says of each row by id."""
        return None if self.rows is None else {row["id"]: row["outcome"] for row in self.rows}

    @property
    def state(self) -> str:
        """Return the task's state in Airflow."""
        return "failed" if self.tries[-1] is not None else "success"


class Task:
    """
    A task that can be run until it succeeds or its tries are used up, and then further.

    :param connection: the Voucherify connection, as a dict.
    :param settings: parameters of the operator.
    :param store: the task state store, None for an empty one.
    :param try_number: of the first try.
    """

    def __init__(
        self,
        folder: Path,
        connection: Mapping[str, Any],
        settings: Mapping[str, Any],
        store: Store | None = None,
        *,
        try_number: int = 1,
    ) -> None:
        os.environ[CONNECTION] = json.dumps(connection)
        self._state = folder / "state"
        kept = {"path": str(self._state), "outcomes": "jsonl"}
        self._settings = {"state": kept, "full_refresh": True, **settings}
        self._store = store or Store()
        self._instance = TaskInstance(max_tries=99, try_number=try_number)
        forget_processes()

    def run(self, tries: int, before: Callable[[int], None] = lambda number: None) -> Ended:
        """
        Run at most so many tries.

        :param before: called with the number of each try before it.
        """
        errors: list[BaseException | None] = []
        summary = None
        while len(errors) < tries:
            before(self._instance.try_number)
            for file in self._state.rglob("outcomes/*/try=*"):
                file.unlink()
            try:
                summary = self._try()
                errors.append(None)
            except Exception as error:
                errors.append(error)
                summary = getattr(error, "summary", None) or None
            self._instance.try_number += 1
            if errors[-1] is None or isinstance(errors[-1], AirflowFailException):
                break
        return Ended(errors, summary, self._read_rows())

    def _try(self) -> dict[str, Any]:
        operator = VoucherifyBulkUpdateOperator(task_id="sync", resource="customers", **self._settings)
        context: Any = {
            "ti": self._instance,
            "dag": SimpleNamespace(catchup=False),
            "dag_run": SimpleNamespace(
                run_id=self._instance.run_id, run_type="scheduled", logical_date=None, clear_number=0
            ),
            "task_state_store": self._store,
        }
        return operator.execute(context)

    def _read_rows(self) -> list[dict[str, Any]] | None:
        files = [*self._state.rglob("outcomes/*/try=*")]
        return [json.loads(line) for line in files[0].read_text().splitlines()] if files else None


def forget_processes() -> None:
    """Forget what a process remembers between tasks: tokens and rate limits. Each task has a process of its own."""
    budgets._of_projects.clear()
    auth._tokens.clear()
