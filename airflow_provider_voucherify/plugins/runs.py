"""What Airflow's database knows of the tasks of this provider: their runs, tries, summaries and asset events."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, TypeVar

import msgspec
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.taskinstancehistory import TaskInstanceHistory
from airflow.models.xcom import XComModel
from sqlalchemy import ColumnElement, Select, Text, and_, cast, func, or_, select
from sqlalchemy.orm import Session

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.notifications.report_page import COLOURS
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.task.bulk_parameters import is_true

MAX_INSTANCES = 50_000
"""Task instances of one answer, the newest."""

OVERDUE = timedelta(hours=1)
"""How late a run may begin: Airflow begins it within seconds, unless it has no scheduler or too much to do."""

_LOOKED_AT = 20

_NAMES_OF_INSTANCE = ("dag_id", "task_id", "run_id", "map_index")

_VALUE = cast(XComModel.value, Text)

T = TypeVar("T")

_FAILED = ("failed", "upstream_failed")
_DONE = ("success", "skipped")

_OURS = or_(TaskInstance.operator.contains("oucherify"), TaskInstance.custom_operator_name.contains("oucherify"))


def syncs_of(session: Session, most: int, *conditions: ColumnElement[bool]) -> Iterator[dict[str, Any]]:
    """
    Yield the tasks of this provider, each with its last run, and how much each run needs a person, newest first.

    :param most: runs of each.
    :param conditions: on task instances.
    """
    for dag_id, task_id, runs in _by_task(session, most, *conditions):
        returned = [_glances(run) for run in runs]
        shown = next((at for at, run in enumerate(runs) if _counts(run, returned[at])), 0)
        last, newest = _run(runs[shown]), runs[0]
        yield {
            "dag_id": dag_id,
            "task_id": task_id,
            "resources": sorted({one.resource for run in returned for one in run if one.resource}),
            "last": last,
            "since": None if shown == 0 else {"run_id": newest[0].run_id, "state": _state_of(newest)},
            "attention": [_attention(_state_of(run), of_run) for run, of_run in zip(runs, returned, strict=True)],
        }


def _glances(run: list[Any]) -> list[_Glance]:
    return [glance for one in run if (glance := _decoded(one.value, _Glance)) is not None]


def _counts(run: list[Any], returned: list[_Glance]) -> bool:
    """Say whether a run tells how a sync stands: it has ended, and is neither a dry run nor a backfill of old dates."""
    has_ended = all(one.state in (*_FAILED, *_DONE) for one in run)
    return has_ended and run[0].run_type != "backfill" and not any(one.dry_run for one in returned)


def runs_of(session: Session, most: int, dag_id: str, task_id: str) -> list[dict[str, Any]]:
    """Return the last runs of a task, newest first; the instances of a mapped one are summed up."""
    of_task = (TaskInstance.dag_id == dag_id, TaskInstance.task_id == task_id)
    return [_run(run) for _, _, runs in _by_task(session, most, *of_task) for run in runs]


def _by_task(
    session: Session, most: int, *conditions: ColumnElement[bool]
) -> Iterator[tuple[str, str, list[list[Any]]]]:
    """Yield the tasks of this provider with the instances of each of their last runs, newest first."""
    instances = list(session.execute(_instances(most, *conditions)))
    if len(instances) > MAX_INSTANCES:  # the oldest of these runs may not be whole
        oldest = max(one.place for one in instances)
        instances = [one for one in instances if one.place < oldest]
    newest_first = sorted(instances, key=lambda one: (one.dag_id, one.task_id, -one.number_of_run))
    for (dag_id, task_id), of_task in groupby(newest_first, key=lambda one: (one.dag_id, one.task_id)):
        yield dag_id, task_id, [list(run) for _, run in groupby(of_task, key=lambda one: one.number_of_run)]


def instances_of_run(
    session: Session, dag_id: str, task_id: str, run_id: str, *conditions: ColumnElement[bool]
) -> list[TaskInstance]:
    """Return the task instances of a task in a run by their map index."""
    ti = TaskInstance
    of_run = select(ti).where(_OURS, ti.dag_id == dag_id, ti.task_id == task_id, ti.run_id == run_id, *conditions)
    return list(session.scalars(of_run.order_by(ti.map_index)))


def newest_instances(session: Session, dag_id: str, task_id: str, map_index: int, most: int) -> list[TaskInstance]:
    """Return the last task instances of a task that have begun, newest first."""
    ti = TaskInstance
    of_task = (_OURS, ti.dag_id == dag_id, ti.task_id == task_id, ti.map_index == map_index)
    began = select(ti).where(*of_task, ti.start_date.is_not(None), ti.state.not_in(("upstream_failed", "skipped")))
    return list(session.scalars(began.order_by(ti.start_date.desc()).limit(most)))


def one_line(instance: TaskInstance, summary: SyncSummary | None) -> dict[str, Any]:
    """Return a task instance as a line of a list."""
    return {
        "map_index": instance.map_index,
        "started": instance.start_date,
        "ended": instance.end_date,
        "try_number": instance.try_number,
        **_numbers(instance.state, [] if summary is None else [summary]),
    }


def xcoms(session: Session, instance: TaskInstance, keys: Collection[str]) -> dict[str, Any]:
    """Return XComs of a task instance by their key: dicts and texts, None for what is neither."""
    xcom = XComModel
    found = session.execute(select(xcom.key, _VALUE).where(_of_instance(xcom, instance), xcom.key.in_(keys)))
    return {key: _decoded(value, dict) or _decoded(value, str) for key, value in found}


def summaries_of_run(session: Session, dag_id: str, task_id: str, run_id: str) -> dict[int, SyncSummary | None]:
    """Return what the instances of a task have returned in a run, by map index."""
    xcom = XComModel
    of_run = (xcom.dag_id == dag_id, xcom.run_id == run_id, xcom.task_id == task_id, xcom.key == "return_value")
    found = session.execute(select(xcom.map_index, _VALUE).where(*of_run))
    return {map_index: _summary(value) for map_index, value in found}


def resource_of(session: Session, instance: TaskInstance) -> str:
    """Return the resource that a task of this map index has updated in one of its last runs; empty if none can tell."""
    xcom = XComModel
    of_task = (
        *(xcom.dag_id == instance.dag_id, xcom.task_id == instance.task_id, xcom.map_index == instance.map_index),
        xcom.key == "return_value",
    )
    values = session.scalars(select(_VALUE).where(*of_task).order_by(xcom.dag_run_id.desc()).limit(_LOOKED_AT))
    return next((one.resource for one in map(_summary, values) if one is not None and one.resource), "")


def rendered_fields(session: Session, instance: TaskInstance) -> dict[str, Any]:
    """Return the rendered template fields of a task instance; empty if Airflow has them no more."""
    fields = RenderedTaskInstanceFields
    return session.scalar(select(fields.rendered_fields).where(_of_instance(fields, instance))) or {}


def only_compares(fields: Mapping[str, Any]) -> bool:
    """Say whether a task with these rendered fields sends nothing: the drift report is told by its own field."""
    with suppress(VoucherifyConfigurationError):
        return "repair" in fields and not is_true("repair", fields["repair"])
    return False


def tries_of(session: Session, instance: TaskInstance) -> list[dict[str, Any]]:
    """Return the tries of a task instance as Airflow has them, those before a clear among them, oldest first."""
    earlier = TaskInstanceHistory
    of_instance = select(earlier).where(_of_instance(earlier, instance)).order_by(earlier.try_number)
    tries: Sequence[Any] = session.scalars(of_instance).all()
    is_there = any(one.try_number == instance.try_number for one in tries)  # it waits for its next try
    return [
        {"try_number": one.try_number, "status": one.state, "started_at": one.start_date, "finished_at": one.end_date}
        for one in (*tries, *([] if is_there else [instance]))
    ]


def assets_of(session: Session, instance: TaskInstance) -> list[dict[str, Any]]:
    """Return the assets of which a task instance has sent an event."""
    event, asset = AssetEvent, AssetModel
    of_instance = (
        *(event.source_dag_id == instance.dag_id, event.source_run_id == instance.run_id),
        *(event.source_task_id == instance.task_id, event.source_map_index == instance.map_index),
    )
    found = select(asset.id, asset.name).join(event, event.asset_id == asset.id).where(*of_instance).distinct()
    return [{"id": one.id, "name": one.name} for one in session.execute(found)]


def dags_of_ours(session: Session) -> set[str]:
    """Return the DAGs that Airflow still has and in which a task of this provider has run."""
    is_there = DagModel.is_stale.is_(False)
    dag_ids = select(TaskInstance.dag_id).distinct().where(_OURS)
    return set(session.scalars(select(DagModel.dag_id).where(is_there, DagModel.dag_id.in_(dag_ids))))


def next_runs(session: Session, dag_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return when DAGs run next, unless they are paused, by DAG id; ``is_overdue`` if that should have begun."""
    columns = select(DagModel.dag_id, DagModel.next_dagrun_create_after, DagModel.is_paused)
    late = datetime.now(UTC) - OVERDUE
    return {
        dag.dag_id: {
            "next_run": None if dag.is_paused else dag.next_dagrun_create_after,
            "is_paused": dag.is_paused,
            "is_overdue": bool(
                not dag.is_paused and dag.next_dagrun_create_after and dag.next_dagrun_create_after < late
            ),
        }
        for dag in session.execute(columns.where(DagModel.dag_id.in_(dag_ids)))
    }


def _of_instance(table: Any, instance: Any) -> ColumnElement[bool]:
    """Return what says that the rows of a table are of a task instance, or of that in another table."""
    return and_(*(getattr(table, name) == getattr(instance, name) for name in _NAMES_OF_INSTANCE))


def _instances(most: int, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Select the task instances of the last runs of each task, with what each has returned."""
    ti, run, xcom = TaskInstance, DagRun, XComModel
    columns = (ti.dag_id, ti.task_id, ti.map_index, ti.run_id, ti.state, ti.start_date, ti.end_date, ti.try_number)
    place = func.dense_rank().over(partition_by=(ti.dag_id, ti.task_id), order_by=run.id.desc())
    numbered = (
        select(
            *columns, run.id.label("number_of_run"), run.run_after, run.logical_date, run.run_type, place.label("place")
        )
        .join(run, and_(run.dag_id == ti.dag_id, run.run_id == ti.run_id))
        .where(_OURS, or_(ti.state.is_(None), ti.state != "removed"), *conditions)
        .subquery()
    )
    of_last_runs = select(numbered).where(numbered.c.place <= most)
    newest = of_last_runs.order_by(numbered.c.place).limit(MAX_INSTANCES + 1).subquery()
    returned = and_(_of_instance(xcom, newest.c), xcom.key == "return_value")
    return select(newest, _VALUE.label("value")).outerjoin(xcom, returned)


class _Glance(msgspec.Struct):
    """What of a summary is seen at a glance."""

    resource: str | None = None
    failed: int | None = None
    refused: int = 0
    not_reported: int | None = None
    dry_run: bool = False
    expected_by_key: dict[str, int] = {}
    warning: str | None = None

    @property
    def unexpected(self) -> int:
        return max(0, (self.failed or 0) + self.refused - sum(self.expected_by_key.values()))


def _state_of(instances: list[Any]) -> str | None:
    """Return the state of a run that says most of its instances: failed, not ended, or done."""
    states = {one.state for one in instances}
    for some in (_FAILED, sorted(filter(None, states - {*_FAILED, *_DONE})), (None,), _DONE):
        for state in some:
            if state in states:
                return state
    return None


def _attention(state: str | None, returned: Iterable[_Glance | SyncSummary]) -> int:
    """
    Say how much a run needs a person.

    4: the task failed; 3: rows failed that were not expected to; 2: a warning; 1: it has not ended; 0: nothing.
    """
    if state in _FAILED:
        return 4
    level = 0 if state in _DONE else 1
    for one in returned:
        level = max(level, 3 if one.unexpected else 2 if one.warning or one.not_reported else 0)
    return level


def _run(instances: list[Any]) -> dict[str, Any]:
    """Return the instances of a task in one run as one line."""
    state = _state_of(instances)
    started, ended = [one.start_date for one in instances], [one.end_date for one in instances]
    returned = (_summary(one.value) for one in instances)
    return {
        "run_id": instances[0].run_id,
        "run_after": instances[0].run_after,
        "logical_date": instances[0].logical_date,
        "instances": len(instances) if instances[0].map_index >= 0 else None,
        "started": min(filter(None, started), default=None),
        "ended": max(ended) if all(ended) else None,
        "try_number": max(one.try_number for one in instances),
        **_numbers(state, [summary for summary in returned if summary is not None]),
    }


def _decoded(text: str | None, kind: type[T]) -> T | None:
    """Return the value of an XCom of a kind, or of the JSON text that some backends keep; None if it is of another."""
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(text or "null", type=kind)
    with suppress(msgspec.MsgspecError):
        return msgspec.json.decode(msgspec.json.decode(text or "null", type=str), type=kind)
    return None


def _summary(text: str | None) -> SyncSummary | None:
    """Return what a task has returned; None if it is no summary, such as the reference of a backend of one's own."""
    value = _decoded(text, dict)
    try:
        return None if value is None else SyncSummary.model_validate(value)
    except ValueError:
        return None


def _numbers(state: str | None, summaries: list[SyncSummary]) -> dict[str, Any]:
    """Return what a list has of a state and of summaries, summed up; ``parts`` is None without any."""
    parts: dict[str, int] = {}
    reasons: dict[str, int] = {}
    for one in summaries:
        for name, count in one.parts().items():
            parts[name] = parts.get(name, 0) + count
        for key, count in one.failures_by_key.items():
            reasons[key] = reasons.get(key, 0) + count
    return {
        "state": state,
        "attention": _attention(state, summaries),
        "resource": next((one.resource for one in summaries if one.resource), None),
        "parts": {name: parts[name] for name in COLOURS if name in parts} if summaries else None,
        "requests": sum(one.requests for one in summaries),
        "dry_run": any(one.dry_run for one in summaries),
        "reasons": reasons,
    }
