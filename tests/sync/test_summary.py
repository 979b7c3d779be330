"""What is told at the end: counts that add up, a text for a chat, and when too many rows have failed."""

from __future__ import annotations

import json
import re
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
from airflow_provider_voucherify.sync.results.thresholds import (
    exceeded_limits,
    expected_keys,
    limit_warnings,
    unchecked_limit,
)
from airflow_provider_voucherify.sync.results.totals import Totals
from airflow_provider_voucherify.sync.types.failure import Failure
from airflow_provider_voucherify.sync.types.outcome import OUTCOMES, ActionOutcome
from airflow_provider_voucherify.sync.types.reasons import Reasons
from airflow_provider_voucherify.sync.types.settled import Settled
from airflow_provider_voucherify.sync.types.submitted import SubmittedSync
from airflow_provider_voucherify.sync.types.text import whole_lines

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
            "Voucherify customers: 9 rows - 3 written, 1 unchanged, 1 failed",
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
            "Voucherify customers: 5 rows - dry run, 2 requests not sent, 1 refused",
        ),
        (
            {"rows_read": 5, "submitted": 5, "succeeded": None, "requests": 2, "async_action_ids": ["a", "b"]},
            "Voucherify customers: 5 rows - 2 requests queued, their outcome was not waited for",
        ),
        (
            {"rows_read": 1, "submitted": 1, "succeeded": None, "requests": 1, "async_action_ids": ["a"]},
            "Voucherify customers: 1 row - 1 request queued, its outcome was not waited for",
        ),
        (
            {"rows_read": 1, "submitted": None, "succeeded": None, "requests": 1, "dry_run": True},
            "Voucherify customers: 1 row - dry run, 1 request not sent",
        ),
        (
            {"rows_read": 0, "submitted": None, "succeeded": None, "requests": 0, "dry_run": True},
            "Voucherify customers: 0 rows - dry run, 0 requests not sent",
        ),
    ],
)
def test_the_first_line_tells_all_that_happened(fields: dict[str, Any], text: str) -> None:
    assert summary(**fields).text().splitlines()[0] == text


def test_each_warning_has_a_line_whatever_is_in_it() -> None:
    one, other = "2 values are left; null_policy sends null for them", "column 'a; b' is not sent; exclude_columns"
    told = summary(warning=joined([one, None])).with_warning(other, None, "3 rows failed")

    assert told.text().splitlines()[1:] == [
        "Warning: 2 values are left; null_policy sends null for them",
        "Warning: column 'a; b' is not sent; exclude_columns",
        "Warning: 3 rows failed",
    ]


def reasons_of(*failures: Failure) -> list[dict[str, Any]]:
    reasons = Reasons()
    for one in failures:
        reasons.add(one)
    return reasons.most_frequent()


def refused(record_id: str | None, message: str, row: int, hint: str | None = None) -> Failure:
    return Failure("refused", record_id, "missing_key", message, row=row, hint=hint)


def test_failures_are_told_by_reason_with_what_is_new_and_what_is_to_be_done() -> None:
    payload = [
        Failure("failed", f"c{n}", "invalid_payload", "Invalid payload", "price must be an integer") for n in range(9)
    ]
    nameless = [
        refused(None, "source_id is missing", 1_017, "name 'Ann'"),
        refused(None, "source_id is missing", 2_000),
    ]
    gone = [Failure("failed", f"v{n}", "not_found", "Resource not found", f"Cannot find v{n}") for n in range(2)]

    text = summary(
        rows_read=20,
        failed=11,
        refused=2,
        reasons=reasons_of(*nameless, *payload, *gone),
        newly_failed=1,
        newly_failed_ids=["c8"],
        report_uri="s3://b/r",
        log_url="https://airflow/log",
    ).text()

    assert text.splitlines() == [
        "Voucherify customers: 20 rows - 11 failed, 2 refused",
        "- 9 failed, invalid_payload: Invalid payload - price must be an integer: c0, c1, c2, …",
        "- 2 refused, missing_key: source_id is missing: row 1,017 (name 'Ann'), row 2,000",
        "- 2 failed, not_found: Resource not found - Cannot find …: v0, v1",
        "New since the last sync: 1 (c8)",
        "To do: fix 11 rows in the source, or they fail again; the next run sends 2 others again",
        "All of them: s3://b/r/failures.jsonl",
        "Log: https://airflow/log",
    ]


@pytest.mark.parametrize(
    ("counts", "reason", "told"),
    [
        ({"failed": 2}, Failure("failed", "v", "not_found", "no"), "Nothing to do yet: the next run sends 2 again"),
        ({"failed": 2}, Failure("failed", "c", None, "who knows"), "Nothing to do yet: the next run sends 2 again"),
        (
            {"failed": 2},
            Failure("failed", "c", "metadata_validation_failed", "tier"),
            "To do: fix 2 rows in the source, or they fail again",
        ),
        ({"refused": 2}, refused(None, "no id", 1), "To do: fix 2 rows in the source, or they fail again"),
        (
            {"refused": 2, "not_reported": 3},
            refused(None, "no id", 1),
            "To do: fix 2 rows in the source, or they fail again; the next run sends 3 others again",
        ),
    ],
)
def test_an_alert_says_whether_there_is_anything_to_do(counts: dict[str, int], reason: Failure, told: str) -> None:
    assert summary(**counts, reasons=reasons_of(reason, reason)).text().splitlines()[-1] == told


def test_one_row_to_fix_and_one_other_are_told_in_the_singular() -> None:
    reasons = reasons_of(refused(None, "no id", 1), Failure("failed", "v", "not_found", "no"))

    text = summary(refused=1, failed=1, reasons=reasons).text()

    assert text.endswith("To do: fix 1 row in the source, or it fails again; the next run sends 1 other again")


def test_nothing_is_to_be_done_about_an_action_that_failed_as_a_whole() -> None:
    text = summary(failed=None, failed_async_action_ids=["aa_1"]).text()

    assert text.endswith(
        "Nothing to do yet: 1 async action failed as a whole; a retry or the next run sends the same records again"
    )


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("Cannot find c1", "Cannot find c2", "Cannot find …"),
        ("tier: must be gold (actual value is 'tin')", "tier: must be gold (actual value is 'a) b')", None),
        ("must be less than 100, is 101", "must be less than 100, is 7000", "must be less than …, is …"),
        ("no such 'x'", "no such 'y'", "no such …"),
        ("the same", "the same", "the same"),
    ],
)
def test_reasons_that_differ_in_values_alone_are_one_reason(one: str, other: str, message: str | None) -> None:
    told = reasons_of(Failure("failed", "c1", "k", one), Failure("failed", "c2", "k", other))

    if message is not None:
        assert [(reason["message"], reason["count"]) for reason in told] == [(message, 2)]
    assert sum(reason["count"] for reason in told) == 2
    assert all(not set(reason["message"]) & set("1") or reason["message"] == one for reason in told)


def test_reasons_are_bounded_and_none_is_lost() -> None:
    words = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(600)]

    told = reasons_of(*(Failure("failed", f"c{n}", "k", f"because of {word}") for n, word in enumerate(words)))

    assert sum(reason["count"] for reason in told) == len(words)
    assert len(told) <= 20
    assert (told[-1]["key"], told[-1]["outcome"]) == ("other", "failed")


HOSTILE = st.text(st.characters(categories=("L", "N", "P", "S", "Z", "C")), max_size=2_000)


@given(
    st.lists(st.tuples(HOSTILE, HOSTILE, HOSTILE), max_size=30),
    st.lists(HOSTILE, max_size=12),
    st.integers(0, 10) | st.none(),
)
def test_an_alert_has_fewer_than_fifteen_lines_whatever_is_in_rows_and_messages(
    failures: list[tuple[str, str, str]], warnings: list[str], new: int | None
) -> None:
    told = summary(
        failed=len(failures),
        not_reported=1,
        reasons=reasons_of(*(Failure("failed", *one) for one in failures)),
        warning=joined(warnings),
        newly_failed=new,
        newly_failed_ids=[],
        report_uri="/r",
        log_url="https://airflow/log",
    )

    lines = told.text().split("\n")

    assert lines == told.text().splitlines()
    assert len(lines) < 15
    assert max(len(line) for line in lines if line.startswith("- ")) <= 700 if failures else True
    assert lines[-1] == "Log: https://airflow/log"


def test_what_there_is_no_room_for_is_counted_and_in_the_log() -> None:
    failures = [Failure("failed", f"c{n}", "k", f"because of {'x' * n}") for n in range(1, 13)]
    told = summary(failed=12, reasons=reasons_of(*failures), warning="\n".join(f"w{n}" for n in range(9)))

    lines, log = told.text().splitlines(), told.text(None).splitlines()

    assert [line for line in lines if "more" in line] == ["… and 6 more warnings, see the log", "… and 5 more reasons"]
    assert len(lines) == 14
    assert len([line for line in log if line.startswith(("- ", "Warning: w"))]) == 21


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
        (UNLESS_GIVEN, None, 1, 0, 100, "1 of 100 rows failed or was refused, and failed of fail_if is 0"),
        (0, None, 1, 0, 100, "1 of 100 rows failed or was refused, and failed of fail_if is 0"),
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


def test_what_is_exceeded_by_one_is_told_in_the_singular() -> None:
    one = {"differing": 1, "verified": 0, "missing": 0}
    of_one = summary(rows_read=1, submitted=1, failed=1, created=1, not_reported=1, superseded=1, **one)
    of_two = summary(rows_read=2, submitted=2, superseded=1, **(one | {"verified": 1}))

    assert exceeding(of_one, failed=0, failed_ratio=0.1, created=0, not_reported=0, superseded=0, differing=0) == [
        "1 of 1 row failed or was refused, and failed of fail_if is 0",
        "100.00% of 1 row that was sent or refused failed or was refused, and failed_ratio of fail_if is 10.00%",
        "1 record was created, and created of fail_if is 0",
        "Voucherify's answers do not mention 1 record, and not_reported of fail_if is 0",
        "1 of 1 record that was read back is not as it was sent (0 missing), and differing of fail_if is 0",
        "1 of 1 row was superseded by a later row with the same id, and superseded of fail_if is 0",
    ]
    assert exceeding(of_two, superseded=0, differing=0) == [
        "1 of 2 records that were read back is not as it was sent (0 missing), and differing of fail_if is 0",
        "1 of 2 rows was superseded by a later row with the same id, and superseded of fail_if is 0",
    ]
    assert "1 of 2 rows was superseded" in limit_warnings(of_two, Limits(), Limits())[-1]


def test_one_that_was_expected_to_fail_is_told_in_the_singular() -> None:
    two = summary(rows_read=3, submitted=3, failed=2, failures_by_key={"not_found": 1, "invalid_payload": 1})

    (told,) = exceeding(two, failed=0, expected_keys=["not_found"])

    assert told.startswith("1 of 3 rows failed or was refused, besides 1 that was expected to, and")


def test_an_action_that_failed_as_a_whole_hides_no_other_threshold() -> None:
    told = exceeding(summary(failed_async_action_ids=["aa_1"], created=2), failed=0, created=0)

    assert told == ["1 async action failed as a whole", "2 records were created, and created of fail_if is 0"]


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
        "1 of 3 rows failed or was refused, and failed of fail_if is 0",
        "Voucherify does not say how many records were created, so created of fail_if was not checked",
        "Voucherify does not say how many records were created, so created of warn_if was not checked",
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


def test_failures_that_are_expected_do_not_count_and_hide_no_other() -> None:
    counts = {"submitted": 1_000, "failed": 950, "failures_by_key": {"not_found": 900, "invalid_payload": 50}}

    assert exceeding(summary(rows_read=1_000, **counts), failed=50, expected_keys=["not_found"]) == []
    assert exceeding(summary(rows_read=1_000, **counts), failed=49, expected_keys=["not_found"]) == [
        "50 of 1,000 rows failed or were refused, besides 900 that were expected to, and failed of fail_if is 49"
    ]
    (told,) = exceeding(summary(rows_read=1_000, **counts), failed_ratio=0.1, expected_keys=["not_found"])
    assert told.startswith("50.00% of 100 rows that were sent or refused"), (
        "expected ones hide that half of the rest fails"
    )


@pytest.mark.parametrize(
    ("fail_if", "warn_if", "expected"),
    [
        (Limits(expected_keys=["a", "b"]), Limits(), {"a", "b"}),
        (Limits(expected_keys=["a", "b"]), Limits(failed=3), set()),
        (Limits(expected_keys=["a", "b"]), Limits(failed=3, expected_keys=["b", "c"]), {"b"}),
        (Limits(failed=None), Limits(failed=3, expected_keys=["b"]), {"b"}),
        (Limits(failed=None, expected_keys=["a"]), Limits(expected_keys=["b"]), {"a", "b"}),
    ],
)
def test_what_one_limit_counts_is_not_told_as_expected(fail_if: Limits, warn_if: Limits, expected: set[str]) -> None:
    assert expected_keys(fail_if.to_fail, warn_if.to_warn) == expected


def test_an_expected_key_that_is_mistyped_is_told_if_it_matters() -> None:
    limits = Limits(None, expected_keys=["not_fund", "gone"])

    assert limit_warnings(summary(failed=1, failures_by_key={"not_found": 1}), limits, Limits(None)) == [
        "expected_keys of fail_if has 'not_fund', which no failure has (did you mean 'not_found'?)"
    ]
    assert limit_warnings(summary(failed=1, failures_by_key={"invalid_payload": 1}), limits, Limits(None)) == []


@pytest.mark.parametrize(
    ("keys", "mistake"),
    [
        ("not_found", "expected_keys of fail_if must be a list of keys, such as ['not_found'], not 'not_found'"),
        (["Not Found"], "'Not Found' is not the key of a reason, such as 'not_found': did you mean 'not_found'?"),
        (["failed"], "'failed' is not the key of a reason"),
        (["other"], "'other' is not the key of a reason"),
        ([404], "404 is not the key of a reason"),
        ([None], "None is not the key of a reason"),
        ({"not_found": 3}, "must be a list of keys"),
    ],
)
def test_what_cannot_be_a_key_is_refused(keys: Any, mistake: str) -> None:
    with pytest.raises(VoucherifyConfigurationError, match=re.escape(mistake)):
        Limits.of("fail_if", {"expected_keys": keys})


@given(st.lists(st.text("ab", max_size=30), min_size=1, max_size=12), st.integers(30, 200))
def test_a_text_that_is_too_long_loses_whole_lines_and_says_how_many(lines: list[str], characters: int) -> None:
    text = "\n".join(lines)

    shown = whole_lines(text, characters).split("\n")

    assert len("\n".join(shown)) <= max(characters, len(lines[0]))
    if shown != lines:
        *kept, last = shown
        assert (kept, last) == (lines[: len(kept)], f"… and {len(lines) - len(kept)} more lines")
