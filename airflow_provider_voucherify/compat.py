"""The Airflow names that this package uses, imported in this one place so that other versions can follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    BaseHook,
    BaseNotifier,
    BaseOperator,
    BaseOperatorLink,
    BaseSensorOperator,
    ObjectStoragePath,
    PokeReturnValue,
    XCom,
    conf,
    context_merge,
)
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection, Context, TaskInstanceKey

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowSensorTimeout",
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
    "TriggerEvent",
    "XCom",
    "conf",
    "context_merge",
    "get_async_connection",
    "get_async_extra_dejson",
    "get_connection",
]


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
