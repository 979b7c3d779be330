"""
The Airflow names that this package uses, imported in this one place so that other versions can follow.

Triggers alone import their base class, which has not moved, themselves: a DAG file does not need it.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlencode

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
    Asset,
    BaseHook,
    BaseNotifier,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    DecoratedOperator,
    ObjectStoragePath,
    PokeReturnValue,
    Stats,
    XCom,
    conf,
    determine_kwargs,
    redact,
    task_decorator_factory,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection, Context, TaskDecorator, TaskInstanceKey
    from airflow.sdk.bases.operator import BaseOperatorMeta
else:
    BaseOperatorMeta = type(BaseOperator)

__all__ = [
    "NO_PAGES",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "Asset",
    "BaseHook",
    "BaseNotifier",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseOperatorMeta",
    "BaseSensorOperator",
    "Connection",
    "Context",
    "DecoratedOperator",
    "ObjectStoragePath",
    "Pages",
    "PokeReturnValue",
    "Stats",
    "TaskDecorator",
    "TaskInstanceKey",
    "TaskStateStore",
    "XCom",
    "airflow_version",
    "conf",
    "determine_kwargs",
    "events_of_outlets",
    "fresh",
    "get_async_connection",
    "get_async_extra_dejson",
    "get_map_indexes",
    "get_task_state_store",
    "get_task_states",
    "has_plugin_pages",
    "id_of_try",
    "is_from_mapped_task",
    "open_for_reading",
    "pages",
    "partial_of_expand_kwargs",
    "redact",
    "set_asset_state",
    "stored_connection",
    "task_decorator_factory",
    "with_values",
]


_BYTES_PER_READ = 262_144


def get_task_state_store(context: Context) -> TaskStateStore | None:
    """Return the store that all tries of a task instance share; None where Airflow (below 3.3) has none."""
    store = context.get("task_state_store")
    return TaskStateStore(store) if store is not None else None


class TaskStateStore:
    """Airflow's task state store, with values that are kept for as long as the task instance is."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or the default."""
        return self._store.get(key, default)

    def set(self, key: str, value: Any) -> None:
        """Write a JSON value."""
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined,unused-ignore]

        self._store.set(key, value, retention=NEVER_EXPIRE)


def open_for_reading(path: str) -> IO[bytes]:
    """
    Open a local path or an object storage URI.

    What ``ObjectStoragePath`` opens is read in blocks: fsspec's own ``readline`` copies a whole block of the object
    store (of S3 50 MiB) for each line, and before Airflow 3.1 the file cannot be iterated over.
    """
    return io.BufferedReader(ObjectStoragePath(path).open("rb"), _BYTES_PER_READ)  # type: ignore[no-untyped-call]


def stored_connection(conn_id: str) -> Connection:
    """
    Return a connection from the environment, a secrets backend or Airflow's database, outside of tasks.

    :raises AirflowNotFoundException: there is none of that id.
    """
    from airflow.models.connection import Connection as StoredConnection

    return cast("Connection", StoredConnection.get_connection_from_secrets(conn_id))


def fresh(callback: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """
    Return a copy of a notifier, and any other callback itself.

    Airflow renders a notifier's texts in place: the second time it would render what the first has put into them.
    """
    return copy.copy(callback) if isinstance(callback, BaseNotifier) else callback


def is_from_mapped_task(value: Any) -> bool:
    """Say whether a value is what all instances of a mapped task have returned, each fetched when it is asked for."""
    return any(kind.__name__ in ("LazyXComSequence", "LazyXComSelectSequence") for kind in type(value).__mro__)


def partial_of_expand_kwargs(context: Context, task_id: str) -> Mapping[str, Any] | None:
    """
    Return what ``partial`` has given to a task whose other parameters ``expand_kwargs`` takes from another task.

    Airflow renders those others as templates, unlike those of ``expand``. None for all other tasks, and for parameters
    that are written down in the DAG's file.
    """
    task: Any = context["dag"].task_dict[task_id]
    expanded: Any = getattr(task, "op_kwargs_expand_input", None) or getattr(task, "expand_input", None)
    if type(expanded).__name__ != "ListOfDictsExpandInput":
        return None
    given, index = expanded.value, cast("int", context["ti"].map_index)
    if isinstance(given, list | tuple) and isinstance(given[index], Mapping):
        return None
    partial: Mapping[str, Any] = task.partial_kwargs
    return partial


def with_values(context: Context, values: Mapping[str, Any]) -> Context:
    """Return a context with more values; Airflow 2 warns of it where its own are copied one by one."""
    extended: Any = copy.copy(context)
    extended.update(values)
    return cast("Context", extended)


def id_of_try(context: Context) -> str:
    """
    Return what tells a try from all others, also from the tries of a run of the same name that was deleted.

    It is the same while the try is deferred and when it goes on. Airflow 3 has an id for each try.
    """
    ti: Any = context["ti"]
    own = getattr(ti, "id", None) or getattr(context["dag_run"], "id", "")
    return f"{own}/{ti.try_number}"


SYNCS_ROUTE = "voucherify_syncs"
"""Of the page "Voucherify syncs", below ``/plugin/``."""


class Pages(NamedTuple):
    """
    Addresses of pages of Airflow's UI, None where they are not known.

    :param log: of a task's try.
    :param run: of its DAG run.
    :param sync: of the run in "Voucherify syncs", which Airflow has from 3.1 on.
    """

    log: str | None = None
    run: str | None = None
    sync: str | None = None


NO_PAGES = Pages()


def pages(context: Context) -> Pages:
    """Return the pages of a task's try."""
    try:
        ti: Any = context["ti"]
        log = str(ti.log_url)
    except Exception:  # no address of the UI in the configuration
        return NO_PAGES
    run, found, _ = log.partition("/tasks/")
    if not found:  # Airflow 2
        return Pages(log, log.partition("&task_id=")[0])
    place = {"dag": ti.dag_id, "task": ti.task_id, "run": ti.run_id}
    if ti.map_index is not None and ti.map_index >= 0:
        place["map"] = ti.map_index
    base = run.rpartition("/dags/")[0]
    return Pages(log, run, f"{base}/plugin/{SYNCS_ROUTE}?{urlencode(place)}" if has_plugin_pages() else None)


def has_plugin_pages() -> bool:
    """Say whether Airflow's UI shows pages of plugins."""
    return tuple(map(int, airflow_version().split(".")[:2])) >= (3, 1)


def airflow_version() -> str:
    """Return Airflow's version."""
    from airflow import __version__

    return str(__version__)


def set_asset_state(context: Context, outlets: Iterable[Any], key: str, value: Mapping[str, Any]) -> None:
    """Write a JSON value into the state store of each outlet's asset; below Airflow 3.3 there is none."""
    stores: Any = context.get("asset_state_store")
    if stores is not None:
        for outlet in outlets:
            if _is_asset(context, outlet):
                stores[outlet].set(key, dict(value))


def events_of_outlets(context: Context, outlets: Iterable[Any]) -> list[Any]:
    """Return what Airflow makes a task's asset events from, of each outlet that is an asset or refers to one."""
    return [context["outlet_events"][outlet] for outlet in outlets if _is_asset(context, outlet)]


def _is_asset(context: Context, outlet: Any) -> bool:
    """Say whether an outlet is an asset, or refers to one (from Airflow 3.0 on) that is known; others it ignores."""
    if isinstance(outlet, Asset):
        return True
    try:
        from airflow.sdk.definitions.asset import AssetRef
        from airflow.sdk.exceptions import AirflowRuntimeError
    except ImportError:
        return False
    try:
        return isinstance(outlet, AssetRef) and context["outlet_events"][outlet] is not None
    except AirflowRuntimeError:
        return False


def get_task_states(context: Context) -> dict[str, dict[str, Any]]:
    """
    Return the states of the context's task in all runs of its DAG.

    :returns: run id to task to state; a mapped task is named ``{task_id}_{map_index}``.
    """
    ti = context["ti"]
    if hasattr(ti, "get_task_states"):
        states: dict[str, dict[str, Any]] = ti.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id])
        return states
    return _read_task_states(ti.dag_id, ti.task_id)


def _read_task_states(dag_id: str, task_id: str) -> dict[str, dict[str, Any]]:
    """Read them from the database, as a task may before Airflow 3."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    states: dict[str, dict[str, Any]] = {}
    with create_session() as session:
        columns = session.query(TaskInstance.run_id, TaskInstance.map_index, TaskInstance.state)
        for run_id, map_index, state in columns.filter_by(dag_id=dag_id, task_id=task_id):
            states.setdefault(run_id, {})[task_id if map_index < 0 else f"{task_id}_{map_index}"] = state
    return states


def get_map_indexes(dag_id: str, run_id: str, task_id: str) -> list[int]:
    """Return the map indexes of a task's instances in a run; none where it is not mapped. For callbacks too."""
    try:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    except ImportError:
        states = _read_task_states(dag_id, task_id)
    else:
        states = RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id])
    names = states.get(run_id, {})
    return sorted(int(name.removeprefix(f"{task_id}_")) for name in names if name != task_id)


async def get_async_connection(conn_id: str) -> Connection:
    """
    Look a connection up from a trigger, without blocking its event loop.

    Where Airflow finds none, it is asked once more by way of a thread: ``airflow dags test`` of 3.3 runs triggers too,
    but cannot look a connection of its database up asynchronously (``InProcessSupervisorComms`` has no ``asend``).
    """
    from airflow.providers.common.compat.connection import get_async_connection as lookup
    from asgiref.sync import sync_to_async

    try:
        return await lookup(conn_id)
    except AirflowNotFoundException:
        return await sync_to_async(BaseHook.get_connection)(conn_id)


async def get_async_extra_dejson(connection: Connection) -> dict[str, object]:
    """Read a connection's extra in a trigger; masking its secrets must not block the event loop either."""
    from airflow.providers.common.compat.connection import get_async_extra_dejson as lookup

    return await lookup(connection)
