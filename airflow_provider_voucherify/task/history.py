"""The record of a task's try in the history of its sync: written before the first request, and closed at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from airflow_provider_voucherify import __version__
from airflow_provider_voucherify.compat import AirflowSkipException, airflow_version, id_of_try, pages
from airflow_provider_voucherify.notifications.texts import Failed
from airflow_provider_voucherify.sync.results.thresholds import exceeded_limits
from airflow_provider_voucherify.sync.types.outcome import RUN_COUNTS
from airflow_provider_voucherify.sync.types.text import short_digest, shortened
from airflow_provider_voucherify.task.conclusion import fail_limits

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.sync.results.summary import SyncSummary

_LEAVES_THE_WORKER = ("TaskDeferred", "AirflowRescheduleException")
"""Errors by which a try goes on later."""


class History(Protocol):
    """Where the tries of a sync are recorded."""

    def open(self, attempt: Mapping[str, Any]) -> None:
        """Record that a try begins, and that earlier tries of its run that have not ended are lost."""

    def close(self, attempt: Mapping[str, Any]) -> None:
        """Record how a try has ended."""

    def tries(self, run_key: str) -> list[dict[str, Any]]:
        """Return the tries of a run, oldest first, each with the columns ``TRY_COLUMNS``."""


class TryRecord:
    """
    The record of one try in the history of its sync.

    :param task: an operator or the sensor; its ``summary`` is what is known of the rows in the end.
    :param history: None if nothing is kept, so that there is no record.
    """

    def __init__(self, task: Any, context: Context, history: History | None) -> None:
        self._task = task
        self._context = context
        self._history = history

    def open(self) -> None:
        """Write it; a dry run, which may have no right to, goes on without one."""
        if self._history is None:
            return
        try:
            self._history.open(self._beginning() | {"started_at": time.time()})
        except Exception:
            if not _is_dry_run(self._task):
                raise
            self._task.log.warning("This dry run is not recorded in the history", exc_info=True)
            self._history = None

    def close(self, error: BaseException | None) -> None:
        """
        Close it, unless the try goes on later.

        That it cannot be written is an error, but for one that there is already.

        :param error: by which the try ends; None if it succeeds.
        """
        if self._history is None or type(error).__name__ in _LEAVES_THE_WORKER:
            return
        now = time.time()
        try:
            self._history.close(self._beginning() | self._end(error) | {"started_at": now, "finished_at": now})
        except Exception:
            if error is None:
                raise
            self._task.log.warning("How this try has ended cannot be written into the history", exc_info=True)

    def _beginning(self) -> dict[str, Any]:
        context, ti = self._context, self._context["ti"]
        dag_run: Any = context["dag_run"]
        logical_date = getattr(dag_run, "logical_date", None)
        of_try = pages(context)
        return {
            "try_id": try_id(context),
            "run_key": short_digest(run_name(context)),
            "resource": getattr(self._task, "resource", None),
            "dag_id": ti.dag_id,
            "task_id": ti.task_id,
            "run_id": ti.run_id,
            "map_index": -1 if ti.map_index is None else ti.map_index,
            "try_number": ti.try_number,
            "run_type": str(getattr(dag_run.run_type, "value", dag_run.run_type)),
            "logical_date": None if logical_date is None else logical_date.timestamp(),
            "dry_run": _is_dry_run(self._task),
            "log_url": of_try.log,
            "run_url": of_try.run,
            "provider_version": __version__,
            "airflow_version": airflow_version(),
        }

    def _end(self, error: BaseException | None) -> dict[str, Any]:
        if error is None:
            ended: dict[str, Any] = {"status": "success"}
        elif isinstance(error, AirflowSkipException):
            ended = {"status": "skipped", "error_message": shortened(Failed.by(error.__cause__ or error).message)}
        else:
            ended = {"status": "failed", **error_columns(error)}
        summary: SyncSummary | None = self._task.summary
        if summary is not None:
            ended |= {name: getattr(summary, name) for name in RUN_COUNTS}
            ended |= {
                "resource": summary.resource,
                "failures_by_key": json.dumps(summary.failures_by_key) if summary.failures_by_key else None,
                "exceeded": "\n".join(exceeded_limits(summary, fail_limits(self._task), "fail_if")) or None,
                "warning": summary.warning,
                "report_uri": summary.report_uri,
            }
        if _is_dry_run(self._task):  # whose summary has those that it would send
            ended |= {"requests": 0, "bytes_sent": 0}
        return ended


def is_failure(error: BaseException | None) -> TypeGuard[BaseException]:
    """Say whether a try has failed, and neither goes on later nor is skipped."""
    goes_on = type(error).__name__ in _LEAVES_THE_WORKER
    return error is not None and not goes_on and not isinstance(error, AirflowSkipException)


def error_columns(error: BaseException) -> dict[str, str | None]:
    """Return what the history has of the error by which a try has failed."""
    failed = Failed.by(error)
    message, advice = shortened(failed.message), shortened(failed.advice)
    return {"error_type": failed.kind, "error_message": message, "advice": advice}


def _is_dry_run(task: Any) -> bool:
    return bool(getattr(task, "is_dry_run", False))


def run_name(context: Context) -> str:
    """Name a task's run, the same for all its tries."""
    ti = context["ti"]
    map_index = [] if ti.map_index is None or ti.map_index < 0 else [str(ti.map_index)]
    return "/".join([ti.dag_id, ti.task_id, ti.run_id, *map_index])


def try_id(context: Context) -> str:
    """Return the id of a task's try in the history."""
    return short_digest(f"{run_name(context)}/{id_of_try(context)}")
