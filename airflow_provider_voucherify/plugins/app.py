"""
What the page "Voucherify syncs" asks for: its script, and the runs of tasks that the viewer may see.

Airflow mounts the application without authentication, so each route asks for the viewer, and for the viewer's right to
the DAG and to its XComs; whoever has no such right gets nothing of it, not even its name.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.taskinstance import TaskInstance
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Response
from fastapi.staticfiles import StaticFiles

from airflow_provider_voucherify.links.async_action import DASHBOARD_XCOM_KEY, REPORT_XCOM_KEY
from airflow_provider_voucherify.notifications.report_page import COLOURS, numbers
from airflow_provider_voucherify.plugins import runs
from airflow_provider_voucherify.plugins.memory import Memory
from airflow_provider_voucherify.plugins.next_steps import next_steps

RUNS_OF_A_LIST = 30
"""Runs of each sync in the list of all."""

RUNS_OF_A_SYNC = 50
"""Runs of a sync on its own page."""

LINES_OF_A_RECORD = 200
"""Lines of the changelog that the page of a record has."""

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
def syncs(user: GetUserDep, session: SessionDep) -> Response:
    """Return the syncs of the DAGs that the viewer may see, each with its last run and a glance at those before."""
    visible = TaskInstance.dag_id.in_(_visible(user))
    found = list(runs.syncs_of(session, RUNS_OF_A_LIST, visible))
    next_runs = runs.next_runs(session, {one["dag_id"] for one in found})
    return _json({"colours": COLOURS, "syncs": [one | next_runs.get(one["dag_id"], {}) for one in found]})


@router.get("/sync", dependencies=[_XCOM])
def sync(dag_id: str, task_id: str, session: SessionDep) -> Response:
    """Return the last runs of a sync, newest first."""
    return _json({"colours": COLOURS, "runs": runs.runs_of(session, RUNS_OF_A_SYNC, dag_id, task_id)})


@router.get("/run", dependencies=[_XCOM])
def run(dag_id: str, task_id: str, run_id: str, session: SessionDep, map_index: int = -1) -> Response:
    """
    Return a run of a sync: of one task instance with all that is known of it, and the lines of all of a mapped task.

    404 if there is no such task instance.
    """
    instances = runs.instances_of_run(session, dag_id, task_id, run_id)
    summaries = runs.summaries_of_run(session, dag_id, task_id, run_id)
    lines = [runs.one_line(one, summaries.get(one.map_index)) for one in instances]
    found = next((one for one in instances if one.map_index == map_index), None)
    if found is None and not lines:
        raise HTTPException(404, "There is no such run of this task any more.")
    answer: dict[str, Any] = {"colours": COLOURS, "instances": lines if lines[0]["map_index"] >= 0 else []}
    if found is None:
        return _json(answer)
    summary = summaries.get(map_index)
    memory = Memory.of(session, found)
    kept = runs.xcoms(session, found, (DASHBOARD_XCOM_KEY, REPORT_XCOM_KEY))
    answer |= {
        "instance": runs.one_line(found, summary),
        "summary": None if summary is None else summary.as_xcom(),
        "numbers": [] if summary is None else list(numbers(summary)),
        "next_steps": next_steps(dag_id, task_id, found.state, summary, has_state=memory is not None),
        "tries": runs.tries_of(session, found),
        "recorded_tries": [] if memory is None else memory.tries(),
        "dashboard_url": kept.get(DASHBOARD_XCOM_KEY),
        "report_url": kept.get(REPORT_XCOM_KEY),
        "assets": runs.assets_of(session, found),
    }
    return _json(answer)


@router.get("/record", dependencies=[_XCOM])
def record(
    dag_id: str,
    task_id: str,
    session: SessionDep,
    record_id: str = Query(max_length=500),
    map_index: int = -1,
) -> Response:
    """
    Return what became of a record, from the ``state`` that the task had in its last run.

    404 if that has no history: the task has no ``state``, or one in a folder without ``outcomes``.
    """
    instances = runs.newest_instances(session, dag_id, task_id, map_index, RUNS_OF_A_LIST)
    memory = Memory.of(session, instances[0]) if instances else None
    if memory is None or not memory.has_records:
        raise HTTPException(
            404,
            "Nothing is kept of single records: that takes a state in a database, "
            'or one in a folder with {"path": ..., "outcomes": "jsonl"}.',
        )
    try:
        return _json(memory.of_record(record_id, instances, LINES_OF_A_RECORD))
    except Exception:
        log.exception("The history of %s.%s cannot be read", dag_id, task_id)
        raise HTTPException(503, "The state of this task cannot be read: see the log of the API server.") from None


def _json(value: dict[str, Any]) -> Response:
    """Return an answer; FastAPI would look at each of its many values in Python first."""
    return Response(msgspec.json.encode(value), media_type="application/json")


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
