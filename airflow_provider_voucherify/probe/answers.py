"""What an answer to a question is, and how one is put into words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from airflow_provider_voucherify.probe.facts import Answered, Facts, NoReading

OTHER, UNKNOWN, NOT_ASKED = "other", "unknown", "not asked"
"""What a reading is beside those that a question names: something else; no answer to what was asked; never asked."""


@dataclass(frozen=True, slots=True)
class Observation:
    """
    What was seen.

    :param reading: one of the question's readings, or ``other``.
    :param evidence: what it rests on, in a few words without ids.
    """

    reading: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Question:
    """
    One thing that the vendor's documents leave open.

    :param name: the question, for people.
    :param asked: how it is asked.
    :param readings: what it may turn out to be, with the meaning of each.
    :param observe: makes an observation of the facts; raises ``NoReading`` if they do not suffice.
    :param section: heading of ``docs/limits.md`` under which the line is that it answers.
    :param line: the beginning of that line.
    """

    name: str
    asked: str
    readings: dict[str, str]
    observe: Callable[[Facts], Observation]
    section: str
    line: str

    def answer(self, facts: Facts) -> Observation:
        """Return the answer: a reading of the question, or ``other``, ``unknown`` or ``not asked`` with the reason."""
        try:
            seen = self.observe(facts)
        except NoReading as error:
            return Observation(UNKNOWN if error.asked else NOT_ASKED, error.why)
        return seen if seen.reading in self.readings else Observation(OTHER, f"{seen.reading}; {seen.evidence}")


def words(action: object) -> str:
    """Return ``status/operation_status`` of an action, with ``none`` for what it does not have."""
    status, operation_status = (
        (action.get("status"), action.get("operation_status")) if isinstance(action, dict) else (None, None)
    )
    return f"{status or 'none'}/{operation_status or 'none'}"


def listing(names: Iterable[str]) -> str:
    """Return names in order, or ``nothing``."""
    return ", ".join(sorted(names)) or "nothing"


def failed(facts: Facts, request: str) -> bool:
    """Say whether the action of a request names or counts a failure."""
    result = facts.result(request)
    return bool(result.get("failed_count") or result.get("errors")) or facts.action(request)["status"] == "FAILED"


def outcome(facts: Facts, request: str) -> str:
    """Return what became of a request, as evidence."""
    answer = facts.answered(request)
    if answer.refused:
        return f"the request was answered with {answer}"
    result = facts.result(request)
    counts = [f"{name} {result[name]}" for name in ("done_count", "failed_count") if name in result]
    errors = result.get("errors")
    keys = [one.get("key") for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    counts += [f"errors {listing(str(key) for key in keys)}"] if keys else []
    return ", ".join([words(facts.action(request)), *counts])


def refusal(answer: Answered) -> str:
    """Return an error as evidence."""
    return f"answered with {answer}"
