"""What the operators that submit async actions share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import BaseOperator, get_task_state_store
from airflow_provider_voucherify.completion import CompletesAsyncActions, seconds
from airflow_provider_voucherify.links.async_action import VoucherifyAsyncActionsLink, VoucherifyReportLink
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyNotFoundError

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.journal import Journal
    from airflow_provider_voucherify.sync.settlement import ActionOutcome


class SubmittingOperator(CompletesAsyncActions, BaseOperator):  # type: ignore[misc]
    """
    Submits async actions and completes them; what it has sent it writes into a journal for the next try.

    A subclass reads its rows, submits them, and says what the next try does about an action that Voucherify does not
    know (``_note_unknown_action``).
    """

    operator_extra_links = (VoucherifyAsyncActionsLink(), VoucherifyReportLink())
    ui_color = "#f4ecff"

    resource: str
    poll_interval: float | timedelta | None
    durable: bool

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._failed_outcomes: dict[str, ActionOutcome] = {}

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on where the trigger's event leads; see ``VoucherifyAsyncActionTrigger``."""
        with self._attempt(context):
            return super().execute_complete(context, event)

    def on_kill(self) -> None:
        """Say what cannot be done: actions that were submitted go on, since the API has no way to cancel them."""
        self.log.warning(
            "Killed. Async actions that were submitted go on at Voucherify, whose API has no way to cancel them."
        )

    @contextmanager
    def _attempt(self, context: Context) -> Iterator[None]:
        """Begin without the outcomes of an earlier one; an action that Voucherify does not know is noted."""
        self._failed_outcomes.clear()
        try:
            yield
        except VoucherifyNotFoundError as error:
            self._note_unknown_action(self._journal(context), error.call.rpartition("/")[2])
            raise

    def _note_unknown_action(self, journal: Journal, async_action_id: str) -> None:
        """Let the next try deal with an action that Voucherify does not know."""
        raise NotImplementedError

    def _note(self, async_action_id: str, outcome: ActionOutcome) -> None:
        super()._note(async_action_id, outcome)
        if outcome.failed:
            self._failed_outcomes[async_action_id] = replace(outcome, failures={}, written=frozenset())

    def _journal(self, context: Context) -> Journal:
        from airflow_provider_voucherify.sync.journal import Journal

        return Journal(get_task_state_store(context) if self.durable else None, context["ti"].max_tries)

    def _is_durable(self, context: Context) -> bool:
        """Say whether the next try will know what this one has sent."""
        return self.durable and get_task_state_store(context) is not None

    def _warn_without_store(self, context: Context) -> None:
        if self.durable and not self._is_durable(context):
            self.log.warning(
                "This Airflow has no task state store (it came with 3.3): a retry of this task sends everything again"
            )

    def _check_poll_interval(self) -> None:
        if self.poll_interval is not None and not 0 < seconds(self.poll_interval) < float("inf"):
            raise VoucherifyConfigurationError(f"poll_interval must be positive, not {self.poll_interval!r}")

    def _resource(self) -> str:
        return self.resource

    def _poll_interval(self, hook: VoucherifyHook) -> float:
        return super()._poll_interval(hook) if self.poll_interval is None else seconds(self.poll_interval)

    def _execution_seconds(self) -> float:
        """Return ``execution_timeout``, which Airflow itself minds only while the task is on a worker."""
        return float("inf") if self.execution_timeout is None else self.execution_timeout.total_seconds()
