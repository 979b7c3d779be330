"""What holds for every answer that Voucherify could give, however contradictory: each record is counted once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.async_action import AsyncAction
from airflow_provider_voucherify.sync.report import ReportRow
from airflow_provider_voucherify.sync.settlement import settle

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
REPORTS = st.none() | st.lists(st.builds(ReportRow, st.none() | IDS, FLAGS, FLAGS), max_size=12)


def finished(status: str, operation: str | None, result: Any) -> AsyncAction:
    fields = {"id": "aa_1", "status": status, "operation_status": operation, "result": result}
    return AsyncAction.model_validate(fields)


@given(STATUSES, OPERATIONS, st.none() | RESULTS, st.integers(0, 10), st.booleans(), REPORTS)
def test_every_record_is_counted_once(
    status: str, operation: str | None, result: Any, sent: int, upserts: bool, report: list[ReportRow] | None
) -> None:
    outcome = settle(finished(status, operation, result), sent, upserts=upserts, report=report)

    counts = (outcome.succeeded, outcome.unchanged, outcome.failed, outcome.not_reported)
    assert min(counts) >= 0
    assert sum(counts) == outcome.records == sent
    if outcome.updated is not None and outcome.created is not None:
        assert min(outcome.updated, outcome.created) >= 0
        assert outcome.updated + outcome.created == outcome.succeeded
    if not upserts:
        assert outcome.created == 0
    assert outcome.unnamed_failures >= 0


@given(OPERATIONS, RESULTS, st.integers(0, 10), st.booleans(), REPORTS)
def test_nothing_named_in_errors_passes_for_written(
    operation: str | None, result: dict[str, Any], sent: int, upserts: bool, report: list[ReportRow] | None
) -> None:
    outcome = settle(finished("DONE", operation, result), sent, upserts=upserts, report=report)

    entries = result.get("errors", [])
    named = {entry.get("source_id", entry.get("code")) for entry in entries} - {None}
    unnamed = sum(1 for entry in entries if not {"source_id", "code"} & entry.keys())
    assert outcome.failed >= min(sent, max(len(named) + unnamed, result.get("failed_count") or 0))
    assert named <= outcome.failures.keys()
    if report is not None:
        written = sum(row.updated is True and row.record_id not in named for row in report)
        assert outcome.succeeded <= written
    if operation == "FAILED" and not entries and not (result.get("failed_count") or 0) > 0:
        assert outcome.succeeded == 0 or report is not None or "results" in result


@given(STATUSES, OPERATIONS, RESULTS, st.booleans(), REPORTS)
def test_an_action_of_others_is_counted_by_what_it_says(
    status: str, operation: str | None, result: dict[str, Any], upserts: bool, report: list[ReportRow] | None
) -> None:
    outcome = settle(finished(status, operation, result), None, upserts=upserts, report=report)

    said = sum(max(result.get(name) or 0, 0) for name in ("done_count", "failed_count"))
    assert outcome.records >= max(said, len(report or ()))
    assert outcome.records == outcome.succeeded + outcome.unchanged + outcome.failed + outcome.not_reported


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


@given(st.dictionaries(st.sampled_from(list(AsyncAction.model_fields)), JSON))
def test_an_action_of_any_form_is_read(fields: dict[str, Any]) -> None:
    action = AsyncAction.model_validate(fields | {"id": "aa_1"})

    assert action.is_finished == (fields.get("status") in ("DONE", "FAILED"))
