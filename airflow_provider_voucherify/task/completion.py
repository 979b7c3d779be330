"""From submitted actions to the end of the task: one way of waiting, settling and failing for operators and sensor."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_voucherify.compat import conf, fresh, with_values
from airflow_provider_voucherify.links.async_action import DASHBOARD_XCOM_KEY, REPORT_XCOM_KEY, report_url
from airflow_provider_voucherify.models.errors import (
    VoucherifyCompletionTimeoutError,
    VoucherifyError,
    VoucherifyRateLimitError,
    VoucherifyTaskKilledError,
    VoucherifyTransportError,
    is_transient,
    refuse_all,
)
from airflow_provider_voucherify.notifications.texts import ready_texts
from airflow_provider_voucherify.policies import Limits
from airflow_provider_voucherify.sync.results.thresholds import exceeded_limits, limit_warnings
from airflow_provider_voucherify.sync.waiting.pauses import DEFAULT_POLL_INTERVAL, action_to_look_at, pause
from airflow_provider_voucherify.task.lineage import EmitsLineage
from airflow_provider_voucherify.task.metrics import Metrics
from airflow_provider_voucherify.task.parameters import ChecksParameters, Wrong, told_by
from airflow_provider_voucherify.triggers.async_action import EVENT_VERSION, VoucherifyAsyncActionTrigger

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.models.async_action import AsyncAction
    from airflow_provider_voucherify.storage.report_folder import StorageReportFolder
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.results.finished import HeldBackError
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.state.ledger import Ledger
    from airflow_provider_voucherify.sync.types.settled import Listener
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
    from airflow_provider_voucherify.task.staging import Folder, PlannedRecords, StagedRecords

WORKER_SECONDS = 10.0
"""Seconds for which a deferrable task looks from the worker first: a small update is done by then."""

MOMENT_SECONDS = 60.0
"""
Seconds that a task waits for rate limits in any case: a deferrable one on its worker, and one whose time is up to learn
what became of its actions.
"""

KILLED_SECONDS = 1.0
"""Seconds after which a task that sleeps notices at the latest that it was told to end."""

IDS_XCOM_KEY = "async_action_ids"

Callback = Callable[[Any], Any]


class _Patience:
    """
    How long a client may wait for rate limits while a task settles: until its end time.

    :param end_time: Unix epoch seconds.
    :param may_defer: whether that is a moment at most, until every action is known to have finished.
    """

    def __init__(self, end_time: float, *, may_defer: bool) -> None:
        self._end_time, self._may_defer = end_time, may_defer

    def __call__(self) -> float:
        """Return the most seconds that may be spent on waiting from now on."""
        return MOMENT_SECONDS if self._may_defer else max(MOMENT_SECONDS, self._end_time - time.time())

    def ends_on_the_worker(self) -> None:
        """Take note that the task will not be deferred any more: something has been written down."""
        self._may_defer = False


class CompletesAsyncActions(ChecksParameters, EmitsLineage):
    """
    What operators and sensor do once async actions are submitted. A mixin of ``BaseOperator``.

    A task waits ``WORKER_SECONDS`` on its worker and is then deferred, if it is ``deferrable``; the trigger's event or
    the worker's own look leads to the same ``_settle``. It may find an action unfinished although a later one has
    finished, contrary to the documented order, and then waits for that one and those that it did not look at.

    A rate limit that holds back the results is waited for in the triggerer by a deferrable task, if that costs no more
    than a few calls, else on the worker, and never beyond the end time: then the task fails, and its retry goes on.
    """

    log: logging.Logger
    defer: Callable[..., NoReturn]
    dag_id: str
    task_id: str
    do_xcom_push: bool
    voucherify_conn_id: str
    deferrable: bool
    report_path: str | None
    fail_if: Limits | Mapping[str, Any] | None
    warn_if: Limits | Mapping[str, Any] | None
    checked_limits: Sequence[str] = ()
    on_failed_records_callback: Callback | Sequence[Callback] | None
    _patience: _Patience | None = None
    _killed = False

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on where the trigger's event leads; see ``VoucherifyAsyncActionTrigger``."""
        from airflow_provider_voucherify.sync.results.finished import UnfinishedActionsError
        from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
        from airflow_provider_voucherify.task.staging import StagedRecords

        folder, staging = self._report_folder(context), self._staging_folder(context)
        try:
            status, message, ids, state = self._read(event)
        except VoucherifyError:
            if staging is not None:
                self._remove(StagedRecords(staging, self._staged_name(context)))
            raise
        sync, end_time, name = (
            SubmittedSync.from_json(state["sync"], ids),
            float(state["end_time"]),
            state.get("staged"),
        )
        staged = StagedRecords(staging, name, len(sync.batches)) if staging is not None and name else None
        with ExitStack() as stack, ExitStack() as leaving:
            if staged is not None:
                leaving.callback(self._remove, staged)
                stack.callback(staged.close)
            if status == "timeout":
                self._raise_timeout(message or "time is up")
            if staged is not None:
                staged.check()
            if status == "unreachable":
                self.log.warning("The trigger gave up looking, so this worker looks: %s", message)
            hook = stack.enter_context(self._hook())

            def defer(waiting_for: Sequence[str], held: HeldBackError | None = None) -> NoReturn:
                to_wait_for = sync.async_action_ids if status == "unreachable" else waiting_for
                leaving.pop_all()  # whoever resumes the task needs what was staged
                self._defer(hook, sync, to_wait_for, end_time, name, held)

            try:
                held_before = bool(state.get("held"))
                summary = self._settle_in_time(
                    context, hook, sync, end_time, folder, staged, {}, defer, held_before=held_before
                )
            except UnfinishedActionsError as unfinished:
                if status == "unreachable":
                    raise VoucherifyTransportError(
                        f"the triggerer cannot look at async actions ({message}), though this worker can"
                    ) from unfinished
                defer(unfinished.to_wait_for)
        return self._conclude(context, summary)

    def _is_killed(self) -> bool:
        """Say whether ``on_kill`` has been called."""
        return self._killed

    def _hook(self) -> VoucherifyHook:
        from airflow_provider_voucherify.task.metered_hook import MeteredHook

        return MeteredHook(self.voucherify_conn_id, self._metrics().calls_made)

    def _metrics(self, resource: str | None = None) -> Metrics:
        return Metrics(resource=resource or self._resource(), dag_id=self.dag_id, task_id=self.task_id)

    def _resource(self) -> str | None:
        """Return what the batches update; None where only their actions can tell."""
        return None

    def _poll_interval(self, hook: VoucherifyHook) -> float:
        """Return the longest pause between two looks, in seconds."""
        return hook.get_conn().settings.extra.poll_interval or DEFAULT_POLL_INTERVAL

    def _raise_timeout(self, message: str) -> NoReturn:
        raise VoucherifyCompletionTimeoutError(
            f"{message}; it goes on at Voucherify, whose API has no way to cancel it"
        )

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        for name in filter(is_known, ("fail_if", "warn_if")):
            yield from told_by(self._limits, name)
        if not all(map(callable, _callbacks(self.on_failed_records_callback))):
            yield Wrong(
                "on_failed_records_callback must be a notifier, a callable, or a list of them, not "
                f"{self.on_failed_records_callback!r:.200}"
            )
        yield from self._wrong_booleans("deferrable")
        yield from self._wrong_paths(is_known, "report_path")

    def _limits(self, parameter: str) -> Limits:
        """
        Return ``fail_if`` or ``warn_if`` as a value.

        :raises VoucherifyConfigurationError: it is none, or has limits that this task cannot check.
        """
        limits = Limits.of(parameter, getattr(self, parameter))
        refuse_all(
            f"{name} of {parameter} cannot be checked by {type(self).__name__}"
            for name in limits.given
            if name not in self.checked_limits
        )
        return limits

    def _with_warnings(self, summary: SyncSummary) -> SyncSummary:
        """Return the summary with every limit that is exceeded or could not be checked."""
        limits = self._limits("fail_if").to_fail, self._limits("warn_if").to_warn
        return summary.with_warning(*limit_warnings(summary, *limits))

    def _report_folder(self, context: Context) -> StorageReportFolder | None:
        from airflow_provider_voucherify.storage.paths import path_text
        from airflow_provider_voucherify.storage.report_folder import StorageReportFolder

        if not self.report_path:
            return None
        map_index = context["ti"].map_index
        path = path_text("report_path", self.report_path).rstrip("/")
        return StorageReportFolder(path if map_index is None or map_index < 0 else f"{path}/map_index={map_index}")

    def _staging_folder(self, context: Context) -> Folder | None:
        """Return where what was sent is kept while the task is deferred; None for nowhere."""
        return self._report_folder(context)

    def _clear_links(self, context: Context) -> None:
        """Give the links and the sensor something to read, lest Airflow log an error where nothing is sent."""
        for key, nothing in ((IDS_XCOM_KEY, []), (DASHBOARD_XCOM_KEY, ""), (REPORT_XCOM_KEY, "")):
            context["ti"].xcom_push(key=key, value=nothing)

    def _announce(self, context: Context, hook: VoucherifyHook, sync: SubmittedSync) -> None:
        """Put the ids and links into XCom before waiting, so that a task that is killed has them."""
        context["ti"].xcom_push(key=IDS_XCOM_KEY, value=sync.async_action_ids)
        self._announce_links(context, hook)

    def _announce_links(self, context: Context, hook: VoucherifyHook) -> None:
        from airflow_provider_voucherify.models.endpoints import dashboard_url

        ti = context["ti"]
        ti.xcom_push(key=DASHBOARD_XCOM_KEY, value=dashboard_url(hook.get_conn().settings.base_url))
        folder = self._report_folder(context)
        ti.xcom_push(key=REPORT_XCOM_KEY, value=report_url(folder.uri) if folder is not None else "")

    def _wait(
        self, context: Context, hook: VoucherifyHook, sync: SubmittedSync, end_time: float, plan: Plan | None = None
    ) -> SyncSummary:
        """Wait on the worker, for a while or to the end, and settle; or defer."""
        from airflow_provider_voucherify.sync.results.finished import UnfinishedActionsError
        from airflow_provider_voucherify.task.staging import PlannedRecords, StagedRecords

        client, folder, staging = hook.get_conn(), self._report_folder(context), self._staging_folder(context)
        waiting_for: Sequence[str] = sync.async_action_ids
        name = self._staged_name(context) if staging is not None and plan is not None else None
        defers = self.deferrable and self._fits(hook, sync, end_time, name)
        until = min(end_time, sync.submitted_at + WORKER_SECONDS) if defers else end_time
        seen: dict[str, AsyncAction] = {}

        def defer(waiting_for: Sequence[str], held: HeldBackError | None = None) -> NoReturn:
            if staging is not None and plan is not None and name is not None:
                staged = StagedRecords(staging, name, len(plan.batches))
                with ExitStack() as leaving:
                    leaving.callback(self._remove, staged)
                    staged.stage(plan, end_time)
                    leaving.pop_all()
            self._defer(hook, sync, waiting_for, end_time, name, held)

        while not waiting_for or self._look(client, sync, waiting_for, self._poll_interval(hook), until, seen, defers):
            try:
                sent = PlannedRecords(plan) if plan is not None else None
                may_defer = defer if defers else None
                return self._settle_in_time(context, hook, sync, end_time, folder, sent, seen, may_defer)
            except UnfinishedActionsError as unfinished:
                self.log.warning("%s", unfinished)
                waiting_for = unfinished.to_wait_for
        if not defers or time.time() >= end_time:
            self._raise_timeout(f"async action {action_to_look_at(waiting_for)} was not finished in time")
        return defer(waiting_for)

    @staticmethod
    def _staged_name(context: Context) -> str:
        from airflow_provider_voucherify.task.staging import staged_name

        ti = context["ti"]
        return staged_name(ti.dag_id, ti.task_id, ti.run_id, ti.map_index)

    def _remove(self, staged: StagedRecords) -> None:
        """Remove what was staged; that it cannot be is worth a warning, and no reason to fail what is done."""
        try:
            staged.remove()
        except Exception:
            self.log.warning("What was kept while the task waited cannot be removed", exc_info=True)

    def _look(
        self,
        client: VoucherifyClient,
        sync: SubmittedSync,
        waiting_for: Sequence[str],
        poll_interval: float,
        until: float,
        seen: dict[str, AsyncAction],
        defers: bool,
    ) -> bool:
        """
        Look until the actions have finished, the one submitted last first; False if they have not by ``until``.

        A look that rate limits allow only after ``until`` is not waited for: a task that ``defers`` does so at once,
        any other waits for its deadline.
        """
        from airflow_provider_voucherify.models.async_action import AsyncAction
        from airflow_provider_voucherify.sync.waiting.queue_watch import QueueWatch
        from airflow_provider_voucherify.sync.waiting.waits import Wait

        now = time.time()
        not_before = now + pause(now - sync.submitted_at, poll_interval)
        wait = Wait(waiting_for, sync.submitted_at, until, poll_interval, not_before)
        watch = QueueWatch()
        watch.add(wait, now)
        places = {action_id: place for place, action_id in enumerate(sync.async_action_ids, start=1)}
        while (look := watch.next_look(time.time())) is not None:
            if look.at >= until and defers:
                return False
            if self._killed:
                raise VoucherifyTaskKilledError("while its async actions were waited for")
            if look.at > (asked_at := time.time()):
                time.sleep(min(look.at - asked_at, KILLED_SECONDS))
                continue
            try:
                answer = client.send(look.call, max_rate_limit_wait=max(0.0, until - asked_at))
            except VoucherifyError as error:
                if (
                    isinstance(error, VoucherifyRateLimitError)
                    and is_transient(error)
                    and (error.retry_at or 0) > until
                ):
                    self.log.warning("No look in the time that is left: %s", error)
                    time.sleep(0.0 if defers else max(0.0, until - time.time()))
                    return False
                watch.failed(look, error, asked_at, time.time())
                if wait.end is not None and wait.end.status == "unreachable":
                    raise
                if wait.failures:
                    self.log.warning("Look %d of %d failed: %s", wait.failures, wait.most_failures, error)
            else:
                watch.found(look, answer, asked_at, time.time())
                if isinstance(answer, AsyncAction):
                    self.log.info(
                        "Async action %s (%d of %d) is %s (%s %%)",
                        answer.id,
                        places.get(answer.id, 0),
                        len(sync.batches),
                        answer.status,
                        answer.progress or 0,
                    )
                    if answer.is_finished:
                        seen[answer.id] = answer
        return wait.end is not None and wait.end.status == "finished"

    def _defer(
        self,
        hook: VoucherifyHook,
        sync: SubmittedSync,
        waiting_for: Sequence[str],
        end_time: float,
        staged: str | None,
        held: HeldBackError | None,
    ) -> NoReturn:
        trigger = self._trigger(hook, sync, waiting_for, end_time, staged, held)
        if held is not None:
            self.log.warning("Waiting in the triggerer for a rate limit: %s", held)
        else:
            self.log.info("Waiting in the triggerer for %d async actions", len(sync.batches))
        self.defer(trigger=trigger, method_name="execute_complete")

    def _fits(self, hook: VoucherifyHook, sync: SubmittedSync, end_time: float, staged: str | None) -> bool:
        """Say whether a trigger can wait for that many actions."""
        fits = self._trigger(hook, sync, sync.async_action_ids, end_time, staged).fits
        if not fits:
            self.log.warning(
                "%d async actions are more than Airflow can surely store for a trigger, so they are waited for here",
                len(sync.batches),
            )
        return fits

    def _trigger(
        self,
        hook: VoucherifyHook,
        sync: SubmittedSync,
        waiting_for: Sequence[str],
        end_time: float,
        staged: str | None,
        held: HeldBackError | None = None,
    ) -> VoucherifyAsyncActionTrigger:
        ids = sync.async_action_ids
        unfinished_from = ids.index(waiting_for[-1]) if waiting_for else len(ids)
        return VoucherifyAsyncActionTrigger(
            voucherify_conn_id=self.voucherify_conn_id,
            async_action_ids=ids,
            unfinished_from=None if list(waiting_for) == ids else unfinished_from,
            submitted_at=sync.submitted_at,
            end_time=end_time,
            poll_interval=self._poll_interval(hook),
            not_before=max(time.time() + _seconds_until_exit_is_noticed(), held.until if held is not None else 0.0),
            state={"sync": sync.to_json(), "end_time": end_time, "staged": staged, "held": held is not None},
        )

    def _settle_in_time(
        self,
        context: Context,
        hook: VoucherifyHook,
        sync: SubmittedSync,
        end_time: float,
        folder: StorageReportFolder | None,
        sent: StagedRecords | PlannedRecords | None,
        seen: dict[str, AsyncAction],
        defer: Callable[[Sequence[str], HeldBackError], NoReturn] | None,
        *,
        held_before: bool = False,
    ) -> SyncSummary:
        """
        Settle, or defer where a rate limit holds the results back; on the worker wait for it until ``end_time`` only.

        Results are too large to keep while the task is deferred, so what was fetched is fetched again. A limit that
        allows fewer calls than there are results would never let the task end that way: there it goes on waiting where
        it is.

        :param defer: defers; None where the task is to wait on the worker.
        :param held_before: whether the task was deferred for that reason just before.
        """
        from airflow_provider_voucherify.sync.results.finished import HeldBackError

        client = hook.get_conn()

        def settle(*, may_defer: bool) -> SyncSummary:
            self._patience = _Patience(end_time, may_defer=may_defer)
            bounded = client.waiting_at_most(self._patience)
            return self._settle_after_wait(context, bounded, sync, folder, sent, seen)

        if defer is not None:
            try:
                return settle(may_defer=True)
            except HeldBackError as held:
                fits_a_period = (client.calls_left() or 0) > len(sync.batches)
                if held.until < end_time and (not held.fetched or (fits_a_period and not held_before)):
                    defer([], held)
        try:
            return settle(may_defer=False)
        except HeldBackError as held:
            raise held.error from None

    def _settle_after_wait(
        self, context: Context, client: VoucherifyClient, sync: SubmittedSync, *args: Any
    ) -> SyncSummary:
        waited = time.time() - sync.submitted_at
        summary = self._settle(context, client, sync, *args)
        self._metrics(summary.resource).completion_waited(waited)
        return summary

    def _settle(
        self,
        context: Context,
        client: VoucherifyClient,
        sync: SubmittedSync,
        folder: StorageReportFolder | None,
        sent: StagedRecords | PlannedRecords | None,
        seen: dict[str, AsyncAction],
    ) -> SyncSummary:
        from airflow_provider_voucherify.sync.results.collect import collect_outcomes

        with ExitStack() as stack:
            ledger = stack.enter_context(sent.ledger()) if sent is not None else None
            summary = collect_outcomes(
                sync,
                client,
                resource=self._resource(),
                refused_sample=self._refused_sample(context),
                folder=folder,
                sent=sent,
                ledger=ledger,
                max_attempts=self._max_attempts(),
                seen=seen,
                on_all_finished=self._settle_here,
                listeners=self._listeners(),
            )
            return self._keep_rows(context, ledger, self._with_warnings(summary))

    def _settle_here(self) -> None:
        """Take note that all actions have finished: from now on rate limits are waited for on the worker."""
        if self._patience is not None:
            self._patience.ends_on_the_worker()

    def _keep_rows(self, context: Context, ledger: Ledger | None, summary: SyncSummary) -> SyncSummary:
        """Write down what became of every row, and return the summary, possibly with a warning."""
        return summary

    def _conclude(self, context: Context, summary: SyncSummary) -> dict[str, Any]:
        """Say what happened, tell who wants to be told, and fail if thresholds say so."""
        exceeded = exceeded_limits(summary, self._limits("fail_if").to_fail, "fail_if")
        self.summary = summary
        self._metrics(summary.resource).concluded(summary)
        text, value = summary.text(), summary.as_xcom()
        worth_a_look = summary.failed or summary.refused or summary.not_reported or summary.warning
        self.log.log(logging.WARNING if worth_a_look else logging.INFO, "%s", text)
        if summary.not_reported:
            self.log.warning(
                "Voucherify's answers do not mention %d of the records that were sent", summary.not_reported
            )
        if worth_a_look or summary.failed_async_action_ids:
            self._tell(context, value)
        if exceeded:
            from airflow_provider_voucherify.exceptions import VoucherifyRecordsFailedError

            if self.do_xcom_push:
                context["ti"].xcom_push(key="return_value", value=value)
            message = "\n".join([*exceeded, text])
            self._prepare_retry(context, message)
            raise VoucherifyRecordsFailedError(message, value)
        return value

    def _max_attempts(self) -> int | None:
        """Return how often a record may fail before it is set aside; None if that is not known here."""
        return None

    def _refused_sample(self, context: Context) -> Sequence[Mapping[str, Any]]:
        """Return what the summary shows of the rows that were refused before the task was deferred."""
        return ()

    def _listeners(self) -> list[Listener]:
        """Return who is told of each batch beside the summary and the files."""
        return [self._metrics()]

    def _prepare_retry(self, context: Context, message: str) -> None:
        """Where a retry can do better, prepare it and raise an error that Airflow retries."""

    def _tell(self, context: Context, value: dict[str, Any]) -> None:
        for callback in _callbacks(self.on_failed_records_callback):
            try:
                fresh(callback)(with_values(context, ready_texts(value)))
            except Exception:
                self.log.exception("on_failed_records_callback failed; the task goes on")

    @staticmethod
    def _read(event: dict[str, Any] | None) -> tuple[str, str | None, list[str], dict[str, Any]]:
        """
        Read a trigger's event; one that cannot be understood must not pass for success.

        That of a task that was deferred by an earlier version of this package has the ids in its state.
        """
        if not isinstance(event, dict) or not isinstance(event.get("state"), dict):
            raise VoucherifyError(f"the trigger's event cannot be understood: {event!r:.200}")
        status = event.get("status")
        if event.get("version") not in (1, EVENT_VERSION) or status not in ("finished", "timeout", "unreachable"):
            raise VoucherifyError(
                f"the trigger's event has version {event.get('version')!r} and status {status!r}, which this version "
                "of the provider does not know; triggerer and workers must run the same one"
            )
        return status, event.get("message"), event.get("async_action_ids", []), event["state"]


def seconds(duration: timedelta | float) -> float:
    """Return a duration's seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def _callbacks(given: Callback | Iterable[Callback] | None) -> list[Callback]:
    """Return one callback or several as a list."""
    if given is None:
        return []
    if callable(given) or isinstance(given, str) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def _seconds_until_exit_is_noticed() -> float:
    """
    Return how long after its exit a worker's process may still count as running, with a margin.

    Airflow 3.3.2 notices the exit up to ``[workers] min_heartbeat_interval`` seconds late, and fails a task that is
    resumed around that moment.
    """
    return 1.6 * float(conf.getint("workers", "min_heartbeat_interval", fallback=5))
