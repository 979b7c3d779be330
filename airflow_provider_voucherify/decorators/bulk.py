"""``@task.voucherify_bulk_update`` and ``@task.voucherify_bulk_metadata``: a function returns or yields the rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow_provider_voucherify.compat import (
    DecoratedOperator,
    determine_kwargs,
    partial_of_expand_kwargs,
    task_decorator_factory,
    with_values,
)
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.operators.bulk import VoucherifyBulkMetadataOperator, VoucherifyBulkUpdateOperator
from airflow_provider_voucherify.task.rendering import HiddenRecords

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context, TaskDecorator

_NEVER_ROWS = str | bytes | bool | int | float | Decimal | date | time | timedelta | UUID | Enum | PurePath | None

_SOURCES = frozenset({"records", "sql", "sql_conn_id", "sql_parameters", "path"})


def _decorated(operator: Any, decorator: str) -> Any:
    """
    Return the class of tasks that take their rows from a function.

    :param operator: class of the tasks that take them from ``records=``, ``sql=`` or ``path=`` instead.
    :param decorator: Airflow's name for the tasks.
    """

    class FunctionGivesRows(DecoratedOperator, operator):  # type: ignore[misc]
        """
        A bulk operator whose rows a function returns or yields.

        The function runs when the task reads its rows: after its arguments have been checked, before anything is sent.
        A retry runs it again; resuming after a deferral does not. Its arguments are templates, like those of every
        TaskFlow function, unless another task has returned them. Lists, tables and other objects among them, or in
        dicts among them, may hold rows, so they are hidden from Airflow's rendered fields.
        """

        template_fields: Sequence[str] = (
            *DecoratedOperator.template_fields,
            *(field for field in operator.template_fields if field not in _SOURCES),
        )
        template_fields_renderers = {  # noqa: RUF012
            **DecoratedOperator.template_fields_renderers,
            **operator.template_fields_renderers,
        }
        template_ext: Sequence[str] = ()
        custom_operator_name = decorator

        if not hasattr(DecoratedOperator, "xcom_push"):
            xcom_push = None  # Airflow 3.0 still asks for this attribute, but does not use it

        def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
            if inspect.iscoroutinefunction(python_callable) or inspect.isasyncgenfunction(python_callable):
                raise VoucherifyConfigurationError(
                    "the rows must come from a plain function or generator, not an async one"
                )
            if given := sorted(name for name in _SOURCES if kwargs.pop(name, None) is not None):
                raise VoucherifyConfigurationError(f"{', '.join(given)}: the function gives the rows")
            super().__init__(python_callable=python_callable, records=(), **kwargs)

        def execute(self, context: Context) -> Any:
            """Run the bulk operator with the function's rows."""
            self.op_args = [_given(argument) for argument in self.op_args]
            self.op_kwargs = {name: _given(argument) for name, argument in self.op_kwargs.items()}
            self._arguments = determine_kwargs(self.python_callable, self.op_args, with_values(context, self.op_kwargs))
            return super().execute(context)

        @contextmanager
        def _records(self) -> Iterator[Any]:
            """Call the function now that its rows are needed, and close its generator afterwards."""
            rows = self.python_callable(*self.op_args, **self._arguments)
            if rows is None:
                name = getattr(self.python_callable, "__name__", "the function")
                raise VoucherifyConfigurationError(f"{name} returned None instead of rows: did you forget return?")
            try:
                yield rows
            finally:
                if isinstance(rows, Generator):
                    rows.close()

        def _do_render_template_fields(
            self, parent: Any, template_fields: Iterable[str], context: Context, *args: Any, **kwargs: Any
        ) -> None:
            expanded: dict[str, Any] = {}
            if parent is self and (partial := partial_of_expand_kwargs(context, self.task_id)) is not None:
                expanded = {name: value for name, value in self.op_kwargs.items() if name not in partial["op_kwargs"]}
                self.op_kwargs = {name: value for name, value in self.op_kwargs.items() if name not in expanded}
            super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)
            if parent is self:
                self.op_args = [_stored(argument) for argument in self.op_args]
                self.op_kwargs = {name: _stored(argument) for name, argument in (self.op_kwargs | expanded).items()}

    FunctionGivesRows.__name__ = FunctionGivesRows.__qualname__ = f"_Decorated{operator.__name__}"
    return FunctionGivesRows


_DecoratedVoucherifyBulkUpdateOperator = _decorated(VoucherifyBulkUpdateOperator, "@task.voucherify_bulk_update")
_DecoratedVoucherifyBulkMetadataOperator = _decorated(VoucherifyBulkMetadataOperator, "@task.voucherify_bulk_metadata")


def voucherify_bulk_update_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a function the source of a bulk update; Airflow offers this as ``@task.voucherify_bulk_update``.

    The function returns or yields what ``records=`` of the operator takes: dicts of columns, lists of them, named
    tuples, tables such as DataFrames, or with ``columns=`` what ``hook.get_records()`` gives. What it yields is read as
    a stream and written to local disk; neither that nor what it returns becomes an XCom. The task returns the
    operator's summary::

        @task.voucherify_bulk_update(resource="customers", deferrable=True)
        def sync_customers(day):
            for order in orders_of(day):
                yield {"source_id": order.customer, "last_order": day}


        sync_customers("{{ ds }}")

    :param python_callable: the function; not an async one.
    :param kwargs: parameters of ``VoucherifyBulkUpdateOperator``, except its sources, and of every Airflow task.
    :raises VoucherifyConfigurationError: the function is async, or a source is given; when the task runs, something
        other than rows is returned.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_DecoratedVoucherifyBulkUpdateOperator, **kwargs
    )


def voucherify_bulk_metadata_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """
    Make a function the source of a metadata update; Airflow offers this as ``@task.voucherify_bulk_metadata``.

    Like ``voucherify_bulk_update_task``, for ``VoucherifyBulkMetadataOperator``: with ``metadata=`` the function
    returns or yields the ids that get it.

    :param python_callable: the function; not an async one.
    :param kwargs: parameters of ``VoucherifyBulkMetadataOperator``, except its sources, and of every Airflow task.
    :raises VoucherifyConfigurationError: as ``voucherify_bulk_update_task``.
    """
    return task_decorator_factory(
        python_callable=python_callable, decorated_operator_class=_DecoratedVoucherifyBulkMetadataOperator, **kwargs
    )


def _stored(argument: Any) -> Any:
    """Hide arguments that may hold rows, also inside dicts."""
    if isinstance(argument, dict):
        return {name: _stored(value) for name, value in argument.items()}
    return argument if isinstance(argument, _NEVER_ROWS) else HiddenRecords(argument)


def _given(argument: Any) -> Any:
    if isinstance(argument, dict):
        return {name: _given(value) for name, value in argument.items()}
    return argument.records if isinstance(argument, HiddenRecords) else argument
