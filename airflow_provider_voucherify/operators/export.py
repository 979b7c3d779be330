"""Exports: objects of Voucherify's in a file or a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_voucherify.compat import BaseOperator, conf
from airflow_provider_voucherify.links.async_action import EXPORT_LINKS, UI_COLOR
from airflow_provider_voucherify.policies import Limits
from airflow_provider_voucherify.task.export_parameters import wrong_export
from airflow_provider_voucherify.task.export_run import ExportRun
from airflow_provider_voucherify.task.hidden_values import errors_without_values
from airflow_provider_voucherify.task.lineage import openlineage_facets_of_export
from airflow_provider_voucherify.task.parameters import CheckedWhenParsed, Wrong, check
from airflow_provider_voucherify.task.rendering import fields_to_render, render_template

if TYPE_CHECKING:
    from airflow_provider_voucherify.compat import Context
    from airflow_provider_voucherify.sync.results.export_summary import ExportSummary


class VoucherifyExportOperator(BaseOperator, metaclass=CheckedWhenParsed):
    """
    Exports any number of objects with ``POST /v1/exports``, waits, and writes the rows into a file or a table.

    An export takes three calls and the polls between them, whatever the number of its rows. The columns are called as
    the ``fields`` are, whatever titles the file of Voucherify's has; properties of ``metadata`` have the title that it
    has, such as ``metadata.tier``. Values are the texts that Voucherify has written, since the vendor does not document
    their form; an empty one is null, and in CSV empty. Rows go through an unnamed file on local disk, in memory that
    does not grow with their number.

    The new rows take the place of the old ones when all of them are written and ``fail_if`` has not failed the task;
    until then, and after an error, the old ones stay. A file appears at once. A table gets its rows in one transaction;
    it is never dropped, so its types, indexes, rights and views stay.

    On Airflow 3.3 and later a retry goes on with the export that an earlier try has created, unless that has failed. A
    clear creates another one, and so does a retry below Airflow 3.3. Exports are not removed from Voucherify.

    Returns the summary (``sync.results.export_summary.ExportSummary``) as a dict; it has neither the address of the
    file nor its token. Raises ``VoucherifyExportError``, which Airflow retries, if Voucherify could not make the export
    or its file is gone, ``VoucherifyTooFewRowsError``, which it does not, and the other errors of
    ``airflow_provider_voucherify.exceptions``.

    :param exported_object: ``customer``, ``voucher``, ``product``, ``sku``, ``order``, ``redemption``, ``publication``,
        ``points_expiration`` or ``voucher_transactions``.
    :param fields: the columns; by default those that Voucherify has as defaults, which are few. ``metadata`` is a
        column for each property, and ``metadata.<name>`` one of them. ``models.exported_objects`` has all names.
    :param filters: conditions in the vendor's language, such as
        ``{"created_at": {"conditions": {"$after": ["{{ data_interval_start }}"]}}}``, with a list of values each. Times
        may be datetimes, or texts that a template makes of them. ``junction`` is ``and`` or ``or``.
    :param order: a field by which the rows are ordered, descending with a ``-`` before it.
    :param campaign_id: only vouchers of this campaign.
    :param path: the file, local or in object storage: ``.csv``, ``.jsonl``, either perhaps with ``.gz``, or
        ``.parquet`` (which needs the extra ``parquet``).
    :param table: or the table, optionally after a schema and a dot. It is made if it is not there, and gets the columns
        that it lacks, both as text. Its columns are in lower case, with ``_`` for what is neither letter nor digit:
        ``metadata_tier``. Columns of other types work if the database reads the text.
    :param conn_id: the table's database: a connection whose hook is a ``DbApiHook``.
    :param merge_on: the field that identifies a row: rows with the same value are replaced and all others stay, as an
        export of what has changed needs it. Default: the export replaces all rows of the table.
    :param fail_if: ``rows_below`` of ``policies.Limits``: the task fails, and the old rows stay, if the export has
        fewer rows. Default: any number will do.
    :param warn_if: the same, but the task continues; the log and the summary (``warning``) say so.
    :param deferrable: wait in the triggerer, after ten seconds on the worker. Default: Airflow's
        ``[operators] default_deferrable``.
    :param poll_interval: longest pause in seconds between two polls; the first polls come sooner. Default: the
        connection's, or 60.
    :param completion_timeout: seconds (or a timedelta) for Voucherify to make the export; ``execution_timeout`` ends
        the waiting too. The export continues at Voucherify, and a retry goes on with it.
    :param hide_values: let errors of the database not quote values of rows; logs and XComs never have any.
    :param voucherify_conn_id: connection of type ``voucherify``; with OAuth its scope must have ``exports``.
    """

    template_fields: Sequence[str] = (
        *("fields", "filters", "order", "campaign_id", "path", "table", "conn_id", "merge_on", "fail_if", "warn_if"),
        "voucherify_conn_id",
    )
    template_fields_renderers = dict.fromkeys(("fields", "filters", "fail_if", "warn_if"), "json")
    checked_limits = ("rows_below",)
    operator_extra_links = EXPORT_LINKS
    ui_color = UI_COLOR
    summary: ExportSummary | None = None
    get_openlineage_facets_on_complete = get_openlineage_facets_on_failure = openlineage_facets_of_export
    render_template = render_template

    def __init__(
        self,
        *,
        exported_object: str,
        fields: Sequence[str] | None = None,
        filters: Mapping[str, Any] | None = None,
        order: str | None = None,
        campaign_id: str | None = None,
        path: str | os.PathLike[str] | None = None,
        table: str | None = None,
        conn_id: str | None = None,
        merge_on: str | None = None,
        fail_if: Limits | Mapping[str, Any] | None = None,
        warn_if: Limits | Mapping[str, Any] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float | timedelta | None = None,
        completion_timeout: float | timedelta = timedelta(hours=6),
        hide_values: bool = False,
        voucherify_conn_id: str = "voucherify_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.exported_object = exported_object
        self.fields = fields
        self.filters = filters
        self.order = order
        self.campaign_id = campaign_id
        self.path = path
        self.table = table
        self.conn_id = conn_id
        self.merge_on = merge_on
        self.fail_if = fail_if
        self.warn_if = warn_if
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.completion_timeout = completion_timeout
        self.hide_values = hide_values
        self.voucherify_conn_id = voucherify_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Create an export, wait, and write its rows; see the class for what is returned and raised."""
        with self._run(context) as run, errors_without_values(self):
            check(self, rendered=True)
            return run.execute()

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Resume with the trigger's event; see ``VoucherifyExportTrigger``."""
        with self._run(context) as run, errors_without_values(self):
            return run.resume(event)

    def on_kill(self) -> None:
        """Stop waiting and writing. The export stays at Voucherify, and a retry goes on with it."""
        self._killed = True

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, *args: Any, **kwargs: Any
    ) -> None:
        fields = fields_to_render(self, parent, template_fields, context)
        super()._do_render_template_fields(parent, fields, context, *args, **kwargs)

    def _run(self, context: Context) -> ExportRun:
        self._killed = False
        return ExportRun(self, context, lambda: self._killed)

    def _wrong(self, is_known: Callable[[str], bool]) -> Iterator[Wrong]:
        yield from wrong_export(self, is_known)
