"""Notifies people of what became of a sync, through any Airflow notifier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import (
    AirflowFailException,
    BaseNotifier,
    XCom,
    fresh,
    get_map_indexes,
    pages,
    with_values,
)
from airflow_provider_voucherify.exceptions import VoucherifyRecordsFailedError
from airflow_provider_voucherify.models.errors import (
    VoucherifyActionFailedError,
    VoucherifyError,
    VoucherifyRecordsRejectedError,
)
from airflow_provider_voucherify.notifications.texts import (
    Failed,
    ready_texts,
    ready_texts_of_mapped,
    texts_without_summary,
)

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context

WITH_SUMMARY = (str, VoucherifyRecordsFailedError, VoucherifyActionFailedError, VoucherifyRecordsRejectedError)
"""What a task may have failed with that has a summary all the same; of a text nobody knows."""


class VoucherifySummaryNotifier(BaseNotifier):
    """
    Adds a Voucherify task's summary to the context of another notifier, for Airflow's own callbacks.

    ``on_failed_records_callback=`` of the operators needs no wrapping: its context has the summary already. This
    notifier brings the same to ``on_success_callback=``, ``on_failure_callback=`` and the like, for a nightly "what
    arrived"::

        VoucherifyBulkUpdateOperator(
            ...,
            on_success_callback=VoucherifySummaryNotifier(SlackWebhookNotifier(text="{{ voucherify_slack_text }}")),
        )

    It can be awaited too, as in the callback of a missed deadline, whose context names the run and no task.

    :param notifier: any notifier, or a callable that takes the context. Its templates may use ``voucherify_text``
        (a few lines of plain text), ``voucherify_slack_text`` and ``voucherify_html`` (the same for Slack and for a
        mail) and ``voucherify_summary`` (the dict that the task returns).
    :param task_id: the Voucherify task, where the callback belongs to another one (or to the DAG, or a deadline). Of a
        mapped task the texts tell of each instance, by its map index, and ``voucherify_summary`` is a list.
    :param kwargs: ``context``, for awaiting; Airflow 3.1 and later.
    """

    def __init__(self, notifier: Callable[[Any], Any], task_id: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.notifier = notifier
        self.task_id = task_id

    def notify(self, context: Context) -> None:
        """Read the summary (or the summaries) from XCom and call the notifier."""
        fresh(self.notifier)(with_values(context, self._texts(context)))

    async def async_notify(self, context: Context) -> None:
        """Do the same without blocking the event loop; a notifier that cannot be awaited is called in a thread."""
        extended: Any = with_values(context, await asyncio.to_thread(self._texts, context))
        notifier = fresh(self.notifier)
        if isinstance(notifier, BaseNotifier) and _can_be_awaited(notifier):
            notifier.context = extended
            await notifier
        else:
            await asyncio.to_thread(notifier, extended)

    def _texts(self, context: Context) -> dict[str, Any]:
        ti: Any = context.get("ti")
        run: Any = context["dag_run"] if ti is None else {"dag_id": ti.dag_id, "dag_run_id": ti.run_id}
        task_id = self.task_id or ti.task_id
        failed = _error(context) if self.task_id is None else None
        if failed is not None and not isinstance(failed, WITH_SUMMARY):  # Airflow logs it as an error to look for none
            return texts_without_summary(task_id, Failed.of(failed), pages(context))
        place = {"dag_id": run["dag_id"], "run_id": run["dag_run_id"], "task_id": task_id}

        def summary(map_index: int) -> dict[str, Any] | None:
            found = XCom.get_one(key="return_value", map_index=map_index, **place)
            return found if isinstance(found, dict) else None

        if (one := summary(-1 if self.task_id else ti.map_index)) is not None:
            return ready_texts(one)
        each = {index: summary(index) for index in get_map_indexes(**place)} if self.task_id else {}
        if any(each.values()):
            return ready_texts_of_mapped(each)
        return texts_without_summary(task_id, Failed.of(_error(context)), pages(context))


def _error(context: Context) -> BaseException | str | None:
    """Return what a task has failed with; of an error that Airflow was told not to retry the cause."""
    error = context.get("exception")
    if isinstance(error, AirflowFailException) and isinstance(error.__cause__, VoucherifyError):
        return error.__cause__
    return error


def _can_be_awaited(notifier: BaseNotifier) -> bool:
    return type(notifier).async_notify is not BaseNotifier.async_notify
