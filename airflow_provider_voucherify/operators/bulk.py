"""Bulk updates of customers, products and vouchers."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_voucherify.compat import BaseOperator, conf
from airflow_provider_voucherify.links.async_action import EXTRA_LINKS, UI_COLOR
from airflow_provider_voucherify.policies import Limits, ReadBack, Requests, State
from airflow_provider_voucherify.task.bulk_parameters import wrong_bulk
from airflow_provider_voucherify.task.bulk_run import REFUSED_XCOM_KEY, dry_run, prepare, prepare_retry, settle, submit
from airflow_provider_voucherify.task.conclusion import Callback, fail_limits, warn_limits, with_unasked, with_warnings
from airflow_provider_voucherify.task.hidden_values import errors_without_values
from airflow_provider_voucherify.task.lineage import openlineage_facets
from airflow_provider_voucherify.task.newer_runs import check_newer_runs
from airflow_provider_voucherify.task.operator_run import OperatorRun
from airflow_provider_voucherify.task.parameters import CheckedWhenParsed, Wrong, check, wrong_choice
from airflow_provider_voucherify.task.planning import make_plan
from airflow_provider_voucherify.task.rendering import fields_to_render, hide_rendered, render_template, shown_again
from airflow_provider_voucherify.task.tracked_state import check_mapped, keep_rows, state_folder
from airflow_provider_voucherify.task.unsettled import log_plan, unsettled_summary, what_is_refused, write_unsent

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.sync.batches.destination import Destination
    from airflow_provider_voucherify.sync.batches.grouping import MetadataPlan
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.rows.metadata_rules import MetadataRules
    from airflow_provider_voucherify.sync.state.ledger import Ledger


class _BulkOperator(BaseOperator, metaclass=CheckedWhenParsed):
    """What the two bulk operators share: the source, the waiting, the thresholds."""

    template_fields: Sequence[str] = (
        "records",
        "columns",
        "sql",
        "sql_conn_id",
        "sql_parameters",
        "path",
        "mapping",
        "metadata_columns",
        "exclude_columns",
        "state",
        "full_refresh",
        "read_back",
        "report_path",
        "requests",
        "fail_if",
        "warn_if",
        "voucherify_conn_id",
    )
    operator_extra_links = EXTRA_LINKS
    ui_color = UI_COLOR
    summary: SyncSummary | None = None
    get_openlineage_facets_on_complete = get_openlineage_facets_on_failure = openlineage_facets
    render_template = render_template
    template_ext: Sequence[str] = (".sql",)
    source_files: Sequence[str] = ()
    template_fields_renderers = {  # noqa: RUF012
        "sql": "sql",
        **dict.fromkeys(("sql_parameters", "mapping", "state", "read_back", "requests", "fail_if", "warn_if"), "json"),
    }
    checked_limits = tuple(name for name in Limits.__dataclass_fields__ if name != "rows_below")

    def __init__(
        self,
        *,
        resource: str,
        records: Any = None,
        columns: Sequence[str] | None = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        sql_parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        csv_dialect: Mapping[str, Any] | str | None = None,
        mapping: Mapping[str, str] | None = None,
        metadata_columns: Collection[str] | None = None,
        exclude_columns: Collection[str] | None = None,
        null_policy: Any = "omit",
        validate_metadata: Literal["schema"] | None = None,
        state: State | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        full_refresh: bool = False,
        read_back: ReadBack | Mapping[str, Any] | None = None,
        report_path: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta | None = None,
        completion_timeout: float | timedelta = timedelta(hours=6),
        requests: Requests | Mapping[str, Any] | None = None,
        fail_if: Limits | Mapping[str, Any] | None = None,
        warn_if: Limits | Mapping[str, Any] | None = None,
        on_retry: Literal["resume", "resend_failed", "restart"] = "resume",
        sample: int | None = None,
        dry_run: bool = False,
        on_failed_records_callback: Callback | Sequence[Callback] | None = None,
        hide_values: bool = False,
        voucherify_conn_id: str = "voucherify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource = resource
        self.records = records
        self.columns = columns
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.sql_parameters = sql_parameters
        self.path = path
        self.csv_dialect = csv_dialect
        self.mapping = mapping
        self.metadata_columns = metadata_columns
        self.exclude_columns = exclude_columns
        self.null_policy = null_policy
        self.validate_metadata = validate_metadata
        self.state = state
        self.has_state = state is not None
        self.full_refresh = full_refresh
        self.read_back = read_back
        self.report_path = report_path
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.completion_timeout = completion_timeout
        self.requests = requests
        self.fail_if = fail_if
        self.warn_if = warn_if
        self.on_retry = on_retry
        self.sample = sample
        self.is_dry_run = dry_run
        self.on_failed_records_callback = on_failed_records_callback
        self.hide_values = hide_values
        self.voucherify_conn_id = voucherify_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, check, send and wait; see the class for what is returned and raised."""
        with ExitStack() as stack:
            run = stack.enter_context(self._run(context))
            run.begin(stages=self.deferrable)
            stack.enter_context(errors_without_values(self))
            check(self, rendered=True)
            check_mapped(self, context)
            prepare(self, run)
            hook = stack.enter_context(run.hook())
            if not self.is_dry_run:
                hook.get_conn()  # a missing connection should fail before any row is read
            plan = stack.enter_context(make_plan(self, context, hook, run))
            log_plan(plan, self.log)
            run.metrics.source_read(plan.rows_read, plan.refused_by_key)
            if self.is_dry_run:
                return dry_run(self, run, plan)
            if plan.batches:
                check_newer_runs(context, fail_limits(self).newer_runs, warn_limits(self).newer_runs, self.log)
            context["ti"].xcom_push(key=REFUSED_XCOM_KEY, value=what_is_refused(plan))
            if plan.batches:
                run.announce_links(hook)
            sync = submit(self, run, plan, hook)
            run.announce(hook, sync.async_action_ids)
            if not self.wait_for_completion:
                if run.folder is not None:
                    write_unsent(plan, run.folder)
                return run.conclude(with_warnings(self, unsettled_summary(sync, self.resource, plan, run.folder)))
            return run.complete(hook, sync, plan)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume with the trigger's event; see ``VoucherifyAsyncActionTrigger``."""
        with self._run(context) as run, errors_without_values(self):
            return run.resume(event)

    def on_kill(self) -> None:
        """Stop sending and waiting; see ``OperatorRun``."""
        self._killed = True

    def _run(self, context: Context) -> OperatorRun:
        self._killed = False
        staging = partial(state_folder, self)
        return OperatorRun(
            self, context, partial(settle, self), partial(prepare_retry, self), lambda: self._killed, staging=staging
        )

    def resolve_template_files(self) -> None:
        """Read the file that ``sql`` names; in other fields ``metadata.sql`` is a field, an id or other text."""
        self.template_fields = ("sql",)
        try:
            super().resolve_template_files()
        finally:
            del self.template_fields

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, *args: Any, **kwargs: Any
    ) -> None:
        template_fields = fields_to_render(self, parent, template_fields, context)
        of_files = {"sql"}.intersection(template_fields) if parent is self else ()
        super()._do_render_template_fields(parent, of_files, context, *args, **kwargs)
        endings, self.template_ext = self.template_ext, ()
        try:
            others = [name for name in template_fields if name not in of_files]
            super()._do_render_template_fields(parent, others, context, *args, **kwargs)
        finally:
            self.template_ext = endings
        if parent is self:
            hide_rendered(self)

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        yield from wrong_bulk(self, is_known)

    def _destination(self, schema: MetadataRules | None = None) -> Destination:
        raise NotImplementedError

    def _metadata_plan(self) -> MetadataPlan:
        return "bulk"

    def _keep_rows(self, context: Context, ledger: Ledger | None, summary: SyncSummary) -> SyncSummary:
        return keep_rows(self, context, ledger, summary)

    @contextmanager
    def _records(self) -> Iterator[Any]:
        yield shown_again(self.records)

    def _takes_ids(self) -> bool:
        """Say whether only the ids of the rows are needed."""
        return False


class VoucherifyBulkUpdateOperator(_BulkOperator):
    """
    Updates customers, products or vouchers with the fields that the rows have.

    Sends to ``POST /v1/{resource}/bulk/async``. Fields that a row does not have are not sent; by analogy with the
    single update Voucherify leaves them as they are (vendor's ``PUT /v1/customers``). Whether the members of
    ``metadata`` are merged with the stored ones or replace them all is not documented for bulk updates: send all that
    should remain. Customers and products that do not exist are created; vouchers are not, and only their metadata can
    be updated.

    The rows come from exactly one of ``records=``, ``sql=`` and ``path=``. All are read and checked before the first
    request, onto local disk and not into memory; by then the warehouse's connection is closed. Rows that cannot be
    valid are refused one by one, with a reason, and the rest is sent; of rows with the same id the last one is sent.

    Returns a summary; see ``sync.results.summary.SyncSummary`` for its fields and for what None means. Raises
    ``VoucherifyRecordsFailedError``, which Airflow does not retry, if more rows failed than allowed, and the other
    errors of ``airflow_provider_voucherify.exceptions``.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param records: rows, or an upstream task's output: dicts, named tuples, with ``columns`` lists or tuples of values,
        or a table that knows its columns (pandas, Polars, PyArrow, DuckDB; all but pandas need the extra ``parquet``).
        The outputs of a mapped task's instances are joined, and fetched one at a time; so are lists of dicts. For large
        data use ``sql`` or ``path``: Airflow keeps what tasks return in its database.
    :param columns: column names for rows without any, such as those of ``hook.get_records()`` and
        ``SQLExecuteQueryOperator``. A row of another length is refused.
    :param sql: a query, or the path of a ``.sql`` file.
    :param sql_conn_id: connection for the query; any whose hook is a ``DbApiHook``.
    :param sql_parameters: bound to the query by the driver.
    :param path: a ``.jsonl``, ``.csv`` or (with the extra ``parquet``) ``.parquet`` file, local or in object storage;
        the first two may be gzipped (``.csv.gz``). Or several of one kind, which are read one after the other: a list,
        a folder of part files (in the order of their names, except those that begin with ``_`` or a dot), or a pattern
        with ``*``. A ``failures.jsonl`` of an earlier run is recognised: its failed records are sent again.
    :param csv_dialect: how the CSV files of ``path`` are written, if not with commas and doubled quotes: ``delimiter``,
        ``quotechar``, ``escapechar``, ``doublequote``, ``skipinitialspace`` and ``quoting`` as ``csv.reader`` has them,
        or the name of a registered dialect. ``{"escapechar": "\\\\"}`` reads what Spark writes.
    :param mapping: column to field (``name``, ``address.city``, ``metadata.segment``); only these columns are sent.
        Without it a column named like an API field becomes that field, ``address_city`` goes into the address, and
        every other column into metadata.
    :param metadata_columns: without a mapping, the only columns that go into metadata.
    :param exclude_columns: columns that are never sent.
    :param null_policy: ``omit`` (default) never sends a missing value, so that it cannot blank a field; ``send`` sends
        ``null`` for members of metadata, a whole address and its members, the only places where the API accepts it.
        Both apply to the members of objects too. A dict sets it per column.
    :param validate_metadata: ``schema`` reads the project's metadata schema first (one or two API calls, with OAuth the
        scope ``metadata-schemas``) and refuses rows that it certainly forbids, with messages like Voucherify's. What
        the vendor does not document is left to Voucherify; see ``sync.rows.metadata_rules``.
    :param state: where the sync keeps its state: the connection id of a database, a folder or URI with a slash in it,
        or a ``policies.State`` (or its members as a dict), which also says what to do about records that left the
        source. With a state only those rows are sent that are new or different since Voucherify last confirmed them,
        or that did not succeed; the outcome of each row is kept, and so is what was sent while the task is deferred.
        If it is lost, damaged or of another mapping, every row is sent, with a warning. None remembers nothing.
    :param full_refresh: send every row all the same; may be a template.
    :param read_back: what is read back from Voucherify, a ``policies.ReadBack`` or its members as a dict:
        ``{"compare": True}`` sends only what differs, ``{"sync_mode": "update"}`` creates nothing, and
        ``{"verify": "all"}`` looks afterwards whether all has arrived. Default: nothing.
    :param report_path: folder (local or object storage) for people to read: a page about the run, ``report.html``,
        Voucherify's reports, ``failures.jsonl`` and ``set_aside.jsonl``. The next run replaces all of them if it has
        the same folder (``{{ ds }}`` or ``{{ run_id }}`` in the path keeps runs apart). Without ``state`` it also keeps
        what was sent while the task is deferred, so all workers share it. A mapped task has subfolders.
    :param wait_for_completion: wait until Voucherify has processed the updates, and count the outcomes of the rows.
        False returns when they are queued: nothing has been updated then, and the limits of ``fail_if`` apply only to
        refused rows. If too many are refused the task fails after it has sent the rest, and a sensor after it does not
        run, so use ``fail_if={"failed": None}`` or a ratio.
    :param deferrable: wait in the triggerer, after ten seconds on the worker. Default: Airflow's
        ``[operators] default_deferrable``. Meanwhile what was sent is kept in ``state`` or ``report_path``, in a folder
        ``staged-…`` (in a database, in the table ``…_staged``). It is removed as soon as the task resumes, whether it
        succeeds or not. If the task never resumes, because it was marked or its trigger failed, the next try of the
        task instance removes it, or the first sync in the same place a week later.
    :param poll_interval: longest pause in seconds between two polls of an unfinished action; the first polls come
        sooner. Default: the connection's, or 60.
    :param completion_timeout: seconds (or a timedelta) to wait, from the last request on; ``execution_timeout`` ends
        the waiting too, in the triggerer (on the worker Airflow ends the task). The actions continue at Voucherify:
        there is no way to cancel them.
    :param requests: how records are packed into requests, a ``policies.Requests`` or its members as a dict.
    :param fail_if: limits beyond which the task fails, after all outcomes are recorded: a ``policies.Limits`` or its
        members as a dict. Default: no row may fail or be refused.
    :param warn_if: the same, but the task continues; the log, the summary (``warning``) and
        ``on_failed_records_callback`` say so.
    :param on_retry: what a retry does on Airflow 3.3 and later. ``resume`` waits for what an earlier try has sent
        instead of sending it again (see ``sync.sending.journal``; batches are identified by their content, so a query
        should return its rows in a stable order, with ``ORDER BY``). ``resend_failed`` does the same, and if more
        records failed than ``fail_if`` allows, Airflow retries the task, and the retry sends only the failed records
        again; otherwise such a task fails for good, since the same records would be rejected again. ``restart`` sends
        everything again. A clear always does.
    :param sample: read only the first N rows. With ``dry_run`` the exact JSON is logged.
    :param dry_run: read and check the rows, log and return the plan and what it would cost (requests, bytes, share of
        the rate limit, minutes; see ``sync.batches.estimate``), and send nothing. Also works without a connection
        (except with ``validate_metadata``), but then without the state of earlier syncs.
    :param on_failed_records_callback: notifier or callable (or several) that is called if rows failed or were refused,
        even if the task succeeds; its context has ``voucherify_summary`` and ``voucherify_text``.
    :param hide_values: leave values of rows out of logs, XComs, alerts, outcomes and ``failures.jsonl`` (whose records
        cannot be sent again then), and hash ids there, as ``VoucherifyHook.hidden_id`` does.
    :param voucherify_conn_id: connection of type ``voucherify``.
    """

    def _destination(self, schema: MetadataRules | None = None) -> Destination:
        from airflow_provider_voucherify.sync.batches.destination import update_destination

        return update_destination(self.resource)


class VoucherifyBulkMetadataOperator(_BulkOperator):
    """
    Updates the metadata of customers, products or vouchers, and nothing else.

    With ``metadata=`` all ids get the same metadata, through ``POST /v1/{resource}/metadata/async``: two requests for a
    million ids. Only the ids of the rows are read then; bare ids will do, as in ``records=["c1", "c2"]``, unless
    ``mapping`` names the column of the id. Without it every column except the key is metadata of its row:
    ``plan="auto"`` then sends records with equal metadata by ``metadata/async`` if that takes fewer requests in total
    (or fewer bytes in as many), and the others by ``POST /v1/{resource}/bulk/async``, since ``metadata/async`` takes
    one request for each distinct metadata object.

    Whether the members of ``metadata`` are merged with the stored ones or replace them all is not documented: send all
    that should remain. The API description promises neither counts nor ids in the results of ``metadata/async``, though
    its examples have them; records that no answer mentions are ``not_reported``. With ``plan="bulk"`` every record is
    named in the results, at the price of more bytes and, in a large sync with few distinct metadata objects, more
    requests.

    Customers and products that do not exist are created without a name (vouchers are not): the summary warns of them
    unless ``created`` of ``fail_if`` or ``warn_if`` says how many are expected.

    All other parameters, the return value and the errors are those of ``VoucherifyBulkUpdateOperator``.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param metadata: one metadata object for all ids, or None for metadata per row.
    :param plan: with metadata per row, ``auto`` as above, ``bulk`` for ``bulk/async`` alone, or ``metadata`` for
        ``metadata/async`` alone, which fails if there are more than a thousand distinct metadata objects.
    """

    template_fields: Sequence[str] = (*_BulkOperator.template_fields, "metadata")
    template_fields_renderers = {**_BulkOperator.template_fields_renderers, "metadata": "json"}  # noqa: RUF012

    def __init__(
        self,
        *,
        resource: str,
        metadata: Mapping[str, Any] | None = None,
        plan: MetadataPlan = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(resource=resource, **kwargs)
        self.metadata = metadata
        self.plan = plan

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        yield from super()._wrong(is_known)
        yield from wrong_choice(self, "plan", "auto", "bulk", "metadata")
        if self.plan == "bulk" and self.metadata is not None:
            yield Wrong("metadata= goes to metadata/async; plan='bulk' needs metadata per row")

    def _destination(self, schema: MetadataRules | None = None) -> Destination:
        from airflow_provider_voucherify.sync.batches.destination import metadata_destination

        return metadata_destination(self.resource, self.metadata, schema, self.null_policy)

    def _metadata_plan(self) -> MetadataPlan:
        return "bulk" if self.metadata is not None else self.plan

    def _keep_rows(self, context: Context, ledger: Ledger | None, summary: SyncSummary) -> SyncSummary:
        return super()._keep_rows(context, ledger, with_unasked(self, summary))

    def _takes_ids(self) -> bool:
        return self.metadata is not None and self.mapping is None
