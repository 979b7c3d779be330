"""The parameters of a bulk operator: as values, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.models.endpoints import RESOURCES
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.models.numbers import check_number
from airflow_provider_voucherify.policies import ReadBack, Requests, State
from airflow_provider_voucherify.task.conclusion import limits_of
from airflow_provider_voucherify.task.parameters import (
    Wrong,
    mistakes_of,
    wrong_booleans,
    wrong_choice,
    wrong_submitting,
)

if TYPE_CHECKING:
    from airflow_provider_voucherify.sync.rows.mapping import MappingRules
    from airflow_provider_voucherify.sync.rows.metadata_rules import MetadataRules


def requests_of(task: Any) -> Requests:
    """Return the parameter ``requests`` as a value."""
    return Requests.of("requests", task.requests)


def read_back_of(task: Any) -> ReadBack:
    """Return the parameter ``read_back`` as a value."""
    return ReadBack.of("read_back", task.read_back)


def state_of(task: Any) -> State | None:
    """Return the parameter ``state`` as a value; None if there is none."""
    return State.of("state", task.state) if task.state is not None else None


def mapping_rules(task: Any, schema: MetadataRules | None = None) -> MappingRules:
    """Return the parameters that say where columns go, as a value."""
    from airflow_provider_voucherify.sync.rows.mapping import MappingRules

    return MappingRules(task.mapping, task.metadata_columns, task.exclude_columns or (), task.null_policy, schema)


def wrong_bulk(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what is wrong with the parameters of a bulk operator."""
    if task.resource not in RESOURCES:
        yield Wrong(f"unknown resource {task.resource!r}: it must be one of {', '.join(RESOURCES)}")
    else:
        yield from _wrong_mapping(task, is_known)
    yield from _wrong_source(task, is_known)
    yield from wrong_submitting(task, is_known)
    if task.sample is not None:
        yield from mistakes_of(check_number, "sample", task.sample, 1)
    if is_known("requests"):
        yield from mistakes_of(requests_of, task)
        with suppress(VoucherifyConfigurationError):
            if read_back_of(task).verify is not None and task.deferrable and not (task.state or task.report_path):
                yield Wrong(
                    "verify of read_back needs state= or report_path= in a deferrable task, to know what was sent",
                    ('report_path="/data/voucherify/{{ run_id }}",',),
                    dry_run_goes_on=True,
                )
    yield from wrong_choice(task, "validate_metadata", "schema", None)
    yield from wrong_choice(task, "on_retry", "resume", "resend_failed", "restart")
    if is_known("read_back"):
        yield from mistakes_of(read_back_of, task)
    yield from wrong_booleans(task, "is_dry_run")
    if task.on_retry == "resend_failed" and not task.retries:
        yield Wrong(
            "on_retry='resend_failed' needs retries, since the next try sends the records",
            ("retries=2,",),
            dry_run_goes_on=True,
        )
    if not task.wait_for_completion:
        yield from _wrong_without_waiting(task, is_known)
    yield from _wrong_state(task, is_known)


def _wrong_mapping(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what is wrong with the mapping parameters; the engine is imported only if there are any."""
    given = (task.mapping, task.metadata_columns, task.exclude_columns, getattr(task, "metadata", None))
    if task.null_policy == "omit" and all(one is None for one in given):
        return
    if all(map(is_known, ("mapping", "metadata_columns", "exclude_columns", "metadata"))):
        from airflow_provider_voucherify.sync.rows.mapping import check_mapping

        def check() -> None:
            rules = mapping_rules(task)  # which checks the null_policy that the destination goes by
            check_mapping(task._destination().fields_of, rules)

        yield from mistakes_of(check)


def _wrong_source(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    if sum(source is not None for source in (task.records, task.sql, task.path)) != 1:
        yield Wrong("give exactly one source: records=, sql= or path=")
    if task.columns is not None and task.records is None:
        yield Wrong("columns= is only for records=: a query and a file have their own column names")
    elif task.columns is not None and is_known("columns"):
        from airflow_provider_voucherify.sync.rows.sources import check_names_of_values

        columns = task.columns
        yield from mistakes_of(lambda: check_names_of_values(columns))
    if task.path is not None and is_known("path"):
        from airflow_provider_voucherify.storage.paths import given_paths

        yield from mistakes_of(given_paths, task.path)
    if task.csv_dialect is not None:
        from airflow_provider_voucherify.sync.rows.csv_rows import csv_options

        yield from mistakes_of(csv_options, task.csv_dialect)
        if task.path is None:
            yield Wrong("csv_dialect= is for the CSV files of path=")
    if task.sql is None:
        return
    if is_known("sql") and not isinstance(task.sql, str):
        yield Wrong(
            f"sql= must be one query or the path of a .sql file, not {type(task.sql).__name__}; join the rows of "
            "several queries with UNION ALL, or give each a task"
        )
    if task.sql_conn_id is None:
        yield Wrong("sql= needs sql_conn_id=, the connection of the query", ('sql_conn_id="warehouse",',))


def _wrong_without_waiting(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what a task that does not wait for the outcome cannot do."""
    for parameter in filter(is_known, ("fail_if", "warn_if")):
        with suppress(VoucherifyConfigurationError):
            given = limits_of(task, parameter).given
            if unchecked := [name for name in ("created", "not_reported") if given.get(name) is not None]:
                yield Wrong(
                    f"{' and '.join(unchecked)} of {parameter} cannot be checked with wait_for_completion=False; "
                    "the sensor checks them",
                    dry_run_goes_on=True,
                )
    with suppress(VoucherifyConfigurationError):
        if is_known("read_back") and read_back_of(task).verify is not None:
            yield Wrong("verify of read_back needs wait_for_completion=True", dry_run_goes_on=True)
    if task.state is not None:
        yield Wrong(
            "state= needs wait_for_completion=True: a sensor does not know what was sent. The operator itself "
            "waits, with deferrable=True in the triggerer, so it needs no sensor",
            ("wait_for_completion=True,",),
            dry_run_goes_on=True,
        )


def _wrong_state(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what is wrong with the state of records, and with what needs one."""
    if task.state is None and task.has_state:
        yield Wrong("state is empty, though the DAG gives one")
    if is_known("state") and task.state is not None:
        yield from mistakes_of(check_state, task)
    if is_known("full_refresh"):
        yield from mistakes_of(is_true, "full_refresh", task.full_refresh)


def check_state(task: Any) -> None:
    """
    Check the parameter ``state``.

    :raises VoucherifyConfigurationError: it is none.
    """
    from airflow_provider_voucherify.storage.paths import path_text

    state = state_of(task)
    if state is not None and state.keep_values and task.hide_values:
        raise VoucherifyConfigurationError("keep_values of state keeps what hide_values hides: give one of them")
    if state is not None and state.path is not None:
        path_text("path of state", state.path)


def is_true(name: str, value: object) -> bool:
    """Read a flag that a template may have turned into text."""
    word = str(value).strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off", "none", ""):
        return False
    raise VoucherifyConfigurationError(f"{name} must be true or false, not {value!r}")
