"""Templates in the operators' parameters: rows, ids and what another task has returned are data."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import BaseOperator, partial_of_expand_kwargs
from airflow_provider_voucherify.policies import Policy
from airflow_provider_voucherify.sync.types.text import counted

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context


def render_template(
    task: BaseOperator, content: Any, context: Context, jinja_env: Any = None, seen_oids: set[int] | None = None
) -> Any:
    """
    Render templates, and leave any other text as it is: a method of operators.

    With ``render_template_as_native_obj`` Airflow would make a number of the id ``1_000``.
    """
    if isinstance(content, PurePath):
        return content  # Airflow before 3.3 calls its resolve(), which is unrelated
    if isinstance(content, Policy):
        return content.rendered(lambda member: task.render_template(member, context, jinja_env, seen_oids))
    if isinstance(content, str) and jinja_env is not None and not content.endswith(tuple(task.template_ext)):
        marks = (
            jinja_env.variable_start_string,
            jinja_env.block_start_string,
            jinja_env.comment_start_string,
            jinja_env.line_statement_prefix,
            jinja_env.line_comment_prefix,
        )
        if not any(mark in content for mark in marks if mark):
            return content
    return BaseOperator.render_template(task, content, context, jinja_env, seen_oids)


def fields_to_render(task: BaseOperator, parent: Any, template_fields: Iterable[str], context: Context) -> list[str]:
    """Return the fields without those that another task has returned: they are data, and not templates."""
    if parent is not task or (partial := partial_of_expand_kwargs(context, task.task_id)) is None:
        return [*template_fields]
    return [name for name in template_fields if name in partial]


class HiddenRecords:
    """Rendered ``records``; Airflow stores rendered fields, and rows do not belong in its database."""

    def __init__(self, records: Any) -> None:
        self.records = records

    def __repr__(self) -> str:
        return f"<{_number_of(self.records)}, not shown>"


class HiddenParameters:
    """Rendered ``sql_parameters`` of a task that hides values."""

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    def __repr__(self) -> str:
        return "<parameters, not shown>"


def hide_rendered(task: Any) -> None:
    """Let Airflow not show the rows among the rendered fields, nor what a query is given if the task hides values."""
    if task.records is not None:
        task.records = HiddenRecords(task.records)
    if task.hide_values and task.sql_parameters is not None:
        task.sql_parameters = HiddenParameters(task.sql_parameters)


def shown_again(field: Any) -> Any:
    """Return a field that may have been hidden."""
    if isinstance(field, HiddenRecords):
        return field.records
    return field.parameters if isinstance(field, HiddenParameters) else field


def _number_of(records: Any) -> str:
    """Count records, if that is quick: those of a mapped task are not fetched for it."""
    if isinstance(records, list | tuple):
        are_rows = [isinstance(one, list) and bool(one) and isinstance(one[0], Mapping) for one in records]
        number = sum(len(one) if joined else 1 for one, joined in zip(records, are_rows, strict=True))
        return counted(number, "record")
    if isinstance(records, Sequence) or not isinstance(records, Collection):
        return "an unknown number of records"
    return counted(len(records), "record")
