"""From what a bulk operator is given to the plan of what it sends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import AirflowNotFoundException, is_from_mapped_task
from airflow_provider_voucherify.models.errors import VoucherifyNotFoundError
from airflow_provider_voucherify.policies import Requests, State
from airflow_provider_voucherify.task.bulk_parameters import is_true, mapping_rules, read_back_of, requests_of, state_of
from airflow_provider_voucherify.task.conclusion import expected_keys_of, only_compares
from airflow_provider_voucherify.task.hidden_values import hiding_of, reading_without_values
from airflow_provider_voucherify.task.operator_run import project_of
from airflow_provider_voucherify.task.rendering import shown_again
from airflow_provider_voucherify.task.tracked_state import row_tracking

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.batches.changes import Changes
    from airflow_provider_voucherify.sync.batches.compared_plan import ComparedPlan
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords
    from airflow_provider_voucherify.sync.rows.chunks import Rows
    from airflow_provider_voucherify.sync.rows.metadata_rules import MetadataRules
    from airflow_provider_voucherify.sync.state.ledger import Ledger
    from airflow_provider_voucherify.sync.types.hiding import Hiding
    from airflow_provider_voucherify.task.operator_run import OperatorRun


def make_plan(
    task: Any,
    context: Context,
    hook: VoucherifyHook,
    run: OperatorRun,
    compare: Callable[[ComparedPlan, FoundRecords], None] | None = None,
) -> Plan:
    """
    Read and check all rows of a bulk operator, and pack those to be sent; the caller closes the plan.

    :param compare: does something else with what Voucherify has than to leave it out, so that nothing is packed.
    """
    from airflow_provider_voucherify.sync.batches.compared_plan import ComparedPlan
    from airflow_provider_voucherify.sync.batches.destination import BatchLimits
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.comparison.differences import Differences
    from airflow_provider_voucherify.sync.rows.chunks import first_rows

    schema, requests = _schema(task, hook), requests_of(task)
    changes = _changes(task, schema, requests)
    ledger, warnings = _ledger(task, context, hook, changes)
    hiding = _hiding(task, hook)
    if ledger is not None:
        ledger.hiding = hiding
    read_back = read_back_of(task)
    if is_true("full_refresh", task.full_refresh):
        read_back = replace(read_back, compare=False)
    make = partial(ComparedPlan, read_back) if read_back.looks_first else Plan
    plan = make(
        task._destination(schema),
        mapping_rules(task, schema),
        BatchLimits(requests.max_bytes, requests.max_records),
        keep_refused=task.report_path is not None,
        metadata_plan=task._metadata_plan(),
        ledger=ledger,
        changes=changes,
        hiding=hiding,
    )
    for warning in warnings:
        plan.warn(warning)
    try:
        of_text_files = task.path is not None and not all(map(is_binary_or_json, task.source_files))
        with reading_without_values(task, of_text_files=of_text_files), _rows(task) as rows, closing(rows):
            plan.read(rows if task.sample is None else first_rows(rows, task.sample))
        if isinstance(plan, ComparedPlan):
            differences = Differences(hiding) if task.is_dry_run else None
            how = compare or (lambda plan, found: plan.compare(found, differences))
            _compare(plan, run, hook, how, if_empty=compare is not None)
            if task.sample is not None:
                plan.not_in_source = None
    except BaseException:
        plan.close()
        raise
    return plan


def _compare(
    plan: ComparedPlan,
    run: OperatorRun,
    hook: VoucherifyHook,
    compare: Callable[[ComparedPlan, FoundRecords], None],
    *,
    if_empty: bool,
) -> None:
    """
    Compare what could be sent with what Voucherify has.

    :param if_empty: read what it has even if the source has no rows.
    """
    from airflow_provider_voucherify.sync.comparison.found_records import FoundRecords

    with FoundRecords(plan.destination.endpoint.key, plan.compared_paths, plan.samples()) as found:
        found.expect(plan.records())
        if plan.rows_read or if_empty:
            reader = run.reader(hook.get_conn())
            reader.wait_for_updates()
            reader.fetch(found)
        if found.untold:
            untold = ", ".join(found.untold)
            plan.warn(f"the export does not tell what Voucherify has of {untold}: all rows that have it are different")
        plan.sent_before = run.has_sent_before(hook)
        compare(plan, found)
        if not plan.rows_read:
            plan.not_in_source = None


def is_binary_or_json(path: str) -> bool:
    """Say whether the names of columns in a file are no part of its first line."""
    return not path.removesuffix(".gz").endswith(".csv")


def _hiding(task: Any, hook: VoucherifyHook) -> Hiding | None:
    try:
        return hiding_of(task, hook.settings if task.hide_values else None)
    except AirflowNotFoundException:
        return hiding_of(task, None)


def _schema(task: Any, hook: VoucherifyHook) -> MetadataRules | None:
    """Fetch the project's metadata schema, where it is asked for and there is one."""
    from airflow_provider_voucherify.sync.rows.metadata_rules import compile_schema

    if task.validate_metadata is None:
        return None
    try:
        schema = hook.get_metadata_schema(task.resource)
    except VoucherifyNotFoundError:
        task.log.info("The project has no metadata schema for %s", task.resource)
        return None
    return compile_schema(schema, hook.list_metadata_schemas().schemas if schema.object_types else ())


def _changes(task: Any, schema: MetadataRules | None, requests: Requests) -> Changes:
    from airflow_provider_voucherify.sync.batches.changes import Changes
    from airflow_provider_voucherify.sync.batches.destination import metadata_destination

    state = state_of(task) or State()
    removed: Any = "ignore" if task.sample is not None else state.on_removed
    if isinstance(removed, Mapping):
        removed = metadata_destination(task.resource, removed["metadata"], schema, task.null_policy)
    return Changes(requests.max_attempts, removed, state.max_removed_ratio, expected_keys_of(task))


def _ledger(task: Any, context: Context, hook: VoucherifyHook, changes: Changes) -> tuple[Ledger | None, list[str]]:
    """Open a ledger where outcomes or the state of records are kept, with what earlier syncs have left."""
    from airflow_provider_voucherify.sync.batches.destination import Destination
    from airflow_provider_voucherify.sync.batches.settings import settings_digest
    from airflow_provider_voucherify.sync.state.ledger import Ledger
    from airflow_provider_voucherify.task.history import run_name

    if task.state is None:
        return None, []
    try:
        project = project_of(hook)
    except AirflowNotFoundException:
        if not task.is_dry_run:
            raise
        return None, [
            f"there is no connection {task.voucherify_conn_id}, so the state of earlier syncs is not read, and "
            "every row counts as one to send"
        ]
    destination = task._destination()
    settings = settings_digest(project, destination, mapping_rules(task))
    mark = changes.removed.around_item if isinstance(changes.removed, Destination) else None
    state = state_of(task)
    keeps_values = state is not None and state.keep_values
    ledger = Ledger(
        run_name(context),
        settings,
        everything=is_true("full_refresh", task.full_refresh),
        values=destination.around_item if keeps_values and not only_compares(task) else None,
        mark=mark,
    )
    if keeps_values:
        ledger.read_back.keep_values()
    if only_compares(task):  # which leaves the state of records as it is
        return ledger, []
    try:
        return ledger, row_tracking(task, context).load_state(ledger, context, dry_run=task.is_dry_run)
    except BaseException:
        ledger.close()
        raise


@contextmanager
def _rows(task: Any) -> Iterator[Rows]:
    from airflow_provider_voucherify.sync.rows import sources

    if task.sql is not None and task.sql_conn_id is not None:
        from airflow_provider_voucherify.warehouse.queries import query

        with query(task.sql_conn_id, task.sql, shown_again(task.sql_parameters)) as rows:
            yield rows
    elif task.path is not None:
        from airflow_provider_voucherify.storage.files import open_source

        yield sources.from_files(task.source_files, open_source, task.csv_dialect)
    else:
        with task._records() as records:
            yield sources.from_records(
                records,
                task._destination().endpoint.key,
                columns=task.columns,
                takes_ids=task._takes_ids(),
                of_mapped_task=is_from_mapped_task(records),
            )
