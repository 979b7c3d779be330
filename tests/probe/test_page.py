"""The page of the probe is up to date, and each answer has its line in the page of limits."""

from __future__ import annotations

import re

import pytest

from airflow_provider_voucherify.probe.answers import Question
from airflow_provider_voucherify.probe.command import MAX_CALLS
from airflow_provider_voucherify.probe.questions import QUESTIONS
from airflow_provider_voucherify.probe.rounds import new_rounds
from harness.probe_page import PAGE, written

LIMITS = PAGE.with_name("limits.md").read_text(encoding="utf-8")
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_table_is_what_the_probe_finds_out_of_the_stand_in() -> None:
    assert written(TEXT) == TEXT
    assert TEXT.count("\n| ") == len(QUESTIONS) + 2


def test_it_says_what_a_run_costs_and_leaves() -> None:
    records = {own for one in new_rounds() for own in one.own}

    assert f"At most {MAX_CALLS} API calls" in TEXT
    assert f"up to {len(records)} records" in TEXT


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_each_question_answers_a_line_of_the_limits_which_says_so(question: Question) -> None:
    section = LIMITS.partition(f"\n## {question.section}\n")[2].partition("\n## ")[0]

    [line] = [row for row in section.splitlines() if row.replace("*", "").startswith(f"| {question.line}")]
    assert "*[probe](probe.md)*" in line.split(" | ")[0]


def test_no_other_line_of_the_limits_says_so() -> None:
    assert len(re.findall(r"^\|.*probe\.md", LIMITS, re.MULTILINE)) == len({(q.section, q.line) for q in QUESTIONS})
