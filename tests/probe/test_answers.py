"""How observations become readings where the local Voucherify cannot be made to show them, and what is no reading."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_voucherify.client.rate_limits import RateLimit
from airflow_provider_voucherify.probe.answers import Observation
from airflow_provider_voucherify.probe.facts import Answered, Facts, Limits, Missing
from airflow_provider_voucherify.probe.questions import QUESTIONS
from tests.probe import readings_matrix as matrix

BY_NAME = {question.name: question for question in QUESTIONS}


def answer(question: str, facts: dict[str, Any], limits: tuple[Limits, ...] = ()) -> Observation:
    known = Facts()
    known.update(facts)
    known.limits = list(limits)
    return BY_NAME[question].answer(known)


def report(text: str, kind: str = "api_host", **more: Any) -> dict[str, Any]:
    return {"report": Answered(200, {"files": 1, "host": "files.example", "kind": kind, "text": text, **more})}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_nothing_is_guessed_without_facts(question: Any) -> None:
    assert question.answer(Facts()).reading in ("not asked", "unknown")


def test_a_report_on_the_vendor_s_download_host() -> None:
    seen = answer(matrix.REPORT_HOST, report("", "download_host"))

    assert (seen.reading, seen.evidence) == ("download_host", "files.example, 1 file")


@pytest.mark.parametrize(
    ("text", "file_format", "columns"),
    [
        ("\ufeffsource_id,found,updated\n", "csv", "names"),
        ('"Source ID";"Found";"Updated"\n', "semicolons", "titles"),
        ("PK\x03\x04", "other", "other"),
        ("id,found\n", "csv", "other"),
        ("[1]", "json", "other"),
        ('[{"source_id":"a","found":true,"updated":true,"more":1}]', "json", "names"),
    ],
)
def test_forms_of_reports(text: str, file_format: str, columns: str) -> None:
    assert answer(matrix.FORMAT, report(text)).reading == file_format
    assert answer(matrix.COLUMNS, report(text)).reading == columns


def test_a_report_that_cannot_be_fetched_at_all_answers_nothing() -> None:
    fact = {"report": Answered(200, {"files": 1, "host": "x", "kind": "api_host", "without_credentials": "status 403", "with_credentials": "status 500"})}  # fmt: skip # noqa: E501

    seen = answer(matrix.CREDENTIALS, fact)
    assert (seen.reading, seen.evidence) == ("unknown", "without: status 403; with: status 500")
    assert answer(matrix.FORMAT, fact).reading == "unknown"


def queued(*actions: tuple[str, float, float, int | None]) -> dict[str, Any]:
    """Make finished actions of type, seconds of creation and end, and milliseconds of processing."""
    return {
        f"action of {number}": Answered(
            200,
            {
                "type": kind,
                "status": "DONE",
                "created_at": f"2026-01-01T00:00:{created:06.3f}Z",
                "updated_at": f"2026-01-01T00:00:{ended:06.3f}Z",
                "processing_time": took,
            },
        )
        for number, (kind, created, ended, took) in enumerate(actions)
    }


@pytest.mark.parametrize(
    ("actions", "reading"),
    [
        ([("A", 0, 1, 1000), ("A", 0.1, 2, 1000), ("B", 0.2, 3, 1000)], "project"),
        ([("A", 0, 1, 1000), ("A", 0.1, 2, 1000), ("B", 0.2, 1.2, 1000)], "type"),
        ([("A", 0, 1, 1000), ("A", 0.1, 0.5, None), ("B", 0.2, 3, 1000)], "none"),
        ([("A", 0, 1, 1000), ("A", 0.1, 2, 1000)], "unknown"),
        ([("A", 0, 1, 1000), ("B", 0.1, 2, 1000)], "unknown"),
        ([("A", 0, 1, 1000), ("A", 2, 3, 1000), ("B", 4, 5, 1000)], "unknown"),
    ],
)
def test_the_order_of_the_queue(actions: list[Any], reading: str) -> None:
    assert answer(matrix.QUEUE, queued(*actions)).reading == reading


@pytest.mark.parametrize("status", [401, 402, 403, 408, 429, 500, 503])
def test_an_error_that_says_nothing_of_the_request_is_no_refusal_of_it(status: int) -> None:
    seen = answer(matrix.NO_RECORDS, {"no records": Answered(status, {"key": "some_key"})})

    assert (seen.reading, seen.evidence) == ("unknown", f"answered with {status} some_key")


def test_what_fits_no_reading_is_other_with_the_evidence() -> None:
    seen = answer(matrix.SCOPE, {"missing scope": Answered(404, {"key": "not_found"})})

    assert (seen.reading, seen.evidence) == ("other", "404; answered with 404 not_found")


def test_what_was_not_asked_and_what_had_no_answer_differ() -> None:
    asked = answer(matrix.NO_RECORDS, {"no records": Missing("no answer: reset", asked=True)})
    unasked = answer(matrix.NO_RECORDS, {"no records": Missing("no calls are left", asked=False)})

    assert asked == Observation("unknown", "no answer: reset")
    assert unasked == Observation("not asked", "no calls are left")


def test_calls_of_others_do_not_hide_which_limit_is_drawn_from() -> None:
    """Of three times that bulk calls were made, another process called once."""
    left = [99, None, 98, None, 96, None, 95]
    limits = tuple(
        Limits("bulk", RateLimit(limit=50, remaining=40)) if one is None
        else Limits("ordinary", RateLimit(limit=100, remaining=one))
        for one in left
    )  # fmt: skip

    assert answer(matrix.BULK_BUDGET, {}, limits).reading == "bulk_alone"
