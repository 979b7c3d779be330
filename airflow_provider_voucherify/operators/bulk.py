"""Bulk updates of customers, products and vouchers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_voucherify.compat import (
    AirflowNotFoundException,
    BaseOperator,
    conf,
    is_from_mapped_task,
    set_asset_state,
)
from airflow_provider_voucherify.links.async_action import EXTRA_LINKS, UI_COLOR
from airflow_provider_voucherify.models.endpoints import RESOURCES
from airflow_provider_voucherify.models.errors import (
    VoucherifyActionFailedError,
    VoucherifyConfigurationError,
    VoucherifyError,
    VoucherifyNotFoundError,
    VoucherifyRecordsRejectedError,
)
from airflow_provider_voucherify.models.numbers import check_number
from airflow_provider_voucherify.policies import Limits, Requests, State
from airflow_provider_voucherify.task.conclusion import (
    Callback,
    fail_limits,
    keep_summary,
    limits_of,
    warn_limits,
    with_warnings,
)
from airflow_provider_voucherify.task.lineage import openlineage_facets
from airflow_provider_voucherify.task.newer_runs import check_newer_runs
from airflow_provider_voucherify.task.operator_run import OperatorRun, project_of
from airflow_provider_voucherify.task.parameters import (
    CheckedWhenParsed,
    Wrong,
    check,
    needed_to_send,
    told_by,
    wrong_booleans,
    wrong_choice,
    wrong_submitting,
)
from airflow_provider_voucherify.task.rendering import HiddenRecords, fields_to_render, render_template
from airflow_provider_voucherify.task.unsettled import log_plan, planned_summary, unsettled_summary, write_unsent

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.batches.changes import Changes
    from airflow_provider_voucherify.sync.batches.destination import Destination
    from airflow_provider_voucherify.sync.batches.grouping import MetadataPlan
    from airflow_provider_voucherify.sync.batches.plan import Plan
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.rows.chunks import Rows
    from airflow_provider_voucherify.sync.rows.mapping import MappingRules
    from airflow_provider_voucherify.sync.rows.metadata_rules import MetadataRules
    from airflow_provider_voucherify.sync.state.ledger import Ledger
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
    from airflow_provider_voucherify.task.row_tracking import RowTracking
    from airflow_provider_voucherify.task.staging import Folder, PlannedRecords, StagedRecords


ASSET_STATE_KEY = "voucherify_last_sync"
"""Key in the state store of the task's outlet assets: when and by which run the state of records was last kept."""

REFUSED_XCOM_KEY = "voucherify_refused"


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
        **dict.fromkeys(("sql_parameters", "mapping", "state", "requests", "fail_if", "warn_if"), "json"),
    }
    checked_limits = ("failed", "failed_ratio", "created", "not_reported", "superseded", "newer_runs")

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
        self.full_refresh = full_refresh
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
        self.voucherify_conn_id = voucherify_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, check, send, wait; see the class for what is returned and raised."""
        with ExitStack() as stack:
            run = stack.enter_context(self._run(context))
            run.clear_links()
            check(self, rendered=True)
            self._check_mapped(context)
            self._prepare(run)
            hook = stack.enter_context(run.hook())
            if not self.is_dry_run:
                hook.get_conn()  # that there is no connection is better told before any row is read
            plan = stack.enter_context(self._plan(context, hook))
            log_plan(plan, self.log)
            run.metrics.source_read(plan.rows_read, plan.refused_by_key)
            if self.is_dry_run:
                return self._dry_run(run, plan)
            if plan.batches:
                check_newer_runs(context, fail_limits(self).newer_runs, warn_limits(self).newer_runs, self.log)
            context["ti"].xcom_push(key=REFUSED_XCOM_KEY, value=[failure.sample() for failure in plan.refused_sample])
            if plan.batches:
                run.announce_links(hook)
            sync = self._submit(run, plan, hook)
            run.announce(hook, sync.async_action_ids)
            if not self.wait_for_completion:
                if run.folder is not None:
                    write_unsent(plan, run.folder)
                return run.conclude(with_warnings(self, unsettled_summary(sync, self.resource, plan, run.folder)))
            return run.complete(hook, sync, plan)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Go on where the trigger's event leads; see ``VoucherifyAsyncActionTrigger``."""
        with self._run(context) as run:
            return run.resume(event)

    def on_kill(self) -> None:
        """Stop sending and waiting; see ``OperatorRun``."""
        self._killed = True

    def _run(self, context: Context) -> OperatorRun:
        self._killed = False
        return OperatorRun(
            self, context, self._settle, self._prepare_retry, lambda: self._killed, staging=self._state_folder
        )

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        if self.resource not in RESOURCES:
            yield Wrong(f"unknown resource {self.resource!r}: it must be one of {', '.join(RESOURCES)}")
        else:
            yield from self._wrong_mapping(is_known)
        yield from self._wrong_source(is_known)
        yield from wrong_submitting(self, is_known)
        if self.sample is not None:
            yield from told_by(check_number, "sample", self.sample, 1)
        if is_known("requests"):
            yield from told_by(self._requests)
        yield from wrong_choice(self, "validate_metadata", "schema", None)
        yield from wrong_choice(self, "on_retry", "resume", "resend_failed", "restart")
        yield from wrong_booleans(self, "is_dry_run")
        if self.on_retry == "resend_failed" and not self.retries:
            yield Wrong(
                "on_retry='resend_failed' needs retries, since the next try sends the records",
                ("retries=2,",),
                dry_run_goes_on=True,
            )
        if not self.wait_for_completion:
            yield from self._wrong_without_waiting(is_known)
        yield from self._wrong_state(is_known)

    def _wrong_mapping(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        """Say what is wrong with where columns go; the engine is imported for that only if something is given."""
        given = (self.mapping, self.metadata_columns, self.exclude_columns, getattr(self, "metadata", None))
        if self.null_policy == "omit" and all(one is None for one in given):
            return
        if all(map(is_known, ("mapping", "metadata_columns", "exclude_columns", "metadata"))):
            from airflow_provider_voucherify.sync.rows.mapping import check_mapping

            def check() -> None:
                rules = self._rules()  # which checks the null_policy that the destination goes by
                check_mapping(self._destination().fields_of, rules)

            yield from told_by(check)

    def _wrong_source(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        if sum(source is not None for source in (self.records, self.sql, self.path)) != 1:
            yield Wrong("give exactly one source: records=, sql= or path=")
        if self.columns is not None and self.records is None:
            yield Wrong("columns= is for records= alone: a query and a file have column names of their own")
        elif self.columns is not None and is_known("columns"):
            from airflow_provider_voucherify.sync.rows.sources import check_names_of_values

            columns = self.columns
            yield from told_by(lambda: check_names_of_values(columns))
        if self.path is not None and is_known("path"):
            from airflow_provider_voucherify.storage.paths import given_paths

            yield from told_by(given_paths, self.path)
        if self.csv_dialect is not None:
            from airflow_provider_voucherify.sync.rows.csv_rows import csv_options

            yield from told_by(csv_options, self.csv_dialect)
            if self.path is None:
                yield Wrong("csv_dialect= is for the CSV files of path=")
        if self.sql is None:
            return
        if is_known("sql") and not isinstance(self.sql, str):
            yield Wrong(
                f"sql= must be one query or the path of a .sql file, not {type(self.sql).__name__}; join the rows of "
                "several queries with UNION ALL, or give each a task"
            )
        if self.sql_conn_id is None:
            yield Wrong("sql= needs sql_conn_id=, the connection of the query", ('sql_conn_id="warehouse",',))

    def _wrong_without_waiting(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        """Say what a task cannot do that does not wait for what becomes of its rows."""
        for parameter in filter(is_known, ("fail_if", "warn_if")):
            with suppress(VoucherifyConfigurationError):
                given = limits_of(self, parameter).given
                if unchecked := [name for name in ("created", "not_reported") if given.get(name) is not None]:
                    yield Wrong(
                        f"{' and '.join(unchecked)} of {parameter} cannot be checked with wait_for_completion=False; "
                        "the sensor checks them",
                        dry_run_goes_on=True,
                    )
        if self.state:
            yield Wrong(
                "state= needs wait_for_completion=True: a sensor does not know what was sent. The operator itself "
                "waits, with deferrable=True in the triggerer, so it needs no sensor",
                ("wait_for_completion=True,",),
                dry_run_goes_on=True,
            )

    def _wrong_state(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        """Say what is wrong with the state of records, and with what needs one."""
        if is_known("state") and self.state:
            yield from told_by(self._checked_state)
        if is_known("full_refresh"):
            yield from told_by(_is_true, "full_refresh", self.full_refresh)

    def _requests(self) -> Requests:
        return Requests.of("requests", self.requests)

    def _state(self) -> State | None:
        return State.of("state", self.state) if self.state else None

    def _checked_state(self) -> None:
        from airflow_provider_voucherify.storage.paths import path_text

        state = self._state()
        if state is not None and state.path is not None:
            path_text("path of state", state.path)

    def _prepare(self, run: OperatorRun) -> None:
        """Find the files, make sure that results can be kept, and remove what an earlier try has staged."""
        from airflow_provider_voucherify.storage.paths import source_files
        from airflow_provider_voucherify.task.staging import StagedRecords, remove_forgotten

        if self.path is not None:
            self.source_files = source_files(self.path)
        if not self.is_dry_run and self.state:
            self._row_tracking(run.context).check_writable()
        folder = run.folder
        for path in self.source_files:
            if folder is not None and any(folder.has(path, name) for name in ("failures.jsonl", "set_aside.jsonl")):
                raise VoucherifyConfigurationError(
                    f"path {path!r} is the file that this task would replace; give another report_path"
                )
        if self.is_dry_run:
            return
        if folder is not None:
            folder.prepare()
        if run.staging is not None:
            StagedRecords(run.staging, run.staged_name).remove()
            remove_forgotten(run.staging)

    def _check_mapped(self, context: Context) -> None:
        """
        Refuse ``on_removed`` where an instance of a mapped task could take others' records for removed.

        A map index is no identity: with one customer more every instance gets other rows. A name is one, but a record
        that moves from one instance's part to another's has left none of the source.
        """
        map_index, state = context["ti"].map_index, self._state()
        if state is None or state.on_removed == "ignore" or map_index is None or map_index < 0:
            return
        if state.marks_removed:
            raise VoucherifyConfigurationError(
                "on_removed={'metadata': ...} cannot be used in a mapped task, none of whose instances sees the whole "
                "source: a record that moves from the rows of one instance to those of another would be marked as "
                "removed. Let one task that is not mapped read the whole source"
            )
        if self._name_is_shared():
            raise VoucherifyConfigurationError(
                "on_removed='report' in a mapped task needs a state with a sync_name that names the part of the source "
                "which the instance sends, whatever its place among the others, and that comes through its own "
                '.expand() or .expand_kwargs([{"state": {"conn_id": ..., "sync_name": "customers of PL"}, "sql": ...}, '
                "...]): what partial() or a mapped task group gives may be the same for all"
            )

    def _name_is_shared(self) -> bool:
        """
        Say whether instances of a mapped task may have the same ``sync_name``.

        An instance surely has one of its own only if ``expand`` or ``expand_kwargs`` has given its ``state`` to this
        very task: in a mapped task group, in ``partial`` and in ``default_args`` it is written once for all of them.
        """
        state = self._state()
        has_dag: bool = self.has_dag()  # type: ignore[no-untyped-call]
        mapped: Any = self.dag.task_dict.get(self.task_id) if has_dag else None
        common = getattr(mapped, "partial_kwargs", None)
        if state is None or not state.sync_name or common is None:
            return True
        defaults = (getattr(parent, "default_args", None) or {} for parent in (self.dag, mapped.task_group))
        return any("state" in given for given in (common, *defaults))

    def resolve_template_files(self) -> None:
        """Read the file that ``sql`` names; in other fields ``metadata.sql`` is a field, an id or another text."""
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
        if parent is self and self.records is not None:
            self.records = HiddenRecords(self.records)

    def _destination(self, schema: MetadataRules | None = None) -> Destination:
        raise NotImplementedError

    def _metadata_plan(self) -> MetadataPlan:
        return "bulk"

    def _schema(self, hook: VoucherifyHook) -> MetadataRules | None:
        """Fetch the project's metadata schema, where it is asked for and there is one."""
        from airflow_provider_voucherify.sync.rows.metadata_rules import compile_schema

        if self.validate_metadata is None:
            return None
        try:
            schema = hook.get_metadata_schema(self.resource)
        except VoucherifyNotFoundError:
            self.log.info("The project has no metadata schema for %s", self.resource)
            return None
        return compile_schema(schema, hook.list_metadata_schemas().schemas if schema.object_types else ())

    def _rules(self, schema: MetadataRules | None = None) -> MappingRules:
        from airflow_provider_voucherify.sync.rows.mapping import MappingRules

        return MappingRules(self.mapping, self.metadata_columns, self.exclude_columns or (), self.null_policy, schema)

    def _plan(self, context: Context, hook: VoucherifyHook) -> Plan:
        from airflow_provider_voucherify.sync.batches.destination import BatchLimits
        from airflow_provider_voucherify.sync.batches.plan import Plan
        from airflow_provider_voucherify.sync.rows.chunks import first_rows

        schema, requests = self._schema(hook), self._requests()
        changes = self._changes(schema, requests)
        ledger, warnings = self._ledger(context, hook)
        plan = Plan(
            self._destination(schema),
            self._rules(schema),
            BatchLimits(requests.max_bytes, requests.max_records),
            keep_refused=self.report_path is not None,
            metadata_plan=self._metadata_plan(),
            ledger=ledger,
            changes=changes,
        )
        for warning in warnings:
            plan.warn(warning)
        try:
            with self._rows() as rows, closing(rows):
                plan.read(rows if self.sample is None else first_rows(rows, self.sample))
        except BaseException:
            plan.close()
            raise
        return plan

    def _ledger(self, context: Context, hook: VoucherifyHook) -> tuple[Ledger | None, list[str]]:
        """Open a ledger where outcomes or the state of records are kept, with what earlier syncs have left."""
        from airflow_provider_voucherify.sync.batches.settings import settings_digest
        from airflow_provider_voucherify.sync.state.ledger import Ledger
        from airflow_provider_voucherify.task.row_tracking import run_key

        if not self.state:
            return None, []
        try:
            project = project_of(hook)
        except AirflowNotFoundException:
            if not self.is_dry_run:
                raise
            return None, [
                f"there is no connection {self.voucherify_conn_id}, so the state of earlier syncs is not read, and "
                "every row counts as one to send"
            ]
        settings = settings_digest(project, self._destination(), self._rules())
        ledger = Ledger(
            run_key(context), settings, everything=_is_true("full_refresh", self.full_refresh), keeps_state=True
        )
        try:
            return ledger, self._row_tracking(context).load_state(ledger, context, create=not self.is_dry_run)
        except BaseException:
            ledger.close()
            raise

    def _changes(self, schema: MetadataRules | None, requests: Requests) -> Changes:
        from airflow_provider_voucherify.sync.batches.changes import Changes
        from airflow_provider_voucherify.sync.batches.destination import metadata_destination

        state = self._state() or State()
        removed: Any = "ignore" if self.sample is not None else state.on_removed
        if isinstance(removed, Mapping):
            removed = metadata_destination(self.resource, removed["metadata"], schema, self.null_policy)
        return Changes(requests.max_attempts, removed, state.max_removed_ratio)

    def _row_tracking(self, context: Context) -> RowTracking:
        from airflow_provider_voucherify.task.row_tracking import RowTracking

        state = self._state()
        assert state is not None
        return RowTracking.of(state, self.resource, context, name_is_shared=self._name_is_shared())

    def _state_folder(self, context: Context) -> Folder | None:
        """Return where ``state`` keeps what was sent while the task is deferred; None without a state."""
        return self._row_tracking(context).folder if self.state else None

    def _settle(
        self,
        run: OperatorRun,
        sent: PlannedRecords | StagedRecords | None,
        sync: SubmittedSync,
        client: VoucherifyClient,
        **how: Any,
    ) -> SyncSummary:
        from airflow_provider_voucherify.sync.results.collect import collect_outcomes

        ti = run.context["ti"]
        with ExitStack() as stack:
            ledger = stack.enter_context(sent.ledger()) if sent is not None else None
            summary = collect_outcomes(
                sync,
                client,
                resource=self.resource,
                refused_sample=ti.xcom_pull(task_ids=ti.task_id, key=REFUSED_XCOM_KEY, map_indexes=ti.map_index) or (),
                folder=run.folder,
                sent=sent,
                ledger=ledger,
                max_attempts=self._requests().max_attempts,
                listeners=run.listeners,
                **how,
            )
            return self._keep_rows(run.context, ledger, with_warnings(self, summary))

    def _keep_rows(self, context: Context, ledger: Ledger | None, summary: SyncSummary) -> SyncSummary:
        if ledger is None:
            if self.state:
                raise VoucherifyError("what was kept while the task waited is gone; a retry finds it again")
            return summary
        for warning in self._row_tracking(context).write(ledger, summary, context):
            self.log.warning("%s", warning)
            summary = summary.with_warning(warning)
        watermark = {"run_id": context["ti"].run_id, "synced_at": time.time(), "rows_read": summary.rows_read}
        set_asset_state(context, self.outlets, ASSET_STATE_KEY, watermark)
        return summary

    @contextmanager
    def _rows(self) -> Iterator[Rows]:
        from airflow_provider_voucherify.sync.rows import sources

        if self.sql is not None and self.sql_conn_id is not None:
            from airflow_provider_voucherify.warehouse.queries import query

            with query(self.sql_conn_id, self.sql, self.sql_parameters) as rows:
                yield rows
        elif self.path is not None:
            from airflow_provider_voucherify.storage.files import open_source

            yield sources.from_files(self.source_files, open_source, self.csv_dialect)
        else:
            with self._records() as records:
                yield sources.from_records(
                    records,
                    self._destination().endpoint.key,
                    columns=self.columns,
                    takes_ids=self._takes_ids(),
                    of_mapped_task=is_from_mapped_task(records),
                )

    @contextmanager
    def _records(self) -> Iterator[Any]:
        yield self.records.records if isinstance(self.records, HiddenRecords) else self.records

    def _takes_ids(self) -> bool:
        """Say whether ids are all that is wanted of the rows."""
        return False

    def _prepare_retry(self, run: OperatorRun, message: str) -> None:
        """
        Let the next try send again what failed as a whole, or, with ``on_retry="resend_failed"``, what was rejected.

        Where Voucherify does not say which records it rejected, the whole batch is sent again.
        """
        has_whole_batches = run.reject_whole_batches()
        if self.on_retry == "resend_failed":
            journal = run.journal()
            for action_id, outcome in run.failed_outcomes.items():
                if not outcome.failed_as_a_whole:
                    journal.rejected(action_id, None if outcome.unnamed_failures else outcome.failed)
        if has_whole_batches:
            raise VoucherifyActionFailedError(message)
        if self.on_retry == "resend_failed" and run.failed_outcomes:
            raise VoucherifyRecordsRejectedError(message)

    def _submit(self, run: OperatorRun, plan: Plan, hook: VoucherifyHook) -> SubmittedSync:
        from airflow_provider_voucherify.sync.sending.rejected import add_rejected
        from airflow_provider_voucherify.sync.sending.submission import Submission

        run.warn_without_store()
        self.log.info("::group::Sending %d requests", len(plan.batches))
        try:
            journal = run.journal_to_go_on(hook)
            client = hook.get_conn()
            submission = Submission(
                plan,
                client,
                journal,
                self._requests().max_in_flight,
                killed=run.is_killed,
                add_rejected=partial(add_rejected, plan, client),
            )
            if (ledger := plan.ledger) is not None:
                tracking = self._row_tracking(run.context)
                if any(journal):
                    tracking.note_overtaken(ledger)
                    if ledger.has_overtaken:
                        submission.doubt(lambda batch: ledger.is_overtaken(batch.ids()))
                tracking.before_sending(ledger)
            return submission.run()
        finally:
            self.log.info("::endgroup::")

    def _dry_run(self, run: OperatorRun, plan: Plan) -> dict[str, Any]:
        """Log what would be sent and what it would cost, and return it; this needs no connection."""
        from airflow_provider_voucherify.sync.batches.estimate import estimate

        try:
            with run.hook() as hook:
                extra = hook.settings.extra
            limits = (extra.rate_limit, extra.bulk_rate_limit)
        except AirflowNotFoundException:
            limits = (None, None)
        cost = estimate(plan.requests_by_endpoint, plan.bytes_to_send, *limits, waits=self.wait_for_completion)
        summary = planned_summary(plan, self.resource).model_copy(update=cost.as_summary_fields())
        summary = summary.with_warning(*(f"without dry_run: {why}" for why in needed_to_send(self)))
        keep_summary(self, run.context, summary)
        self.log.info("%s", summary.text())
        self.log.info("%s", cost.text())
        if self.sample is not None:
            for batch in plan.batches:
                self.log.info("%s:\n%s", batch.destination.endpoint.path, b"".join(batch.body()).decode())
        return summary.as_xcom()


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

    Returns a summary, see ``sync.results.summary.SyncSummary`` for its fields and for what None means. Raises
    ``VoucherifyRecordsFailedError``, which Airflow does not retry, where more rows failed than allowed, and the other
    errors of ``airflow_provider_voucherify.exceptions``.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param records: rows, or an upstream task's output that has them: dicts, named tuples, with ``columns`` lists or
        tuples of values, or a table that knows its columns (pandas, Polars, PyArrow, DuckDB; all but pandas need the
        extra ``parquet``). What the instances of a mapped task have returned is joined, and fetched one at a time; so
        are lists of dicts. For large data use ``sql`` or ``path``: Airflow keeps what tasks return in its database.
    :param columns: names of the values of rows that have none, such as the rows that ``hook.get_records()`` and a
        ``SQLExecuteQueryOperator`` give. A row of another length is refused.
    :param sql: a query, or the path of a ``.sql`` file.
    :param sql_conn_id: the query's connection; any whose hook is a ``DbApiHook``.
    :param sql_parameters: bound to the query by the driver.
    :param path: a ``.jsonl``, ``.csv`` or (with the extra ``parquet``) ``.parquet`` file, local or in object storage;
        the first two may be packed (``.csv.gz``). Or several of one kind, which are read one after the other: a list, a
        folder of part files (in the order of their names, without those that begin with ``_`` or a dot), or a pattern
        with ``*``. A ``failures.jsonl`` of an earlier run is read as what it is: the failed records are sent again.
    :param csv_dialect: how the CSV files of ``path`` are written, if not with commas and doubled quotes: ``delimiter``,
        ``quotechar``, ``escapechar``, ``doublequote``, ``skipinitialspace`` and ``quoting`` as ``csv.reader`` has them,
        or the name of a registered dialect. ``{"escapechar": "\\\\"}`` reads what Spark writes.
    :param mapping: column to field (``name``, ``address.city``, ``metadata.segment``); only these columns are sent.
        Without it columns named as API fields map to them, ``address_city`` into the address, and every other column
        into metadata.
    :param metadata_columns: without a mapping, the only columns that go into metadata.
    :param exclude_columns: columns that are never sent.
    :param null_policy: ``omit`` (default) never sends a missing value, so that it cannot blank a field; ``send`` sends
        ``null`` for members of metadata, a whole address and its members, the only places where the API takes it. Both
        hold for the members of objects too. A dict sets it per column.
    :param validate_metadata: ``schema`` reads the project's metadata schema first (one or two API calls, with OAuth the
        scope ``metadata-schemas``) and refuses rows that it surely forbids, with Voucherify's own kind of message. What
        the vendor does not document is left to Voucherify; see ``sync.rows.metadata_rules``.
    :param state: where the sync keeps what it remembers: a connection id of a database, a folder or URI with a slash
        in it, or a ``policies.State`` (or its members as a dict), which also says what is done about records that left
        the source. With it only rows are sent that are new or different since Voucherify last confirmed them, or whose
        outcome was no success; the outcome of each row is kept; and so is what was sent while the task is deferred.
        A state that is lost, damaged or of another mapping means that every row is sent, with a warning. None sends
        every row and remembers nothing.
    :param full_refresh: send every row nevertheless; may be a template.
    :param report_path: folder (local or object storage) for people to read: Voucherify's reports, ``failures.jsonl``
        and ``set_aside.jsonl``, which the next run replaces, whole, if it has the same folder (``{{ ds }}`` or
        ``{{ run_id }}`` in it keeps them apart). Without ``state`` it also keeps what was sent while the task is
        deferred, so that all workers have to share it then. Mapped tasks get a folder each in it.
    :param wait_for_completion: wait until Voucherify has processed the updates, and count what became of the rows.
        False returns when they are queued: nothing has been updated then. The limits of ``fail_if`` see refused rows
        alone in that case: if these are too many the task fails after it has sent the others, and a sensor after it
        does not run, so give it ``fail_if={"failed": None}`` or a ratio.
    :param deferrable: wait in the triggerer, after ten seconds on the worker. Default: Airflow's
        ``[operators] default_deferrable``. What was sent is kept meanwhile in ``state`` or ``report_path`` in a folder
        ``staged-…`` (in a database in the table ``…_staged``). It is removed as soon as the task goes on, well or not.
        If the task does not, since it was marked or its trigger failed, the next try of the task instance removes it,
        or the first sync in the same place a week later.
    :param poll_interval: longest pause in seconds between two polls of an unfinished action; the first polls come
        sooner. Default: the connection's, or 60.
    :param completion_timeout: seconds (or a timedelta) to wait, from the last request on; ``execution_timeout`` ends
        the waiting too, in the triggerer (on the worker Airflow ends the task). The actions go on at Voucherify
        afterwards: there is no way to cancel them.
    :param requests: how records are packed into requests, a ``policies.Requests`` or its members as a dict.
    :param fail_if: limits beyond which the task fails, after everything is written down: a ``policies.Limits`` or its
        members as a dict. Default: no row may fail or be refused.
    :param warn_if: the same, but the task goes on; the log, the summary (``warning``) and
        ``on_failed_records_callback`` say so.
    :param on_retry: what a retry does on Airflow 3.3 and later. ``resume`` waits for what an earlier try has sent
        instead of sending it again (see ``sync.sending.journal``; batches are known by their content, so a query should
        give its rows in a stable order, with ``ORDER BY``). ``resend_failed`` does the same, and if more records failed
        than ``fail_if`` allows, Airflow retries the task, and the retry sends the failed records again and nothing
        else; otherwise such a task fails for good, since the same records would be rejected again. ``restart`` sends
        everything again. A clear always does.
    :param sample: read only the first N rows. With ``dry_run`` the exact JSON is logged.
    :param dry_run: read and check, log and return the plan and what it would cost (requests, bytes, share of the rate
        limit, minutes; see ``sync.batches.estimate``), send nothing. Without a connection it works too, unless with
        ``validate_metadata``, but without the state of earlier syncs.
    :param on_failed_records_callback: notifier or callable (or several) that is told of failed and refused rows, even
        if the task succeeds; its context has ``voucherify_summary`` and ``voucherify_text``.
    :param voucherify_conn_id: connection of type ``voucherify``.
    """

    def _destination(self, schema: MetadataRules | None = None) -> Destination:
        from airflow_provider_voucherify.sync.batches.destination import update_destination

        return update_destination(self.resource)


class VoucherifyBulkMetadataOperator(_BulkOperator):
    """
    Updates the metadata of customers, products or vouchers, and nothing else.

    With ``metadata=`` all ids get the same metadata, through ``POST /v1/{resource}/metadata/async``: two requests for a
    million ids. The rows then only give ids and their other columns are not read; bare ids will do, as in
    ``records=["c1", "c2"]``, unless ``mapping`` names the column of the id.
    Without it every column but the key is metadata of its row. ``plan="auto"`` then sends records of equal metadata by
    ``metadata/async`` where that takes fewer requests in all (or fewer bytes in as many), and the others by
    ``POST /v1/{resource}/bulk/async``, since ``metadata/async`` takes a request for each distinct metadata.

    Whether the members of ``metadata`` are merged with the stored ones or replace them all is not documented: send all
    that should remain. The API description promises neither counts nor ids in the results of ``metadata/async``, though
    its examples have them; records that no answer mentions are ``not_reported``. ``plan="bulk"`` has every record
    named, at the price of more bytes, and in a large sync of few distinct metadata of more requests.

    Customers and products that do not exist are created, nameless (vouchers are not): the summary warns of them unless
    ``created`` of ``fail_if`` or ``warn_if`` says how many are expected.

    All other parameters, the return value and the errors are those of ``VoucherifyBulkUpdateOperator``.

    :param resource: ``customers``, ``products`` or ``vouchers``.
    :param metadata: one metadata object for all ids, or None for metadata per row.
    :param plan: with metadata per row, ``auto`` as above, ``bulk`` for ``bulk/async`` alone, or ``metadata`` for
        ``metadata/async`` alone, which fails where there are more than a thousand distinct metadata objects.
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
        created = summary.created_at_least if summary.created is None else summary.created
        is_limited = any(limits_of(self, name).created is not None for name in ("fail_if", "warn_if"))
        if created and not is_limited:
            known = "at least " if summary.created is None else ""
            summary = summary.with_warning(
                f"{known}{created:,} {self.resource} did not exist and were created with nothing but metadata; "
                "created of fail_if or warn_if says how many may be"
            )
        return super()._keep_rows(context, ledger, summary)

    def _takes_ids(self) -> bool:
        return self.metadata is not None and self.mapping is None


def _is_true(name: str, value: object) -> bool:
    """Read a flag that a template may have turned into text."""
    word = str(value).strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off", "none", ""):
        return False
    raise VoucherifyConfigurationError(f"{name} must be true or false, not {value!r}")
