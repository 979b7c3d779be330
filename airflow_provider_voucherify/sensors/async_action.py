"""``VoucherifyAsyncActionSensor``: waits for async actions that somebody else has submitted."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_voucherify.compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)
from airflow_provider_voucherify.links.async_action import VoucherifyAsyncActionsLink, VoucherifyReportLink
from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError, VoucherifyError, is_transient
from airflow_provider_voucherify.policies import Limits
from airflow_provider_voucherify.task.completion import Callback, CompletesAsyncActions
from airflow_provider_voucherify.task.parameters import CheckedWhenParsed, Wrong

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.results.finished import HeldBackError
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync


class VoucherifyAsyncActionSensor(  # type: ignore[misc]
    CompletesAsyncActions, BaseSensorOperator, metaclass=CheckedWhenParsed
):
    """
    Waits until async actions have finished, and returns the same summary as the bulk operators.

    ``poke_interval``, ``timeout``, ``mode``, ``soft_fail`` and ``never_fail`` are those of every sensor; while
    deferred, ``poke_interval`` is the longest pause between two looks. The sensor did not send the records, so
    ``rows_read`` is None, counts are those that Voucherify reports, and ``failures.jsonl`` names failed records by
    their id alone.

    A timeout does not cancel anything: the API has no way to.

    :param async_action_id: one id, as the hook's bulk calls return it.
    :param async_action_ids: several ids, e.g. ``operator.output["async_action_ids"]``; lists of lists, as mapped tasks
        give them, are joined. Exactly one of the two is given.
    :param deferrable: wait in the triggerer, after a few seconds on the worker. Default: Airflow's
        ``[operators] default_deferrable``.
    :param fail_if: ``failed``, ``failed_ratio``, ``created`` and ``not_reported`` of ``policies.Limits``, beyond which
        the sensor fails. Default: no record may fail.
    :param warn_if: the same, but the task goes on; the log, the summary (``warning``) and
        ``on_failed_records_callback`` say so.
    :param report_path: folder (local or object storage) for the reports and ``failures.jsonl``; not the one of the task
        that submitted, whose ``failures.jsonl`` has the refused rows.
    :param on_failed_records_callback: notifier or callable (or several) that is told of failed records even where the
        task succeeds; its context has ``voucherify_summary`` and ``voucherify_text``.
    :param voucherify_conn_id: connection of type ``voucherify``.
    """

    template_fields: Sequence[str] = (
        "async_action_id",
        "async_action_ids",
        "report_path",
        "fail_if",
        "warn_if",
        "voucherify_conn_id",
    )
    template_fields_renderers = dict.fromkeys(("fail_if", "warn_if"), "json")
    checked_limits = ("failed", "failed_ratio", "created", "not_reported")
    operator_extra_links = (VoucherifyAsyncActionsLink(), VoucherifyReportLink())
    ui_color = "#f4ecff"

    def __init__(
        self,
        *,
        async_action_id: str | None = None,
        async_action_ids: Any = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        fail_if: Limits | Mapping[str, Any] | None = None,
        warn_if: Limits | Mapping[str, Any] | None = None,
        report_path: str | None = None,
        on_failed_records_callback: Callback | Sequence[Callback] | None = None,
        voucherify_conn_id: str = "voucherify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.async_action_id = async_action_id
        self.async_action_ids = async_action_ids
        self.deferrable = deferrable
        self.fail_if = fail_if
        self.warn_if = warn_if
        self.report_path = report_path
        self.on_failed_records_callback = on_failed_records_callback
        self.voucherify_conn_id = voucherify_conn_id
        self._announced = False

    def execute(self, context: Context) -> Any:
        """Wait; in the triggerer if ``deferrable``, else as every sensor does."""
        self._clear_links(context)
        self._announced = False
        try:
            self._check(rendered=True)
        except VoucherifyConfigurationError as error:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error
        if not self.deferrable:
            return super().execute(context)
        with self._skipping(), self._hook() as hook:
            sync = self._submitted()
            self._announce(context, hook, sync)
            return self._conclude(context, self._wait(context, hook, sync, time.time() + self.timeout))

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        if (self.async_action_id is None) == (self.async_action_ids is None):
            yield Wrong(
                "give exactly one of async_action_id and async_action_ids",
                ('async_action_ids=task_that_sends.output["async_action_ids"],',),
            )
        yield from super()._wrong(is_known)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on where the trigger's event leads; see ``VoucherifyAsyncActionTrigger``."""
        with self._skipping():
            return super().execute_complete(context, event)

    @contextmanager
    def _skipping(self) -> Iterator[None]:
        """Skip the task where ``soft_fail`` or ``never_fail`` says so, as Airflow does for a sensor that pokes."""
        try:
            yield
        except (AirflowSensorTimeout, AirflowFailException, VoucherifyError) as error:
            to_be_skipped = self.soft_fail and isinstance(error, AirflowSensorTimeout | AirflowFailException)
            if to_be_skipped or self.never_fail:
                raise AirflowSkipException(f"skipped, as soft_fail or never_fail says: {error}") from error
            raise

    def poke(self, context: Context) -> PokeReturnValue:
        """
        Look once; where rate limits do not allow it within ``poke_interval``, the next poke is left to look.

        The same with the results of several actions, until one of them was fetched: for the rest it waits here.
        """
        from airflow_provider_voucherify.client.calls import get_async_action
        from airflow_provider_voucherify.sync.results.finished import HeldBackError, UnfinishedActionsError
        from airflow_provider_voucherify.sync.waiting.action_list import unfinished_in_list

        sync = self._submitted()
        with self._hook() as hook:
            client = hook.get_conn()
            if not self._announced:
                self._announce(context, hook, sync)
                self._announced = True
            if sync.batches:
                try:
                    look = get_async_action(sync.async_action_ids[-1])
                    last = client.send(look, max_rate_limit_wait=self._poll_interval(hook))
                except VoucherifyError as error:
                    if not is_transient(error):
                        raise
                    self.log.warning("This look failed, the next may not: %s", error)
                    return PokeReturnValue(False)
                self.log.info("Async action %s is %s (%s %%)", last.id, last.status, last.progress or 0)
                if not last.is_finished:
                    return PokeReturnValue(False)
                if unfinished := unfinished_in_list(client, sync.async_action_ids[:-1], last):
                    self.log.warning("%d async actions submitted before it are unfinished", len(unfinished))
                    return PokeReturnValue(False)
            try:
                seen = {last.id: last} if sync.batches else {}
                folder, end_time = self._report_folder(context), time.time() + self.timeout
                summary = self._settle_in_time(
                    context, hook, sync, end_time, folder, None, seen, _leave_it_to_the_next, held_before=True
                )
            except UnfinishedActionsError as unfinished:
                self.log.warning("%s", unfinished)
                return PokeReturnValue(False)
            except HeldBackError as held:
                self.log.warning("This look failed, the next may not: %s", held)
                return PokeReturnValue(False)
        return PokeReturnValue(True, self._conclude(context, summary))

    def _poll_interval(self, hook: VoucherifyHook) -> float:
        return float(self.poke_interval)

    def _raise_timeout(self, message: str) -> NoReturn:
        raise AirflowSensorTimeout(f"{message}; it goes on at Voucherify, whose API has no way to cancel it")

    def _submitted(self) -> SubmittedSync:
        from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync

        given = self.async_action_id if self.async_action_ids is None else self.async_action_ids
        ids = list(dict.fromkeys(_flat(given)))
        return SubmittedSync(tuple(SubmittedBatch(action_id, None) for action_id in ids), submitted_at=time.time())


def _leave_it_to_the_next(waiting_for: Sequence[str], held: HeldBackError) -> NoReturn:
    raise held


def _flat(given: Any) -> list[str]:
    """Return ids from an id, a list (of lists), a summary, or the text that a Jinja template makes of a list."""
    if isinstance(given, Mapping):
        return _flat(given.get("async_action_ids"))
    if isinstance(given, str):
        text = given.strip()
        if text.startswith("["):
            try:
                return _flat(ast.literal_eval(text))
            except (ValueError, SyntaxError):
                raise VoucherifyConfigurationError(f"async_action_ids cannot be read: {text[:200]!r}") from None
        if not text or text == "None":
            raise VoucherifyConfigurationError("the async_action_id is empty; did the task before submit anything?")
        return [text]
    if isinstance(given, Sequence) or hasattr(given, "__iter__"):
        return [action_id for one in given for action_id in _flat(one)]
    raise VoucherifyConfigurationError(f"async_action_ids must be ids, not {type(given).__name__}")
