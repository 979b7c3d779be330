"""The ``state`` of a bulk operator: whose it is, and what is written down in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import set_asset_state
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyError
from airflow_provider_voucherify.task.bulk_parameters import check_state, state_of
from airflow_provider_voucherify.task.parameters import Wrong, mistakes_of

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.state.ledger import Ledger
    from airflow_provider_voucherify.sync.types.settled import Listener
    from airflow_provider_voucherify.task.history import TryRecord
    from airflow_provider_voucherify.task.row_tracking import RowTracking
    from airflow_provider_voucherify.task.staging import Folder

ASSET_STATE_KEY = "voucherify_last_sync"
"""Key in the state store of the task's outlet assets: when and by which run the state of records was last kept."""


def check_mapped(task: Any, context: Context) -> None:
    """
    Refuse ``on_removed`` where an instance of a mapped task could take others' records for removed.

    A map index is no identity: with one customer more every instance gets other rows. A name is one, but a record
    that moves from one instance's part to another's has left none of the source.
    """
    map_index, state = context["ti"].map_index, state_of(task)
    if state is None or state.on_removed == "ignore" or map_index is None or map_index < 0:
        return
    if state.marks_removed:
        raise VoucherifyConfigurationError(
            "on_removed={'metadata': ...} cannot be used in a mapped task, none of whose instances sees the whole "
            "source: a record that moves from the rows of one instance to those of another would be marked as "
            "removed. Let one task that is not mapped read the whole source"
        )
    if _name_is_shared(task):
        raise VoucherifyConfigurationError(
            "on_removed='report' in a mapped task needs a state with a sync_name that names the part of the source "
            "which the instance sends, whatever its place among the others, and that comes through its own "
            '.expand() or .expand_kwargs([{"state": {"conn_id": ..., "sync_name": "customers of PL"}, "sql": ...}, '
            "...]): what partial() or a mapped task group gives may be the same for all"
        )


def _name_is_shared(task: Any) -> bool:
    """
    Say whether instances of a mapped task may have the same ``sync_name``.

    An instance surely has one of its own only if ``expand`` or ``expand_kwargs`` has given its ``state`` to this
    very task: in a mapped task group, in ``partial`` and in ``default_args`` it is written once for all of them.
    """
    state = state_of(task)
    has_dag: bool = task.has_dag()
    mapped: Any = task.dag.task_dict.get(task.task_id) if has_dag else None
    common = getattr(mapped, "partial_kwargs", None)
    if state is None or not state.sync_name or common is None:
        return True
    defaults = (getattr(parent, "default_args", None) or {} for parent in (task.dag, mapped.task_group))
    return any("state" in given for given in (common, *defaults))


def row_tracking(task: Any, context: Context) -> RowTracking:
    """Return where a task that has a ``state`` keeps what it remembers."""
    from airflow_provider_voucherify.task.row_tracking import RowTracking

    state = state_of(task)
    assert state is not None
    resource = getattr(task, "resource", "")
    return RowTracking.of(state, resource, context, name_is_shared=_name_is_shared(task))


def begun_record(task: Any, context: Context, *, stages: bool) -> TryRecord:
    """
    Return the record of a try that begins; what is not there of the place of the history is made, but for a dry run.

    :param stages: whether what was sent is kept there while the task is deferred.
    """
    from airflow_provider_voucherify.task.history import TryRecord

    tracking = _tracking(task, context)
    is_there = tracking is not None and tracking.create(dry_run=getattr(task, "is_dry_run", False), stages=stages)
    return TryRecord(task, context, tracking.history if tracking is not None and is_there else None)


def try_record(task: Any, context: Context) -> TryRecord:
    """Return the record of a try that has begun."""
    from airflow_provider_voucherify.task.history import TryRecord

    tracking = _tracking(task, context)
    return TryRecord(task, context, None if tracking is None else tracking.history)


def _tracking(task: Any, context: Context) -> RowTracking | None:
    """Return where a task keeps what it remembers; None without a ``state``, or if that cannot be one."""
    with suppress(VoucherifyConfigurationError):  # which the check of the parameters raises again
        return row_tracking(task, context) if task.state is not None else None
    return None


@contextmanager
def failed_records(task: Any, context: Context) -> Iterator[list[Listener]]:
    """Give who listens for failed records, and write these into the history in the end, if there is one."""
    from airflow_provider_voucherify.sync.results.failed_records import FailedRecords

    if task.state is None:
        yield []
        return
    with FailedRecords() as failed:
        yield [failed]
        row_tracking(task, context).write_outcomes(failed.outcomes, context)


def wrong_history(task: Any, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
    """Say what is wrong with the ``state`` of a task that does not know what its records are like."""
    if task.state is None or not is_known("state"):
        return
    yield from mistakes_of(check_state, task)
    with suppress(VoucherifyConfigurationError):
        state = state_of(task)
        for name in ("on_removed", "max_removed_ratio", "keep_values"):
            if state is not None and name in state.given:
                yield Wrong(f"{name} of state is for the operators of bulk updates")


def state_folder(task: Any, context: Context) -> Folder | None:
    """Return where ``state`` keeps what was sent while the task is deferred; None without a state."""
    return row_tracking(task, context).folder if task.state is not None else None


def keep_rows(task: Any, context: Context, ledger: Ledger | None, summary: SyncSummary) -> SyncSummary:
    """Write down what became of every row, and return the summary, possibly with a warning."""
    if ledger is None:
        if task.state is not None:
            raise VoucherifyError("what was kept while the task waited is gone; a retry finds it again")
        return summary
    for warning in row_tracking(task, context).write(ledger, context):
        task.log.warning("%s", warning)
        summary = summary.with_warning(warning)
    watermark = {"run_id": context["ti"].run_id, "synced_at": time.time(), "rows_read": summary.rows_read}
    set_asset_state(context, task.outlets, ASSET_STATE_KEY, watermark)
    return summary
