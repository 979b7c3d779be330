"""The rejected records of a batch, as a separate batch."""

from __future__ import annotations

from airflow_provider_voucherify.sync.batches.plan import Plan
from airflow_provider_voucherify.sync.batches.spool import Batch
from airflow_provider_voucherify.sync.results.collect import ActionsApi, outcome_of
from airflow_provider_voucherify.sync.sending.journal import JournalEntry


def add_rejected(plan: Plan, api: ActionsApi, batch: Batch, entry: JournalEntry) -> Batch | None:
    """
    Append a batch of the rejected records of another one to the plan.

    :param entry: the batch's journal entry, with the id of its action.
    :returns: None if it is no longer known which they are (the report is gone), or if all records were rejected.
    """
    action = api.get_async_action(str(entry.async_action_id))
    failures = outcome_of(action, batch.records, batch.destination.endpoint, api, batch.ids()).failures
    return plan.add_subset(batch, failures) if entry.failed <= len(failures) < batch.records else None
