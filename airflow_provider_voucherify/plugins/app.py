"""
What the page "Voucherify syncs" asks for: its script, and the runs of tasks that the viewer may see.

Airflow mounts the application without authentication, so each route asks for the viewer, and for the viewer's right to
the DAG and to its XComs; whoever has no such right gets nothing of it, not even its name.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query
from fastapi.staticfiles import StaticFiles
from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.policies import State
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.results.summary_text import what_now
from airflow_provider_voucherify.sync.types.outcome import OUTCOMES
from airflow_provider_voucherify.warehouse.outcome_tables import OutcomeTables

RUNS_OF_A_LIST = 30
"""Runs of each sync in the list of all."""

RUNS_OF_A_SYNC = 50
"""Runs of a sync on its own page."""

LINES_OF_A_RECORD = 200
"""Lines of the changelog that the page of a record has."""

_BRIEF = ("rows_read", "submitted", *OUTCOMES, "requests", "dry_run", "resource", "warning")
"""What a list has of a summary."""

_XCOM = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api")


def make_app() -> FastAPI:
    """Return the application, which has no documentation of its own."""
    app = FastAPI(title="Voucherify syncs", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.include_router(router)
    return app


@router.get("/syncs")
def syncs(user: GetUserDep, session: SessionDep) -> list[dict[str, Any]]:
    """Return the syncs of the DAGs that the viewer may see, each with its last runs, newest first."""
    dag_ids = _visible(user)
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in session.execute(_runs(RUNS_OF_A_LIST, TaskInstance.dag_id.in_(dag_ids))):
        one = found.setdefault(
            (row.dag_id, row.task_id, row.map_index),
            {"dag_id": row.dag_id, "task_id": row.task_id, "map_index": row.map_index, "runs": []},
        )
        one["runs"].append(_run(row, _summary(row.value), brief=True))
    columns = select(DagModel.dag_id, DagModel.next_dagrun_create_after, DagModel.is_paused)
    dags = {
        dag.dag_id: dag for dag in session.execute(columns.where(DagModel.dag_id.in_({one for one, _, _ in found})))
    }
    for (dag_id, _, _), one in found.items():
        if (dag := dags.get(dag_id)) is not None:
            one |= {"next_run": None if dag.is_paused else dag.next_dagrun_create_after, "is_paused": dag.is_paused}
    return list(found.values())


@router.get("/sync", dependencies=[_XCOM])
def sync(dag_id: str, task_id: str, session: SessionDep, map_index: int = -1) -> list[dict[str, Any]]:
    """Return the last runs of a sync with their whole summaries, newest first."""
    ti = TaskInstance
    of_task = _runs(RUNS_OF_A_SYNC, ti.dag_id == dag_id, ti.task_id == task_id, ti.map_index == map_index)
    return [_run(row, _summary(row.value)) for row in session.execute(of_task)]


@router.get("/record", dependencies=[_XCOM])
def record(
    dag_id: str,
    task_id: str,
    session: SessionDep,
    resource: str,
    record_id: str = Query(max_length=500),
    map_index: int = -1,
) -> dict[str, Any]:
    """
    Return what became of a record, from the tables of the ``state`` that the task had in its last run.

    404 if there are none: the task has no ``state``, or one in a folder.
    """
    ti = TaskInstance
    newest = (
        select(RenderedTaskInstanceFields.rendered_fields, ti.id)
        .join(RenderedTaskInstanceFields.task_instance)
        .where(ti.dag_id == dag_id, ti.task_id == task_id, ti.map_index == map_index)
        .order_by(ti.start_date.desc())
        .limit(1)
    )
    rendered = session.execute(newest).first()
    given = rendered.rendered_fields.get("state") if rendered is not None else None
    try:
        state = State.of("state", given) if given else None
    except VoucherifyConfigurationError:  # Airflow has shortened it
        state = None
    if state is None or state.conn_id is None:
        raise HTTPException(404, "The state of this task is not in a database, so no record can be looked up here.")
    mapped = f"[{map_index}]" if map_index >= 0 else ""
    tables = OutcomeTables(state.conn_id, state.table, state.sync_name or f"{dag_id}/{task_id}{mapped}", resource)
    try:
        return tables.of_record(record_id, LINES_OF_A_RECORD)
    except Exception:
        log.exception("The history of %s.%s cannot be read", dag_id, task_id)
        raise HTTPException(503, "The database of the state cannot be read: see the log of the API server.") from None


def _visible(user: Any) -> set[str]:
    """Return the ids of the DAGs whose XComs a viewer may read."""
    manager = get_auth_manager()
    return {
        dag_id
        for dag_id in manager.get_authorized_dag_ids(user=user, method="GET")
        if manager.is_authorized_dag(
            method="GET", access_entity=DagAccessEntity.XCOM, details=DagDetails(id=dag_id), user=user
        )
    }


def _runs(most: int, *conditions: ColumnElement[bool]) -> Select[Any]:
    """Select the last runs of each task of ours that fulfils conditions, with what each has returned."""
    ti = TaskInstance
    number = func.row_number().over(partition_by=(ti.dag_id, ti.task_id, ti.map_index), order_by=ti.start_date.desc())
    ours = or_(ti.operator.ilike("%voucherify%"), ti.custom_operator_name.ilike("%voucherify%"))
    numbered = select(ti.id, number.label("number")).where(ours, ti.start_date.is_not(None), *conditions).subquery()
    returned = and_(
        XComModel.dag_id == ti.dag_id,
        XComModel.run_id == ti.run_id,
        XComModel.task_id == ti.task_id,
        XComModel.map_index == ti.map_index,
        XComModel.key == "return_value",
    )
    columns = (ti.dag_id, ti.task_id, ti.map_index, ti.run_id, ti.state, ti.start_date, ti.end_date, ti.try_number)
    return (
        select(*columns, XComModel.value)
        .join(numbered, numbered.c.id == ti.id)
        .outerjoin(XComModel, returned)
        .where(numbered.c.number <= most)
        .order_by(ti.start_date.desc())
    )


def _summary(value: Any) -> dict[str, Any] | None:
    """Return what a task has returned, if it is a summary: a backend of XComs of one's own leaves a reference there."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, dict) and "rows_read" in value else None


def _what_now(summary: dict[str, Any]) -> list[str]:
    """Return what is to be done, as an alert says it; nothing for a summary of another version."""
    try:
        return list(what_now(SyncSummary.model_validate(summary)))
    except ValueError:
        return []


def _run(row: Any, summary: dict[str, Any] | None, *, brief: bool = False) -> dict[str, Any]:
    if summary is not None:
        what = {} if brief else {"what_now": _what_now(summary)}
        summary = ({name: summary.get(name) for name in _BRIEF} if brief else summary) | what
    return {
        "run_id": row.run_id,
        "state": row.state,
        "started": row.start_date,
        "ended": row.end_date,
        "try_number": row.try_number,
        "summary": summary,
    }
