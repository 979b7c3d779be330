"""Running a DAG in the test process: through ``dag.test()``, on a real database, on every Airflow from 2.11 on."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG
from installed import AIRFLOW


@cache
def _database() -> None:
    from airflow.utils.db import initdb
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    event.listen(Engine, "connect", _write_without_waiting)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    initdb()
    if AIRFLOW < (3, 0):  # Alembic's configuration takes pytest's handler away, and the log lines of other packages
        root.handlers[:] = handlers
        root.setLevel(level)


def _write_without_waiting(connection: Any, _: object) -> None:
    """Let SQLite not wait for the disk: each of Airflow's many commits would take some 10 ms."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("pragma synchronous = off")


def run_dag(dag: DAG, run_conf: dict[str, Any] | None = None, logical_date: datetime | None = None) -> DagRunResult:
    """Run every task of a DAG once, triggers included, and return what came of it."""
    _database()
    _serialise(dag)
    if AIRFLOW < (3, 0):
        with _Deferrals() as deferred:
            return DagRunResult(dag.test(run_conf=run_conf, execution_date=logical_date), deferred.tasks)
    time = {} if logical_date is None else {"logical_date": logical_date, "run_after": logical_date}
    return DagRunResult(dag.test(run_conf=run_conf, **time))


def dag_bag(path: Any) -> Any:
    """Load the DAGs of a file, or of none (``/dev/null``), as the dag processor does."""
    return _dagbag_module().DagBag(path)


def _dagbag_module() -> Any:
    try:
        return import_module("airflow.dag_processing.dagbag")
    except ImportError:
        return import_module("airflow.models.dagbag")


def _serialise(dag: DAG) -> None:
    """Store a DAG in the database, as the dag processor does: Airflow 3 runs none that is not there."""
    if AIRFLOW < (3, 0):
        from airflow.models.serialized_dag import SerializedDagModel

        dag.sync_to_db()
        SerializedDagModel.write_dag(dag)
        return
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()
    dag.relative_fileloc = dag.fileloc
    bag = dag_bag("/dev/null")
    bag.bag_dag(dag)
    if hasattr(bag, "sync_to_db"):
        bag.sync_to_db("dags-folder", None)
    else:
        _dagbag_module().sync_bag_to_db(bag, "dags-folder", None)


def clear_and_run(dag: DAG, run: DagRunResult) -> tuple[int, int]:
    """Clear a run's task ``sync`` as the API does, run it once, and return its ``max_tries`` before and after."""
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session

    _serialise(dag)
    with create_session() as session:
        ti = session.query(TaskInstance).filter_by(run_id=run.dag_run.run_id, dag_id=dag.dag_id).one()
        before = ti.max_tries
        clear_task_instances([ti], session)
        ti.try_number += 1  # as the scheduler does
        session.commit()
        after = ti.max_tries
        _run_task(ti=ti, task=dag.get_task("sync"))
    return before, after


def try_again(dag: DAG, logical_date: datetime) -> None:
    """Run the task ``sync`` of a run again whose process has died, as the scheduler does when it has noticed."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session

    with create_session() as session:
        of_dag = session.query(TaskInstance).filter_by(dag_id=dag.dag_id)
        (ti,) = (ti for ti in of_dag if ti.dag_run.logical_date == logical_date)
        assert ti.state == "running"
        ti.prepare_db_for_next_try(session)
        ti.state = None
        ti.try_number += 1
        session.commit()
        _run_task(ti=ti, task=dag.get_task("sync"))


def tell_to_end(when: Callable[[], bool]) -> None:
    """Send the signal with which Airflow ends a task as soon as something is the case."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not when() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def shown_links(dag_id: str, task_id: str) -> dict[str, str | None]:
    """Return the links that Airflow shows for the newest instance of a task, by what it has stored so far."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        newest = select(TaskInstance).filter_by(dag_id=dag_id, task_id=task_id).order_by(TaskInstance.run_id.desc())
        ti = session.scalars(newest).first()
        task = SerializedDagModel.get(dag_id, session=session).dag.get_task(task_id)
        return {name: task.get_extra_links(ti, name) for name in task.extra_links}


class _Deferrals(logging.Handler):
    """The tasks that Airflow 2 defers, by the log of its ``dag.test()``: it puts no triggers into its database."""

    log = logging.getLogger("airflow.models.dag")

    def __init__(self) -> None:
        super().__init__()
        self.tasks: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("[DAG TEST] starting"):
            self._task = record.args[0]  # type: ignore[index]
        elif record.msg == "[DAG TEST] running trigger in line":
            self.tasks.add(str(self._task))

    def __enter__(self) -> _Deferrals:
        self.log.addHandler(self)
        self.log.setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        self.log.removeHandler(self)


class DagRunResult:
    """A finished DAG run."""

    def __init__(self, dag_run: Any, deferred: set[str] | None = None) -> None:
        self.dag_run = dag_run
        self.state = str(dag_run.state)
        self._deferred = deferred

    def deferred_tasks(self) -> set[str]:
        """Return the tasks that were deferred; in Airflow 3 by the triggers that they left in its database."""
        if self._deferred is not None:
            return self._deferred
        return {ti.task_id for ti in self.dag_run.get_task_instances() if ti.trigger_id is not None}

    def task_state(self, task_id: str, map_index: int = -1) -> str:
        return str(self.dag_run.get_task_instance(task_id, map_index=map_index).state)

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        from airflow.utils.session import create_session

        place = {"run_id": self.dag_run.run_id, "key": key}
        with create_session() as session:
            if AIRFLOW < (3, 0):
                from airflow.models.xcom import XCom

                return XCom.get_one(
                    dag_id=self.dag_run.dag_id, task_id=task_id, map_index=map_index, session=session, **place
                )
            from airflow.models.xcom import XComModel

            query = XComModel.get_many(dag_ids=self.dag_run.dag_id, task_ids=task_id, map_indexes=map_index, **place)
            found = session.scalars(query).first()
            return None if found is None else XComModel.deserialize_value(found)

    def xcoms(self, task_id: str) -> dict[str, Any]:
        """Return all that a task has stored, by key."""
        from airflow.models import xcom
        from airflow.utils.session import create_session
        from sqlalchemy import select

        place = {"run_id": self.dag_run.run_id, "task_id": task_id}
        with create_session() as session:
            if AIRFLOW < (3, 0):
                return {row.key: row.value for row in session.scalars(select(xcom.XCom).filter_by(**place))}
            found = session.scalars(select(xcom.XComModel).filter_by(**place))
            return {row.key: xcom.XComModel.deserialize_value(row) for row in found}

    def asset_extras(self, uri: str) -> list[dict[str, Any]]:
        """Return the extras of the events of an asset that the run has left, oldest first."""
        from airflow.utils.session import create_session
        from sqlalchemy import select

        event, asset, asset_id = _asset_tables()
        of_asset = select(asset.id).where(asset.uri == uri).scalar_subquery()
        of_run = select(event).where(event.source_run_id == self.dag_run.run_id)
        with create_session() as session:
            events = session.scalars(of_run.where(asset_id == of_asset).order_by(event.id))
            return [event.extra for event in events]


def _asset_tables() -> tuple[Any, Any, Any]:
    """Return the models of asset events and assets, and the former's reference to the latter."""
    if AIRFLOW < (3, 0):
        dataset = import_module("airflow.models.dataset")
        return dataset.DatasetEvent, dataset.DatasetModel, dataset.DatasetEvent.dataset_id
    asset = import_module("airflow.models.asset")
    return asset.AssetEvent, asset.AssetModel, asset.AssetEvent.asset_id


def with_state(arguments: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Return a task's arguments with more members of its ``state``."""
    state = arguments["state"]
    return arguments | {"state": ({"conn_id": state} if isinstance(state, str) else state) | members}


def folder_of(place: Any, dag_id: str, task_id: str = "sync", resource: str = "customers") -> str:
    """Return the folder that a sync has in the folder of its ``state``."""
    return f"{place}/{dag_id}/{task_id}/{resource}"


def last_outcomes(place: Any) -> Path:
    """Return the file that has the outcomes of the last run, in a local folder of ``state``."""
    return max(Path(place).rglob("outcomes/*/try=*"), key=lambda file: file.stat().st_mtime_ns)


def rendered_fields(run: DagRunResult, task_id: str) -> dict[str, Any]:
    """Return what Airflow has stored of a task's rendered fields."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.session import create_session

    with create_session() as session:
        of_run = session.query(RenderedTaskInstanceFields).filter_by(run_id=run.dag_run.run_id, task_id=task_id)
        fields: dict[str, Any] = of_run.one().rendered_fields
    return fields
