"""Whether a later run of the same task has run already: an older run would overwrite its rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import get_task_states
from airflow_provider_voucherify.exceptions import VoucherifyNewerRunError
from airflow_provider_voucherify.sync.types.text import counted

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context

AT_WORK = frozenset({"running", "deferred", "up_for_retry", "success", "failed"})
"""States of a task instance that may have sent something."""


def check_newer_runs(context: Context, to_fail: int | None, to_warn: int | None, log: Any) -> None:
    """
    Fail or warn if later runs of this task may have sent their rows already.

    :param to_fail: number of them that is allowed; None for any number.
    :param to_warn: the same for a warning.
    :raises VoucherifyNewerRunError: there are more.
    """
    if (to_fail, to_warn) == (None, None) or not may_be_late(context) or not (newer := newer_runs(context)):
        return
    message = (
        f"{counted(len(newer), 'run')} of this task (the last is {newer[-1]}) may be later than this one, and have "
        "sent rows already"
    )
    if to_fail is not None and len(newer) > to_fail:
        raise VoucherifyNewerRunError(f"{message}; they would be overwritten")
    if to_warn is not None and len(newer) > to_warn:
        log.warning("%s; this try may overwrite them with older ones", message)


def may_be_late(context: Context) -> bool:
    """
    Say whether a later run may have run before this try.

    That is so in a retry and after a clear, in a backfill, in a manual run, which may be for an older day, and if the
    scheduler catches up with several runs at a time. Other scheduled runs are started in order.
    """
    run_type = str(getattr(context["dag_run"].run_type, "value", context["dag_run"].run_type))
    return context["ti"].try_number > 1 or run_type in ("backfill", "manual") or bool(context["dag"].catchup)


def newer_runs(context: Context) -> list[str]:
    """
    Return the ids of the runs after this one in which the same task has run, the latest last.

    A run's time is read from its id (``scheduled__…``, ``manual__…``, ``asset_triggered__…``), as Airflow generates it;
    runs with a custom id are not seen. The id of a manual run for an older day says when it was triggered, so for this
    run its logical date counts. The days of other manual runs are unknown: one that was triggered after this run's day
    counts as a later run. Airflow is asked for the states of all runs of this task, so use this only for tries that
    ``may_be_late``.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    task = ti.task_id if ti.map_index is None or ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
    is_manual = dag_run.run_id.startswith("manual__")
    return later_at_work(get_task_states(context), dag_run.run_id, task, dag_run.logical_date if is_manual else None)


def later_at_work(
    states: Mapping[str, Mapping[str, Any]], run_id: str, task: str, logical_date: datetime | None = None
) -> list[str]:
    """
    Return the runs after ``run_id`` whose task has run, in the order of their times.

    :param states: run id to task to state, as Airflow returns it.
    :param logical_date: of the run, if it may be earlier than its id says.
    """
    times = [time for time in (_time(run_id), logical_date) if time is not None]
    if not times:
        return []
    mine = min(times)
    later = [
        (time, other)
        for other, tasks in states.items()
        if other != run_id and str(tasks.get(task)) in AT_WORK and (time := _time(other)) is not None and time > mine
    ]
    return [other for _, other in sorted(later)]


def _time(run_id: str) -> datetime | None:
    # A time has no underscore; random letters follow one if several runs can have the same time.
    suffix = run_id.partition("__")[2]
    try:
        time = datetime.fromisoformat(suffix.partition("_")[0])
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
