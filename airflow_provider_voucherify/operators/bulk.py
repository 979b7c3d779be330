"""Bulk updates of customers, products and vouchers."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_voucherify.compat import BaseOperator, conf, get_task_state_store
from airflow_provider_voucherify.completion import (
    Callback,
    CompletesAsyncActions,
    seconds,
)
from airflow_provider_voucherify.exceptions import VoucherifyNewerRunError
from airflow_provider_voucherify.links.async_action import VoucherifyAsyncActionsLink, VoucherifyReportLink
from airflow_provider_voucherify.models.endpoints import MAX_BODY_BYTES, RESOURCES, BulkEndpoint
from airflow_provider_voucherify.models.errors import (
    VoucherifyActionFailedError,
    VoucherifyConfigurationError,
    VoucherifyNotFoundError,
    VoucherifyRecordsRejectedError,
)
from airflow_provider_voucherify.newer_runs import newer_run

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.storage import StorageReportFolder
    from airflow_provider_voucherify.sync.journal import Journal
    from airflow_provider_voucherify.sync.outcomes import SubmittedSync
    from airflow_provider_voucherify.sync.plan import Destination, Plan
    from airflow_provider_voucherify.sync.settlement import ActionOutcome
    from airflow_provider_voucherify.sync.sources import Rows
    from airflow_provider_voucherify.sync.summary import SyncSummary


REFUSED_XCOM_KEY = "voucherify_refused"


class _Records:
    """Rendered ``records``; Airflow stores rendered fields, and rows have no place in its database."""

    def __init__(self, records: Any) -> None:
        self.records = records

    def __str__(self) -> str:
        count = f"{len(self.records):,}" if hasattr(self.records, "__len__") else "an unknown number of"
        return f"<{count} records, not shown>"


class _BulkOperator(CompletesAsyncActions, BaseOperator):  # type: ignore[misc]
    """What the two bulk operators share: the source, the waiting, the thresholds."""

    template_fields: Sequence[str] = (
        "records",
        "sql",
        "sql_conn_id",
        "sql_parameters",
        "path",
        "mapping",
        "metadata_columns",
        "exclude_columns",
        "report_path",
        "voucherify_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "sql_parameters": "json", "mapping": "json"}  # noqa: RUF012
    operator_extra_links = (VoucherifyAsyncActionsLink(), VoucherifyReportLink())
    ui_color = "#f4ecff"

    def __init__(
        self,
        *,
        resource: str,
        records: Any = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        sql_parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        path: str | None = None,
        mapping: Mapping[str, str] | None = None,
        metadata_columns: Collection[str] | None = None,
        exclude_columns: Collection[str] | None = None,
        null_policy: Any = "omit",
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta | None = None,
        completion_timeout: float | timedelta = timedelta(hours=6),
        max_batch_bytes: int = MAX_BODY_BYTES,
        max_batch_records: int | None = None,
        max_failed_records: int | None = 0,
        max_failed_ratio: float | None = None,
        report_path: str | None = None,
        dry_run: bool = False,
        durable: bool = True,
        retry_failed_records: bool = False,
        on_newer_run: Literal["warn", "fail", "ignore"] = "warn",
        on_failed_records_callback: Callback | Sequence[Callback] | None = None,
        voucherify_conn_id: str = "voucherify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if resource not in RESOURCES:
            raise VoucherifyConfigurationError(
                f"unknown resource {resource!r}: it must be one of {', '.join(RESOURCES)}"
            )
        if sum(source is not None for source in (records, sql, path)) != 1:
            raise VoucherifyConfigurationError("give exactly one source: records=, sql= or path=")
        if sql is not None and sql_conn_id is None:
            raise VoucherifyConfigurationError("sql= needs sql_conn_id=")
        self.resource = resource
        self.records = records
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.sql_parameters = sql_parameters
        self.path = path
        self.mapping = mapping
        self.metadata_columns = metadata_columns
        self.exclude_columns = exclude_columns
        self.null_policy = null_policy
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.completion_timeout = completion_timeout
        self.max_batch_bytes = max_batch_bytes
        self.max_batch_records = max_batch_records
        self.max_failed_records = max_failed_records
        self.max_failed_ratio = max_failed_ratio
        self.report_path = report_path
        self.is_dry_run = dry_run
        self.durable = durable
        self.retry_failed_records = retry_failed_records
        self.on_newer_run = on_newer_run
        self._failed_outcomes: dict[str, ActionOutcome] = {}
        self.on_failed_records_callback = on_failed_records_callback
        self.voucherify_conn_id = voucherify_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, check, send, wait; see the class for what is returned and raised."""
        self._check()
        self._failed_outcomes.clear()
        started = time.time()
        with ExitStack() as stack:
            stack.enter_context(self._forgetting_unknown_actions(context))
            self._prepare(context)
            plan = stack.enter_context(self._plan())
            self._log_plan(plan)
            folder = self._report_folder(context)
            if self.is_dry_run:
                summary = self._unsettled(plan, None, None)
                self.log.info("%s", summary.text())
                return summary.as_xcom()
            if context["ti"].try_number > 1:
                self._mind_newer_runs(context)
            hook = stack.enter_context(self._hook())
            context["ti"].xcom_push(key=REFUSED_XCOM_KEY, value=[failure.sample() for failure in plan.refused_sample])
            sync = self._submit(context, plan, hook)
            self._announce(context, hook, sync)
            if not self.wait_for_completion:
                if folder is not None:
                    with folder.write("failures.jsonl") as failures:
                        failures.writelines(plan.refused_lines())
                return self._conclude(context, self._unsettled(plan, sync, folder))
            end_time = min(sync.submitted_at + seconds(self.completion_timeout), started + self._execution_seconds())
            return self._conclude(context, self._wait(context, hook, sync, end_time, plan))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on where the trigger's event leads; see ``VoucherifyAsyncActionTrigger``."""
        self._failed_outcomes.clear()
        with self._forgetting_unknown_actions(context):
            return super().execute_complete(context, event)

    def _execution_seconds(self) -> float:
        """Return ``execution_timeout``, which Airflow itself minds only while the task is on a worker."""
        return float("inf") if self.execution_timeout is None else self.execution_timeout.total_seconds()

    def _check(self) -> None:
        """Check what can be checked before any row is read."""
        self._thresholds()
        if self.on_newer_run not in ("warn", "fail", "ignore"):
            raise VoucherifyConfigurationError(f"on_newer_run must be warn, fail or ignore, not {self.on_newer_run!r}")
        if not isinstance(self.is_dry_run, bool):
            raise VoucherifyConfigurationError(f"dry_run must be True or False, not {self.is_dry_run!r}")
        if self.poll_interval is not None and not 0 < seconds(self.poll_interval) < float("inf"):
            raise VoucherifyConfigurationError(f"poll_interval must be positive, not {self.poll_interval!r}")

    def _prepare(self, context: Context) -> None:
        """Make sure that results can be kept, and that links and ids are there whatever happens."""
        self._clear_links(context)
        if (folder := self._report_folder(context)) is None:
            return
        if self.path is not None and folder.has(self.path, "failures.jsonl"):
            raise VoucherifyConfigurationError(
                f"path {self.path!r} is the file that this task would replace; give another report_path"
            )
        folder.prepare()

    def _mind_newer_runs(self, context: Context) -> None:
        if self.on_newer_run == "ignore" or (newer := newer_run(context)) is None:
            return
        said = f"run {newer} of this task is later than this one and has sent its rows already"
        if self.on_newer_run == "fail":
            raise VoucherifyNewerRunError(f"{said}; they would be overwritten")
        self.log.warning("%s; this retry may overwrite them with older ones", said)

    def on_kill(self) -> None:
        """Say what cannot be done: actions that were submitted go on, since the API has no way to cancel them."""
        self.log.warning(
            "Killed. Async actions that were submitted go on at Voucherify, whose API has no way to cancel them."
        )

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(*args, **kwargs)
        if self.records is not None:
            self.records = _Records(self.records)

    def _destination(self) -> Destination:
        raise NotImplementedError

    def _endpoint(self) -> BulkEndpoint:
        return self._destination().endpoint

    def _poll_interval(self, hook: VoucherifyHook) -> float:
        return super()._poll_interval(hook) if self.poll_interval is None else seconds(self.poll_interval)

    def _plan(self) -> Plan:
        from airflow_provider_voucherify.sync.mapping import MappingRules
        from airflow_provider_voucherify.sync.plan import BatchLimits, Plan

        plan = Plan(
            self._destination(),
            MappingRules(self.mapping, self.metadata_columns, self.exclude_columns or (), self.null_policy),
            BatchLimits(self.max_batch_bytes, self.max_batch_records),
            keep_refused=self.report_path is not None,
        )
        try:
            with self._rows() as rows, closing(rows):
                plan.read(rows)
        except BaseException:
            plan.close()
            raise
        return plan

    @contextmanager
    def _rows(self) -> Iterator[Rows]:
        from airflow_provider_voucherify.sync import sources

        if self.sql is not None and self.sql_conn_id is not None:
            from airflow_provider_voucherify.hooks.warehouse import query

            with query(self.sql_conn_id, self.sql, self.sql_parameters) as rows:
                yield rows
        elif self.path is not None:
            from airflow_provider_voucherify.storage import open_source

            with open_source(self.path) as file:
                yield sources.from_file(file, self.path)
        else:
            given = self.records.records if isinstance(self.records, _Records) else self.records
            yield sources.from_records(given, self._destination().endpoint.key)

    def _log_plan(self, plan: Plan) -> None:
        self.log.info(
            "Read %s rows: %s records in %s requests (%s bytes) to %s, %s refused, %s superseded by a later row",
            f"{plan.rows_read:,}",
            f"{sum(batch.records for batch in plan.batches):,}",
            f"{len(plan.batches):,}",
            f"{plan.bytes_to_send:,}",
            plan.destination.endpoint.path,
            f"{plan.refused:,}",
            f"{plan.superseded:,}",
        )
        for key, count in plan.refused_by_key.items():
            self.log.warning("%s rows refused: %s", f"{count:,}", key)
        if not plan.batches:
            self.log.info("There is nothing to send")

    def _journal(self, context: Context) -> Journal:
        from airflow_provider_voucherify.sync.journal import Journal

        return Journal(get_task_state_store(context) if self.durable else None, context["ti"].max_tries)

    def _refused_sample(self, context: Context) -> Sequence[Mapping[str, Any]]:
        ti = context["ti"]
        return ti.xcom_pull(task_ids=ti.task_id, key=REFUSED_XCOM_KEY, map_indexes=ti.map_index) or ()

    def _note(self, async_action_id: str, outcome: ActionOutcome) -> None:
        if outcome.failed:
            self._failed_outcomes[async_action_id] = replace(outcome, failures={}, written=frozenset())

    def _prepare_retry(self, context: Context, message: str) -> None:
        """
        Let the next try send again what failed as a whole, or, with ``retry_failed_records``, what was rejected.

        Where Voucherify does not say which records it rejected, the whole batch is sent again.
        """
        journal = self._journal(context)
        as_a_whole = [i for i, outcome in self._failed_outcomes.items() if outcome.failed_as_a_whole]
        for action_id in as_a_whole:
            journal.withdraw_action(action_id)
        if self.retry_failed_records:
            for action_id, outcome in self._failed_outcomes.items():
                if outcome.unnamed_failures and not outcome.failed_as_a_whole:
                    journal.withdraw_action(action_id)
                elif not outcome.failed_as_a_whole:
                    journal.rejected(action_id, outcome.failed)
        if as_a_whole:
            raise VoucherifyActionFailedError(message)
        if self.retry_failed_records and self._failed_outcomes:
            raise VoucherifyRecordsRejectedError(message)

    @contextmanager
    def _forgetting_unknown_actions(self, context: Context) -> Iterator[None]:
        """Let the next try send again the batch of an action that Voucherify does not know."""
        try:
            yield
        except VoucherifyNotFoundError as error:
            self._journal(context).withdraw_action(error.call.rpartition("/")[2])
            raise

    def _submit(self, context: Context, plan: Plan, hook: VoucherifyHook) -> SubmittedSync:
        from airflow_provider_voucherify.sync.submission import Submission

        if self.durable and get_task_state_store(context) is None:
            self.log.warning(
                "This Airflow has no task state store (it came with 3.3): a retry of this task sends everything again"
            )
        return Submission(plan, hook.get_conn(), self._journal(context)).run()

    def _unsettled(self, plan: Plan, sync: SubmittedSync | None, folder: StorageReportFolder | None) -> SyncSummary:
        """Return the summary of a sync whose outcome is not waited for, or (None) of one that is not sent at all."""
        from airflow_provider_voucherify.sync.summary import SyncSummary, first_samples

        return SyncSummary(
            resource=self.resource,
            rows_read=plan.rows_read,
            submitted=None if sync is None else sync.submitted,
            refused=plan.refused,
            superseded=plan.superseded,
            async_action_ids=[] if sync is None else sync.async_action_ids,
            requests=len(plan.batches) if sync is None else sync.requests,
            bytes_sent=plan.bytes_to_send if sync is None else sync.bytes_sent,
            resubmitted=0 if sync is None else sync.resubmitted,
            report_uri=folder.uri if folder is not None else None,
            dry_run=sync is None,
            failures=first_samples(failure.sample() for failure in plan.refused_sample),
        )


class VoucherifyBulkUpdateOperator(_BulkOperator):
    """
    Updates customers, products or vouchers with the fields that the rows have.

    Sends to ``POST /v1/{resource}/bulk/async``. Fields that a row does not have are not sent; by analogy with the
    single update Voucherify leaves them as they are (vendor's ``PUT /v1/customers``).
    Whether the members of ``metadata`` are merged with
    the stored ones or replace them all is not documented for bulk updates: send all that should remain.
    Customers and products that do not exist are created; vouchers are not, and only their metadata can be updated.

    The rows come from exactly one of ``records=``, ``sql=`` and ``path=``. All are read and checked before the first
    request, onto local disk and not into memory; the warehouse's connection is closed by then. Rows that cannot be
    valid are refused one by one, with a reason, and the rest goes on; of rows with the same id the last one is sent.

    Returns a summary, see ``sync.summary.SyncSummary`` for its fields and for what None means. Raises
    ``VoucherifyRecordsFailedError``, which Airflow does not retry, where more rows failed than allowed, and the other
    errors of ``airflow_provider_voucherify.exceptions``.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param records: a list of dicts, or an upstream task's output. For large data use ``sql`` or ``path``: Airflow keeps
        what tasks return in its database.
    :param sql: a query, or the path of a ``.sql`` file.
    :param sql_conn_id: the query's connection; any whose hook is a ``DbApiHook``.
    :param sql_parameters: bound to the query by the driver.
    :param path: a ``.jsonl``, ``.csv`` or (with the extra ``parquet``) ``.parquet`` file, local or in object storage.
        A ``failures.jsonl`` of an earlier run is read as what it is: the failed records are sent again.
    :param mapping: column to field (``name``, ``address.city``, ``metadata.segment``); only these columns are sent.
        Without it columns named as API fields map to them, ``address_city`` into the address, and every other column
        into metadata.
    :param metadata_columns: without a mapping, the only columns that go into metadata.
    :param exclude_columns: columns that are never sent.
    :param null_policy: ``omit`` (default) never sends a missing value, so that it cannot blank a field; ``send`` sends
        ``null`` for missing metadata and for a missing address, the only places where the API description allows it.
        A dict sets it per column.
    :param wait_for_completion: wait until Voucherify has worked the updates off, and count what became of the rows.
        False returns when they are queued: nothing has been updated then.
    :param deferrable: wait in the triggerer, after ten seconds on the worker. Default: Airflow's
        ``[operators] default_deferrable``.
    :param poll_interval: longest pause in seconds between two looks at an unfinished action; the first looks come
        sooner. Default: the connection's, or 60.
    :param completion_timeout: seconds (or a timedelta) to wait, from the last request on; ``execution_timeout`` ends
        the waiting too, in the triggerer as on the worker. The actions go on at Voucherify afterwards: there is no way
        to cancel them.
    :param max_batch_bytes: largest request body, in bytes; the API takes 10,485,760.
    :param max_batch_records: most records in a request; by default as many as fit, which takes the fewest requests.
    :param max_failed_records: fail if more rows failed or were refused; None for any number.
    :param max_failed_ratio: fail if a larger part of the rows (0 to 1) failed or was refused; the default of
        ``max_failed_records`` does not count then.
    :param report_path: folder (local or object storage) for Voucherify's reports and ``failures.jsonl``, which the next
        run overwrites if it has the same folder (``{{ ds }}`` or ``{{ run_id }}`` in it keeps them apart). While the
        task is deferred it also keeps what was sent. Mapped tasks get a folder each in it.
    :param dry_run: read and check, log and return the plan, send nothing.
    :param durable: on Airflow 3.3 and later a retry waits for what an earlier try has sent instead of sending it
        again; see ``sync.journal``. Batches are known by their content, so a query should give its rows in a stable
        order (``ORDER BY``). A clear sends everything again.
    :param retry_failed_records: where more records failed than allowed, let Airflow retry the task, and let the retry
        send the failed records again and nothing else. Needs ``durable`` and ``retries``. Default: the task fails for
        good, since the same records would be rejected again.
    :param on_newer_run: what a second or later try (or a clear) does where a later run of this task has sent its rows
        already: ``warn`` and overwrite them, ``fail`` for good, or ``ignore`` it.
    :param on_failed_records_callback: notifier or callable (or several) that is told of failed and refused rows, even
        where the task succeeds; its context has ``voucherify_summary`` and ``voucherify_text``.
    :param voucherify_conn_id: connection of type ``voucherify``.
    """

    def _destination(self) -> Destination:
        from airflow_provider_voucherify.sync.plan import update_destination

        return update_destination(self.resource)


class VoucherifyBulkMetadataOperator(_BulkOperator):
    """
    Updates the metadata of customers, products or vouchers, and nothing else.

    With ``metadata=`` all ids get the same metadata, through ``POST /v1/{resource}/metadata/async``: two requests for a
    million ids. The rows then only give ids (``records=["c1", "c2"]`` will do) and their other columns are not read.
    Without it every column but the key is metadata of its row, sent through ``POST /v1/{resource}/bulk/async``, since
    ``metadata/async`` would take a request per distinct metadata.

    Customers and products that do not exist are created; vouchers are not. Whether the members of ``metadata`` are
    merged with the stored ones or replace them all is not documented: send all that should remain.
    Results of ``metadata/async`` may have no counts; records that no answer mentions are ``not_reported``.

    All other parameters, the return value and the errors are those of ``VoucherifyBulkUpdateOperator``.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param metadata: one metadata object for all ids, or None for metadata per row.
    """

    template_fields: Sequence[str] = (*_BulkOperator.template_fields, "metadata")
    template_fields_renderers = {**_BulkOperator.template_fields_renderers, "metadata": "json"}  # noqa: RUF012

    def __init__(self, *, resource: str, metadata: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(resource=resource, **kwargs)
        self.metadata = metadata

    def _destination(self) -> Destination:
        from airflow_provider_voucherify.sync.plan import metadata_destination

        return metadata_destination(self.resource, self.metadata)
