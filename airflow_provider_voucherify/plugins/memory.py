"""What the ``state`` of a task remembers of its tries and records, as the API server can read it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, get_args

from airflow_provider_voucherify.models.endpoints import Resource
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.plugins.runs import rendered_fields, resource_of
from airflow_provider_voucherify.policies import State
from airflow_provider_voucherify.sync.types.text import short_digest
from airflow_provider_voucherify.task.history import run_name
from airflow_provider_voucherify.task.row_tracking import RowTracking

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session


SECONDS_FOR_FILES = 10.0
"""How long the files of earlier runs are searched."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Memory:
    """
    Where a task instance keeps what it remembers.

    :param state: as Airflow has rendered it.
    :param resource: of the records; empty if it is not known.
    """

    state: State
    instance: TaskInstance
    resource: str

    @classmethod
    def of(cls, session: Session, instance: TaskInstance) -> Self | None:
        """Return the memory of a task instance; None without a ``state``, or if Airflow does not have it any more."""
        given = rendered_fields(session, instance).get("state")
        try:
            state = State.of("state", given) if given else None
        except VoucherifyConfigurationError:  # Airflow has shortened it
            return None
        return None if state is None else cls(state, instance, resource_of(session, instance.dag_id, instance.task_id))

    @property
    def has_records(self) -> bool:
        """Whether it knows single records in a form that can be searched."""
        return bool(self.state.conn_id) or self.state.outcomes == "jsonl"

    def tries(self) -> list[dict[str, Any]]:
        """Return the tries of the run as the history has them, oldest first; none if that cannot be read."""
        run_key = short_digest(run_name(_context(self.instance)))
        try:
            return next(filter(None, (one.history.tries(run_key) for one in self._trackings(self.instance))), [])
        except Exception:
            log.warning("The history of %s cannot be read", self.instance, exc_info=True)
            return []

    def of_record(self, record_id: str, instances: Sequence[TaskInstance], most: int) -> dict[str, Any]:
        """
        Return what is known of a record.

        :param instances: of the runs whose files are looked through, newest first.
        :param most: lines, newest first.
        :returns: ``state``: what was confirmed last, or None; ``lines``, each with its time, outcome and run; and
            ``runs_searched``: of how many runs there are lines, None for all. Times are Unix epoch seconds or ISO 8601.
        """
        if self.state.conn_id:
            known: dict[str, Any] = {"state": None, "lines": []}
            for tracking in self._trackings(self.instance):
                if tracking.tables is not None and not known["lines"]:
                    known = tracking.tables.of_record(record_id, most)
            return {**known, "runs_searched": None}
        lines: list[dict[str, Any]] = []
        until, searched = time.monotonic() + SECONDS_FOR_FILES, 0
        for instance in instances:
            if time.monotonic() > until or len(lines) >= most:
                break
            about = {"written_at": instance.end_date, "run_id": instance.run_id}
            for tracking in self._trackings(instance):
                found = tracking.history.of_record(record_id, most - len(lines))
                lines.extend({**line, **about} for line in found)
            searched += 1
        return {"state": None, "lines": lines, "runs_searched": searched}

    def _trackings(self, instance: TaskInstance) -> Iterator[RowTracking]:
        """Yield where the task has kept what it remembers; a sensor does so without knowing the resource."""
        is_shared = instance.map_index >= 0 and not self.state.sync_name
        for resource in (*([self.resource] if self.resource else get_args(Resource)), ""):
            yield RowTracking.of(self.state, resource, _context(instance), name_is_shared=is_shared)


def _context(instance: TaskInstance) -> Any:
    """Return what names the run, as a task's context does."""
    return {"ti": instance, "dag_run": instance.dag_run}
