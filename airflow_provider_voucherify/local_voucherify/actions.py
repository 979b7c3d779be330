"""
Async actions: their place in the queue, their processing and the object that the API shows.

An action's times are fixed when it is scheduled, so its status is a function of the clock and nothing runs in the
background. Fields and values are the contract's; if the vendor is silent the choice is named here:
``operation_status`` is ``UNKNOWN`` until the end, then ``FAILED`` only if every record failed; a failed record is in
the report with ``updated`` false. Against the contract, which has errors alone there, results of metadata updates have
counts and reports too, as in the vendor's examples.
"""

from __future__ import annotations

import csv
import io
import math
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal

from airflow_provider_voucherify.local_voucherify.endpoints import BulkEndpoint, CsvImportEndpoint
from airflow_provider_voucherify.local_voucherify.metadata_schema import object_name
from airflow_provider_voucherify.local_voucherify.options import MetadataMode, MissingVouchers, ResultShape
from airflow_provider_voucherify.local_voucherify.records import RecordStore
from airflow_provider_voucherify.local_voucherify.validation import Payload, Problem, RecordRules

_FOUND, _UPDATED = 1, 2
_REPORT_ROWS_PER_CHUNK = 5_000

Unfinished = Literal["ENQUEUED", "IN_PROGRESS"]
WireHook = Callable[["Action", dict[str, Any]], dict[str, Any]]
"""Takes an action and the object that the API would show, gives the object that it does show."""


def wire_time(seconds: float) -> str:
    """Return a time in seconds since the epoch as the API writes it, e.g. ``2022-09-05T11:40:17.098Z``."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class ActionScript:
    """
    How the next action departs from what its records would give.

    :param stuck: the unfinished status that it keeps for ever, None for an action that ends.
    :param seconds: how long it takes, None for what the options say.
    :param applies_records: whether its records are stored at all.
    :param result_fields: fields to overwrite in the finished action's ``result``.
    :param fields: fields to overwrite in the finished action.
    :param without: fields to leave out of the finished action.
    """

    stuck: Unfinished | None = None
    seconds: float | None = None
    applies_records: bool = True
    result_fields: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    without: Collection[str] = ()


def failed_as_a_whole() -> ActionScript:
    """Return the script of an action that ends ``FAILED``, changes nothing and has no result."""
    return ActionScript(
        applies_records=False,
        fields={"status": "FAILED", "operation_status": "FAILED", "progress": 0},
        without=("result",),
    )


@dataclass(frozen=True, slots=True)
class Report:
    """
    What happened to each record: the rows of the report files.

    :param key: name of the first column, ``source_id`` or ``code``.
    :param ids: the ids in the order of the request; an empty string if a record had none.
    :param flags: for each id a byte with the bits for found and updated.
    """

    key: str
    ids: list[str] = field(default_factory=list)
    flags: bytearray = field(default_factory=bytearray)

    def add(self, record_id: str, *, found: bool, updated: bool) -> None:
        """Append the row of one record."""
        self.ids.append(record_id)
        self.flags.append(found * _FOUND + updated * _UPDATED)

    def rows(self, first: int, last: int) -> Iterator[tuple[str, bool, bool]]:
        """Yield id, found and updated of the rows from ``first`` up to, without, ``last``."""
        for record_id, flags in zip(islice(self.ids, first, last), islice(self.flags, first, last), strict=True):
            yield record_id, bool(flags & _FOUND), bool(flags & _UPDATED)


@dataclass(frozen=True, slots=True)
class ReportFile:
    """
    One downloadable file: a slice of a report's rows.

    :param id: last segment of the file's URL.
    :param token: secret part of the URL.
    :param available_till: seconds since the epoch after which the file is gone.
    """

    id: str
    token: str
    report: Report
    first: int
    last: int
    available_till: float

    def csv_chunks(self) -> Iterator[str]:
        """Yield the file as CSV text with a header; that it is CSV is an assumption: the vendor names no format."""
        rows = self.report.rows(self.first, self.last)
        yield f"{self.report.key},found,updated\r\n"
        while chunk := list(islice(rows, _REPORT_ROWS_PER_CHUNK)):
            text = io.StringIO()
            csv.writer(text).writerows(
                (record_id, _csv_flag(found), _csv_flag(updated)) for record_id, found, updated in chunk
            )
            yield text.getvalue()


def _csv_flag(flag: bool) -> str:
    return "true" if flag else "false"


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What became of an action's records.

    :param errors: ``result.errors`` as the API shows it.
    :param report_files: the files that ``result.reports`` links to.
    """

    done_count: int
    failed_count: int
    errors: list[dict[str, str]]
    report: Report
    report_files: tuple[ReportFile, ...]

    def result(self, shape: ResultShape, reports_url: str) -> dict[str, Any]:
        """
        Return the action's ``result``.

        :param reports_url: the URL that report ids are appended to.
        """
        report = self.report
        if shape == "legacy":
            rows = report.rows(0, len(report.ids))
            results = [
                {report.key: record_id, "updated": updated, "found": found} for record_id, found, updated in rows
            ]
            return {"results": results, "done_count": self.done_count}
        if shape == "errors_only":
            return {"errors": self.errors}
        counts = {"done_count": self.done_count, "failed_count": self.failed_count}
        if shape == "no_report":
            return {**counts, "errors": self.errors}
        return {
            **counts,
            "reports": [f"{reports_url}{file.id}?token={file.token}" for file in self.report_files],
            "reports_available_till": wire_time(self.report_files[0].available_till),
            "errors": self.errors,
        }


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """
    The outcome of the rows of a CSV import.

    :param failed: ``result.failed`` as the API shows it.
    :param message: what the API says of it in a sentence.
    """

    done_count: int
    failed: list[dict[str, Any]]
    message: str

    @property
    def failed_count(self) -> int:
        """The number of rows that failed."""
        return len(self.failed)

    def result(self, shape: ResultShape, reports_url: str) -> dict[str, Any]:
        """Return the action's ``result``, which has one shape only and no report."""
        return {
            "message": self.message,
            "failed": self.failed,
            "done_count": self.done_count,
            "failed_count": self.failed_count,
        }


@dataclass(slots=True)
class Action:
    """
    One async action.

    :param created_at: when it was scheduled, in seconds since the epoch, to the millisecond.
    :param started_at: when its turn in the queue comes.
    :param finished_at: when it ends; infinity for one that is stuck.
    :param record_count: the number of records in the request.
    :param payload: the records until they are processed, then None.
    :param outcome: what became of them, None until then.
    """

    id: str
    request_id: str
    endpoint: BulkEndpoint | CsvImportEndpoint
    created_at: float
    started_at: float
    finished_at: float
    record_count: int
    payload: Payload | None
    script: ActionScript
    outcome: Outcome | ImportOutcome | None = None

    def status(self, now: float) -> str:
        """Return ``ENQUEUED``, ``IN_PROGRESS`` or ``DONE`` at a time; a script may show another one."""
        if self.script.stuck is not None:
            return self.script.stuck
        if now >= self.finished_at:
            return "DONE"
        return "IN_PROGRESS" if now >= self.started_at else "ENQUEUED"

    def wire(self, now: float, result_shape: ResultShape, reports_url: str) -> dict[str, Any]:
        """
        Return the object of ``GET /v1/async-actions/{id}``.

        :param reports_url: the URL that report ids are appended to.
        """
        status = self.status(now)
        shown: dict[str, Any] = {
            "id": self.id,
            "type": self.endpoint.action_type,
            "status": status,
            "operation_status": "UNKNOWN",
            "created_at": wire_time(self.created_at),
            "updated_at": wire_time(self._updated_at(status, now)),
            "request_id": self.request_id,
            "progress": self._progress(status, now),
            "object": "async_action",
        }
        if self.outcome is None:
            return shown
        shown["operation_status"] = _operation_status(self.outcome)
        shown["processing_time"] = round((self.finished_at - self.started_at) * 1000)
        shown["result"] = {**self.outcome.result(result_shape, reports_url), **self.script.result_fields}
        return {
            name: value for name, value in {**shown, **self.script.fields}.items() if name not in self.script.without
        }

    def _updated_at(self, status: str, now: float) -> float:
        if status == "ENQUEUED":
            return self.created_at
        return self.finished_at if status == "DONE" else now

    def _progress(self, status: str, now: float) -> int:
        if status == "DONE":
            return 100
        if status == "ENQUEUED" or math.isinf(self.finished_at):
            return 0
        return int(99 * (now - self.started_at) / (self.finished_at - self.started_at))


def _operation_status(outcome: Outcome | ImportOutcome) -> str:
    return "FAILED" if outcome.failed_count and not outcome.done_count else "SUCCESS"


@dataclass(frozen=True, slots=True)
class Processing:
    """
    How actions are processed.

    :param missing_vouchers: whether an unknown voucher code counts as done or failed.
    :param report_seconds: how long report files are kept.
    :param report_count: the number of files that a report is split into.
    """

    metadata_mode: MetadataMode
    missing_vouchers: MissingVouchers
    report_seconds: float
    report_count: int

    def process(self, action: Action, payload: Payload, rules: RecordRules, store: RecordStore) -> Outcome:
        """Return what becomes of the records of a bulk update, and store those that are right."""
        endpoint = rules.endpoint
        report = Report(endpoint.key)
        errors: list[dict[str, str]] = []
        at = wire_time(action.finished_at)
        for record in payload:
            record_id = _record_id(record, endpoint.key)
            found = record_id in store
            creates = not found and endpoint.upserts
            problem = rules.problem(record, creates=creates)
            exists_after = found or creates
            if problem is None and not exists_after and self.missing_vouchers == "failed":
                problem = _missing(endpoint, record_id)
            if problem is not None:
                errors.append(_error(endpoint, record_id, problem))
            elif exists_after and action.script.applies_records:
                store.update(record_id, _changes(record, endpoint), self.metadata_mode, at)
            report.add(record_id, found=found, updated=problem is None and exists_after)
        return Outcome(
            done_count=len(report.ids) - len(errors),
            failed_count=len(errors),
            errors=errors,
            report=report,
            report_files=self._files(action, report),
        )

    def _files(self, action: Action, report: Report) -> tuple[ReportFile, ...]:
        rows_per_file = math.ceil(len(report.ids) / self.report_count)
        return tuple(
            ReportFile(
                id=f"report_{action.id.removeprefix('aa_')}_{number}",
                token=secrets.token_urlsafe(24),
                report=report,
                first=number * rows_per_file,
                last=(number + 1) * rows_per_file,
                available_till=action.finished_at + self.report_seconds,
            )
            for number in range(self.report_count)
        )


def _record_id(record: Any, key: str) -> str:
    record_id = record.get(key) if isinstance(record, dict) else None
    return record_id if isinstance(record_id, str) else ""


def _changes(record: dict[str, Any], endpoint: BulkEndpoint) -> dict[str, Any]:
    changes = {name: value for name, value in record.items() if name in endpoint.fields and name != endpoint.key}
    return with_both_birthdates(changes)


def with_both_birthdates(changes: dict[str, Any]) -> dict[str, Any]:
    """Let ``birthdate`` and the deprecated ``birthday`` stand in for each other, if only one is there."""
    birthdate, birthday = changes.get("birthdate"), changes.get("birthday")
    if birthdate is None and birthday is None:
        return changes
    return {**changes, "birthdate": birthdate or birthday, "birthday": birthday or birthdate}


def _missing(endpoint: BulkEndpoint, record_id: str) -> Problem:
    details = f"Cannot find {object_name(endpoint.resource)} with id {record_id}"
    return Problem("not_found", "Resource not found", details)


def _error(endpoint: BulkEndpoint, record_id: str, problem: Problem) -> dict[str, str]:
    """Return an entry of ``errors``; by the vendor's schema only the bulk endpoints name the record in it."""
    entry = {"message": problem.message, "details": problem.details, "key": problem.key}
    return entry if endpoint.ids_field is not None else {**entry, endpoint.key: record_id}
