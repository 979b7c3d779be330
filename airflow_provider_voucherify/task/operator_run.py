"""One run of an operator, which submits: what earlier tries have sent, and what the next one has to know."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import AirflowFailException, get_task_state_store
from airflow_provider_voucherify.models.errors import (
    VoucherifyConfigurationError,
    VoucherifyError,
    VoucherifyNotFoundError,
    is_permanent,
)
from airflow_provider_voucherify.task.completion import Completion, Deferral
from airflow_provider_voucherify.task.parameters import seconds
from airflow_provider_voucherify.task.resumption import Resumption
from airflow_provider_voucherify.task.run import TaskRun

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.sending.journal import Journal, Try
    from airflow_provider_voucherify.sync.types.outcome import ActionOutcome
    from airflow_provider_voucherify.sync.types.settled import Listener, Settled
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
    from airflow_provider_voucherify.task.read_back import ExportReader
    from airflow_provider_voucherify.task.staging import Folder, PlannedRecords, StagedRecords

    Sent = PlannedRecords | StagedRecords | None

SECONDS_FOR_UNKNOWN_ACTIONS = 10.0
"""Seconds that a call may wait for a rate limit, of those that ask which other actions Voucherify does not know."""


class FailedOutcomes(dict[str, "ActionOutcome"]):
    """What became of the batches of which records failed, by the id of their action: what a retry has to know."""

    def add(self, settled: Settled) -> None:
        """Keep what became of a batch, without its records' names, if some failed."""
        if settled.outcome.failed:
            self[settled.async_action_id] = settled.outcome.without_names()


class OperatorRun(TaskRun):
    """
    A ``TaskRun`` with a journal of what its tries send. A context manager: an error on the way out prepares the retry.

    An action that Voucherify does not know is noted then. What a retry cannot fix, such as a wrong key, fails the task
    for good, unless something was sent: a retry goes on from there, and a clear would send it again.

    :param task: of its parameters ``resource``, ``on_retry``, ``retries``, ``completion_timeout``,
        ``execution_timeout``, ``poll_interval`` and ``deferrable`` are read too.
    :param settle: given the run and what was sent, for the rest see ``task.completion.Completion``.
    :param prepare_retry: given the run and the message of a task that fails by its thresholds; if a retry can do
        better, it prepares that and raises an error that Airflow retries.
    :param is_killed: says whether ``on_kill`` has been called.
    :param staging: gives where what was sent is kept while the task is deferred; None for the report folder.
    """

    def __init__(
        self,
        task: Any,
        context: Context,
        settle: Callable[..., SyncSummary],
        prepare_retry: Callable[[OperatorRun, str], None],
        is_killed: Callable[[], bool],
        *,
        staging: Callable[[Context], Folder | None] = lambda _: None,
    ) -> None:
        super().__init__(task, context, task.resource)
        self.is_killed = is_killed
        self.failed_outcomes = FailedOutcomes()
        self.listeners: list[Listener] = [self.metrics, self.failed_outcomes]
        self._settle = settle
        self._prepare_retry = prepare_retry
        self._resumes = task.on_retry != "restart"
        self._staging = staging
        self._started = time.time()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, VoucherifyNotFoundError):
            try:
                self._note_unknown_actions(error.call.rpartition("/")[2])
            except Exception:
                self._log.warning("What Voucherify does not know cannot be written down for a retry", exc_info=True)
        super().__exit__(kind, error, traceback)
        if (
            isinstance(error, VoucherifyError)
            and is_permanent(error)
            and not isinstance(error, AirflowFailException)
            and not self._has_sent_something()
        ):
            raise AirflowFailException(str(error)) from error

    def reader(self, client: VoucherifyClient) -> ExportReader:
        """Return what reads back what Voucherify has."""
        from airflow_provider_voucherify.task.read_back import ExportReader

        return ExportReader(self._task, client, self.is_killed)

    @cached_property
    def staging(self) -> Folder | None:
        """Where what was sent is kept while the task is deferred; None for nowhere."""
        place = self._staging(self.context)
        return self.folder if place is None else place

    @property
    def is_durable(self) -> bool:
        """Whether the next try will know what this one has sent."""
        return self._resumes and get_task_state_store(self.context) is not None

    def warn_without_store(self) -> None:
        """Warn if the next try should know it, and cannot."""
        if self._resumes and not self.is_durable:
            self._log.warning(
                "This Airflow has no task state store (it came with 3.3): a retry of this task sends everything again"
            )

    def journal(self, hook: VoucherifyHook | None = None) -> Journal:
        """
        Return what earlier tries have sent.

        :param hook: whose project it has to be; None for whichever it is.
        """
        from airflow_provider_voucherify.sync.sending.journal import Journal

        store = get_task_state_store(self.context) if self._resumes else None
        return Journal(store, attempt_of(self._task, self.context), None if hook is None else project_digest(hook))

    def has_sent_before(self, hook: VoucherifyHook) -> bool:
        """Say whether an earlier try has sent something to a hook's project, or may have where no journal tells."""
        return any(self.journal(hook)) or (not self.is_durable and self.context["ti"].try_number > 1)

    def journal_to_go_on(self, hook: VoucherifyHook) -> Journal:
        """Return what earlier tries have sent to the project that this one sends to; log why it is not used."""
        journal = self.journal(hook)
        if journal.why_unused is not None:
            self._log.warning("%s: everything is sent again", journal.why_unused.capitalize())
        return journal

    def reject_whole_batches(self) -> bool:
        """Let the next try send again the batches that failed as a whole; say whether there are any."""
        whole = [action_id for action_id, outcome in self.failed_outcomes.items() if outcome.failed_as_a_whole]
        if whole:
            journal = self.journal()
            for action_id in whole:
                journal.rejected(action_id)
        return bool(whole)

    def complete(self, hook: VoucherifyHook, sync: SubmittedSync, plan: Plan | None = None) -> dict[str, Any]:
        """
        Wait for what was submitted, and conclude; or leave the worker.

        :param plan: what was sent, which is staged while the task is deferred.
        """
        from airflow_provider_voucherify.task.staging import PlannedRecords, StagedRecords

        end_time = self._end_time(sync)
        sent = None if plan is None else PlannedRecords(plan)
        name = None if plan is None or self.staging is None else self.staged_name
        step = self._completion(hook, sync, sent, end_time, name).wait()
        if isinstance(step, Deferral) and plan is not None and self.staging is not None:
            StagedRecords(self.staging, self.staged_name, len(plan.batches)).stage(plan, end_time)
        return self.finish(step)

    def resume(self, event: dict[str, Any] | None) -> dict[str, Any]:
        """Go on where a trigger's event leads; what was staged is removed unless the task is deferred again."""
        from airflow_provider_voucherify.task.staging import StagedRecords

        self.go_on()
        try:
            resumption = Resumption.read(event)
        except VoucherifyError:
            if self.staging is not None:
                StagedRecords(self.staging, self.staged_name).discard()
            raise
        sync, name = resumption.sync, resumption.staged
        staged = StagedRecords(self.staging, name, len(sync.batches)) if self.staging is not None and name else None
        with staged or nullcontext():
            resumption.check_in_time()
            if staged is not None:
                staged.check()
            with self.hook() as hook:
                step = self._completion(hook, sync, staged, resumption.end_time, name).resume(resumption)
            if isinstance(step, Deferral) and staged is not None:
                staged.keep()
        return self.finish(step)

    def prepare_retry(self, message: str) -> None:
        """Prepare a retry after a threshold was exceeded, as the operator does."""
        self._prepare_retry(self, message)

    @property
    def staged_name(self) -> str:
        """Names what is staged for the task instance."""
        from airflow_provider_voucherify.task.staging import staged_name

        ti = self.context["ti"]
        return staged_name(ti.dag_id, ti.task_id, ti.run_id, ti.map_index)

    def _end_time(self, sync: SubmittedSync) -> float:
        return end_time_of(self._task, sync.submitted_at, self._started)

    def _completion(
        self, hook: VoucherifyHook, sync: SubmittedSync, sent: Sent, end_time: float, staged: str | None
    ) -> Completion:
        settle = partial(self._settle, self, sent)
        interval = self._task.poll_interval
        return self.completion(hook, sync, settle, end_time, interval, staged=staged, is_killed=self.is_killed)

    def _has_sent_something(self) -> bool:
        """Say whether the next try will find something that was sent, to whichever project, or may find it."""
        try:
            return any(self.journal())
        except VoucherifyConfigurationError:
            return False  # nobody can read it
        except Exception:
            self._log.warning("Whether something was sent cannot be found out", exc_info=True)
            return True

    def _note_unknown_actions(self, async_action_id: str) -> None:
        """
        Let the next try send again what an unknown action was for, and all others that Voucherify does not know.

        A project that has lost one (or is not the one that had them) has lost others too, and each would cost a try.
        """
        from airflow_provider_voucherify.client.calls import async_action_status

        journal = self.journal()
        sent = [entry.async_action_id for entry in journal if entry.async_action_id is not None]
        if async_action_id not in sent:
            return
        journal.doubt_action(async_action_id)
        with self.hook() as hook:
            client = hook.get_conn().waiting_at_most(lambda: SECONDS_FOR_UNKNOWN_ACTIONS)
            for other in sent:
                if other == async_action_id or self.is_killed():
                    continue
                try:
                    client.send(async_action_status(other))
                except VoucherifyNotFoundError:
                    journal.doubt_action(other)
                except VoucherifyError as error:
                    self._log.warning("Whether Voucherify knows the other actions cannot be found out: %s", error)
                    return


def end_time_of(task: Any, submitted_at: float, started: float) -> float:
    """Return when to give up; ``execution_timeout`` Airflow itself minds only while the task is on a worker."""
    end_time = submitted_at + seconds(task.completion_timeout)
    if task.execution_timeout is not None:
        end_time = min(end_time, started + seconds(task.execution_timeout))
    return end_time


def attempt_of(task: Any, context: Context) -> Try:
    """Return what distinguishes a retry from a try after a clear."""
    from airflow_provider_voucherify.sync.sending.journal import Try

    ti, clears = context["ti"], getattr(context["dag_run"], "clear_number", 0)
    return Try(ti.try_number, ti.max_tries, int(task.retries or 0), clears or 0)


def project_digest(hook: VoucherifyHook) -> str:
    """Return what tells the project that a hook's connection leads to from others."""
    return hashlib.sha256(project_of(hook).encode()).hexdigest()[:16]


def project_of(hook: VoucherifyHook) -> str:
    """Name the project that a hook's connection leads to."""
    return f"{hook.settings.base_url} {hook.settings.application_id}"
