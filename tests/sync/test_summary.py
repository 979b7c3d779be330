"""What is told at the end: counts that add up, a text for a chat, and when too many rows have failed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_voucherify.models.errors import VoucherifyConfigurationError
from airflow_provider_voucherify.policies import UNLESS_GIVEN, Limits
from airflow_provider_voucherify.sync.results.summary import (
    FailureSample,
    SyncSummary,
    joined,
    most_frequent,
)
from airflow_provider_voucherify.sync.results.thresholds import exceeded_limits, limit_warnings, unchecked_limit
from airflow_provider_voucherify.sync.results.totals import Totals
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import OUTCOMES, ActionOutcome
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.submitted import SubmittedSync

COUNTS = st.integers(0, 1_000)


def summary(**fields: Any) -> SyncSummary:
    given: dict[str, Any] = {
        "resource": "customers",
        "rows_read": 0,
        "submitted": 0,
        "succeeded": 0,
        "updated": 0,
        "created": 0,
        "unchanged": 0,
        "not_updated": 0,
        "failed": 0,
        "refused": 0,
        "superseded": 0,
        "not_reported": 0,
        "async_action_ids": [],
        "requests": 0,
        "bytes_sent": 0,
    }
    return SyncSummary(**(given | fields))


def failure(record_id: str | None = "c1", outcome: str = "failed", **said: Any) -> FailureSample:
    return FailureSample(outcome=outcome, id=record_id, **said)


ACTION_OUTCOMES = st.builds(
    ActionOutcome,
    succeeded=COUNTS,
    updated=st.none() | COUNTS,
    created=st.none() | COUNTS,
    not_updated=COUNTS,
    failed=COUNTS,
    not_reported=COUNTS,
)


@given(st.lists(ACTION_OUTCOMES, max_size=5))
def test_a_sum_is_unknown_where_a_part_is(outcomes: list[ActionOutcome]) -> None:
    total = sum(outcomes, start=ActionOutcome(0, 0, 0, 0, 0, 0))

    assert total.records == sum(outcome.records for outcome in outcomes)
    for name in ("updated", "created"):
        parts = [getattr(outcome, name) for outcome in outcomes]
        assert getattr(total, name) == (None if None in parts else sum(parts))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "Voucherify customers: 0 rows - nothing to do"),
        (
            {"rows_read": 1_234_567, "succeeded": 1_234_567, "updated": 1_234_000, "created": 567},
            "Voucherify customers: 1,234,567 rows - 1,234,000 updated, 567 created",
        ),
        (
            {"rows_read": 9, "succeeded": 3, "updated": None, "created": None, "failed": 1, "unchanged": 1},
            "Voucherify customers: 9 rows - 3 written, 1 unchanged, 1 failed\n… and 1 more",
        ),
        (
            {"rows_read": 9, "succeeded": 2, "updated": 2, "not_updated": 2, "superseded": 2, "not_reported": 3},
            "Voucherify customers: 9 rows - 2 updated, 2 not updated, 2 superseded, 3 not reported",
        ),
        (
            {"rows_read": None, "submitted": 5, "resource": None, "succeeded": 5, "created": 5},
            "Voucherify update: 5 rows - 5 created",
        ),
        (
            {"rows_read": 5, "submitted": None, "succeeded": None, "requests": 2, "refused": 1, "dry_run": True},
            "Voucherify customers: 5 rows - dry run, 2 requests not sent, 1 refused\n… and 1 more",
        ),
        (
            {"rows_read": 5, "submitted": 5, "succeeded": None, "requests": 2, "async_action_ids": ["a", "b"]},
            "Voucherify customers: 5 rows - 2 requests queued, their outcome was not waited for",
        ),
    ],
)
def test_the_first_line_tells_all_that_happened(fields: dict[str, Any], text: str) -> None:
    assert summary(**fields).text() == text


def test_each_warning_has_a_line_whatever_is_in_it() -> None:
    one, other = "2 values are left; null_policy sends null for them", "column 'a; b' is not sent; exclude_columns"
    told = summary(warning=joined([one, None])).with_warning(other, None, "3 rows failed")

    assert told.text().splitlines()[1:] == [
        "Warning: 2 values are left; null_policy sends null for them",
        "Warning: column 'a; b' is not sent; exclude_columns",
        "Warning: 3 rows failed",
    ]


def test_failures_are_told_one_per_line_and_where_the_others_are() -> None:
    failures = [
        failure("c1", message="Invalid payload", details="price must be an integer", key="invalid_payload"),
        failure(None, "refused", message="source_id is missing", key="missing_key"),
        failure(None, "refused", message="source_id is missing", key="missing_key", row=1_017, hint="name 'Ann'"),
        failure("c2"),
    ]

    text = summary(rows_read=20, failed=11, refused=1, failures=failures, report_uri="s3://b/r").text()

    assert text.splitlines() == [
        "Voucherify customers: 20 rows - 11 failed, 1 refused",
        "- c1: Invalid payload - price must be an integer (failed, invalid_payload)",
        "- (no id): source_id is missing (refused, missing_key)",
        "- row 1,017 (name 'Ann'): source_id is missing (refused, missing_key)",
        "- c2: no reason given (failed, no key)",
        "… and 8 more",
        "All of them: s3://b/r/failures.jsonl",
    ]


def test_what_is_not_shown_is_counted_by_reason() -> None:
    text = summary(rows_read=400, failed=300, refused=12, failures_by_key={"not_found": 300, "missing_key": 12}).text()

    assert text.splitlines()[1:] == ["… and 312 more; all of them by reason: not_found 300, missing_key 12"]


def test_reasons_are_told_by_their_number_though_an_xcom_forgets_their_order() -> None:
    stored = {"invalid_payload": 1, "missing_key": 12, "not_found": 300, "other": 400}

    text = summary(rows_read=713, failed=713, failures_by_key=stored).text()

    assert text.endswith("by reason: not_found 300, missing_key 12, invalid_payload 1, other 400")


def test_no_count_is_lost_where_long_keys_begin_alike() -> None:
    assert most_frequent({"x" * 100 + "1": 2, "x" * 100 + "2": 3}) == {"x" * 100: 5}


def test_reasons_are_bounded_however_many_keys_the_api_gives() -> None:
    counts = {f"key{n:03}" + "x" * 1_000: n for n in range(100)}

    told = most_frequent(counts)

    assert sum(told.values()) == sum(counts.values())
    assert len(told) == 21
    assert next(iter(told)).startswith("key099")
    assert max(map(len, told)) == 100


@pytest.mark.parametrize(
    ("refused", "failed", "shown"),
    [(12, 300, "rrrrrfffff"), (2, 300, "rrffffffff"), (12, 1, "rrrrrrrrrf"), (3, 4, "rrrffff")],
)
def test_refused_rows_do_not_hide_why_voucherify_rejected_others(refused: int, failed: int, shown: str) -> None:
    totals = Totals(SubmittedSync((), 0.0), [failure(f"r{n}", "refused").model_dump() for n in range(refused)])
    failures = {f"f{n}": Failure("failed", f"f{n}", "not_found", "no such voucher") for n in range(failed)}
    outcome = ActionOutcome(0, 0, 0, 0, failed, 0, failures)
    totals.add(Settled("aa_1", 1, outcome, outcome, failures.values()))

    summary = totals.summary("vouchers", None)

    assert "".join((sample.id or "")[0] for sample in summary.failures) == shown
    assert summary.failures_by_key == {"not_found": failed}


def test_each_outcome_has_a_count() -> None:
    assert set(OUTCOMES) <= SyncSummary.model_fields.keys()
    assert list(summary(**dict.fromkeys(OUTCOMES, 1)).counts()) == [name for name in OUTCOMES if name != "succeeded"]


def test_the_xcom_value_is_plain_json_with_every_documented_field() -> None:
    value = summary(failures=[failure(message="m")]).as_xcom()

    assert json.loads(json.dumps(value)) == value
    assert {
        "resource",
        "rows_read",
        "submitted",
        "updated",
        "created",
        "failed",
        "refused",
        "not_reported",
    } <= value.keys()
    assert {"async_action_ids", "requests", "bytes_sent", "report_uri", "failures"} <= value.keys()
    assert value["failures"][0].keys() >= {"id", "key", "message", "details"}


def exceeding(summary: SyncSummary, **limits: Any) -> list[str]:
    return exceeded_limits(summary, Limits(**limits).to_fail, "fail_if")


@pytest.mark.parametrize(
    ("most", "ratio", "failed", "refused", "rows", "exceeded"),
    [
        (0, None, 0, 0, 100, None),
        (UNLESS_GIVEN, None, 1, 0, 100, "1 of 100 rows failed or were refused, and failed of fail_if is 0"),
        (0, None, 1, 0, 100, "1 of 100 rows failed or were refused, and failed of fail_if is 0"),
        (0, None, 0, 1, 100, "1 of 100 rows failed"),
        (5, None, 3, 2, 100, None),
        (5, None, 3, 3, 100, "6 of 100 rows failed or were refused, and failed of fail_if is 5"),
        (None, None, 100, 0, 100, None),
        (UNLESS_GIVEN, 0.1, 10, 0, 100, None),
        (0, 0.1, 10, 0, 100, "10 of 100 rows failed or were refused, and failed of fail_if is 0"),
        (
            UNLESS_GIVEN,
            0.1,
            10,
            1,
            100,
            "11.00% of 100 rows that were sent or refused failed or were refused, and failed_ratio of fail_if is 10",
        ),
        (None, 0.1, 11, 0, 100, "11.00% of 100 rows that"),
        (5, 0.1, 6, 0, 100, "6 of 100 rows failed or were refused, and failed of fail_if is 5"),
        (50, 0.1, 11, 0, 100, "11.00% of 100 rows that"),
        (None, 0.0, 1, 0, 100, "1.00% of 100 rows that"),
        (None, 1.0, 100, 0, 100, None),
        (None, 0.0, 0, 0, 0, None),
    ],
)
def test_limits(
    most: int | None, ratio: float | None, failed: int, refused: int, rows: int, exceeded: str | None
) -> None:
    counts = {"rows_read": rows, "submitted": rows - refused, "failed": failed, "refused": refused}

    told = exceeding(summary(**counts), failed=most, failed_ratio=ratio)

    assert told == [] if exceeded is None else told[0].startswith(exceeded)


def test_every_threshold_that_is_exceeded_is_told() -> None:
    everything = summary(
        rows_read=100, submitted=60, failed=6, refused=4, created=50, not_reported=3, superseded=30, succeeded=51
    )

    assert exceeded_limits(everything, Limits(5, 0.1, 49, 2, 29), "warn_if") == [
        "10 of 100 rows failed or were refused, and failed of warn_if is 5",
        "15.62% of 64 rows that were sent or refused failed or were refused, and failed_ratio of warn_if is 10.00%",
        "50 records were created, and created of warn_if is 49",
        "Voucherify's answers do not mention 3 records, and not_reported of warn_if is 2",
        "30 of 100 rows were superseded by a later row with the same id, and superseded of warn_if is 29",
    ]
    assert exceeded_limits(everything, Limits(10, 0.2, 50, 3, 30), "warn_if") == []


def test_an_action_that_failed_as_a_whole_hides_no_other_threshold() -> None:
    told = exceeding(summary(failed_async_action_ids=["aa_1"], created=2), failed=0, created=0)

    assert told == ["1 async actions failed as a whole", "2 records were created, and created of fail_if is 0"]


@pytest.mark.parametrize(("superseded", "warned"), [(49, False), (50, True)])
def test_a_source_half_of_which_is_superseded_is_unusual(superseded: int, warned: bool) -> None:
    half = summary(rows_read=100, superseded=superseded)

    assert bool(limit_warnings(half, Limits(), Limits())) == warned
    assert limit_warnings(half, Limits(), Limits(superseded=50)) == []


def test_rows_that_were_not_sent_do_not_hide_that_all_others_failed() -> None:
    counts = {"rows_read": 1_000_000, "unchanged": 990_000, "submitted": 10_000, "succeeded": 0, "failed": 10_000}

    (told,) = exceeding(summary(**counts), failed_ratio=0.01)

    assert told.startswith("100.00% of 10,000 rows that were sent or refused")


def test_created_records_count_as_far_as_they_are_known() -> None:
    known = summary(succeeded=400_001, created=None, created_at_least=400_000)

    assert exceeding(known, created=10) == ["at least 400,000 records were created, and created of fail_if is 10"]
    assert exceeding(known, created=500_000) == []
    assert "beside 400,000" in (unchecked_limit(known, Limits(created=500_000), "fail_if") or "")


def test_every_threshold_that_could_not_be_checked_is_told() -> None:
    unknown = summary(rows_read=3, succeeded=2, created=None, failed=1)

    assert limit_warnings(unknown, Limits(0, created=5), Limits(None, created=1)) == [
        "1 of 3 rows failed or were refused, and failed of fail_if is 0",
        "Voucherify does not tell how many records were created, so created of fail_if was not checked",
        "Voucherify does not tell how many records were created, so created of warn_if was not checked",
    ]


def test_records_that_no_answer_mentions_may_be_too_many() -> None:
    assert exceeding(summary(not_reported=2), not_reported=2) == []
    assert exceeding(summary(not_reported=3), not_reported=2) == [
        "Voucherify's answers do not mention 3 records, and not_reported of fail_if is 2"
    ]


@pytest.mark.parametrize(("most", "ratio"), [(-1, None), (0, -0.1), (0, 1.1), (0, float("nan"))], ids=str)
def test_impossible_thresholds_are_a_mistake(most: int, ratio: float | None) -> None:
    with pytest.raises(VoucherifyConfigurationError, match="of fail_if must be a number"):
        Limits.of("fail_if", {"failed": most, "failed_ratio": ratio})


@given(COUNTS, COUNTS, st.none() | st.integers(0, 50), st.none() | st.floats(0, 1))
def test_more_failures_never_pass_where_fewer_do_not(
    failed: int, rows: int, most: int | None, ratio: float | None
) -> None:
    rows = max(rows, failed + 1)

    fewer, more = (
        exceeding(summary(rows_read=rows, failed=number), failed=most, failed_ratio=ratio)
        for number in (failed, failed + 1)
    )

    assert len(fewer) <= len(more)


def test_a_sensor_counts_the_ratio_on_what_was_submitted() -> None:
    of_others = summary(rows_read=None, submitted=10, failed=2)

    assert exceeding(of_others, failed_ratio=0.2) == []
    assert exceeding(of_others, failed_ratio=0.1) != []


def test_an_outcome_that_is_not_known_yet_counts_the_refused_rows_only() -> None:
    unsettled = summary(rows_read=10, succeeded=None, failed=None, refused=1)

    assert exceeding(unsettled, failed=1) == []
    assert exceeding(unsettled, failed=0) != []
