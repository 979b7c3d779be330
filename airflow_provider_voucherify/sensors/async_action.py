"""``VoucherifyAsyncActionSensor``: waits for async actions that another task has submitted."""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_voucherify.links.async_action import EXTRA_LINKS, UI_COLOR
from airflow_provider_voucherify.models.errors import (
    VoucherifyCompletionTimeoutError,
    VoucherifyConfigurationError,
    VoucherifyError,
)
from airflow_provider_voucherify.policies import Limits, State
from airflow_provider_voucherify.task.conclusion import Callback, with_warnings
from airflow_provider_voucherify.task.hidden_values import hiding_of
from airflow_provider_voucherify.task.lineage import openlineage_facets
from airflow_provider_voucherify.task.parameters import CheckedWhenParsed, Wrong, check, wrong_waiting
from airflow_provider_voucherify.task.rendering import render_template
from airflow_provider_voucherify.task.resumption import Resumption
from airflow_provider_voucherify.task.run import TaskRun
from airflow_provider_voucherify.task.tracked_state import failed_records, wrong_history

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
    from airflow_provider_voucherify.task.completion import Completion


class VoucherifyAsyncActionSensor(BaseSensorOperator, metaclass=CheckedWhenParsed):
    """
    Waits until async actions have finished, and returns the same summary as the bulk operators.

    ``poke_interval``, ``timeout``, ``mode``, ``soft_fail`` and ``never_fail`` are those of every sensor; while
    deferred, ``poke_interval`` is the longest pause between two polls. The sensor did not send the records, so
    ``rows_read`` is None, counts are those that Voucherify reports, and ``failures.jsonl`` names failed records by
    id only.

    A timeout does not cancel anything: the API has no way to.

    :param async_action_id: one id, as the hook's bulk calls return it.
    :param async_action_ids: several ids, e.g. ``operator.output["async_action_ids"]``; lists of lists, as mapped
        tasks return them, are joined. Give exactly one of the two.
    :param deferrable: wait in the triggerer, after a few seconds on the worker. Default: Airflow's
        ``[operators] default_deferrable``.
    :param fail_if: ``failed``, ``failed_ratio``, ``created``, ``not_reported`` and ``expected_keys`` of
        ``policies.Limits``, beyond which the sensor fails. Default: no record may fail.
    :param warn_if: the same, but the task continues; the log, the summary (``warning``) and
        ``on_failed_records_callback`` say so.
    :param state: where the history of the sensor's tries is kept, as that of a bulk operator: a connection id, a folder
        or a ``policies.State``. Of the records it has those that failed, since no one else is known.
    :param report_path: folder (local or object storage) for the reports, ``failures.jsonl`` and ``report.html``; not
        the one of the task that submitted, whose ``failures.jsonl`` has the refused rows.
    :param on_failed_records_callback: notifier or callable (or several) that is called if records failed, even if the
        task succeeds; its context has ``voucherify_summary`` and ``voucherify_text``.
    :param hide_values: leave values of rows out of logs, XComs, alerts and ``failures.jsonl``, and hash ids there; see
        ``VoucherifyBulkUpdateOperator``.
    :param voucherify_conn_id: connection of type ``voucherify``.
    """

    template_fields: Sequence[str] = (
        "async_action_id",
        "async_action_ids",
        "state",
        "report_path",
        "fail_if",
        "warn_if",
        "voucherify_conn_id",
    )
    template_fields_renderers = dict.fromkeys(("state", "fail_if", "warn_if"), "json")
    checked_limits = ("failed", "failed_ratio", "created", "not_reported", "expected_keys")
    operator_extra_links = EXTRA_LINKS
    render_template = render_template
    ui_color = UI_COLOR
    summary: SyncSummary | None = None
    get_openlineage_facets_on_complete = get_openlineage_facets_on_failure = openlineage_facets

    def __init__(
        self,
        *,
        async_action_id: str | None = None,
        async_action_ids: Any = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        fail_if: Limits | Mapping[str, Any] | None = None,
        warn_if: Limits | Mapping[str, Any] | None = None,
        state: State | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        report_path: str | None = None,
        on_failed_records_callback: Callback | Sequence[Callback] | None = None,
        hide_values: bool = False,
        voucherify_conn_id: str = "voucherify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.async_action_id = async_action_id
        self.async_action_ids = async_action_ids
        self.deferrable = deferrable
        self.fail_if = fail_if
        self.warn_if = warn_if
        self.state = state
        self.report_path = report_path
        self.on_failed_records_callback = on_failed_records_callback
        self.hide_values = hide_values
        self.voucherify_conn_id = voucherify_conn_id
        self._announced = False

    def execute(self, context: Context) -> Any:
        """Wait: in the triggerer if ``deferrable``, otherwise as every sensor does."""
        self._announced = False
        with TaskRun(self, context) as run:
            try:
                run.begin()
                check(self, rendered=True)
            except VoucherifyConfigurationError as error:
                raise AirflowFailException(f"{type(error).__name__}: {error}") from error
            if not self.deferrable:
                return super().execute(context)
            with self._skipping(), run.hook() as hook:
                sync = self._submitted()
                run.announce(hook, sync.async_action_ids)
                return run.finish(self._completion(run, hook, sync, time.time() + self.timeout).wait())

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume with the trigger's event; see ``VoucherifyAsyncActionTrigger``."""
        with TaskRun(self, context) as run, self._skipping():
            run.go_on()
            resumption = Resumption.read(event)
            resumption.check_in_time()
            with run.hook() as hook:
                completion = self._completion(run, hook, resumption.sync, resumption.end_time)
                step = completion.resume(resumption)
            return run.finish(step)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once; see ``Completion.poll`` for what is left to the next poke."""
        run = TaskRun(self, context)
        sync = self._submitted()
        with run.hook() as hook:
            if not self._announced:
                run.announce(hook, sync.async_action_ids)
                self._announced = True
            step = self._completion(run, hook, sync, time.time() + self.timeout).poll()
        return PokeReturnValue(False) if step is None else PokeReturnValue(True, run.finish(step))

    @contextmanager
    def _skipping(self) -> Iterator[None]:
        """Skip the task if ``soft_fail`` or ``never_fail`` says so, as Airflow does for a sensor that pokes."""
        try:
            try:
                yield
            except VoucherifyCompletionTimeoutError as error:
                raise AirflowSensorTimeout(str(error)) from error
        except (AirflowSensorTimeout, AirflowFailException, VoucherifyError) as error:
            to_be_skipped = self.soft_fail and isinstance(error, AirflowSensorTimeout | AirflowFailException)
            if to_be_skipped or self.never_fail:
                raise AirflowSkipException(f"skipped, as soft_fail or never_fail says: {error}") from error
            raise

    def _completion(self, run: TaskRun, hook: VoucherifyHook, sync: SubmittedSync, end_time: float) -> Completion:
        return run.completion(hook, sync, partial(self._settle, run), end_time, self.poke_interval)

    def _settle(self, run: TaskRun, sync: SubmittedSync, client: VoucherifyClient, **how: Any) -> SyncSummary:
        from airflow_provider_voucherify.sync.results.collect import collect_outcomes

        how["hiding"] = hiding_of(self, client.settings)
        with failed_records(self, run.context) as failed:
            how["listeners"] = [run.metrics, *failed]
            return with_warnings(self, collect_outcomes(sync, client, folder=run.folder, **how))

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        if (self.async_action_id is None) == (self.async_action_ids is None):
            yield Wrong(
                "give exactly one of async_action_id and async_action_ids",
                ('async_action_ids=task_that_sends.output["async_action_ids"],',),
            )
        yield from wrong_waiting(self, is_known)
        yield from wrong_history(self, is_known)

    def _submitted(self) -> SubmittedSync:
        from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync

        value = self.async_action_id if self.async_action_ids is None else self.async_action_ids
        ids = list(dict.fromkeys(_flat(value)))
        return SubmittedSync(tuple(SubmittedBatch(action_id, None) for action_id in ids), submitted_at=time.time())


def _flat(value: Any) -> list[str]:
    """Return the ids in an id, a list (of lists), a summary, or the text that a Jinja template makes of a list."""
    if isinstance(value, Mapping):
        return _flat(value.get("async_action_ids"))
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                return _flat(ast.literal_eval(text))
            except (ValueError, SyntaxError):
                raise VoucherifyConfigurationError(f"async_action_ids cannot be read: {text[:200]!r}") from None
        if not text or text == "None":
            raise VoucherifyConfigurationError("the async_action_id is empty; did the upstream task submit anything?")
        return [text]
    if isinstance(value, Sequence) or hasattr(value, "__iter__"):
        return [action_id for one in value for action_id in _flat(one)]
    raise VoucherifyConfigurationError(f"async_action_ids must be ids, not {type(value).__name__}")
