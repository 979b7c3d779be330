"""What the ``state`` of a task remembers of its tries and records, as the API server can read it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, get_args

from airflow_provider_voucherify.models.endpoints import Resource
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.plugins.runs import rendered_fields, resource_of
from airflow_provider_voucherify.policies import State
from airflow_provider_voucherify.storage.history_folder import HistoryFolder
from airflow_provider_voucherify.sync.types.text import short_digest
from airflow_provider_voucherify.task.history import run_name
from airflow_provider_voucherify.task.row_tracking import RowTracking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy.orm import Session


SECONDS_FOR_FILES = 10.0
"""How long the files of earlier runs are searched."""


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
    def of(cls, session: Session, *instances: TaskInstance) -> Self | None:
        """Return the memory of the first of some instances of which Airflow has the parameters; see ``state_of``."""
        for instance in instances:
            if fields := rendered_fields(session, instance):
                state = state_of(fields)
                return None if state is None else cls(state, instance, resource_of(session, instance))
        return None

    def tries(self) -> list[dict[str, Any]]:
        """Return the tries of the run as the history has them, oldest first."""
        run_key = short_digest(run_name(_context(self.instance)))
        for tracking in self._trackings(self.instance):
            tries = tracking.history.tries(run_key)
            if tries or self.state.conn_id:  # tables know a run without its resource
                return tries
        return []

    def of_record(self, record_id: str, instances: Sequence[TaskInstance], most: int) -> dict[str, Any]:
        """
        Return what is known of a record.

        :param instances: of the runs whose files are looked through, newest first.
        :param most: lines, newest first.
        :returns: ``state``: what was confirmed last, or None; ``lines``, each with its time, outcome and run; and
            ``runs_searched``: of how many runs the files were read to their end, None for tables. Times are Unix epoch
            seconds or ISO 8601.
        """
        if self.state.conn_id:
            found = (one.tables.of_record(record_id, most) for one in self._trackings(self.instance) if one.tables)
            nothing: dict[str, Any] = {"state": None, "lines": []}
            known = next((one for one in found if one["state"] or one["lines"]), nothing)
            return {**known, "runs_searched": None}
        lines: list[dict[str, Any]] = []
        until, searched = time.monotonic() + SECONDS_FOR_FILES, 0
        with suppress(TimeoutError):
            for instance in instances:
                about = {"written_at": instance.end_date, "dag_id": instance.dag_id, "run_id": instance.run_id}
                for tracking in self._trackings(instance):
                    if isinstance(tracking.history, HistoryFolder):
                        found_here = tracking.history.of_record(record_id, until)
                        lines.extend({**line, **about} for line in islice(found_here, most - len(lines)))
                searched += 1
        return {"state": None, "lines": lines, "runs_searched": searched}

    def _trackings(self, instance: TaskInstance) -> Iterator[RowTracking]:
        """Yield where the task has kept what it remembers; a sensor does so without knowing the resource."""
        is_shared = instance.map_index >= 0 and not self.state.sync_name
        for resource in (*([self.resource] if self.resource else get_args(Resource)), ""):
            yield RowTracking.of(self.state, resource, _context(instance), name_is_shared=is_shared)


def state_of(fields: Mapping[str, Any]) -> State | None:
    """Return the ``state`` among the rendered fields of a task; None without one, or if Airflow has shortened it."""
    try:
        return State.of("state", fields["state"]) if fields.get("state") else None
    except VoucherifyConfigurationError:
        return None


def has_records(state: State) -> bool:
    """Say whether single records are known in a form that can be searched."""
    return bool(state.conn_id) or state.outcomes == "jsonl"


def _context(instance: TaskInstance) -> Any:
    """Return what names the run, as a task's context does."""
    return {"ti": instance}
