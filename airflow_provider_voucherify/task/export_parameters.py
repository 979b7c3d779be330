"""The parameters of an export operator: as values, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.models.exported_objects import EXPORTED_OBJECTS
from airflow_provider_voucherify.models.spelling import did_you_mean
from airflow_provider_voucherify.policies import TABLE
from airflow_provider_voucherify.task.parameters import (
    Wrong,
    mistakes_of,
    wrong_deferring,
    wrong_paths,
    wrong_times,
)

_RENDERED_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?[+-]\d\d:\d\d")
"""A time as a template such as ``{{ data_interval_start }}`` becomes text."""

_OF_TIMES = ("$after", "$before")


class ExportDestination(Protocol):
    """Where the rows of an export go."""

    def check(self) -> None:
        """See whether rows can be written."""

    def replaced_by(self, rows: Any) -> Any:
        """Write rows, which are there when the block is left."""


def destination_of(task: Any) -> ExportDestination:
    """Return where the rows go."""
    if task.path is not None:
        from airflow_provider_voucherify.storage.exported_files import ExportedFile
        from airflow_provider_voucherify.storage.paths import path_text

        return ExportedFile(path_text("path", task.path))
    from airflow_provider_voucherify.warehouse.exported_table import ExportedTable

    return ExportedTable(task.conn_id, task.table, task.merge_on)


def request_of(task: Any) -> dict[str, Any]:
    """Return the arguments of ``client.exports.create_export``."""
    fields = EXPORTED_OBJECTS[task.exported_object].default_fields if task.fields is None else task.fields
    return {
        "exported_object": task.exported_object,
        "fields": list(fields),
        "order": task.order,
        "filters": _with_times(task.filters),
        "campaign_id": task.campaign_id,
    }


def wrong_export(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what is wrong with the parameters of an export operator."""
    if task.exported_object not in EXPORTED_OBJECTS:
        known = ", ".join(EXPORTED_OBJECTS)
        yield Wrong(f"unknown exported_object {task.exported_object!r:.100}: it must be one of {known}")
    else:
        yield from _wrong_fields(task, is_known)
    yield from _wrong_filters(task, is_known)
    yield from _wrong_destination(task, is_known)
    yield from wrong_deferring(task, is_known)
    yield from wrong_times(task)


def _wrong_fields(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    exported = EXPORTED_OBJECTS[task.exported_object]
    if task.fields is not None and is_known("fields"):
        if not isinstance(task.fields, list | tuple) or not task.fields:
            yield Wrong(
                f"fields must be a list of names, such as {list(exported.default_fields)}, not {task.fields!r:.100}"
            )
        else:
            for field in task.fields:
                if not isinstance(field, str) or not field:
                    yield Wrong(f"fields has {field!r:.100}, which is not a name")
                elif not exported.knows(field) and (hint := did_you_mean(field, exported.fields)):
                    yield Wrong(f"an export of {exported.name} objects has no field {field!r}{hint}")
            if len(set(map(str, task.fields))) < len(task.fields):
                yield Wrong("fields has a name more than once")
    if task.order is not None and is_known("order") and str(task.order).removeprefix("-") not in exported.orders:
        orders = ", ".join(exported.orders)
        yield Wrong(f"order must be one of {orders}, perhaps with a - before it, not {task.order!r:.100}")
    if task.campaign_id is not None and exported.name != "voucher":
        yield Wrong("campaign_id is only for exports of vouchers")


def _wrong_filters(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    if task.filters is None or not is_known("filters"):
        return
    example = ('filters={"created_at": {"conditions": {"$after": ["{{ data_interval_start }}"]}}},',)
    if not isinstance(task.filters, Mapping):
        yield Wrong(f"filters must be a dict of conditions by field, not {task.filters!r:.100}", example)
        return
    for name, given in task.filters.items():
        if name == "junction":
            if given not in ("and", "or"):
                yield Wrong(f"junction of filters must be 'and' or 'or', not {given!r:.100}")
            continue
        conditions = given.get("conditions") if isinstance(given, Mapping) else None
        if not isinstance(conditions, Mapping) or not conditions:
            yield Wrong(f"{name} of filters must be {{'conditions': {{...}}}}, not {given!r:.100}", example)
            continue
        for condition, values in conditions.items():
            if not str(condition).startswith("$") or not isinstance(values, list | tuple):
                yield Wrong(f"{condition} of {name} in filters must be a condition such as '$is' with a list of values")
            elif condition in _OF_TIMES and any(value in (None, "None", "") for value in values):
                yield Wrong(
                    f"{condition} of {name} in filters has no time: a run without a logical date has no data interval"
                )


def _wrong_destination(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    if (task.path is None) == (task.table is None):
        yield Wrong(
            "give exactly one of path= (a file) and table= (with conn_id=)",
            ('path="s3://aws_default@my-bucket/redemptions.parquet",',),
        )
    if task.path is not None:
        yield from wrong_paths(task, is_known, "path")
        if is_known("path"):
            yield from mistakes_of(_check_path, task.path)
        if task.merge_on is not None:
            yield Wrong("merge_on= is for table=: a file is replaced as a whole")
    if (task.table is None) != (task.conn_id is None):
        yield Wrong("table= and conn_id=, the connection of its database, go together", ('conn_id="warehouse",',))
    if (
        task.table is not None
        and is_known("table")
        and not (isinstance(task.table, str) and TABLE.fullmatch(task.table))
    ):
        yield Wrong(f"table must be the name of a table, such as 'shop.redemptions', not {task.table!r:.100}")
    if task.merge_on is not None and is_known("merge_on") and is_known("fields"):
        fields = task.fields
        if isinstance(fields, list | tuple) and task.merge_on not in fields and "metadata" not in fields:
            yield Wrong(f"merge_on must be one of the fields, not {task.merge_on!r:.100}")


def _check_path(path: Any) -> None:
    from airflow_provider_voucherify.storage.exported_files import check_ending
    from airflow_provider_voucherify.storage.paths import path_text

    try:
        text = path_text("path", path)
    except VoucherifyConfigurationError:
        return  # which has been said
    check_ending(text)


def _with_times(value: Any) -> Any:
    """Return filters with the times among their texts as times, which are sent as the API writes them."""
    if isinstance(value, Mapping):
        return {name: _with_times(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_with_times(member) for member in value]
    if isinstance(value, str) and _RENDERED_TIME.fullmatch(value):
        return datetime.fromisoformat(value)
    return value
