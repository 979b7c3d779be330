"""What becomes of the records of a bulk update, and which bodies are refused at once, as the options say."""

from __future__ import annotations

import math
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import Any

from airflow_provider_voucherify.local_voucherify import errors
from airflow_provider_voucherify.local_voucherify.actions import Action, Outcome, wire_time
from airflow_provider_voucherify.local_voucherify.endpoints import BulkEndpoint
from airflow_provider_voucherify.local_voucherify.metadata_schema import object_name
from airflow_provider_voucherify.local_voucherify.options import MetadataMode, Options
from airflow_provider_voucherify.local_voucherify.records import RecordStore
from airflow_provider_voucherify.local_voucherify.report_files import Report, ReportFile
from airflow_provider_voucherify.local_voucherify.validation import Payload, Problem, RecordRules

SEVERAL_REPORTS = 3


@dataclass(frozen=True, slots=True)
class Processing:
    """
    How the records of one endpoint are processed.

    :param rules: what a record must satisfy.
    :param store: the objects of the endpoint's resource.
    """

    options: Options
    rules: RecordRules
    store: RecordStore

    def refuse(self, payload: Payload) -> None:
        """Raise the ``ApiError`` for a body whose records are looked at before it is accepted."""
        options, endpoint = self.options, self.rules.endpoint
        if not len(payload) and endpoint.ids_field is None and options.empty_records == "refused":
            raise errors.invalid_payload("Payload should have at least 1 element")
        if options.same_id_twice == "refused" and self._ids_given_twice(payload):
            raise errors.invalid_payload(f"Property .{endpoint.key} must be unique")
        for record in payload if options.wrong_record == "refused" else ():
            problem = self._problem(record, found=self._key(record) in self.store)
            if problem is not None and problem.key != "not_found":
                raise errors.refused(problem.key, problem.message, problem.details)
        for record in payload if options.missing_vouchers == "refused" else ():
            if not endpoint.upserts and self._key(record) not in self.store:
                raise errors.not_found(object_name(endpoint.resource), self._key(record))

    def process(self, action: Action, payload: Payload) -> Outcome:
        """Return what becomes of the records, and store those that are right."""
        endpoint = self.rules.endpoint
        report = Report(endpoint.key)
        failed: list[dict[str, str]] = []
        at, mode = wire_time(action.finished_at), self._metadata_mode
        twice = self._ids_given_twice(payload) if self.options.same_id_twice != "last" else frozenset()
        done: set[str] = set()
        for record in payload:
            record_id, key = _record_id(record, endpoint.key), self._key(record)
            found = key in self.store
            if self.options.same_id_twice == "failed" and key in twice:
                problem: Problem | None = _duplicate(endpoint, record_id)
            else:
                problem = self._problem(record, found=found)
            exists_after = found or endpoint.upserts
            is_later_one = self.options.same_id_twice == "first" and key in done
            updated = problem is None and exists_after and not is_later_one
            if problem is not None:
                failed.append(_error(endpoint, record_id, problem))
            elif updated and action.script.applies_records:
                self._write(key, record, mode, at)
            done.add(key)
            report.add(record_id, found=found, updated=updated)
        return self._outcome(action, report, failed)

    def _outcome(self, action: Action, report: Report, failed: list[dict[str, str]]) -> Outcome:
        words, counted = "DONE/SUCCESS", len(failed)
        if failed and len(failed) == len(report.ids):
            words = self.options.total_status
        elif failed:
            words, counted = self.options.partial_status, 0 if self.options.partial_counts == "all_done" else counted
        return Outcome(
            done_count=len(report.ids) - counted,
            failed_count=counted,
            errors=failed,
            report=report,
            report_files=self._files(action, report),
            words=words,
        )

    def _files(self, action: Action, report: Report) -> tuple[ReportFile, ...]:
        count = SEVERAL_REPORTS if self.options.result_shape == "several_reports" else 1
        rows_per_file = math.ceil(len(report.ids) / count)
        return tuple(
            ReportFile(
                id=f"report_{action.id.removeprefix('aa_')}_{number}",
                token=secrets.token_urlsafe(24),
                report=report,
                first=number * rows_per_file,
                last=(number + 1) * rows_per_file,
                available_till=action.finished_at + self.options.report_seconds,
            )
            for number in range(count)
        )

    def _key(self, record: Any) -> str:
        return self.store.own_spelling(_record_id(record, self.rules.endpoint.key))

    def _ids_given_twice(self, payload: Payload) -> frozenset[str]:
        return frozenset(key for key, times in Counter(map(self._key, payload)).items() if times > 1)

    def _problem(self, record: Any, *, found: bool) -> Problem | None:
        """Return why a record fails, None if it does not."""
        endpoint = self.rules.endpoint
        creates = not found and endpoint.upserts
        metadata = record.get("metadata", {}) if isinstance(record, dict) else {}
        checked = record
        if metadata is None and self.options.null_metadata != "failed":
            checked = {**record, "metadata": {}}
        problem = self.rules.problem(checked, creates=creates)
        if problem is None and self.options.null_member == "failed" and None in (metadata or {}).values():
            problem = Problem("invalid_payload", "Invalid payload", "Property .metadata has a member that is null")
        if problem is None and not found and not creates and self.options.missing_vouchers == "failed":
            details = f"Cannot find {object_name(endpoint.resource)} with id {_record_id(record, endpoint.key)}"
            problem = Problem("not_found", "Resource not found", details)
        return problem

    def _write(self, key: str, record: dict[str, Any], mode: MetadataMode, at: str) -> None:
        """Store a record; null in ``metadata`` and null for it as the options say."""
        changes = _changes(record, self.rules.endpoint)
        metadata = changes.get("metadata", {})
        if metadata is None and self.options.null_metadata == "kept":
            del changes["metadata"]
        elif metadata is None:
            changes["metadata"], mode = (None if self.options.null_metadata == "stored" else {}), "replace"
        elif self.options.null_member != "stored" and None in metadata.values():
            rest = {name: value for name, value in metadata.items() if value is not None}
            if self.options.null_member == "removed" and mode == "merge" and key in self.store:
                before = self.store[key].get("metadata") or {}
                rest, mode = {name: before[name] for name in before.keys() - metadata.keys()} | rest, "replace"
            changes["metadata"] = rest
        self.store.update(key, changes, mode, at)

    @property
    def _metadata_mode(self) -> MetadataMode:
        endpoint = self.rules.endpoint
        call = f"{endpoint.resource}/{'bulk' if endpoint.ids_field is None else 'metadata'}"
        return "replace" if call in self.options.metadata_replaced_by else self.options.metadata_mode


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


def _duplicate(endpoint: BulkEndpoint, record_id: str) -> Problem:
    details = f"Duplicated {object_name(endpoint.resource)} exists with id {record_id}"
    return Problem("duplicate_found", "Duplicated resource found", details)


def _error(endpoint: BulkEndpoint, record_id: str, problem: Problem) -> dict[str, str]:
    """Return an entry of ``errors``; by the vendor's schema only the bulk endpoints name the record in it."""
    entry = {"message": problem.message, "details": problem.details, "key": problem.key}
    return entry if endpoint.ids_field is not None else {**entry, endpoint.key: record_id}
