"""
Checks of a task's parameters: as soon as a DAG is parsed, all at once, with the lines to paste.

Values from a template, an upstream task or a mapping are not known by then. They are checked when the task runs, before
anything is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_voucherify.compat import BaseOperatorMeta
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.policies import leaves
from airflow_provider_voucherify.sync.waiting.pauses import DEFAULT_POLL_INTERVAL
from airflow_provider_voucherify.task.conclusion import as_list, limits_of

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import VoucherifyClient


class Wrong(NamedTuple):
    """
    What is wrong with a task's parameters.

    :param why: a sentence.
    :param lines: lines of Python to add to the task, with example values.
    :param dry_run_goes_on: whether only a task that sends something needs it.
    """

    why: str
    lines: tuple[str, ...] = ()
    dry_run_goes_on: bool = False


class CheckedWhenParsed(BaseOperatorMeta):
    """
    The metaclass of operators whose instances are checked when they are complete, after subclasses' constructors.

    Instances of mapped tasks are not: they are made while the task runs, when Airflow would retry what is raised.
    """

    if not TYPE_CHECKING:

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            """Make a task and check its parameters, as far as they are known."""
            is_mapped = kwargs.get("_airflow_from_mapped", False)
            task = super().__call__(*args, **kwargs)
            if not is_mapped:
                check(task, rendered=False)
            return task


def check(task: Any, *, rendered: bool) -> None:
    """
    Check a task's parameters.

    :param task: its method ``_wrong`` yields what is wrong; it gets a function that says whether the value of a
        parameter, given by name, is final.
    :param rendered: whether templates have been replaced by their values.
    :raises VoucherifyConfigurationError: naming all mistakes, and the task.
    """

    def is_known(name: str) -> bool:
        return rendered or name not in task.template_fields or not _comes_later(getattr(task, name))

    is_dry_run = getattr(task, "is_dry_run", False)
    wrong = [one for one in task._wrong(is_known) if not (one.dry_run_goes_on and is_dry_run)]
    if wrong:
        raise VoucherifyConfigurationError(_message(task.task_id, wrong))


def needed_to_send(task: Any) -> list[str]:
    """Say what a task that sends something needs and a dry run does not."""
    return [one.why for one in task._wrong(lambda _: True) if one.dry_run_goes_on]


def wrong_booleans(task: object, *names: str) -> Iterator[Wrong]:
    """Say which parameters are neither True nor False."""
    for name in names:
        if not isinstance(value := getattr(task, name), bool):
            yield Wrong(f"{_parameter(name)} must be True or False, not {value!r}")


def wrong_choice(task: object, name: str, *choices: str | None) -> Iterator[Wrong]:
    """Say that a parameter is not one of its possible values."""
    value = getattr(task, name)
    if not any(value is choice or value == choice for choice in choices):
        yield Wrong(f"{name} must be {_either(map(repr, choices))}, not {value!r:.100}")


def wrong_paths(task: object, is_known: Callable[[str], bool], *names: str) -> Iterator[Wrong]:
    """Say which parameters are not paths."""
    for name in names:
        if (value := getattr(task, name)) not in (None, "") and is_known(name):
            from airflow_provider_voucherify.storage.paths import path_text

            yield from mistakes_of(path_text, name, value)


def wrong_durations(task: object, *names: str) -> Iterator[Wrong]:
    """Say which parameters are not durations."""
    for name in names:
        value = getattr(task, name)
        is_number = isinstance(value, int | float | timedelta) and not isinstance(value, bool)
        if not is_number or not 0 < seconds(value) < float("inf"):
            yield Wrong(f"{name} must be seconds or a timedelta, more than 0, not {value!r}")


def wrong_waiting(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what is wrong with the parameters that an operator which updates shares with the sensor."""
    yield from wrong_deferring(task, is_known)
    if not all(map(callable, as_list(task.on_failed_records_callback))):
        yield Wrong(
            "on_failed_records_callback must be a notifier, a callable, or a list of them, not "
            f"{task.on_failed_records_callback!r:.200}"
        )
    yield from wrong_paths(task, is_known, "report_path")


def wrong_deferring(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what is wrong with the parameters that all operators and the sensor share."""
    for name in filter(is_known, ("fail_if", "warn_if")):
        yield from mistakes_of(limits_of, task, name)
    yield from wrong_booleans(task, "deferrable", "hide_values")


def wrong_times(task: Any) -> Iterator[Wrong]:
    """Say what is wrong with how long an operator waits, and how often it looks."""
    if task.poll_interval is not None:
        yield from wrong_durations(task, "poll_interval")
    yield from wrong_durations(task, "completion_timeout")


def wrong_submitting(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what is wrong with the parameters that all operators which update share."""
    yield from wrong_waiting(task, is_known)
    yield from wrong_booleans(task, "wait_for_completion")
    yield from wrong_times(task)


def mistakes_of(check: Callable[..., Any], *arguments: Any) -> Iterator[Wrong]:
    """Yield the mistake that a check raises, if any."""
    try:
        check(*arguments)
    except VoucherifyConfigurationError as error:
        yield Wrong(str(error))


def _comes_later(value: Any) -> bool:
    """Say whether a value is a template, another task's output, or a callable that Airflow calls at run time."""
    return any(
        any(mark in leaf for mark in ("{{", "{%", "{#"))
        if isinstance(leaf, str)
        else hasattr(leaf, "iter_references") or callable(leaf)
        for leaf in leaves(value)
    )


def _message(task_id: str, wrong: list[Wrong]) -> str:
    lines = [f"    {line}" for line in dict.fromkeys(line for one in wrong for line in one.lines)]
    if len(wrong) == 1:
        text = f"task {task_id!r}: {wrong[0].why}"
    else:
        text = "\n".join([f"task {task_id!r} has {len(wrong)} wrong parameters:", *(f"- {one.why}" for one in wrong)])
    return "\n".join([text, "Add to it, for example:", *lines]) if lines else text


def _parameter(attribute: str) -> str:
    return "dry_run" if attribute == "is_dry_run" else attribute


def _either(choices: Iterable[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def poll_interval_of(given: timedelta | float | None, client: VoucherifyClient) -> float:
    """Return the longest pause between two polls in seconds: a task's, or the connection's, or 60."""
    return seconds(client.settings.extra.poll_interval or DEFAULT_POLL_INTERVAL if given is None else given)


def seconds(duration: timedelta | float) -> float:
    """Return a duration's seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
