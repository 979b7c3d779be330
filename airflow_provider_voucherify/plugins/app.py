"""
What the page "Voucherify syncs" asks for: its script, and the runs of tasks that the viewer may see.

Airflow mounts the application without authentication, so each route asks for the viewer, and for the viewer's right to
the DAG and to its XComs; whoever has no such right gets nothing of it, not even its name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, TypeVar

import msgspec
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AssetDetails, DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from airflow.models.taskinstance import TaskInstance
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Response
from fastapi.staticfiles import StaticFiles

from airflow_provider_voucherify.links.async_action import DASHBOARD_XCOM_KEY, REPORT_XCOM_KEY
from airflow_provider_voucherify.notifications.report_page import COLOURS, numbers
from airflow_provider_voucherify.plugins import runs
from airflow_provider_voucherify.plugins.memory import Memory, has_records, state_of
from airflow_provider_voucherify.plugins.next_steps import next_steps
from airflow_provider_voucherify.sync.comparison.differences import rows_of
from airflow_provider_voucherify.sync.results.summary_text import read_back_line
from airflow_provider_voucherify.task.run import ERROR_XCOM_KEY

RUNS_OF_A_LIST = 30
"""Runs of each sync in the list of all."""

RUNS_OF_A_SYNC = 50
"""Runs of a sync on its own page."""

LINES_OF_A_RECORD = 200
"""Lines of the changelog that the page of a record has."""

INSTANCES_OF_A_RUN = 200
"""Instances of a mapped task in a run, those that need most attention."""

TURNS = 4
"""How many may ask the states of tasks at the same time."""

SECONDS_FOR_A_TURN = 5.0

NO_RECORDS = (
    "Nothing is known of single records: that takes a state in a database, or one in a folder with "
    '{"path": ..., "outcomes": "jsonl"}, and a run of which Airflow still has the parameters.'
)

_ASKING = BoundedSemaphore(TURNS)

_XCOM = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))
_TASK_INSTANCE = Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))
_TASK_LOGS = Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))

T = TypeVar("T")

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
    dag_ids = runs.dags_of_ours(session) & set(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))
    visible = TaskInstance.dag_id.in_(_may_see(user, dag_ids))
    found = list(runs.syncs_of(session, RUNS_OF_A_LIST, visible))
    next_runs = runs.next_runs(session, {one["dag_id"] for one in found})
    return _json({"colours": COLOURS, "syncs": [one | next_runs.get(one["dag_id"], {}) for one in found]})


@router.get("/sync", dependencies=[_XCOM])
def sync(dag_id: str, task_id: str, session: SessionDep) -> Response:
    """Return the last runs of a sync, newest first."""
    return _json({"colours": COLOURS, "runs": runs.runs_of(session, RUNS_OF_A_SYNC, dag_id, task_id)})


@router.get("/run", dependencies=[_XCOM, _TASK_INSTANCE])
def run(dag_id: str, task_id: str, run_id: str, user: GetUserDep, session: SessionDep, map_index: int = -1) -> Response:
    """
    Return a run of a sync: of one task instance with all that Airflow knows of it, and the lines of a mapped task.

    404 if there is no such task instance.
    """
    instances = runs.instances_of_run(session, dag_id, task_id, run_id)
    if not instances:
        raise HTTPException(404, "There is no such run of this task any more.")
    summaries = runs.summaries_of_run(session, dag_id, task_id, run_id)
    lines = [runs.one_line(one, summaries.get(one.map_index)) for one in instances]
    is_mapped = lines[0]["map_index"] >= 0
    worst_first = sorted(lines, key=lambda line: (-line["attention"], line["map_index"]))
    answer: dict[str, Any] = {
        "colours": COLOURS,
        "instances": worst_first[:INSTANCES_OF_A_RUN] if is_mapped else [],
        "more_instances": max(0, len(lines) - INSTANCES_OF_A_RUN),
    }
    found = next((one for one in instances if one.map_index == map_index), None)
    if found is None:
        return _json(answer)
    summary = summaries.get(map_index)
    kept = runs.xcoms(session, found, (DASHBOARD_XCOM_KEY, REPORT_XCOM_KEY, ERROR_XCOM_KEY))
    tries = runs.tries_of(session, found)
    if isinstance(error := kept.get(ERROR_XCOM_KEY), dict):  # and no reference of a backend of one's own
        tries[-1] |= error
    fields = runs.rendered_fields(session, found)
    state = state_of(fields)
    steps = next_steps(
        dag_id, found.state, summary, has_state=state is not None, only_compares=runs.only_compares(fields)
    )
    answer |= {
        "instance": runs.one_line(found, summary),
        "summary": None if summary is None else summary.as_xcom(),
        "read_back": None if summary is None else read_back_line(summary),
        "differences": [] if summary is None else list(rows_of(summary.preview)),
        "numbers": [] if summary is None else list(numbers(summary)),
        "next_steps": steps,
        "tries": tries,
        "has_records": state is not None and has_records(state),
        "dashboard_url": kept.get(DASHBOARD_XCOM_KEY),
        "report_url": kept.get(REPORT_XCOM_KEY),
        "assets": [asset for asset in runs.assets_of(session, found) if _may_see_asset(user, asset["id"])],
    }
    return _json(answer)


@router.get("/tries", dependencies=[_XCOM, _TASK_LOGS])
def tries(dag_id: str, task_id: str, run_id: str, session: SessionDep, map_index: int = -1) -> Response:
    """Return the tries of a task instance as the history in its ``state`` has them; none without one."""
    found = runs.instances_of_run(session, dag_id, task_id, run_id, TaskInstance.map_index == map_index)
    memory = Memory.of(session, *found)
    session.close()  # nobody is to wait for Airflow's database because another one is slow
    return _json({"tries": [] if memory is None else _remembered(memory.tries)})


@router.get("/record", dependencies=[_XCOM])
def record(
    dag_id: str,
    task_id: str,
    user: GetUserDep,
    session: SessionDep,
    record_id: str = Query(max_length=500),
    map_index: int = -1,
) -> Response:
    """
    Return what became of a record, from the ``state`` that the task had in its last run.

    What a DAG has written that shares the state, and that the viewer may not see, is left out. 404 if nothing is known
    of single records: the task has no ``state``, or one in a folder without ``outcomes``.
    """
    instances = runs.newest_instances(session, dag_id, task_id, map_index, RUNS_OF_A_LIST)
    memory = Memory.of(session, *instances)
    if memory is None or not has_records(memory.state):
        raise HTTPException(404, NO_RECORDS)
    session.close()
    known = _remembered(lambda: memory.of_record(record_id, instances, LINES_OF_A_RECORD))
    state = known["state"]
    writer = None if state is None else state.pop("run_name").partition("/")[0]
    visible = {dag_id} | _may_see(user, {writer, *(line["dag_id"] for line in known["lines"])} - {dag_id})
    known["lines"] = [line for line in known["lines"] if line["dag_id"] in visible]
    known["state"] = state if writer in visible else None
    return _json(known)


def _remembered(ask: Callable[[], T]) -> T:
    """
    Ask the state of a task, whose database may be slow: few at a time, so that Airflow has threads for other things.

    503 if it cannot be read.
    """
    if not _ASKING.acquire(timeout=SECONDS_FOR_A_TURN):
        raise HTTPException(503, "Others are waiting for the state of a task: try again in a moment.")
    try:
        return ask()
    except Exception:
        log.exception("The state of a task cannot be read")
        raise HTTPException(503, "The state of this task cannot be read: see the log of the API server.") from None
    finally:
        _ASKING.release()


def _json(value: dict[str, Any]) -> Response:
    """Return an answer; FastAPI would look at each of its many values in Python first."""
    return Response(msgspec.json.encode(value), media_type="application/json")


def _may_see(user: Any, dag_ids: Collection[str | None]) -> set[str | None]:
    """Return those of some DAGs whose XComs a viewer may read."""
    some = [dag_id for dag_id in dag_ids if dag_id]
    has_teams = hasattr(DagModel, "get_dag_id_to_team_name_mapping")
    teams = DagModel.get_dag_id_to_team_name_mapping(some) if has_teams and some else {}
    of_team = {dag_id: {"team_name": teams.get(dag_id)} if has_teams else {} for dag_id in some}
    manager, entity = get_auth_manager(), DagAccessEntity.XCOM
    return {
        dag_id
        for dag_id, team in of_team.items()
        if manager.is_authorized_dag(
            method="GET", access_entity=entity, details=DagDetails(id=dag_id, **team), user=user
        )
    }


def _may_see_asset(user: Any, asset_id: int) -> bool:
    return get_auth_manager().is_authorized_asset(method="GET", user=user, details=AssetDetails(id=str(asset_id)))
