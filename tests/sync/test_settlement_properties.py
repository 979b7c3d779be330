"""What holds for every answer that Voucherify could give, however contradictory: each record is counted once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from report_rows import ReportRow, in_columns

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.models.errors import VoucherifyReportError
from airflow_provider_voucherify.sync.results.settlement import settle
from airflow_provider_voucherify.sync.types.outcome import WRITTEN

IDS = st.sampled_from("abcdefgh")
FLAGS = st.none() | st.booleans()
COUNTS = st.none() | st.integers(-1, 12)
ERRORS = st.lists(
    st.fixed_dictionaries({"key": st.just("k"), "message": st.just("m")}, optional={"source_id": IDS, "code": IDS}),
    max_size=6,
)
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "done_count": COUNTS,
        "failed_count": COUNTS,
        "errors": ERRORS,
        "reports": st.just(["https://download.voucherify.io/1"]),
        "results": st.lists(st.fixed_dictionaries({"source_id": IDS, "found": FLAGS, "updated": FLAGS}), max_size=6),
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
STATUSES = st.sampled_from(["DONE", "FAILED"])
OPERATIONS = st.sampled_from([None, "SUCCESS", "FAILED", "UNKNOWN", "OTHER"])
TOGETHER = st.sampled_from([1, 2, 3, 100])
"""How many rows of a report are read at once."""

REPORTS = st.none() | st.lists(st.builds(ReportRow, st.none() | IDS, FLAGS, FLAGS), max_size=12)


def finished(status: str, operation: str | None, result: Any) -> AsyncAction:
    fields = {"id": "aa_1", "status": status, "operation_status": operation, "result": result}
    return AsyncAction.model_validate(fields)


@given(STATUSES, OPERATIONS, st.none() | RESULTS, st.integers(0, 10), st.booleans(), REPORTS)
def test_every_record_is_counted_once(
    status: str, operation: str | None, result: Any, sent: int, upserts: bool, report: list[ReportRow] | None
) -> None:
    outcome = settle(finished(status, operation, result), sent, upserts=upserts, report=in_columns(report))

    counts = (outcome.succeeded, outcome.not_updated, outcome.failed, outcome.not_reported)
    assert min(counts) >= 0
    assert sum(counts) == outcome.records == sent
    if outcome.updated is not None and outcome.created is not None:
        assert min(outcome.updated, outcome.created) >= 0
        assert outcome.updated + outcome.created == outcome.succeeded
    if not upserts:
        assert outcome.created == 0
    assert outcome.unnamed_failures >= 0


NAMES = IDS | st.sampled_from(["A", " a", "", "1", "x"])
"""Ids that were sent, and such as look like one."""
ANYBODY = NAMES | st.sampled_from([1, 400, True, None, 1.5]) | st.lists(IDS, max_size=1)
ENTRIES = st.lists(
    st.none()
    | NAMES
    | st.dictionaries(st.sampled_from(["source_id", "code"]), ANYBODY)
    | st.fixed_dictionaries({"row": st.integers(-1, 12)}, optional={"source_id": ANYBODY}),
    max_size=8,
)
ODD_COUNTS = COUNTS | st.sampled_from([True, "3", 3.0, 10**30, -3])
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "done_count": ODD_COUNTS,
        "failed_count": ODD_COUNTS,
        "errors": ENTRIES,
        "failed": ENTRIES,
        "results": st.lists(
            st.fixed_dictionaries({"source_id": ANYBODY, "found": FLAGS, "updated": FLAGS}), max_size=6
        ),
    },
)


@st.composite
def reports(draw: st.DrawFn) -> tuple[list[ReportRow], bool] | None:
    """Give rows about anybody, and whether the report breaks off after them."""
    if draw(st.booleans()):
        return None
    rows = draw(st.lists(st.builds(ReportRow, st.none() | NAMES, FLAGS, FLAGS), max_size=12))
    return rows, draw(st.booleans())


def breaking_off(rows: list[ReportRow], *, breaks: bool) -> Iterator[ReportRow]:
    yield from rows
    if breaks:
        raise VoucherifyReportError("cut off")


@settings(max_examples=1_000)
@given(
    STATUSES,
    OPERATIONS,
    st.none() | ANSWERS,
    st.sets(IDS | st.just("1")),
    st.booleans(),
    reports(),
    st.booleans(),
    TOGETHER,
)
def test_whatever_is_answered_nobody_is_confirmed_who_may_have_failed(
    status: str,
    operation: str | None,
    result: Any,
    sent: set[str],
    upserts: bool,
    report: tuple[list[ReportRow], bool] | None,
    vouchers: bool,
    together: int,
) -> None:
    key = "code" if vouchers else "source_id"
    rows = [] if report is None else report[0]
    outcome = settle(
        finished(status, operation, result),
        len(sent),
        upserts=upserts,
        report=None if report is None else in_columns(breaking_off(rows, breaks=report[1]), together),
        ids=sorted(sent),
        key=key,
    )

    counts = (outcome.succeeded, outcome.not_updated, outcome.failed, outcome.not_reported)
    assert min(counts) >= 0
    assert sum(counts) == len(sent)
    assert outcome.answers.keys() == sent
    assert outcome.failures.keys() <= sent
    assert sum(outcome.failures_by_key.values()) == outcome.failed
    confirmed = {record_id for record_id in sent if outcome.verdicts[outcome.answers[record_id]] in WRITTEN}
    assert len(confirmed) <= outcome.succeeded
    entries = [*(result or {}).get("errors", []), *(result or {}).get("failed", [])]
    objects = [entry for entry in entries if isinstance(entry, dict)]
    assert not confirmed & {entry[key] for entry in objects if isinstance(entry.get(key), str)}
    legacy = [ReportRow(row.get(key), row["found"], row["updated"]) for row in (result or {}).get("results", [])]
    if key == "source_id":  # a number is the id whose text was sent
        legacy = [row._replace(record_id=str(row.record_id)) if row.record_id == 1 else row for row in legacy]
    said = rows if report is not None else [row for row in legacy if isinstance(row.record_id, str)]
    assert not confirmed & {row.record_id for row in said if row.updated is False}
    written = {row.record_id for row in said if row.updated}
    done = (result or {}).get("done_count")
    counted = type(done) is int and len(confirmed) <= done <= len(sent)
    assert confirmed <= written or counted, "confirmed by rows of others, or the same row twice"
    if report is not None and not report[1]:
        assert confirmed <= written
    if any(row.record_id not in sent for row in rows):
        assert confirmed <= written


@given(st.sets(IDS), ERRORS, st.lists(st.builds(ReportRow, st.none() | NAMES, FLAGS, FLAGS)), st.booleans(), TOGETHER)
def test_of_all_that_is_said_about_a_record_the_worst_counts(
    sent: set[str], errors: list[dict[str, str]], rows: list[ReportRow], upserts: bool, together: int
) -> None:
    """However many rows are read at once, and in whichever order they come."""
    result = finished("DONE", "SUCCESS", {"errors": errors})
    report = in_columns(rows, together)
    outcome = settle(result, len(sent), upserts=upserts, report=report, ids=sent, key="source_id")

    failed = {error["source_id"] for error in errors if "source_id" in error} & sent
    for record_id in sent:
        said = {(row.found, row.updated) for row in rows if row.record_id == record_id and row.updated is not None}
        written = {found for found, updated in said if updated and (upserts or found is not False)}
        if record_id in failed or {(False, False), (None, False)} & said or (not upserts and (False, True) in said):
            expected = "failed"
        elif (True, False) in said:
            expected = "not_updated"
        elif len(written) == 1:
            expected = {True: "updated", False: "created", None: "succeeded"}[written.pop()]
        else:
            expected = "succeeded" if written else ""
        assert outcome.answers[record_id] == expected or (expected, outcome.answers[record_id]) == (
            "not_updated",
            "failed",
        )
    assert outcome.others == sum(row.record_id not in sent for row in rows)


@given(
    STATUSES,
    OPERATIONS,
    RESULTS,
    st.sets(IDS, min_size=1),
    REPORTS,
    st.integers(0, 10),
)
def test_records_that_are_sent_again_are_counted_by_the_later_batch_alone(
    status: str, operation: str | None, result: Any, sent: set[str], report: Any, again: int
) -> None:
    again = min(again, len(sent))
    outcome = settle(
        finished(status, operation, result),
        len(sent),
        upserts=True,
        report=in_columns(report),
        ids=sent,
        key="source_id",
    ).without(again)

    assert outcome.records == len(sent) - again
    assert min(outcome.succeeded, outcome.not_updated, outcome.failed, outcome.not_reported) >= 0
    assert sum(outcome.failures_by_key.values()) == outcome.failed
    if outcome.updated is not None and outcome.created is not None:
        assert outcome.updated + outcome.created == outcome.succeeded


@given(OPERATIONS, RESULTS, st.integers(0, 10), st.booleans(), REPORTS)
def test_nothing_named_in_errors_passes_for_written(
    operation: str | None, result: dict[str, Any], sent: int, upserts: bool, report: list[ReportRow] | None
) -> None:
    outcome = settle(finished("DONE", operation, result), sent, upserts=upserts, report=in_columns(report))

    entries = result.get("errors", [])
    named = {entry.get("source_id", entry.get("code")) for entry in entries} - {None}
    unnamed = sum(1 for entry in entries if not {"source_id", "code"} & entry.keys())
    assert outcome.failed >= min(sent, max(len(named) + unnamed, result.get("failed_count") or 0))
    assert named <= outcome.failures.keys() or len(outcome.failures) == sent
    if report is not None:
        written = {row.record_id for row in report if row.updated is True and row.record_id not in named} - {None}
        assert outcome.succeeded <= len(written)
    if operation == "FAILED" and not entries and not (result.get("failed_count") or 0) > 0:
        assert outcome.succeeded == 0 or report is not None or "results" in result


@given(STATUSES, OPERATIONS, RESULTS, st.booleans(), REPORTS)
def test_an_action_of_others_is_counted_by_what_it_says(
    status: str, operation: str | None, result: dict[str, Any], upserts: bool, report: list[ReportRow] | None
) -> None:
    outcome = settle(finished(status, operation, result), None, upserts=upserts, report=in_columns(report))

    said = sum(max(result.get(name) or 0, 0) for name in ("done_count", "failed_count"))
    assert outcome.records >= max(said, len({row.record_id for row in report or ()} - {None}))
    assert outcome.records == outcome.succeeded + outcome.not_updated + outcome.failed + outcome.not_reported


@given(
    STATUSES,
    st.dictionaries(
        st.sampled_from(["done_count", "failed_count", "errors", "reports", "results", "reports_available_till"]),
        JSON
        | st.lists(
            st.dictionaries(st.sampled_from(["source_id", "code", "found", "updated", "key", "message"]), JSON),
            max_size=3,
        ),
    ),
    st.integers(0, 5),
)
def test_a_result_of_any_form_is_settled(status: str, result: dict[str, Any], sent: int) -> None:
    assert settle(finished(status, "SUCCESS", result), sent, upserts=True).records == sent


@given(st.dictionaries(st.sampled_from([*AsyncAction.model_fields, "result"]), JSON))
def test_an_action_of_any_form_is_read(fields: dict[str, Any]) -> None:
    action = AsyncAction.model_validate(fields | {"id": "aa_1"})

    assert action.is_finished == (fields.get("status") in ("DONE", "FAILED"))
