"""The Airflow names that this package uses, imported in this one place so that other versions can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseHook,
    BaseNotifier,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    ObjectStoragePath,
    PokeReturnValue,
    XCom,
    conf,
)
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection, Context, TaskInstanceKey

__all__ = [
    "AirflowFailException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseHook",
    "BaseNotifier",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "Connection",
    "Context",
    "ObjectStoragePath",
    "PokeReturnValue",
    "TaskInstanceKey",
    "TaskStateStore",
    "TriggerEvent",
    "XCom",
    "conf",
    "get_async_connection",
    "get_async_extra_dejson",
    "get_connection",
    "get_task_state_store",
]


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


def get_connection(conn_id: str) -> Connection:
    """Look a connection up from a task."""
    return BaseHook.get_connection(conn_id)


async def get_async_connection(conn_id: str) -> Connection:
    """Look a connection up from a trigger, without blocking its event loop."""
    from airflow.providers.common.compat.connection import get_async_connection as lookup

    return await lookup(conn_id)


async def get_async_extra_dejson(connection: Connection) -> dict[str, object]:
    """Read a connection's extra in a trigger; masking its secrets must not block the event loop either."""
    from airflow.providers.common.compat.connection import get_async_extra_dejson as lookup

    return await lookup(connection)
