"""What became of the records of one action: every documented shape of result, and every contradiction."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from report_rows import ReportRow, in_columns

from airflow_provider_voucherify.client import calls
from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.sync.results.settlement import settle
from airflow_provider_voucherify.sync.types.outcome import ActionOutcome

UPDATED, CREATED, UNCHANGED, MISSING = (True, True), (False, True), (True, False), (False, False)


def action(
    result: dict[str, Any] | None = None, status: str = "DONE", operation: str | None = "SUCCESS"
) -> AsyncAction:
    fields = {"id": "aa_1", "type": "CUSTOMERS.BULK_UPDATE", "status": status, "operation_status": operation}
    return AsyncAction.model_validate(fields | {"result": result})


def report(**rows: tuple[bool | None, bool | None]) -> list[ReportRow]:
    return [ReportRow(record_id, *flags) for record_id, flags in rows.items()]


def error(record_id: str | None = None, key: str = "invalid_payload", member: str = "source_id") -> dict[str, Any]:
    return {"key": key, "message": "Invalid payload", "details": "why"} | (
        {} if record_id is None else {member: record_id}
    )


def told(outcome: ActionOutcome) -> dict[str, int | None]:
    names = ("updated", "created", "succeeded", "not_updated", "failed", "not_reported")
    return {name: value for name in names if (value := getattr(outcome, name)) != 0}


@pytest.mark.parametrize(
    ("result", "rows", "expected"),
    [
        (
            {"done_count": 3, "failed_count": 0, "errors": [], "reports": ["u"]},
            report(a=UPDATED, b=CREATED, c=UPDATED),
            {"updated": 2, "created": 1, "succeeded": 3},
        ),
        (
            {"done_count": 3, "failed_count": 0, "errors": []},
            None,
            {"updated": None, "created": None, "succeeded": 3},
        ),
        (
            {"done_count": 2, "failed_count": 1, "errors": [error("c")]},
            report(a=UPDATED, b=CREATED, c=UNCHANGED),
            {"updated": 1, "created": 1, "succeeded": 2, "failed": 1},
        ),
        (
            {"done_count": 2, "failed_count": 1, "errors": [error("c")]},
            None,
            {"updated": None, "created": None, "succeeded": 2, "failed": 1},
        ),
        ({"errors": [error("a"), error("a"), error("c")]}, None, {"failed": 2, "not_reported": 1}),
        ({"errors": []}, None, {"not_reported": 3}),
        ({}, None, {"not_reported": 3}),
        (None, None, {"not_reported": 3}),
        ({"done_count": 1, "failed_count": 2}, None, {"updated": None, "created": None, "succeeded": 1, "failed": 2}),
        ({"done_count": 0, "failed_count": 3}, None, {"failed": 3}),
        (
            {"done_count": 3, "failed_count": 0, "errors": []},
            report(a=UPDATED, b=UNCHANGED, c=UNCHANGED),
            {"updated": 1, "succeeded": 1, "not_updated": 2},
        ),
        (
            {"done_count": 3, "failed_count": 0, "errors": []},
            report(a=UPDATED, b=CREATED),
            {"updated": 1, "created": 1, "succeeded": 2, "not_reported": 1},
        ),
        (
            {"done_count": 3},
            report(a=(None, True), b=UPDATED, c=CREATED),
            {"updated": None, "created": None, "succeeded": 3},
        ),
        ({"done_count": 3}, [], {"not_reported": 3}),
    ],
    ids=str,
)
def test_results_of_an_update_of_three_customers(
    result: dict[str, Any] | None, rows: list[ReportRow] | None, expected: dict[str, int | None]
) -> None:
    assert told(settle(action(result), 3, upserts=True, report=in_columns(rows))) == expected


@pytest.mark.parametrize(
    ("result", "rows", "expected"),
    [
        (
            {"done_count": 3, "failed_count": 0, "errors": []},
            report(a=UPDATED, b=UPDATED, c=UPDATED),
            {"updated": 3, "succeeded": 3},
        ),
        ({"done_count": 3, "failed_count": 0, "errors": []}, None, {"updated": None, "succeeded": 3}),
        (
            {"done_count": 3, "failed_count": 0, "errors": []},
            report(a=UPDATED, b=UPDATED, c=MISSING),
            {"updated": 2, "succeeded": 2, "failed": 1},
        ),
        (
            {"done_count": 2, "failed_count": 1, "errors": [error("c", "not_found", "code")]},
            report(a=UPDATED, b=UPDATED, c=MISSING),
            {"updated": 2, "succeeded": 2, "failed": 1},
        ),
        (
            {"results": [{"code": c, "found": c != "c", "updated": c != "c"} for c in "abc"], "done_count": 3},
            None,
            {"updated": 2, "succeeded": 2, "failed": 1},
        ),
        (
            {"done_count": 3, "failed_count": 0, "errors": []},
            report(a=UPDATED, b=UPDATED, c=CREATED),
            {"updated": 2, "succeeded": 2, "failed": 1},
        ),
    ],
    ids=str,
)
def test_results_of_an_update_of_three_vouchers(
    result: dict[str, Any], rows: list[ReportRow] | None, expected: dict[str, int | None]
) -> None:
    """A voucher is never created: one that was not found failed, whatever else is said of it."""
    assert told(settle(action(result), 3, upserts=False, report=in_columns(rows))) == expected


def test_a_missing_voucher_is_named_with_a_reason() -> None:
    outcome = settle(action({"done_count": 2}), 2, upserts=False, report=in_columns(report(a=UPDATED, b=MISSING)))

    failure = outcome.failures["b"]
    assert (failure.id, failure.key, failure.message) == ("b", "not_found", "there is no such voucher")
    assert failure.async_action_id == "aa_1"


@pytest.mark.parametrize(
    ("status", "operation", "result", "rows", "expected"),
    [
        ("FAILED", "FAILED", None, None, {"failed": 3}),
        ("FAILED", None, {"done_count": 1}, None, {"updated": None, "created": None, "succeeded": 1, "failed": 2}),
        ("FAILED", "FAILED", {"errors": [error("a")]}, None, {"failed": 3}),
        ("DONE", "FAILED", {"errors": []}, None, {"failed": 3}),
        ("DONE", "FAILED", {"done_count": 3, "failed_count": 0}, None, {"failed": 3}),
        ("DONE", "FAILED", {"done_count": 0, "failed_count": 3}, None, {"failed": 3}),
        ("DONE", "FAILED", {"done_count": 3}, report(a=UPDATED, b=UPDATED, c=UPDATED), {"failed": 3}),
        ("DONE", "UNKNOWN", {"done_count": 3}, None, {"updated": None, "created": None, "succeeded": 3}),
        ("DONE", None, {"done_count": 3}, None, {"updated": None, "created": None, "succeeded": 3}),
    ],
    ids=str,
)
def test_an_action_that_failed_as_a_whole(
    status: str,
    operation: str | None,
    result: dict[str, Any] | None,
    rows: list[ReportRow] | None,
    expected: dict[str, int | None],
) -> None:
    assert told(settle(action(result, status, operation), 3, upserts=True, report=in_columns(rows))) == expected


@pytest.mark.parametrize(
    ("result", "rows", "failed"),
    [
        ({"done_count": 3, "failed_count": 0, "errors": [error("c")]}, None, 1),
        ({"done_count": 3, "failed_count": 0, "errors": [error("c")]}, report(a=UPDATED, b=UPDATED, c=UPDATED), 1),
        ({"done_count": 3, "failed_count": 2, "errors": []}, report(a=UPDATED, b=UPDATED, c=UPDATED), 2),
        ({"done_count": 3, "failed_count": 9, "errors": []}, None, 3),
        ({"done_count": 0, "failed_count": 0, "errors": [error(), error()]}, None, 2),
        ({"done_count": 9, "failed_count": 1, "errors": []}, None, 1),
        ({"done_count": 3, "failed_count": 0}, report(a=UPDATED, b=UPDATED, c=MISSING), 1),
        ({"errors": [error(str(n)) for n in range(9)]}, None, 3),
    ],
    ids=str,
)
def test_of_a_contradiction_the_worse_reading_counts(
    result: dict[str, Any], rows: list[ReportRow] | None, failed: int
) -> None:
    outcome = settle(action(result), 3, upserts=True, report=in_columns(rows))

    assert outcome.failed == failed
    assert outcome.records == 3


def test_what_the_report_writes_and_the_count_does_not_is_no_success() -> None:
    outcome = settle(
        action({"done_count": 1}), 3, upserts=True, report=in_columns(report(a=UPDATED, b=CREATED, c=UPDATED))
    )

    assert told(outcome) == {"updated": None, "created": None, "succeeded": 1, "not_reported": 2}


def test_failures_that_overlap_with_written_rows_leave_created_unknown() -> None:
    outcome = settle(
        action({"done_count": 1, "failed_count": 2}),
        3,
        upserts=True,
        report=in_columns(report(a=UPDATED, b=CREATED, c=UPDATED)),
    )

    assert told(outcome) == {"updated": None, "created": None, "succeeded": 1, "failed": 2}


def test_errors_without_ids_and_rows_not_written_are_the_same_records() -> None:
    """A metadata update's errors name no record; its report shows which ones were not written."""
    result = {"done_count": 1, "failed_count": 2, "errors": [error(), error()]}

    outcome = settle(action(result), 3, upserts=True, report=in_columns(report(a=UPDATED, b=UNCHANGED, c=MISSING)))

    assert told(outcome) == {"updated": 1, "succeeded": 1, "failed": 2}
    assert outcome.failures.keys() == {"b", "c"}
    assert outcome.unnamed_failures == 0


def test_errors_without_ids_are_counted_and_their_reason_kept() -> None:
    outcome = settle(action({"errors": [error(key="metadata_validation_failed")]}), 3, upserts=True)

    assert (outcome.failed, outcome.unnamed_failures, outcome.not_reported) == (1, 1, 2)
    assert outcome.unnamed_reason is not None
    assert outcome.unnamed_reason.key == "metadata_validation_failed"


@pytest.mark.parametrize(
    ("result", "rows", "records"),
    [
        ({"done_count": 3, "failed_count": 2}, None, 5),
        ({"errors": [error("a")]}, None, 1),
        ({"done_count": 1}, report(a=UPDATED, b=CREATED), 2),
        ({"results": [{"source_id": "a", "found": True, "updated": True}]}, None, 1),
        (None, None, 0),
    ],
    ids=str,
)
def test_of_actions_sent_by_others_their_own_count_is_taken(
    result: dict[str, Any] | None, rows: list[ReportRow] | None, records: int
) -> None:
    assert settle(action(result), None, upserts=True, report=in_columns(rows)).records == records


def known(
    ids: str, result: dict[str, Any] | None, rows: list[ReportRow] | None = None, key: str = "source_id", **kwargs: Any
) -> tuple[dict[str, int | None], dict[str, str]]:
    """Settle an action of which it is known what was sent: counts, and what may be told of each record."""
    settled = settle(
        action(result, **kwargs), len(ids), upserts=key == "source_id", report=in_columns(rows), ids=ids, key=key
    )
    return told(settled), {record_id: settled.verdicts[settled.answers[record_id]] for record_id in ids}


@pytest.mark.parametrize(
    ("result", "rows", "counts", "records"),
    [
        (None, "aa", {"updated": 1, "succeeded": 1, "not_reported": 1}, {"a": "updated", "b": "not_reported"}),
        (None, "xy", {"not_reported": 2}, {"a": "not_reported", "b": "not_reported"}),
        ({"done_count": 2}, "xy", {"not_reported": 2}, {"a": "not_reported", "b": "not_reported"}),
        ({"done_count": 2}, "A", {"not_reported": 2}, {"a": "not_reported", "b": "not_reported"}),
        ({"done_count": 1}, "ax", {"not_reported": 2}, {"a": "not_reported", "b": "not_reported"}),
        (
            {"done_count": 2},
            "ax",
            {"updated": 1, "succeeded": 1, "not_reported": 1},
            {"a": "updated", "b": "not_reported"},
        ),
    ],
    ids=str,
)
def test_rows_of_others_and_repeated_rows_confirm_nobody(
    result: Any, rows: str, counts: dict[str, int], records: dict[str, str]
) -> None:
    report = [ReportRow(record_id, True, True) for record_id in rows]

    assert known("ab", result, report) == (counts, records)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([UPDATED, MISSING], "failed"),
        ([MISSING, UPDATED], "failed"),
        ([UNCHANGED, UPDATED], "not_updated"),
        ([CREATED, UPDATED], "succeeded"),
        ([UPDATED, (None, None)], "updated"),
    ],
    ids=str,
)
def test_of_what_a_report_says_of_one_record_the_worst_counts(rows: list[Any], expected: str) -> None:
    assert known("a", None, [ReportRow("a", *row) for row in rows])[1] == {"a": expected}


@pytest.mark.parametrize(
    ("result", "told_of_them"),
    [
        ({"done_count": 3}, "succeeded"),
        ({"done_count": 4}, "not_reported"),
        ({"done_count": 2}, "not_reported"),
        ({"done_count": "3"}, "not_reported"),
        ({"done_count": True}, "not_reported"),
        ({"done_count": 3, "failed_count": "1"}, "not_reported"),
        ({"done_count": 3, "errors": ["a text"]}, "not_reported"),
        ({"done_count": 3, "errors": [error("x")]}, "not_reported"),
    ],
    ids=str,
)
def test_a_count_confirms_whom_nobody_names_only_if_it_leaves_no_other_reading(
    result: dict[str, Any], told_of_them: str
) -> None:
    assert set(known("abc", result)[1].values()) == {told_of_them}


def test_an_action_that_failed_and_counts_all_as_done_failed() -> None:
    assert known("abc", {"done_count": 3}, status="FAILED")[0] == {"failed": 3}


def test_of_an_action_that_failed_as_a_whole_every_record_failed_whatever_its_report_says() -> None:
    rows = report(a=UPDATED, b=CREATED, c=UNCHANGED)

    counts, records = known("abc", {"done_count": 3, "failed_count": 0}, rows, operation="FAILED")

    assert (counts, set(records.values())) == ({"failed": 3}, {"failed"})


@pytest.mark.parametrize("operation", ["UNKNOWN", "PARTIAL", None])
@pytest.mark.parametrize("result", [None, {}, {"errors": []}], ids=repr)
def test_a_metadata_update_that_says_nothing_has_reported_nobody(
    operation: str | None, result: dict[str, Any] | None
) -> None:
    update = action(result, operation=operation).model_copy(update={"type": "CUSTOMERS.METADATA_UPDATE"})

    assert told(settle(update, 3, upserts=True)) == {"not_reported": 3}
    assert told(settle(action(result, operation=operation), 3, upserts=True)) == {"failed": 3}


def test_a_sensor_counts_no_more_records_than_the_action_itself() -> None:
    """The id of the error is spelled otherwise than in the report."""
    rows = report(a=UPDATED, b=UPDATED, c=UPDATED, d=MISSING)
    result = {"done_count": 3, "failed_count": 1, "errors": [error("D")]}

    assert settle(action(result), None, upserts=True, report=in_columns(rows)).records == 4


def test_a_sensor_counts_all_records_of_a_report_even_if_the_action_counts_fewer() -> None:
    result = {"done_count": 0, "failed_count": 1, "errors": [error("b")]}

    outcome = settle(action(result), None, upserts=True, report=in_columns(report(a=UPDATED, b=MISSING, c=UPDATED)))

    assert (outcome.records, outcome.failed, outcome.not_reported) == (3, 1, 2)


def test_the_status_in_an_error_of_the_general_form_is_not_an_id() -> None:
    refused = [{"code": 400, "key": "invalid_payload"}] * 3

    counts, records = known("abcde", {"done_count": 4, "errors": refused})

    assert counts == {"updated": None, "created": None, "succeeded": 2, "failed": 3}
    assert set(records.values()) == {"not_reported"}
    assert settle(action({"errors": refused}), 5, upserts=True).failures == {}
    assert known("abc", {"errors": [{"code": 400}]}, key="code")[0] == {"failed": 1, "not_reported": 2}


def test_a_number_is_an_id_only_where_it_was_sent_as_text() -> None:
    result = {"errors": [{"source_id": 1, "key": "bad"}, {"source_id": 2, "key": "bad"}]}

    counts, records = known("13", result)

    assert (counts, records["1"]) == ({"failed": 2}, "failed")


def test_a_report_that_breaks_off_confirms_nobody_and_its_failures_stand() -> None:
    def rows() -> Iterator[ReportRow]:
        yield from report(a=UPDATED, b=MISSING)
        raise VoucherifyReportError("cut off")

    settled = settle(action({"done_count": 3}), 3, upserts=False, report=in_columns(rows()), ids="abc", key="code")

    assert told(settled) == {"updated": None, "succeeded": 2, "failed": 1}
    assert settled.failures.keys() == {"b"}


@pytest.mark.parametrize("name", ["errors", "failed", "results"])
@pytest.mark.parametrize("entry", [b"{}", b'{"a":[[],[],[]]}', b"[]"])
def test_an_answer_with_very_many_entries_takes_little_more_memory_than_its_bytes(name: str, entry: bytes) -> None:
    content = b'{"id":"aa_1","status":"DONE","result":{"' + name.encode() + b'":[' + entry + b"," + entry
    content += (b"," + entry) * (300_000 // len(entry)) + b"]}}"
    tracemalloc.start()
    call = calls.get_async_action("aa_1")
    settled = settle(call.parse(call.decode(content)), 3, upserts=True, ids="abc", key="source_id")
    waiting = calls.async_action_status("aa_1")
    assert waiting.parse(waiting.decode(content)).result_json is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert settled.records == 3
    assert settled.succeeded == 0
    assert peak < 3 * len(content) + 500_000


def test_more_errors_than_can_be_meant_fail_all_records() -> None:
    result = {"done_count": 3, "errors": [error("a")] * 1_001}

    assert known("abc", result)[0] == {"failed": 3}


def test_a_reason_of_any_length_is_kept_short_and_the_id_whole() -> None:
    long = "x" * 1_000_000
    settled = settle(action({"errors": [{**error("c" * 3_000), "message": long}], "failed_count": 1}), 1, upserts=True)

    (failure,) = settled.failures.values()
    assert failure.message == "x" * 1_999 + "…"
    assert failure.id == "c" * 3_000
