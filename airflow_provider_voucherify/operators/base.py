"""What the operators that submit async actions share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import (
    AirflowFailException,
    BaseOperator,
    get_task_state_store,
    partial_of_expand_kwargs,
)
from airflow_provider_voucherify.links.async_action import VoucherifyAsyncActionsLink, VoucherifyReportLink
from airflow_provider_voucherify.models.errors import (
    VoucherifyConfigurationError,
    VoucherifyError,
    VoucherifyNotFoundError,
    is_permanent,
)
from airflow_provider_voucherify.policies import Policy
from airflow_provider_voucherify.task.completion import CompletesAsyncActions, seconds
from airflow_provider_voucherify.task.parameters import CheckedWhenParsed, Wrong

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.sending.journal import Journal
    from airflow_provider_voucherify.sync.types.outcome import ActionOutcome
    from airflow_provider_voucherify.sync.types.settled import Listener, Settled


SECONDS_FOR_UNKNOWN_ACTIONS = 10.0
"""Seconds that a call may wait for a rate limit, of those that look which other actions Voucherify does not know."""


class FailedOutcomes(dict[str, "ActionOutcome"]):
    """What became of the batches of which records failed, by the id of their action: what a retry has to know."""

    def add(self, settled: Settled) -> None:
        """Keep what became of a batch, without its records' names, if some failed."""
        if settled.outcome.failed:
            self[settled.async_action_id] = settled.outcome.without_names()


class SubmittingOperator(CompletesAsyncActions, BaseOperator, metaclass=CheckedWhenParsed):  # type: ignore[misc]
    """
    Submits async actions and completes them; what it has sent it writes into a journal for the next try.

    A subclass reads its rows, submits them, and says what the next try does about an action that Voucherify does not
    know (``_note_unknown_action``).
    """

    operator_extra_links = (VoucherifyAsyncActionsLink(), VoucherifyReportLink())
    ui_color = "#f4ecff"

    resource: str
    poll_interval: float | timedelta | None
    completion_timeout: float | timedelta
    on_retry: str

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._failed_outcomes = FailedOutcomes()

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on where the trigger's event leads; see ``VoucherifyAsyncActionTrigger``."""
        with self._attempt(context):
            return super().execute_complete(context, event)

    def on_kill(self) -> None:
        """
        Stop sending and waiting, with ``VoucherifyTaskKilledError``; Airflow itself would let the task go on.

        Async actions that were submitted go on, since the API has no way to cancel them. Nothing is logged here: this
        runs in a signal handler, and a log line that it interrupts holds a lock that is not reentrant.
        """
        self._killed = True

    def render_template(
        self, content: Any, context: Context, jinja_env: Any = None, seen_oids: set[int] | None = None
    ) -> Any:
        """
        Render templates, and leave any other text as it is.

        With ``render_template_as_native_obj`` Airflow would make a number of the id ``1_000``.
        """
        if isinstance(content, PurePath):
            return content  # whose method resolve() Airflow before 3.3 calls, taking it for another thing's
        if isinstance(content, Policy):
            return content.rendered(lambda member: self.render_template(member, context, jinja_env, seen_oids))
        if isinstance(content, str) and jinja_env is not None and not content.endswith(tuple(self.template_ext)):
            marks = (
                jinja_env.variable_start_string,
                jinja_env.block_start_string,
                jinja_env.comment_start_string,
                jinja_env.line_statement_prefix,
                jinja_env.line_comment_prefix,
            )
            if not any(mark in content for mark in marks if mark):
                return content
        return super().render_template(content, context, jinja_env, seen_oids)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, *args: Any, **kwargs: Any
    ) -> None:
        """Render all but what another task has returned: that is data, and braces in it are not templates."""
        if parent is self and (partial := partial_of_expand_kwargs(context, self.task_id)) is not None:
            template_fields = [name for name in template_fields if name in partial]
        super()._do_render_template_fields(parent, template_fields, context, *args, **kwargs)

    @contextmanager
    def _attempt(self, context: Context) -> Iterator[None]:
        """
        Begin without the outcomes of an earlier one; an action that Voucherify does not know is noted.

        What a retry cannot mend, such as a wrong key, fails the task for good, unless something was sent: a retry goes
        on from there, and a clear would send it again.
        """
        self._failed_outcomes.clear()
        self._killed = False
        try:
            yield
        except VoucherifyNotFoundError as error:
            try:
                self._note_unknown_actions(context, error.call.rpartition("/")[2])
            except Exception:
                self.log.warning("What Voucherify does not know cannot be written down for a retry", exc_info=True)
            raise
        except VoucherifyError as error:
            if (
                is_permanent(error)
                and not isinstance(error, AirflowFailException)
                and not self._has_sent_something(context)
            ):
                raise AirflowFailException(str(error)) from error
            raise

    def _has_sent_something(self, context: Context) -> bool:
        """Say whether the next try will find something that was sent, to whichever project, or may find it."""
        try:
            return any(self._journal(context))
        except VoucherifyConfigurationError:
            return False  # nobody can read it
        except Exception:
            self.log.warning("Whether something was sent cannot be found out", exc_info=True)
            return True

    def _note_unknown_actions(self, context: Context, async_action_id: str) -> None:
        """
        Let the next try deal with an action that Voucherify does not know, and with all others that it does not know.

        A project that has lost one (or is not the one that had them) has lost others too, and each would cost a try.
        """
        from airflow_provider_voucherify.client.calls import async_action_status

        journal = self._journal(context)
        sent = [entry.async_action_id for entry in journal if entry.async_action_id is not None]
        if async_action_id not in sent:
            return
        self._note_unknown_action(journal, async_action_id)
        with self._hook() as hook:
            client = hook.get_conn().waiting_at_most(lambda: SECONDS_FOR_UNKNOWN_ACTIONS)
            for other in sent:
                if other == async_action_id or self._is_killed():
                    continue
                try:
                    client.send(async_action_status(other))
                except VoucherifyNotFoundError:
                    self._note_unknown_action(journal, other)
                except VoucherifyError as error:
                    self.log.warning("Whether Voucherify knows the other actions cannot be found out: %s", error)
                    return

    def _note_unknown_action(self, journal: Journal, async_action_id: str) -> None:
        """Let the next try deal with an action that Voucherify does not know."""
        raise NotImplementedError

    def _listeners(self) -> list[Listener]:
        return [*super()._listeners(), self._failed_outcomes]

    def _journal(self, context: Context, hook: VoucherifyHook | None = None) -> Journal:
        """
        Return what earlier tries have sent.

        :param hook: whose project it has to be; None for whichever it is.
        """
        from airflow_provider_voucherify.sync.sending.journal import Attempt, Journal

        ti, clears = context["ti"], getattr(context["dag_run"], "clear_number", 0)
        attempt = Attempt(ti.try_number, ti.max_tries, int(self.retries or 0), clears or 0)
        project = None if hook is None else hashlib.sha256(project_of(hook).encode()).hexdigest()[:16]
        return Journal(get_task_state_store(context) if self._resumes else None, attempt, project)

    def _journal_to_go_on(self, context: Context, hook: VoucherifyHook) -> Journal:
        """Return what earlier tries have sent to the project that this one sends to; log why it is not used."""
        journal = self._journal(context, hook)
        if journal.why_unused is not None:
            self.log.warning("%s: everything is sent again", journal.why_unused.capitalize())
        return journal

    @property
    def _resumes(self) -> bool:
        return self.on_retry != "restart"

    def _is_durable(self, context: Context) -> bool:
        """Say whether the next try will know what this one has sent."""
        return self._resumes and get_task_state_store(context) is not None

    def _warn_without_store(self, context: Context) -> None:
        if self._resumes and not self._is_durable(context):
            self.log.warning(
                "This Airflow has no task state store (it came with 3.3): a retry of this task sends everything again"
            )

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        yield from super()._wrong(is_known)
        yield from self._wrong_booleans("wait_for_completion")
        if self.poll_interval is not None:
            yield from self._wrong_durations("poll_interval")
        yield from self._wrong_durations("completion_timeout")

    def _resource(self) -> str:
        return self.resource

    def _poll_interval(self, hook: VoucherifyHook) -> float:
        return super()._poll_interval(hook) if self.poll_interval is None else seconds(self.poll_interval)

    def _execution_seconds(self) -> float:
        """Return ``execution_timeout``, which Airflow itself minds only while the task is on a worker."""
        return float("inf") if self.execution_timeout is None else self.execution_timeout.total_seconds()


def project_of(hook: VoucherifyHook) -> str:
    """Name the project that a hook's connection leads to."""
    return f"{hook.settings.base_url} {hook.settings.application_id}"
