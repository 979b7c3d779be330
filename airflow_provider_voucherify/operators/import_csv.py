"""CSV imports of customers, products and SKUs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_voucherify.compat import BaseOperator, conf
from airflow_provider_voucherify.exceptions import VoucherifyRowsWithoutIdsError
from airflow_provider_voucherify.links.async_action import EXTRA_LINKS, UI_COLOR
from airflow_provider_voucherify.models.endpoints import CSV_IMPORT_ENDPOINTS, MAX_BODY_BYTES
from airflow_provider_voucherify.models.errors import (
    VoucherifyActionFailedError,
    VoucherifyConfigurationError,
    refuse_all,
)
from airflow_provider_voucherify.models.numbers import check_number
from airflow_provider_voucherify.policies import Limits, Requests, State
from airflow_provider_voucherify.sync.types.text import counted
from airflow_provider_voucherify.task.conclusion import Callback, with_warnings
from airflow_provider_voucherify.task.hidden_values import errors_without_values, hiding_of, reading_without_values
from airflow_provider_voucherify.task.lineage import openlineage_facets
from airflow_provider_voucherify.task.operator_run import OperatorRun
from airflow_provider_voucherify.task.parameters import (
    CheckedWhenParsed,
    Wrong,
    check,
    mistakes_of,
    wrong_choice,
    wrong_paths,
    wrong_submitting,
)
from airflow_provider_voucherify.task.rendering import fields_to_render, render_template
from airflow_provider_voucherify.task.tracked_state import failed_records, wrong_history
from airflow_provider_voucherify.task.unsettled import unsettled_summary

if TYPE_CHECKING:
    from airflow_provider_voucherify.client.http import VoucherifyClient
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.hooks.voucherify import VoucherifyHook
    from airflow_provider_voucherify.sync.batches.csv_file import CsvFile
    from airflow_provider_voucherify.sync.results.summary import SyncSummary
    from airflow_provider_voucherify.sync.types.submitted import SubmittedSync

DIGESTS_XCOM_KEY = "voucherify_csv_digests"

TWICE = "Some rows have no source_id, so importing them again may create them twice; check what Voucherify has"
CLEAR = "import what is missing in another run, or clear the task to import the whole file again"


class VoucherifyImportCsvOperator(BaseOperator, metaclass=CheckedWhenParsed):
    """
    Imports a CSV file of any size with ``POST /v1/{resource}/importCSV``, and counts the outcome of every row.

    The file is UTF-8, separated by commas, and has a header row. It is sent as it is, except rows without any value,
    and unpacked if its name ends in ``.gz``. A file that does not fit into one request is sent in several, split
    between rows, and a request that Voucherify finds too large is sent in halves. What the vendor's API pages say about
    the columns (case does not matter, all others become metadata):

    * customers: ``Id, Name, Email, Phone, Birthdate, Source_id, Description, Address_line_1, Address_line_2,
      Address_Postal_Code, Address_City, Address_State, Address_Country``. **A customer that has the row's**
      ``Source_id`` **is overwritten**, all fields and metadata: what the file does not have is lost. To change only
      some fields, use ``VoucherifyBulkUpdateOperator``. A row without ``Source_id`` and ``Id`` creates a customer each
      time it is imported.
    * products: ``name`` (required), ``source_id, price, attributes, image_url``. Of a product that exists only the name
      is changed (and perhaps metadata, which the vendor's changelog of 2025 mentions). ``price`` is in major units,
      unlike everywhere else: 21 is $21.00.
    * skus: ``source_id, product_id`` (required), ``sku, price, image_url, attributes``. ``product_id`` has the
      ``source_id`` of the product, as in the vendor's template, or Voucherify's own id; the product must have been
      imported before. Of a SKU that exists only ``sku`` and ``price`` are changed. With OAuth the connection's scope
      must have ``skus``.

    Rows with the same id are sent and counted one by one. The vendor does not document which of them remains.

    A file that Voucherify might misread, such as one that does not begin with the names of its columns, is refused as a
    whole before anything is sent: see ``sync.batches.csv_file``. Voucherify decides whether a row is valid: failed rows
    are counted and shown with the reason and their number in the file (from 1, not counting the header and rows without
    any value).

    Returns the summary of the bulk operators (``sync.results.summary.SyncSummary``); ``updated`` and ``created`` are
    None unless nothing was written, since imports do not tell them apart. Raises ``VoucherifyRecordsFailedError``,
    which Airflow does not retry, if more rows failed than allowed, and the other errors of
    ``airflow_provider_voucherify.exceptions``.

    :param resource: ``customers``, ``products`` or ``skus``.
    :param path: the file, local or in object storage. Several files need a task each (``.expand(path=[...])``).
    :param wait_for_completion: wait until Voucherify has processed the import, and count the outcomes of the rows.
        False returns when it is queued: nothing has been imported then.
    :param deferrable: wait in the triggerer, after ten seconds on the worker. Default: Airflow's
        ``[operators] default_deferrable``.
    :param poll_interval: longest pause in seconds between two polls of an unfinished action; the first polls come
        sooner. Default: the connection's, or 60.
    :param completion_timeout: seconds (or a timedelta) to wait, from the last request on; ``execution_timeout`` ends
        the waiting too. The import continues at Voucherify: there is no way to cancel it.
    :param requests: ``max_bytes`` alone, the largest request body; see ``policies.Requests``.
    :param fail_if: ``failed``, ``failed_ratio``, ``not_reported`` and ``expected_keys`` of ``policies.Limits``, beyond
        which the task fails. Default: no row may fail.
    :param warn_if: the same, but the task continues; the log, the summary (``warning``) and
        ``on_failed_records_callback`` say so.
    :param on_retry: ``resume``: on Airflow 3.3 and later a retry waits for what an earlier try has sent instead of
        sending it again; see ``sync.sending.submission`` for a request whose answer was lost. A clear sends
        everything again. With ``restart``, and below Airflow 3.3, a retry sends everything again too; then a file with
        rows without ids is refused in any try after the first (``VoucherifyRowsWithoutIdsError``, which Airflow does
        not retry), whether after a retry or a clear.
    :param state: where the history of the task's tries is kept, as that of a bulk operator: a connection id, a folder
        or a ``policies.State``. Of the rows it has those that failed; all rows of the file are sent each time.
    :param report_path: folder (local or object storage) for ``failures.jsonl``, which has the failed rows with their
        reasons (complete if ``path`` can be read again and has not changed, otherwise by number and id), and the page
        ``report.html``. Each mapped task gets its own subfolder.
    :param on_failed_records_callback: notifier or callable (or several) that is called if rows failed, even if the
        task succeeds; its context has ``voucherify_summary`` and ``voucherify_text``.
    :param hide_values: leave values of rows out of logs, XComs, alerts and ``failures.jsonl``, and hash ids there; see
        ``VoucherifyBulkUpdateOperator``.
    :param voucherify_conn_id: connection of type ``voucherify``.
    """

    template_fields: Sequence[str] = (
        *("path", "requests", "fail_if", "warn_if", "state", "report_path"),
        "voucherify_conn_id",
    )
    template_fields_renderers = dict.fromkeys(("requests", "fail_if", "warn_if", "state"), "json")
    checked_limits = ("failed", "failed_ratio", "not_reported", "expected_keys")
    operator_extra_links = EXTRA_LINKS
    ui_color = UI_COLOR
    summary: SyncSummary | None = None
    get_openlineage_facets_on_complete = get_openlineage_facets_on_failure = openlineage_facets
    render_template = render_template

    def __init__(
        self,
        *,
        resource: str,
        path: str | os.PathLike[str],
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta | None = None,
        completion_timeout: float | timedelta = timedelta(hours=6),
        requests: Requests | Mapping[str, Any] | None = None,
        fail_if: Limits | Mapping[str, Any] | None = None,
        warn_if: Limits | Mapping[str, Any] | None = None,
        on_retry: Literal["resume", "restart"] = "resume",
        state: State | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        report_path: str | None = None,
        on_failed_records_callback: Callback | Sequence[Callback] | None = None,
        hide_values: bool = False,
        voucherify_conn_id: str = "voucherify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.resource = resource
        self.path = path
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.completion_timeout = completion_timeout
        self.requests = requests
        self.fail_if = fail_if
        self.warn_if = warn_if
        self.on_retry = on_retry
        self.state = state
        self.report_path = report_path
        self.on_failed_records_callback = on_failed_records_callback
        self.hide_values = hide_values
        self.voucherify_conn_id = voucherify_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, check, send and wait; see the class for what is returned and raised."""
        with ExitStack() as stack:
            run = stack.enter_context(self._run(context))
            run.begin()
            stack.enter_context(errors_without_values(self))
            check(self, rendered=True)
            if run.folder is not None:
                run.folder.prepare()
            with reading_without_values(self, of_text_files=True):
                file = stack.enter_context(self._file())
            self.log.info("Read %s, to be sent in %s", counted(file.rows, "row"), counted(len(file.batches), "request"))
            if file.blank_rows:
                self.log.info("Skipped %s without any value", counted(file.blank_rows, "row"))
            run.metrics.source_read(file.rows, {})
            hook = stack.enter_context(run.hook())
            sync = self._submit(run, file, hook)
            context["ti"].xcom_push(key=DIGESTS_XCOM_KEY, value=[batch.digest() for batch in file.batches])
            run.announce(hook, sync.async_action_ids)
            if not self.wait_for_completion:
                return run.conclude(with_warnings(self, unsettled_summary(sync, self.resource)))
            return run.complete(hook, sync)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume with the trigger's event; see ``VoucherifyAsyncActionTrigger``."""
        with self._run(context) as run, errors_without_values(self):
            return run.resume(event)

    def on_kill(self) -> None:
        """Stop sending and waiting; see ``OperatorRun``."""
        self._killed = True

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, *args: Any, **kwargs: Any
    ) -> None:
        fields = fields_to_render(self, parent, template_fields, context)
        super()._do_render_template_fields(parent, fields, context, *args, **kwargs)

    def _run(self, context: Context) -> OperatorRun:
        self._killed = False
        return OperatorRun(self, context, self._settle, self._prepare_retry, lambda: self._killed)

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        if self.resource not in CSV_IMPORT_ENDPOINTS:
            yield Wrong(f"unknown resource {self.resource!r}: it must be one of {', '.join(CSV_IMPORT_ENDPOINTS)}")
        if self.path is None:
            yield Wrong(
                "path= is missing: the CSV file to import", ('path="s3://aws_default@my-bucket/customers.csv",',)
            )
        yield from wrong_paths(self, is_known, "path")
        yield from wrong_submitting(self, is_known)
        yield from wrong_history(self, is_known)
        yield from wrong_choice(self, "on_retry", "resume", "restart")
        if is_known("requests"):
            yield from mistakes_of(self._max_bytes)

    def _max_bytes(self) -> int:
        requests = Requests.of("requests", self.requests)
        refuse_all(f"{name} of requests is not for CSV imports" for name in requests.given if name != "max_bytes")
        check_number("max_bytes of requests", requests.max_bytes, 1_000, MAX_BODY_BYTES)
        return requests.max_bytes

    def _file(self) -> CsvFile:
        from airflow_provider_voucherify.client.csv_imports import FORM_BYTES, import_endpoint
        from airflow_provider_voucherify.storage.files import open_source
        from airflow_provider_voucherify.storage.paths import source_files
        from airflow_provider_voucherify.sync.batches.csv_file import CsvFile

        path, *others = source_files(self.path)
        if others:
            raise VoucherifyConfigurationError(
                f"path has {len(others) + 1:,} files, and an import takes one: use .expand(path=[...])"
            )
        with open_source(path) as source:
            file = CsvFile(import_endpoint(self.resource), self._max_bytes() - FORM_BYTES)
            file.read(source, path)
        return file

    def _submit(self, run: OperatorRun, file: CsvFile, hook: VoucherifyHook) -> SubmittedSync:
        from airflow_provider_voucherify.sync.sending.submission import RowsWithoutIdsError, Submission

        if not file.has_ids:
            self.log.warning("Some rows have no source_id: each time they are imported they create something new")
        if file.has_ids or run.is_durable:
            run.warn_without_store()
        elif run.context["ti"].try_number > 1:
            raise VoucherifyRowsWithoutIdsError(
                f"this try cannot know what an earlier one has sent. {TWICE}, and import what is missing in another run"
            )
        elif self.retries:
            self.log.warning("There is no journal of what is sent, so a retry of this task will not send it again")
        journal = run.journal_to_go_on(hook)
        if journal.is_in_doubt and not file.has_ids:
            raise VoucherifyRowsWithoutIdsError(f"{journal.why_unused}. {TWICE}, and {CLEAR}")
        try:
            return Submission(file, hook.get_conn(), journal, killed=run.is_killed).run()
        except RowsWithoutIdsError as error:
            raise VoucherifyRowsWithoutIdsError(f"{error}. {TWICE}, and {CLEAR}") from error

    def _settle(
        self, run: OperatorRun, sent: object, sync: SubmittedSync, client: VoucherifyClient, **how: Any
    ) -> SyncSummary:
        from airflow_provider_voucherify.sync.results.collect_import import collect_import_outcomes

        with failed_records(self, run.context) as failed, ExitStack() as stack:
            summary = collect_import_outcomes(
                sync,
                client,
                resource=self.resource,
                folder=run.folder,
                file=partial(self._file_as_sent, run.context, stack, sync),
                listeners=[*run.listeners, *failed],
                hiding=hiding_of(self, client.settings),
                **how,
            )
        return with_warnings(self, summary)

    def _file_as_sent(self, context: Context, stack: ExitStack, sync: SubmittedSync) -> CsvFile | None:
        """Read the file again to show its failed rows; None if it is gone or has changed."""
        ti = context["ti"]
        digests = ti.xcom_pull(task_ids=ti.task_id, key=DIGESTS_XCOM_KEY, map_indexes=ti.map_index)
        try:
            file = stack.enter_context(self._file())
        except (OSError, VoucherifyConfigurationError) as error:
            self.log.warning("failures.jsonl has numbers and ids only, since the file cannot be read again: %s", error)
            return None
        is_cut = file.split_into([batch.records or 0 for batch in sync.batches])
        if not is_cut or list(digests or ()) != [batch.digest() for batch in file.batches]:
            self.log.warning("failures.jsonl has numbers and ids only, since the file has changed")
            return None
        return file

    def _prepare_retry(self, run: OperatorRun, message: str) -> None:
        """Let the next try resend the batches that failed as a whole."""
        if run.reject_whole_batches():
            raise VoucherifyActionFailedError(message)
