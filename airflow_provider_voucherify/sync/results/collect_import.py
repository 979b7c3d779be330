"""
The outcome of the rows of a CSV import.

The result of an import has no report. It counts rows as done and failed and names the failed ones by their number in
the file, so ``updated`` and ``created`` cannot be distinguished. Rows that it does not count are ``not_reported``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from itertools import accumulate
from typing import IO, Any, Literal

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.bulk_result import BulkResult
from airflow_provider_voucherify.sync.batches.csv_file import CsvFile
from airflow_provider_voucherify.sync.results.failure_files import FailuresFolder, HiddenFailures, copy_into
from airflow_provider_voucherify.sync.results.finished import ActionGetter, settle_all
from airflow_provider_voucherify.sync.results.settlement import settle
from airflow_provider_voucherify.sync.results.summary import SyncSummary
from airflow_provider_voucherify.sync.results.totals import Totals
from airflow_provider_voucherify.sync.rows.failure_lines import failure_line
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.hiding import Hiding
from airflow_provider_voucherify.sync.types.outcome import ActionOutcome
from airflow_provider_voucherify.sync.types.settled import Listener, Settled, Shown
from airflow_provider_voucherify.sync.types.submitted import SubmittedBatch, SubmittedSync


def collect_import_outcomes(
    sync: SubmittedSync,
    api: ActionGetter,
    *,
    resource: str,
    folder: FailuresFolder | None = None,
    file: Callable[[], CsvFile | None] = lambda: None,
    listeners: Iterable[Listener] = (),
    seen: dict[str, AsyncAction] | None = None,
    on_all_finished: Callable[[], None] = lambda: None,
    hiding: Hiding | None = None,
) -> SyncSummary:
    """
    Fetch every action once and return the summary.

    :param folder: gets ``failures.jsonl``.
    :param file: returns what was sent, so that ``failures.jsonl`` has complete rows; None if it is gone.
    :param hiding: leaves ids and values out of the summary and the folder; None to tell all.
    :param listeners: get each settled part too.
    :param seen: see ``settle_all``, also for ``on_all_finished`` and the errors.
    """
    totals = Totals(sync)
    first_rows = [0, *accumulate(batch.records or 0 for batch in sync.batches)]

    def judge(number: int, batch: SubmittedBatch, action: AsyncAction) -> Settled:
        outcome = settle(action, batch.records, upserts=True, key="source_id")
        named = _named(action, first_rows[number - 1] + 1, batch.records or 0)
        unnamed = None if outcome.failed <= len(named) else _unnamed(action, outcome)
        return Settled(action.id, number, outcome, outcome, named, unnamed)

    with tempfile.TemporaryFile(prefix="voucherify-") as lines:
        of_rows: Listener = _FailedRows(lines, cache(file)) if hiding is None else HiddenFailures(lines)
        everyone = (*listeners, totals) if folder is None else (*listeners, totals, of_rows)
        shown = [Shown(listener, hiding) for listener in everyone]
        settle_all(sync, api, judge, shown, seen=seen, on_all_finished=on_all_finished)
        if folder is not None:
            copy_into(folder, "failures.jsonl", lines)
    return totals.summary(resource, folder)


def _named(action: AsyncAction, first_row: int, rows: int) -> list[Failure]:
    """Return the failures that name a row of a part, each row once, with its number in the whole file."""
    named: dict[int, Failure] = {}
    for failed in BulkResult.of(action).failed:
        if len(named) == rows:
            break
        if failed.row is not None and 1 <= failed.row <= rows and (row := first_row + failed.row - 1) not in named:
            place = f"row {row} of the file"
            named[row] = Failure("failed", failed.record_id("source_id"), None, failed.reason, place, action.id, row)
    return [*named.values()]


def _unnamed(action: AsyncAction, outcome: ActionOutcome) -> Failure:
    """Return the reason for failures that name no row."""
    if outcome.unnamed_reason is not None and outcome.unnamed_reason.row is None:
        return outcome.unnamed_reason
    return Failure("failed", None, None, "Voucherify does not say which rows failed", None, action.id)


class _FailedRows:
    """
    Records the failed rows of each part.

    If Voucherify counts more failures than it names, every row of the batch that it does not name is included.

    :param lines: the lines of ``failures.jsonl``.
    :param sent: returns what was sent; None if it is gone.
    """

    def __init__(self, lines: IO[bytes], sent: Callable[[], CsvFile | None]) -> None:
        self._lines = lines
        self._sent = sent

    def add(self, settled: Settled) -> None:
        """Write the failed rows of one part."""
        if not settled.outcome.failed:
            return
        if (file := self._sent()) is None:
            for failure in settled.failures:
                self._write(failure, "id", {} if failure.id is None else {"source_id": failure.id})
            if settled.unnamed is not None:
                self._write(settled.unnamed, "id", {})
            return
        batch = file.batches[settled.number - 1]
        named = {failure.row: failure for failure in settled.failures if failure.row is not None}
        numbers = named.keys() if settled.unnamed is None else range(batch.first_row, batch.first_row + batch.records)
        for row, values in file.values(batch, numbers):
            failure = named.get(row) or replace(settled.unnamed or named[row], row=row)
            self._write(failure, "row", values)

    def _write(self, failure: Failure, form: Literal["row", "id"], content: Mapping[str, Any]) -> None:
        self._lines.write(failure_line(failure, form, content))
