"""
Async actions: their place in the queue, their processing and the object that the API shows.

An action's times are fixed when it is scheduled, so its status is a function of the clock and nothing runs in the
background. Fields and values are the contract's; if the vendor is silent the choice is named here or an option:
``operation_status`` is ``UNKNOWN`` until the end; a failed record is in the report with ``updated`` false. Against the
contract, which has errors alone there, results of metadata updates have counts and reports too, as in the vendor's
examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from airflow_provider_voucherify.local_voucherify.endpoints import BulkEndpoint, CsvImportEndpoint
from airflow_provider_voucherify.local_voucherify.options import Options, ResultShape
from airflow_provider_voucherify.local_voucherify.report_files import Report, ReportFile
from airflow_provider_voucherify.local_voucherify.validation import Payload

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
class Outcome:
    """
    What became of an action's records.

    :param errors: ``result.errors`` as the API shows it.
    :param report_files: the files that ``result.reports`` links to.
    :param words: ``status/operation_status``; ``none`` leaves the second one out.
    """

    done_count: int
    failed_count: int
    errors: list[dict[str, str]]
    report: Report
    report_files: tuple[ReportFile, ...]
    words: str

    def result(self, shape: ResultShape, reports_url: str, *, tells_expiry: bool) -> dict[str, Any]:
        """
        Return the action's ``result``.

        :param reports_url: the URL that report ids are appended to.
        :param tells_expiry: whether it says until when its reports can be downloaded.
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
        till = {"reports_available_till": wire_time(self.report_files[0].available_till)}
        return {
            **counts,
            "reports": [f"{reports_url}{file.id}?token={file.token}" for file in self.report_files],
            **(till if tells_expiry else {}),
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

    @property
    def words(self) -> str:
        """The status and the operation status."""
        return "DONE/FAILED" if self.failed and not self.done_count else "DONE/SUCCESS"

    def result(self, shape: ResultShape, reports_url: str, *, tells_expiry: bool) -> dict[str, Any]:
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

    def wire(self, now: float, options: Options, reports_url: str) -> dict[str, Any]:
        """
        Return the object of ``GET /v1/async-actions/{id}``.

        :param options: say in which shape.
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
        shown["status"], _, operation_status = self.outcome.words.partition("/")
        shown["operation_status"] = operation_status
        if operation_status == "none":
            del shown["operation_status"]
        shown["processing_time"] = round((self.finished_at - self.started_at) * 1000)
        result = self.outcome.result(options.result_shape, reports_url, tells_expiry=options.report_expiry_told)
        shown["result"] = {**result, **self.script.result_fields}
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
